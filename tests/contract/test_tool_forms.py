"""Tools whose descriptions or parameters a provider refuses: they stay usable, and get what they know."""

from __future__ import annotations

import re
from typing import Any

import pytest
from support.dialects import DIALECTS, Dialect
from support.failures import Make
from support.wire_server import Reply, WireServer

from loopllama.llm.types import Message, Provider, ToolCall, ToolSpec

CLAUDES = [dialect for dialect in DIALECTS if dialect.name in ("anthropic", "bedrock")]
KEYS = {"filter[id]": "7", "größe": 3, "gr__e": 4, "x" * 80: 5, "plain.key-1": 6}
SCHEMA = {
    "type": "object",
    "properties": {key: {"type": "string" if key == "filter[id]" else "integer"} for key in KEYS},
    "required": ["filter[id]", "plain.key-1"],
    "additionalProperties": False,
}
FIND = ToolSpec("find", "Find.", SCHEMA)


def _sent(body: Any) -> dict[str, Any]:
    """The parameters of the first tool as they were sent."""
    if "toolConfig" in body:
        parameters = body["toolConfig"]["tools"][0]["toolSpec"]["inputSchema"]["json"]
    else:
        parameters = body["tools"][0]["input_schema"]
    return dict(parameters)


@pytest.mark.parametrize("dialect", CLAUDES, ids=lambda one: one.name)
def test_parameters_of_any_name(dialect: Dialect, server: WireServer, adapter: Provider, make_call: Make) -> None:
    server.script(Reply(200, dialect.answer("So.", (), "end")))
    adapter.complete(make_call(tools=(FIND,)))
    sent = _sent(server.requests[0].json)
    keys = list(sent["properties"])
    assert len(set(keys)) == len(KEYS)
    assert all(re.fullmatch("[a-zA-Z0-9_.-]{1,64}", key) for key in keys)
    assert sent["required"] == [keys[0], "plain.key-1"]
    assert sent["properties"]["gr__e"] == SCHEMA["properties"]["gr__e"]  # type: ignore[index]
    assert sent["properties"][keys[1]]["description"] == "größe"

    given = dict(zip(keys, KEYS.values(), strict=True))
    server.script(Reply(200, dialect.answer("", [("call_1", "find", given)], "tools")), dialect_answer(dialect))
    [call] = adapter.complete(make_call(tools=(FIND,))).tool_calls
    assert call.arguments == KEYS
    talk = (
        Message("user", "Find it."),
        Message("assistant", "", tool_calls=(ToolCall("call_1", "find", KEYS, "{}"),)),
        Message("tool", "found", tool_call_id="call_1"),
    )
    adapter.complete(make_call(tools=(FIND,), messages=talk))
    blocks = [block for message in server.requests[-1].json["messages"] for block in message["content"]]
    [asked] = [block.get("toolUse", block) for block in blocks if "input" in block.get("toolUse", block)]
    assert asked["input"] == given


def dialect_answer(dialect: Dialect) -> Reply:
    return Reply(200, dialect.answer("So.", (), "end"))


@pytest.mark.parametrize("dialect", CLAUDES, ids=lambda one: one.name)
def test_an_answer_whose_fields_have_any_name(
    dialect: Dialect, server: WireServer, adapter: Provider, make_call: Make
) -> None:
    schema = {
        "type": "object",
        "properties": {"Account Number": {"type": "string"}},
        "required": ["Account Number"],
        "additionalProperties": False,
    }
    server.script(Reply(200, dialect.answer("", [("call_1", "give_answer", {"Account_Number": "7"})], "tools")))
    answer = adapter.complete(make_call(output_schema=schema, output_mode="tool"))
    assert answer.text == '{"Account Number":"7"}'
    assert answer.output_mode == "tool"


@pytest.mark.parametrize("dialect", DIALECTS, ids=lambda one: one.name)
def test_a_long_description_is_whole_somewhere(
    dialect: Dialect, server: WireServer, adapter: Provider, make_call: Make
) -> None:
    said = "".join(f"Rule {number}: look twice. " for number in range(100))[:2048]
    server.script(dialect_answer(dialect))
    adapter.complete(make_call(tools=(ToolSpec("find", said, {"type": "object", "properties": {}}),)))
    texts = list(_texts(server.requests[0].json))
    assert any(said in text for text in texts)
    if dialect.name in ("openai", "azure"):
        tool = server.requests[0].json["tools"][0]
        assert len(tool.get("function", tool)["description"]) == 1024


def _texts(value: Any) -> Any:
    if isinstance(value, str):
        yield value
    for inner in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from _texts(inner)
