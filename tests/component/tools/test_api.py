"""/v1/tools: what those see of the deployment's tools who have an API key."""

from __future__ import annotations

from typing import Any

import pytest
from support.api_client import InProcess, schema_of
from support.deployment import Deployment
from support.tool_rows import by_hand

from loopllama.core import exact_json
from loopllama.tools.store import ToolStore

PRIVATE = "only-the-deployer-may-know"
REFUND = {
    "type": "http",
    "method": "POST",
    "url": f"https://{PRIVATE}.example/refunds/{{order_id}}?key={PRIVATE}",
    "description": "Refunds an order.",
    "parameters": {"type": "object", "properties": {"order_id": {"type": "string"}}, "required": ["order_id"]},
    "headers": {"X-Team": PRIVATE},
    "secret": {"name": f"stack/tools/{PRIVATE}", "header": "X-Key"},
    "timeout_seconds": 20,
}
LOOKUP = {"type": "lambda", "function": PRIVATE, "description": "Looks an order up."}


@pytest.fixture
def api(live: Deployment) -> InProcess:
    ToolStore(live.settings).write({"refund": REFUND, "lookup": LOOKUP}, updated_by="ann", reason="new")
    return InProcess(live.settings)


def conforms(api: InProcess, path: str, address: str) -> Any:
    status, answer = api.ask("GET", address)
    assert status == 200, answer
    schema_of(api.ask("GET", "/openapi.json")[1], "GET", path, 200).validate(exact_json.loads(exact_json.dumps(answer)))
    return answer


def test_the_list_has_what_a_crew_may_name(api: InProcess) -> None:
    answer = conforms(api, "/v1/tools", "/v1/tools")
    assert [(tool["name"], tool["type"], tool["version"]) for tool in answer["data"]] == [
        ("ask_human", "built_in", None),
        ("calculator", "built_in", None),
        ("lookup", "lambda", 1),
        ("now", "built_in", None),
        ("refund", "http", 1),
    ]
    assert answer["next_cursor"] is None
    assert "parameters" not in answer["data"][0]
    first = conforms(api, "/v1/tools", "/v1/tools?limit=3")
    second = conforms(api, "/v1/tools", f"/v1/tools?limit=3&cursor={first['next_cursor']}")
    assert [*first["data"], *second["data"]] == answer["data"]
    assert second["next_cursor"] is None


def test_a_tool_is_shown_as_agents_see_it(api: InProcess) -> None:
    tool = conforms(api, "/v1/tools/{name}", "/v1/tools/refund")["data"]
    at = tool.pop("updated_at")
    assert at
    assert tool == {
        "name": "refund",
        "type": "http",
        "description": "Refunds an order.",
        "parameters": REFUND["parameters"],
        "timeout_seconds": 20,
        "problem": None,
        "version": 1,
        "updated_by": "ann",
        "reason": "new",
    }
    assert conforms(api, "/v1/tools/{name}", "/v1/tools/now")["data"]["type"] == "built_in"
    for name in ("nothing", "x" * 3000, "a%20b"):
        assert api.ask("GET", f"/v1/tools/{name}")[0] == 404


def test_nothing_that_is_the_deployers_is_shown(live: Deployment, api: InProcess) -> None:
    broken = {**REFUND, "timeout_seconds": 0}
    live.put_tool(by_hand("broken", broken))
    live.put_tool(by_hand("cut", exact_json.dumps(REFUND)[:-1]))
    for address in ("/v1/tools", *(f"/v1/tools/{name}" for name in ("refund", "lookup", "broken", "cut"))):
        assert PRIVATE not in exact_json.dumps(api.ask("GET", address)[1])
    for name, says in (("broken", "broken.timeout_seconds must be a number"), ("cut", "cut is no valid JSON")):
        tool = conforms(api, "/v1/tools/{name}", f"/v1/tools/{name}")["data"]
        assert tool["problem"].startswith(says)
        assert (tool["type"], tool["parameters"], tool["version"]) == (None, None, None)


def test_an_api_key_defines_no_tools(live: Deployment, api: InProcess) -> None:
    before = ToolStore(live.settings).rows()
    for method in ("PUT", "POST", "PATCH", "DELETE"):
        for address in ("/v1/tools", "/v1/tools/refund", "/v1/tools/new"):
            assert api.ask(method, address, {"definition": LOOKUP})[0] == 405
    assert ToolStore(live.settings).rows() == before


def test_a_list_stays_below_what_lambda_answers(live: Deployment) -> None:
    hosts = [f"host-{number}.example.com" for number in range(1500)]
    live.define_tools(**{f"pages_{number}": {"type": "http_get", "hosts": hosts} for number in range(8)})
    answer = InProcess(live.settings).ask("GET", "/v1/tools")[1]
    assert all(len(tool["description"]) <= 2048 for tool in answer["data"])
