"""Tools on the local stack: a Lambda function and an HTTP API, as the Tools table defines them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from support.dialects import OpenAIDialect
from support.loopback import Handler, serving
from support.system import PARAMETERS, ROOT, System
from support.wire_server import Reply, WireServer

from loopllama.aws import clients
from loopllama.core import exact_json
from loopllama.tools.store import ToolStore
from loopllama_cli.local.handle import LocalStack

OPENAI = OpenAIDialect()
FUNCTION = """
  OrderTool:
    Type: AWS::Serverless::Function
    Properties:
      FunctionName: shop-orders
      CodeUri: order_tool
"""
ORDER = {"type": "object", "properties": {"order_id": {"type": "string"}}, "required": ["order_id"]}
OWN = {"shop-own": (str(Path(__file__).parent / "fixtures" / "tools"), "app.handler")}
"""What `loopllama local --tool` hands over: no function of the template."""
SECRET = "the-refund-apis-key"


class RefundApi(Handler):
    """An HTTP API that wants a key."""

    requests: list[dict[str, Any]]

    def serve(self) -> None:
        body = json.loads(self.body())
        names = ("x-key", "idempotency-key")
        self.requests.append({"path": self.path, "body": body, **{name: self.headers[name] for name in names}})
        self.answer(*((200, '{"refunded": true}') if self.headers["x-key"] == SECRET else (401, "no")))


@dataclass
class Shop:
    """The stack, its model's provider, and what the HTTP API got."""

    system: System
    provider: WireServer
    refunds: list[dict[str, Any]]

    def run(self, tools: list[str], *answers: Any) -> dict[str, Any]:
        """A run of one agent with these tools, its model answering so."""
        self.provider.script(*[Reply(200, answer) for answer in answers])
        workflow = self.system.push("Shop", [{"name": "clerk", "tools": tools}], model="shop:one")
        return self.system.run(workflow, "Refund order A-17.")


def project_with_a_tool(folder: Path) -> Path:
    """The product with a function of the deployer's in its template."""
    for one in ("functions", "shared", "state_machines", "layers", "Makefile", "pyproject.toml"):
        if (ROOT / one).exists():
            (folder / one).symlink_to(ROOT / one)
    (folder / "order_tool").symlink_to(Path(__file__).parent / "fixtures" / "tools")
    template = (ROOT / "template.yaml").read_text()
    (folder / "template.yaml").write_text(template.replace("\nResources:\n", f"\nResources:\n{FUNCTION}", 1))
    return folder


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    refunds: list[dict[str, Any]] = []
    with serving(RefundApi, requests=refunds) as url:
        yield from _shop(tmp_path_factory.mktemp("project"), url, refunds)


def _shop(folder: Path, url: str, refunds: list[dict[str, Any]]) -> Iterator[Shop]:
    tools = {
        "find_order": {
            "type": "lambda",
            "function": "shop-orders",
            "description": "Finds an order.",
            "parameters": ORDER,
        },
        "refund": {
            "type": "http",
            "method": "POST",
            "url": f"{url}/orders/{{order_id}}/refunds",
            "description": "Refunds an order.",
            "parameters": {**ORDER, "properties": {**ORDER["properties"], "amount": {"type": "number"}}},  # type: ignore[dict-item]
            "body": "json",
            "secret": {"name": "loopllama/tools/refunds", "header": "X-Key"},
            "allow_private": True,
        },
    }
    parameters = {**PARAMETERS, "ToolFunctionPrefix": "shop-"}
    project = project_with_a_tool(folder)
    lines: list[str] = []
    with (
        WireServer() as provider,
        LocalStack(project, parameters, log=lines.append, tool_functions=OWN) as stack,
        pytest.MonkeyPatch.context() as patch,
    ):
        system = System(stack, parameters)
        patch.setattr(clients, "client", system.client)
        system.define_tools(tools)
        system.put_provider("shop", f"{provider.url}/v1")
        system.put_model("shop:one", "shop")
        system.client("secretsmanager").create_secret(Name="loopllama/tools/refunds", SecretString=SECRET)
        yield Shop(system, provider, refunds)


def test_a_lambda_and_an_http_tool(shop: Shop) -> None:
    before = len(shop.provider.requests)
    run = shop.run(
        ["find_order", "refund"],
        OPENAI.answer("", [("call_1", "find_order", {"order_id": "A-17"})], "tools"),
        OPENAI.answer(
            "",
            [
                ("call_2", "refund", {"order_id": "A-17", "amount": 12.5}),
                ("call_3", "find_order", {"order_id": "A-0"}),
            ],
            "tools",
        ),
        OPENAI.answer("It is refunded."),
    )
    assert (run["status"], run["output"]) == ("completed", "It is refunded.")
    [step] = run["steps"]
    assert [(one["name"], one["outcome"]) for one in step["tool_calls"]] == [
        ("find_order", "ok"),
        ("refund", "ok"),
        ("find_order", "failed"),
    ]
    requests = shop.provider.requests[before:]
    assert set(OPENAI.seen(requests[0]).tools) == {"find_order", "refund"}

    # The Lambda function got the arguments and a key that names the call; the model what it returned.
    found = json.loads(step["tool_calls"][0]["result"])
    key = f"{run['id']}/STEP#clerk#0#0/tool_0000_00"
    event = {"tool": "find_order", "arguments": {"order_id": "A-17"}, "idempotency_key": key}
    assert found == {"status": "shipped", "called_with": event}
    assert json.loads(OPENAI.seen(requests[1]).messages[-1][2][1]) == found

    # The HTTP API got the rest of the arguments as its body, its own secret, and a key too.
    [refund] = shop.refunds
    assert (refund["path"], refund["body"], refund["x-key"]) == ("/orders/A-17/refunds", {"amount": 12.5}, SECRET)
    assert refund["idempotency-key"] == f"{run['id']}/STEP#clerk#0#0/tool_0001_00"

    # The function's failure is text for the model.
    results = dict(content for role, _, content in OPENAI.seen(requests[2]).messages if role == "tool")
    assert json.loads(results["call_2"]) == {"refunded": True}
    assert "find_order" in results["call_3"]
    assert SECRET not in json.dumps(shop.system.read(run["id"]), default=str)
    assert SECRET not in "".join(shop.system.log_lines())


def test_a_function_beside_the_template_is_a_tool_too(shop: Shop) -> None:
    before = exact_json.loads(str(ToolStore(shop.system.settings).named(["find_order"])["find_order"]["definition"]))
    shop.system.define_tools({"own": {**before, "function": "shop-own"}})
    call = OPENAI.answer("", [("call_1", "own", {"order_id": "A-17"})], "tools")
    run = shop.run(["own"], call, OPENAI.answer("Found."))
    [called] = run["steps"][0]["tool_calls"]
    assert (called["outcome"], json.loads(called["result"])["status"]) == ("ok", "shipped")
    functions = shop.system.client("lambda")
    with pytest.raises(functions.exceptions.ClientError, match="loopllama local --tool NAME"):
        functions.update_function_code(FunctionName="shop-own", ZipFile=b"x")


def test_an_agent_calls_only_the_tools_that_its_crew_entry_names(shop: Shop) -> None:
    refunds = len(shop.refunds)
    run = shop.run(
        ["find_order"],
        OPENAI.answer("", [("call_1", "refund", {"order_id": "A-17", "amount": 99})], "tools"),
        OPENAI.answer("I may not."),
    )
    assert run["output"] == "I may not."
    [call] = run["steps"][0]["tool_calls"]
    assert (call["outcome"], "there is no tool 'refund'; the tools are: find_order" in call["result"]) == (
        "failed",
        True,
    )
    assert len(shop.refunds) == refunds


def test_a_tool_that_is_defined_anew_acts_on_the_next_step_and_a_broken_one_stops_its_steps_only(shop: Shop) -> None:
    call = OPENAI.answer("", [("call_1", "find_order", {"order_id": "A-17"})], "tools")
    tools = ToolStore(shop.system.settings)
    before = exact_json.loads(str(tools.named(["find_order"])["find_order"]["definition"]))
    processes = shop.system.stack.processes("RunStep")
    tools.write({"find_order": {**before, "description": "Finds it anew."}}, updated_by="ann", reason="")
    run = shop.run(["find_order"], call, OPENAI.answer("Found."))
    assert run["output"] == "Found."
    body = json.loads(shop.provider.requests[-1].body)
    assert [tool["function"]["description"] for tool in body["tools"]] == ["Finds it anew."]
    shop.system.put("ToolsTableName", {"tool": "find_order", "definition": "{"})
    broken = shop.run(["find_order", "refund"])
    assert broken["status"] == "failed"
    assert "row 'find_order' of the Tools table" in str(broken["error"])
    assert shop.run(["refund"], OPENAI.answer("Nothing to refund."))["status"] == "completed"
    tools.write({"find_order": before}, updated_by="ann", reason="put right")
    assert shop.run(["find_order"], call, OPENAI.answer("Found again."))["output"] == "Found again."
    assert set(processes) <= set(shop.system.stack.processes("RunStep"))
