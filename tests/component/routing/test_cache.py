"""Reading the tables: how often, how fresh, how much is kept, and how rows are written."""

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.routing_tables import CONFIG, Clock, attempt_order, put

from loopllama.aws import dynamo
from loopllama.catalog.catalog import bundled
from loopllama.errors import AwsUnavailable, ModelUnknown, NoEligibleModel
from loopllama.policies.registry import POLICIES
from loopllama.routing import cache as routing_table
from loopllama.routing import router as routing_router
from loopllama.routing.decision import RouteRequest
from loopllama.routing.router import Router
from loopllama.settings import Settings

SMALL = bundled().aliases()["small"]


def request(step="writer", workflow="w", *, run_models=None, prompt_tokens=0, model=None, run_id="r", **fields):
    agent: Any = {"name": step, "role": step} | fields
    return RouteRequest(workflow, model, agent, run_models or {}, frozenset(), prompt_tokens, run_id)


def test_cold_costs_one_query_and_one_batch_and_warm_nothing(dynamodb, router, clock):
    put(dynamodb, "routes", workflow="w", step="writer", model="gpt-5", fallbacks=["gpt-5-mini", "small"])
    put(dynamodb, "routes", workflow="w", step="editor", model="claude-opus-5")
    decided = router.decide(request())
    assert (decided.source, attempt_order(decided)) == ("step-override", ["gpt-5", "gpt-5-mini", SMALL])
    assert dynamodb.taken() == {"query": 1, "batch_get_item": 1}
    for _ in range(3):
        assert router.decide(request(run_id="another")) is decided
    assert attempt_order(router.decide(request("editor"))) == ["claude-opus-5"]
    assert attempt_order(router.decide(request("reviewer"))) == [SMALL]
    assert dynamodb.taken() == {}
    clock.now += 4.9
    router.decide(request())
    assert dynamodb.taken() == {}
    clock.now += 0.1
    router.decide(request())
    assert dynamodb.taken() == {"query": 1, "batch_get_item": 1}


def test_a_step_that_names_another_model_costs_one_batch_at_most(dynamodb, router):
    router.decide(request())
    dynamodb.taken()
    router.decide(request("other", model="gpt-5", max_tokens=5))
    assert dynamodb.taken() == {"batch_get_item": 1}
    router.decide(request("third", model="gpt-5"))
    assert dynamodb.taken() == {}


def test_other_workflows_share_what_is_known_of_models(dynamodb, router):
    router.decide(request(workflow="a"))
    dynamodb.taken()
    router.decide(request(workflow="b"))
    assert dynamodb.taken() == {"query": 1}


def test_a_changed_row_acts_within_the_cache_time(dynamodb, router, clock):
    assert router.decide(request()).source == "deployment-default"
    put(dynamodb, "routes", workflow="w", step="*", model="gpt-5")
    assert router.decide(request()).source == "deployment-default"
    clock.now += 5
    assert router.decide(request()).source == "workflow-override"


def test_the_kill_switch_acts_within_the_cache_time_on_every_workflow(dynamodb, router, clock):
    for workflow in ("a", "b"):
        assert attempt_order(router.decide(request(workflow=workflow, model="gpt-5"))) == ["gpt-5"]
        clock.now += 3
    put(dynamodb, "models", model="gpt-5", enabled=False, replaced_by="gpt-5-mini")
    clock.now += 5
    for workflow in ("a", "b"):
        decided = router.decide(request(workflow=workflow, model="gpt-5"))
        assert attempt_order(decided) == ["gpt-5-mini"]
        assert decided.ignored[0]["reason"] == "disabled; replaced by gpt-5-mini"
    dynamodb.delete_item(TableName="models", Key={"model": {"S": "gpt-5"}})
    clock.now += 5
    assert attempt_order(router.decide(request(workflow="a", model="gpt-5"))) == ["gpt-5"]


def test_models_read_earlier_by_another_workflow_do_not_stay_longer(dynamodb, router, clock):
    router.decide(request(workflow="a", model="gpt-5"))
    clock.now += 4
    router.decide(request(workflow="b", model="gpt-5"))
    put(dynamodb, "models", model="gpt-5", enabled=False, replaced_by="gpt-5-mini")
    clock.now += 1
    assert attempt_order(router.decide(request(workflow="b", model="gpt-5"))) == ["gpt-5-mini"]
    # The rows are still good; the model is read again, and then what replaces it.
    assert dynamodb.taken() == {"batch_get_item": 2}


def test_a_row_expires_while_it_is_kept(dynamodb, router, clock):
    put(dynamodb, "routes", workflow="w", step="writer", model="gpt-5", expires_at=int(clock.now) + 2)
    assert router.decide(request()).source == "step-override"
    dynamodb.taken()
    clock.now += 2
    decided = router.decide(request())
    assert decided.source == "deployment-default"
    assert "expired" in decided.ignored[0]["reason"]
    assert dynamodb.taken() == {}


def test_an_alias_moved_in_the_table_moves_every_step_and_is_learned(dynamodb, router, clock):
    put(dynamodb, "models", model="small", alias_of="gpt-5-nano")
    put(dynamodb, "models", model="gpt-5-nano", enabled=False, replaced_by="gpt-5-mini")
    assert attempt_order(router.decide(request())) == ["gpt-5-mini"]
    # Alias, its target and the target's replacement were each unknown before the one before was read.
    assert dynamodb.taken() == {"query": 1, "batch_get_item": 3}
    clock.now += 5
    assert attempt_order(router.decide(request())) == ["gpt-5-mini"]
    assert dynamodb.taken() == {"query": 1, "batch_get_item": 1}
    assert attempt_order(router.decide(request(workflow="another"))) == ["gpt-5-mini"]
    assert dynamodb.taken() == {"query": 1}


def test_a_bundled_alias_and_its_model_are_read_at_once(dynamodb, router):
    put(dynamodb, "models", model=SMALL, enabled=False, replaced_by="gpt-5-mini")
    put(dynamodb, "routes", workflow="w", step="writer", model="openai:gpt-5-nano")
    put(dynamodb, "models", model="gpt-5-nano", context_window=7)
    assert router.decide(request()).attempt_order[0].context_window == 7
    assert router.decide(request("other")).attempt_order[0].id == "gpt-5-mini"


def test_more_than_a_hundred_models_are_all_read(dynamodb, router, monkeypatch):
    names = [f"openai:m{i}" for i in range(150)]
    for start in range(0, 150, 15):
        put(
            dynamodb,
            "routes",
            workflow="w",
            step=f"s{start}",
            model=names[start],
            fallbacks=names[start + 1 : start + 15],
        )
    put(dynamodb, "models", model="openai:m149", enabled=False)
    assert len(router.decide(request("s0")).attempt_order) == 15
    assert dynamodb.taken() == {"query": 1, "batch_get_item": 1}
    assert len(router.decide(request("s135")).attempt_order) == 14
    monkeypatch.setattr(routing_table, "BATCH", 4)
    assert len(Router(CONFIG, dynamodb, Clock()).decide(request("s135")).attempt_order) == 14


def test_unprocessed_keys_are_asked_for_again(dynamodb, clock):
    class Busy:
        def __init__(self, refusals):
            self.refusals = refusals

        def __getattr__(self, name):
            return getattr(dynamodb, name)

        def batch_get_item(self, RequestItems):  # noqa: N803 - botocore's name
            if self.refusals:
                self.refusals -= 1
                return {"Responses": {}, "UnprocessedKeys": RequestItems}
            return dynamodb.batch_get_item(RequestItems=RequestItems)

    put(dynamodb, "models", model="gpt-5", context_window=7)
    assert Router(CONFIG, Busy(4), clock).model("gpt-5").context_window == 7
    with pytest.raises(AwsUnavailable, match="unprocessed 5 times"):
        Router(CONFIG, Busy(5), clock).model("gpt-5")


def test_a_long_prompt_is_decided_for_itself(dynamodb, router):
    put(dynamodb, "routes", workflow="w", step="writer", model="gpt-4o", fallbacks=["gpt-4.1"])
    assert attempt_order(router.decide(request(prompt_tokens=500_000))) == ["gpt-4.1"]
    short = router.decide(request(prompt_tokens=10))
    assert attempt_order(short) == ["gpt-4o", "gpt-4.1"]
    assert router.decide(request(prompt_tokens=128_000)) is short
    assert attempt_order(router.decide(request(prompt_tokens=128_001))) == ["gpt-4.1"]


def test_each_input_of_a_decision_counts(router):
    models = {"*": "gpt-5"}
    assert router.decide(request(run_models=models)).source == "run"
    assert router.decide(request()).source == "deployment-default"
    assert attempt_order(router.decide(request(model="gpt-5-mini"))) == ["gpt-5-mini"]
    assert router.decide(request(max_tokens=5)).max_tokens == 5
    assert router.decide(request(max_tokens=6)).max_tokens == 6
    models["*"] = "gpt-5-nano"
    assert attempt_order(router.decide(request(run_models=models))) == ["gpt-5-nano"]


def test_what_is_kept_is_bounded(dynamodb, router, monkeypatch):
    monkeypatch.setattr(routing_table, "MAX_WORKFLOWS", 10)
    monkeypatch.setattr(routing_table, "MAX_MODELS", 20)
    monkeypatch.setattr(routing_router, "MAX_DECISIONS", 5)
    for number in range(50):
        router.decide(request(f"step{number}", workflow=f"w{number % 25}", model=f"openai:m{number}"))
        router.decide(request(f"step{number}", workflow="w", model="gpt-5", max_tokens=number + 1))
        router.decide(request("writer", workflow="w", model="gpt-5", max_tokens=number + 1))
    assert len(router._routes._workflows) == 10
    assert len(router._models._items) <= 20
    kept = router._routes._workflows["w"].decisions
    assert len(kept) <= 5
    assert max(len(decisions) for decisions in kept.values()) <= 4


def test_without_tables_the_bundled_catalog_decides(clock):
    router = Router(Settings(default_model="balanced"), dynamodb=object(), clock=clock)
    assert attempt_order(router.decide(request())) == [bundled().aliases()["balanced"]]
    assert router.model("small").id == SMALL


def test_nothing_left_raises_and_is_not_kept(dynamodb, router, clock):
    put(dynamodb, "models", model=SMALL, enabled=False)
    with pytest.raises(NoEligibleModel, match=r"deployment-default \(.*\): disabled"):
        router.decide(request())
    dynamodb.delete_item(TableName="models", Key={"model": {"S": SMALL}})
    clock.now += 5
    assert attempt_order(router.decide(request())) == [SMALL]


def test_a_model_by_id_has_its_table_entry(dynamodb, router):
    put(dynamodb, "models", model="gpt-5", context_window=7)
    assert router.model("openai:gpt-5").context_window == 7
    assert router.model("gpt-5").context_window == 7
    with pytest.raises(ModelUnknown):
        router.model("nosuch")


def test_a_recorded_decision_is_kept_until_a_model_of_it_is_disabled_or_gone(dynamodb, router, clock):
    put(dynamodb, "models", model="house", provider="openai", provider_model="llama")
    put(dynamodb, "routes", workflow="w", step="writer", model="house", fallbacks=["small", "gpt-5"])
    decided = router.decide(request())
    record = dynamo.from_item(dynamo.to_item(decided.to_record()))
    put(dynamodb, "routes", workflow="w", step="writer", model="gpt-5")
    clock.now += 5
    dynamodb.taken()
    assert router.restore(record) == decided
    assert dynamodb.taken() == {"batch_get_item": 1}
    put(dynamodb, "models", model="gpt-5", enabled=False)
    clock.now += 5
    assert router.restore(record) is None
    dynamodb.delete_item(TableName="models", Key={"model": {"S": "gpt-5"}})
    dynamodb.delete_item(TableName="models", Key={"model": {"S": "house"}})
    clock.now += 5
    assert router.restore(record) is None


def test_explain_tells_what_each_step_uses(dynamodb, router):
    put(dynamodb, "routes", workflow="w", step="writer", model="gpt-5", fallbacks=["small"], version=3)
    put(dynamodb, "routes", workflow="w", step="editor", model="nosuch")
    put(dynamodb, "models", model="mute", provider="openai", capabilities=["images"])
    crew: list[Any] = [
        {"name": "planner", "role": "Planner", "model": "claude-opus-5"},
        {"name": "writer", "role": "Writer"},
        {"name": "editor", "role": "Editor", "tools": ["now"], "model": "mute"},
    ]
    planner, writer, editor = router.explain("w", {"model": "gpt-5-mini", "crew": crew})
    assert (planner["step"], planner["model"], planner["source"]) == ("planner", "claude-opus-5", "agent")
    assert (writer["model"], writer["source"], writer["route_version"], writer["fallbacks"]) == (
        "gpt-5",
        "step-override",
        3,
        [SMALL],
    )
    assert (editor["model"], editor["source"]) == ("gpt-5-mini", "workflow-default")
    assert [entry["layer"] for entry in editor["ignored"]] == ["step-override", "agent"]
    put(dynamodb, "models", model=SMALL, enabled=False)
    (told,) = Router(CONFIG, dynamodb, Clock()).explain("other", {"crew": crew[1:2]})
    assert told["model"] is None
    assert "disabled" in told["error"]


scalars = st.one_of(
    st.none(), st.booleans(), st.integers(-5, 10**12), st.decimals(-9, 9, places=3), st.text(max_size=6),
    st.binary(min_size=1, max_size=3),
    st.sampled_from(["gpt-5", "loop", "run", *POLICIES]),
)  # fmt: skip
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["model", "weight"]), inner),
    max_leaves=5,
)
names = [
    "model",
    "policy",
    "candidates",
    "fallbacks",
    "max_cost",
    "max_latency",
    "max_tokens",
    "temperature",
    "pin",
    "expires_at",
    "version",
]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60, deadline=None)
@given(row=st.dictionaries(st.sampled_from(names), values), entry=st.dictionaries(st.sampled_from(
    ["alias_of", "enabled", "replaced_by", "prices", "context_window"]), values))  # fmt: skip
def test_no_row_that_dynamodb_holds_breaks_a_decision(dynamodb, row, entry):
    for step in ("writer", "*"):
        put(dynamodb, "routes", workflow="w", step=step, **row)
    for model in ("gpt-5", "loop"):
        put(dynamodb, "models", model=model, **entry)
    router = Router(CONFIG, dynamodb, Clock())
    decided = router.decide(request())
    assert decided.attempt_order
    if row.get("model") is not None and decided.source == "deployment-default":
        assert decided.ignored
