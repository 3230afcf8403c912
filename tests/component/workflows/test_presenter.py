"""A workflow as its readers see it: crews in camelCase, ready to be sent again."""

from __future__ import annotations

import json
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from support.api_client import InProcess
from support.deployment import Deployment
from typer.testing import CliRunner

from loopllama.core import exact_json
from loopllama.workflows.presenter import crew_view
from loopllama.workflows.schema import Workflow
from loopllama.workflows.store import DefinitionStore
from loopllama_cli import target, workflow_files
from loopllama_cli.main import app
from loopllama_cli.target import Target

EXAMPLES = sorted((Path(__file__).parents[3] / "examples").glob("*/workflow.yaml"))
SCHEMA = {
    "type": "object",
    "properties": {"order_id": {"type": "string"}, "line_items": {"type": "array", "items": {"max_items": None}}},
    "required": ["order_id"],
    "additionalProperties": False,
}
FULL = [
    {"name": "first_one", "role": "First", "systemPrompt": "A.", "needs": [], "outputSchema": SCHEMA},
    {
        "name": "each",
        "role": "Each",
        "systemPrompt": "B.",
        "needs": ["first_one"],
        "forEach": "steps.first_one.output.line_items",
        "maxConcurrency": 3,
        "maxFailures": 1,
        "maxTokens": 100,
        "maxTurns": 4,
        "timeoutSeconds": 60,
        "policy": "weighted",
        "candidates": [{"model": "small", "weight": 1}, {"model": "balanced", "weight": 2}],
        "fallbacks": ["frontier"],
    },
    {
        "name": "last",
        "role": "Last",
        "systemPrompt": "C.",
        "needs": ["each"],
        "tools": ["ask_human"],
        "repeat": {"backTo": "last", "until": "steps.last.output != `null`", "max": 2},
        "approval": {"start": True, "timeoutSeconds": 90},
    },
]


@pytest.fixture
def ask(live: Deployment) -> Any:
    """Asks the API; the answer's status and its JSON."""
    return InProcess(live.settings, route_history_table="RouteHistoryTable", default_model="small").ask


def test_a_crew_comes_back_as_it_was_sent_wherever_it_is_shown(ask: Any) -> None:
    made = ask("POST", "/v1/workflows", {"name": "Full", "crew": FULL})[1]["data"]
    shown = [
        made,
        ask("GET", "/v1/workflows/full")[1]["data"],
        ask("GET", "/v1/workflows")[1]["data"][0],
        ask("PATCH", "/v1/workflows/full", {"status": "active"})[1]["data"],
        ask("PUT", "/v1/workflows/full", {"name": "Full", "crew": made["crew"]})[1]["data"],
    ]
    for workflow in shown:
        assert workflow["crew"] == FULL
        assert workflow["version"] == 1
        assert (workflow["model"], workflow["description"]) == ("small", None)
    changed = ask("PATCH", "/v1/workflows/full", {"description": "d"})[1]["data"]
    assert (changed["crew"], changed["version"], changed["description"]) == (FULL, 2, "d")


def test_the_command_line_shows_what_the_api_shows(
    ask: Any, live: Deployment, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    settings = replace(live.settings, default_model="small")
    monkeypatch.setattr(target, "connect", lambda _: Target("test", settings, {}, False))

    def told(*arguments: str) -> Any:
        done = CliRunner().invoke(app, ["workflows", *arguments, "--json"])
        assert done.exit_code == 0, (done.stderr, done.exception)
        return exact_json.loads(done.stdout)

    budget = {"maxSteps": 9, "maxCostUsd": "0.250000000001", "daily": {"maxCostUsd": 10}}
    file = tmp_path / "full.json"
    file.write_text(json.dumps({"name": "Full", "pin": "run", "budget": budget, "crew": FULL}))
    shown = {"max_steps": 9, "max_cost_usd": Decimal("0.250000000001"), "daily": {"max_cost_usd": 10}}
    assert told("validate", str(file))["definition"]["budget"] == shown
    pushed = told("push", str(file))
    api = ask("GET", "/v1/workflows/full")[1]["data"]
    assert (api["budget"], api["pin"], api["crew"]) == (shown, "run", FULL)
    assert told("show", "full") == api
    assert told("list") == [api]
    assert pushed == api | {"warnings": pushed["warnings"], "replaced": None}


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.parent.name)
def test_what_is_shown_of_an_example_can_be_sent_again(path: Path) -> None:
    workflow = workflow_files.load(path)
    crew = crew_view(workflow.to_definition()["crew"])
    assert not [name for agent in crew for name in agent if "_" in name]
    again = Workflow.model_validate({"name": workflow.name, "crew": crew})
    assert again.to_definition()["crew"] == workflow.to_definition()["crew"]


def test_who_asks_for_no_page_gets_every_workflow(ask: Any, live: Deployment, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(25):
        live.push([{"name": "a"}], name=f"Workflow {number}")
    whole = ask("GET", "/v1/workflows")[1]
    assert (len(whole["data"]), whole["next_cursor"]) == (25, None)
    query = DefinitionStore.list
    monkeypatch.setattr(DefinitionStore, "list", lambda self, limit, cursor=None: query(self, min(limit, 10), cursor))
    assert ask("GET", "/v1/workflows")[1] == whole  # though DynamoDB's pages are short
    monkeypatch.setattr("loopllama.api.resources.workflows.MAX_LISTED_BYTES", 100)
    part = ask("GET", "/v1/workflows")[1]
    assert (len(part["data"]), part["next_cursor"] is None) == (10, False)


@pytest.mark.parametrize(
    ("method", "path", "body", "detail"),
    [
        ("GET", "/v1/models/no-such-model", None, "no-such-model"),
        ("GET", "/v1/workflows/full/routes/nowhere", None, "has no step 'nowhere'"),
        ("PUT", "/v1/workflows/full/routes/nowhere", {"model": "small"}, "its steps are first_one"),
        ("POST", "/api/v1/workflows/full/routes/each/rollback", {"version": 7}, "7"),
    ],
)
def test_what_is_not_there_beyond_v1_says_what_is(ask: Any, method: str, path: str, body: Any, detail: str) -> None:
    ask("POST", "/v1/workflows", {"name": "Full", "crew": FULL})
    status, answer = ask(method, path, body)
    assert (status, answer["error"]) == (404, "Not found")
    assert detail in answer["details"][0]["message"]


@pytest.mark.parametrize("path", ["/healthz", "/openapi.json"])
def test_every_address_is_there_under_api(ask: Any, path: str) -> None:
    assert ask("GET", f"/api{path}") == ask("GET", path)
    assert ask("GET", f"/api/api{path}")[0] == 404
    assert ask("GET", "/api")[0] == ask("GET", "/apis/v1/workflows")[0] == 404
    assert ask("GET", "/api/v1/models/openai:a/b")[1] == ask("GET", "/v1/models/openai:a/b")[1]
    assert ask("DELETE", "/api/v1/usage")[0] == 405


def test_a_version_comes_back_over_the_api(live: Deployment) -> None:
    ask = InProcess(live.settings).ask
    agent = {"role": "A", "systemPrompt": "one"}
    code, made = ask("POST", "/v1/workflows", {"name": "W", "crew": [agent]})
    path = f"/v1/workflows/{made['data']['id']}"
    assert ask("POST", f"{path}/rollback", {})[0] == 404
    for prompt in ("two", "three"):
        ask("PUT", path, {"name": "W", "model": "small", "crew": [{**agent, "systemPrompt": prompt}]})
    code, back = ask("POST", f"{path}/rollback", {"version": 1}, **{"idempotency-key": "k"})
    assert (code, back["data"]["version"], back["data"]["crew"]) == (200, 4, made["data"]["crew"])
    assert [one["data"]["model_is_default"] for one in (made, back)] == [True, True]
    assert ask("POST", f"{path}/rollback", {"version": 1}, **{"idempotency-key": "k"})[1] == back
    code, back = ask("POST", f"{path}/rollback", {})
    assert (back["data"]["version"], back["data"]["crew"][0]["systemPrompt"]) == (5, "three")
    assert back["data"]["model_is_default"] is False
    for body in ({"version": 9}, {"version": 0}, {"to": 1}):
        assert ask("POST", f"{path}/rollback", body)[0] == (404 if body == {"version": 9} else 400)
