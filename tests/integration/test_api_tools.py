"""Tools over HTTP against the local stack or a deployed one: read, named by workflows, never written."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

import pytest
from support.api_client import Client, ended

from loopllama.settings import Settings
from loopllama.tools.store import ToolStore

pytestmark = pytest.mark.aws

LOOKUP = {"type": "lambda", "function": "shop-lookup", "description": "Looks an order up."}


@pytest.fixture
def lookup(api: Client) -> Iterator[str]:
    """A tool of the deployment, defined as its deployer does; its name."""
    name = f"lookup_{uuid.uuid4().hex[:8]}"
    store = ToolStore(Settings(tools_table=api.stack.outputs["ToolsTableName"]), api.stack.client("dynamodb"))
    store.write({name: LOOKUP}, updated_by="tests", reason="for a test")
    yield name
    store.remove(name, updated_by="tests", reason="over")


def test_tools_are_listed_and_shown_as_agents_see_them(api: Client, lookup: str) -> None:
    listed = {tool["name"]: tool for tool in api.get("/v1/tools")}
    assert {"now", "calculator", "ask_human", lookup} <= listed.keys()
    shown = api.get(f"/v1/tools/{lookup}")
    assert {name: value for name, value in shown.items() if name != "parameters"} == listed[lookup]
    assert (shown["type"], shown["description"], shown["version"]) == ("lambda", "Looks an order up.", 1)
    assert (shown["updated_by"], shown["reason"], shown["problem"]) == ("tests", "for a test", None)
    assert "shop-lookup" not in str(shown)
    assert api.raw("GET", "/v1/tools/no-such-tool").status_code == 404


def test_a_workflow_names_tools_that_are_there_and_its_steps_read_them(api: Client, lookup: str) -> None:
    agent = {"role": "A", "systemPrompt": "x", "model": "small", "tools": [lookup, "now"]}
    made = api.post("/v1/workflows", {"name": f"With {lookup}", "crew": [agent]}, 201)
    run = ended(api, api.post(f"/v1/workflows/{made['id']}/runs", {"input": "Nothing to look up."}, 202)["id"])
    assert run["status"] == "completed", run["error"]
    answer = api.raw("PUT", f"/v1/workflows/{made['id']}", {"name": "x", "crew": [{**agent, "tools": [lookup[:-1]]}]})
    assert answer.status_code == 400
    assert f"did you mean {lookup}" in answer.json()["error"]
    api.delete(f"/v1/workflows/{made['id']}")


def test_no_key_writes_them(api: Client, lookup: str) -> None:
    for method in ("PUT", "POST", "PATCH", "DELETE"):
        assert api.raw(method, f"/v1/tools/{lookup}", {"definition": LOOKUP}).status_code == 405
    assert api.get(f"/v1/tools/{lookup}")["version"] == 1
