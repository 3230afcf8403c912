"""Tools whose parameters refer to themselves, at providers that take no references."""

from __future__ import annotations

import json

import pytest
from support.dialects import BedrockDialect, Dialect, GoogleDialect, OpenAIDialect
from support.wire_server import Reply, WireServer

from loopllama.llm.structured_output import TOOL_NAME
from loopllama.llm.types import Message, ModelRequest, ToolSpec

KIDS = {"type": "array", "items": {"$ref": "#/$defs/N"}}
NODE = {"type": "object", "properties": {"v": {"type": "string"}, "kids": KIDS}}
TREE = {
    "type": "object",
    "properties": {"n": {"$ref": "#/$defs/N"}, "any": {"type": "array", "items": True}},
    "$defs": {"N": NODE},
}
SAID = "{} was described some levels deep only: its parameters refer to themselves"


@pytest.mark.parametrize(
    ("dialect", "model", "in_part"),
    [
        (GoogleDialect(), "gemini-3-pro", True),
        (BedrockDialect(), "us.amazon.nova-pro-v1:0", True),
        (BedrockDialect(), BedrockDialect.model, False),
        (OpenAIDialect(), OpenAIDialect.model, False),
    ],
    ids=["gemini", "nova", "claude", "openai"],
)
def test_they_are_said_some_levels_deep_and_the_answer_says_so(
    server: WireServer, monkeypatch: pytest.MonkeyPatch, dialect: Dialect, model: str, in_part: bool
) -> None:
    server.refuses = dialect.refusal
    adapter = dialect.adapter(server.url, monkeypatch)
    call = ModelRequest(model, "m", "", (Message("user", "Go."),), 10.0, tools=(ToolSpec("grow", "Grow.", TREE),))
    server.script(Reply(200, dialect.answer("ok")))
    assert adapter.complete(call).mode_refused == (SAID.format("the tool grow") if in_part else "")
    [sent] = dialect.seen(server.requests[0]).tools.values()
    assert ("$ref" in json.dumps(sent)) is not in_part
    assert server.refused == 0


def test_a_recursive_answer_is_asked_for_by_the_tool(server: WireServer, monkeypatch: pytest.MonkeyPatch) -> None:
    dialect = GoogleDialect()
    server.refuses = dialect.refusal
    adapter = dialect.adapter(server.url, monkeypatch)
    call = ModelRequest("gemini-3-pro", "m", "", (Message("user", "Go."),), 10.0, output_schema=TREE)
    server.script(Reply(200, dialect.answer("", [("call_1", TOOL_NAME, {"n": {"v": "x"}})], "tools")))
    answer = adapter.complete(call)
    assert (answer.output_mode, server.refused) == ("tool", 0)
    refused = "native structured output was not used: the schema cannot be said there: it refers to itself"
    assert answer.mode_refused == f"{refused}; {SAID.format('the answer tool')}"
