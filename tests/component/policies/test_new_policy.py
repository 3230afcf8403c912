"""A policy that only this module knows: once it is registered everybody takes it and gathers what it needs; otherwise
everybody refuses it and says which policies there are."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any, cast

import pytest
from support.api_client import InProcess
from support.deployment import Deployment
from support.policies import registered
from support.stream_records import record
from typer.testing import CliRunner

from loopllama.api.app import Api
from loopllama.aws import clients, dynamo
from loopllama.errors import InvalidRequest
from loopllama.policies.registry import POLICIES, Policy, Ranking
from loopllama.policies.step_stats import Candidate, Facts, parse_facts
from loopllama.routing.overrides import parse_row
from loopllama.routing.router import Router
from loopllama.routing.step_figures import StepFigures
from loopllama.settings import Settings
from loopllama.workflows import schema
from loopllama_cli import target, workflow_files
from loopllama_cli.docgen import policies as documented
from loopllama_cli.main import app

CANDIDATES = ["test:a", "test:b", "test:c"]


def balanced(candidates: Sequence[Candidate], _facts: Facts) -> Ranking:
    """The least product of expected cost and latency first; what has no price last."""

    def product(candidate: Candidate) -> float:
        return float("inf") if candidate.cost_usd is None else float(candidate.cost_usd) * candidate.latency_ms

    return Ranking(sorted(candidates, key=product))


BALANCED = Policy("balanced", "cost times latency", balanced, needs=frozenset({"cost", "latency"}))


@pytest.fixture(autouse=True)
def unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only this module knows it, also where the product has come to one of its name."""
    monkeypatch.delitem(POLICIES, BALANCED.name, raising=False)


@pytest.fixture
def known() -> Iterator[None]:
    """The policy is registered."""
    with registered(BALANCED):
        yield


class Doors:
    """Whoever takes the name of a policy. Each answers what it says against `balanced`, `None` where it takes it."""

    def __init__(self, live: Deployment, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        self.live, self.path = live, tmp_path / "crew.yaml"
        self.settings = live.settings
        self.workflow = live.push([{"name": "writer"}])
        live.put_model("test:c", "test", "c")
        self.api = InProcess(live.settings, route_history_table="RouteHistoryTable")
        monkeypatch.setattr(target, "connect", lambda _: target.Target("test", self.api.settings, {}, False))

    def row(self) -> str | None:
        """The routes table, as it is read."""
        row = parse_row({"policy": "balanced", "candidates": CANDIDATES})
        assert (row.choice is None) is bool(row.problems)
        return row.problems.get("policy")

    def row_by_hand(self) -> str | None:
        """A decision over a row that somebody wrote into the table."""
        row = {"workflow": self.workflow, "step": "writer", "policy": "balanced", "candidates": CANDIDATES}
        clients.client("dynamodb").put_item(TableName="RoutesTable", Item=dynamo.to_item(row))
        return self._decided()

    def definition_of_old(self) -> str | None:
        """A decision over a definition that was stored while the policy was there."""
        (step,) = self._definition()["crew"]
        return self._decided({**step, "policy": "balanced", "candidates": CANDIDATES})

    def put_route(self) -> str | None:
        """The API's routes."""
        path = f"/v1/workflows/{self.workflow}/routes/writer"
        status, answer = self.api.ask("PUT", path, {"policy": "balanced", "candidates": CANDIDATES})
        if status == 200:
            assert self.api.ask("GET", path)[1]["data"]["policy"] == "balanced"
            return None
        assert (status, answer["details"][0]["field"]) == (400, "policy")
        return str(answer["error"])

    def post_workflow(self) -> str | None:
        """The API's workflows."""
        agent = {"role": "Writer", "systemPrompt": "Write.", "policy": "balanced", "candidates": CANDIDATES}
        status, answer = self.api.ask("POST", "/v1/workflows", {"name": "Sent", "crew": [agent]})
        if status == 201:
            assert answer["data"]["crew"][0]["policy"] == "balanced"
            return None
        assert (status, answer["details"][0]["field"]) == (400, "crew.0.policy")
        return str(answer["error"])

    def workflow_file(self) -> str | None:
        """Workflow files."""
        self.path.write_text(
            "name: Filed\ncrew:\n"
            "  - {role: Writer, systemPrompt: Write., policy: balanced, candidates: [test:a, test:b]}\n"
        )
        try:
            workflow = workflow_files.load(self.path)
        except InvalidRequest as error:
            said = str(error)
        else:
            assert workflow.to_definition()["crew"][0]["policy"] == "balanced"
            return None
        assert f"{self.path}, line 3: crew.0.policy" in said
        return said

    def command(self) -> str | None:
        """`loopllama routes set`."""
        line = ["routes", "set", self.workflow, "writer", "--policy", "balanced"]
        result = CliRunner().invoke(app, [*line, *(word for name in CANDIDATES for word in ("--candidate", name))])
        assert result.exit_code in (0, 2), (result.stderr, result.exception)
        return result.stderr if result.exit_code else None

    def _definition(self) -> Any:
        return schema.Workflow.model_validate(
            {"name": "x", "crew": [{"name": "writer", "role": "Writer", "systemPrompt": "Write."}]}
        ).to_definition()

    def _decided(self, *crew: dict[str, Any]) -> str | None:
        definition: Any = {**self._definition(), "model": "test:base"} | ({"crew": list(crew)} if crew else {})
        (told,) = Router(self.settings).explain(self.workflow, definition)
        if told["policy"] == "balanced":
            assert sorted([str(told["model"]), *told["fallbacks"]]) == CANDIDATES
            return None
        assert told["model"] == "test:base"  # the next layer decides
        return str(told["ignored"][0]["reason"])


DOORS: list[Callable[[Doors], str | None]] = [
    *(Doors.row, Doors.row_by_hand, Doors.definition_of_old, Doors.put_route, Doors.post_workflow),
    *(Doors.workflow_file, Doors.command),
]


@pytest.fixture
def doors(live: Deployment, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Doors:
    return Doors(live, monkeypatch, tmp_path)


@pytest.mark.parametrize("door", DOORS, ids=lambda door: door.__name__)
def test_every_door_takes_a_registered_policy(doors: Doors, known: None, door: Callable[[Doors], str | None]) -> None:
    assert door(doors) is None


@pytest.mark.parametrize("door", DOORS, ids=lambda door: door.__name__)
def test_every_door_refuses_another_one_and_lists_those_that_there_are(
    doors: Doors, door: Callable[[Doors], str | None]
) -> None:
    assert "balanced" not in POLICIES
    said = door(doors)
    assert said is not None
    assert "policy" in said
    assert not [name for name in POLICIES if name not in said]


def listed() -> list[bool]:
    """Whether each document that lists policies lists this one."""
    body = Api(Settings()).openapi()["components"]["schemas"]
    file = schema.json_schema()["$defs"]
    fields = [one["properties"]["policy"] for one in (body["RouteRequest"], body["Agent-Input"], file["Agent"])]
    lists = [kind["enum"] for field in fields for kind in field["anyOf"] if "enum" in kind]
    assert [set(POLICIES) - set(names) for names in lists] == [set(), set(), set()]
    return ["balanced" in names for names in lists] + ["`balanced`" in documented.table()]


def test_documents_list_the_policies_that_there_are_when_somebody_asks() -> None:
    with registered(BALANCED):
        assert listed() == [True] * 4
    assert listed() == [False] * 4


PRICES_AND_SECONDS = {"test:a": (1, 9), "test:b": (9, 1), "test:c": (2, 2)}
"""The first is the cheapest, the second the fastest; the third has the least product."""


def observed(workflow: str) -> dict[str, Any] | None:
    """The figures of the workflow's step."""
    key = {"model": {"S": f"observed#{workflow}#writer"}}
    item = clients.client("dynamodb").get_item(TableName="ModelsTable", Key=key).get("Item")
    return None if item is None else dynamo.from_item(item)


def test_its_needs_are_met_from_the_first_run_to_the_ranking(
    live: Deployment, known: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The step says that it wants figures, the stream's consumer sees its calls, and the product decides."""
    slept, monotonic = [0.0], time.monotonic
    monkeypatch.setattr(time, "monotonic", lambda: monotonic() + slept[0])
    for model, (price, _) in PRICES_AND_SECONDS.items():
        prices = [{"effective_from": "2020-01-01", "input": Decimal(price), "output": Decimal(5 * price)}]
        live.put_model(model, "test", model.removeprefix("test:"), prices=prices)

    def answer(call: Any) -> str:
        slept[0] += PRICES_AND_SECONDS[call.catalog_id][1]
        return "done"

    live.provider.script = answer
    workflow = live.push([{"name": "writer"}])
    api = InProcess(live.settings, route_history_table="RouteHistoryTable")
    route = f"/v1/workflows/{workflow}/routes/writer"

    consumer, settled = StepFigures(live.settings), list[dict[str, Any]]()

    def run(**options: Any) -> dict[str, Any]:
        run_id = live.accept(workflow, **options)
        live.play(run_id)
        item = cast("dict[str, Any]", live.runs.items(run_id, ["STEP#writer#0#0"])["STEP#writer#0#0"])
        begun = {name: value for name, value in item.items() if not name.startswith("attempt_")}
        settled.append(record(begun, item))
        settled[-1]["dynamodb"]["ApproximateCreationDateTime"] = time.time()
        [step] = live.read(run_id)["steps"]
        return dict(step)

    def order(policy: str) -> list[str]:
        assert api.ask("PUT", route, {"policy": policy, "candidates": CANDIDATES})[0] == 200
        told = api.ask("GET", route)[1]["data"]
        assert (told["policy"], told["ignored"]) == (policy, [])
        return [told["model"], *told["fallbacks"]]

    # By the catalog's priors all are as quick as each other, so that cost alone tells them apart.
    assert order("balanced") == ["test:a", "test:c", "test:b"]
    assert observed(workflow) is None
    assert run()["model"] == "test:a"
    wished = observed(workflow)
    assert wished is not None
    assert wished["latency_of"] == CANDIDATES

    # What runs that name a model see of it counts too.
    for model in CANDIDATES:
        for _ in range(2):
            assert run(models={"writer": model})["model"] == model
    consumer.take(settled)
    figures = observed(workflow)
    assert figures is not None
    facts = parse_facts(figures, settled[-1]["dynamodb"]["ApproximateCreationDateTime"])
    assert (facts.input_tokens, facts.output_tokens) == (100, 10)
    assert {name: round(one.ms / 1000) for name, one in facts.latency.items()} == {
        name: seconds for name, (_, seconds) in PRICES_AND_SECONDS.items()
    }

    assert order("cheapest")[0] == "test:a"
    assert figures["leader"] == "test:b"
    assert order("balanced") == ["test:c", "test:a", "test:b"]
    assert run()["model"] == "test:c"


def test_it_leaves_out_what_has_no_price(live: Deployment, known: None) -> None:
    workflow = live.push([{"name": "writer"}])
    row = {"workflow": workflow, "step": "writer", "policy": "balanced", "candidates": ["openai:house", "test:b"]}
    clients.client("dynamodb").put_item(TableName="RoutesTable", Item=dynamo.to_item(row))
    (told,) = Router(live.settings).explain(workflow, cast("Any", {"crew": [{"name": "writer", "role": "Writer"}]}))
    assert (told["model"], told["fallbacks"]) == ("test:b", [])
    assert "has no price" in told["ignored"][0]["reason"]


def test_without_it_nobody_gathers_anything(live: Deployment) -> None:
    workflow = live.push([{"name": "writer"}])
    row = {"workflow": workflow, "step": "writer", "policy": "balanced", "candidates": CANDIDATES}
    clients.client("dynamodb").put_item(TableName="RoutesTable", Item=dynamo.to_item(row))
    live.play(live.accept(workflow))
    assert observed(workflow) is None
