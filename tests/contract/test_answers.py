"""What every adapter makes of a provider's good answers, and of requests."""

from __future__ import annotations

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from typing import Any

import pytest
from support.dialects import Dialect, Figures
from support.wire_server import Reply, WireServer

from loopllama.errors import ContentFiltered, InvalidModelResponse
from loopllama.llm.structured_output import TOOL_NAME
from loopllama.llm.types import Message, ModelRequest, Provider, ToolCall, ToolSpec, Usage

Make = Callable[..., ModelRequest]

ORDER = ToolSpec(
    "get_order",
    "Look up an order.",
    {"type": "object", "properties": {"order_id": {"type": "string"}}, "required": ["order_id"]},
)
NOW = ToolSpec("now", "The time.", {"type": "object", "properties": {}})
TICKET = {
    "type": "object",
    "properties": {"category": {"type": "string", "enum": ["billing", "other"]}, "urgent": {"type": "boolean"}},
    "required": ["category", "urgent"],
}


def test_text(dialect: Dialect, server: WireServer, adapter: Provider, make_call: Make) -> None:
    server.script(Reply(200, dialect.answer("Sorry to hear that.")))
    answer = adapter.complete(make_call(max_tokens=300, temperature=0.5))
    assert answer.text == "Sorry to hear that."
    assert answer.stop_reason == "end"
    assert answer.tool_calls == ()
    assert answer.usage == Usage(21, 7, service_tier=dialect.tier)
    assert not answer.simulated
    [request] = server.requests
    assert dialect.has_key(request)
    seen = dialect.seen(request)
    assert seen.model == dialect.model
    assert seen.system == "You sort support tickets."
    assert seen.messages == [("user", "text", "I was charged twice.")]
    assert (seen.max_tokens, seen.temperature) == (300, 0.5 if dialect.has_temperature else None)
    assert (seen.tools, seen.forced, seen.schema) == ({}, None, None)


def test_no_system_and_no_limits(dialect: Dialect, server: WireServer, adapter: Provider, make_call: Make) -> None:
    server.script(Reply(200, dialect.answer("ok")))
    adapter.complete(make_call(system="", messages=(Message("user", "héllo — ✓"),)))
    seen = dialect.seen(server.requests[0])
    assert seen.system == ""
    assert seen.messages == [("user", "text", "héllo — ✓")]
    assert seen.temperature is None


def test_half_of_a_character_is_replaced(
    dialect: Dialect, server: WireServer, adapter: Provider, make_call: Make
) -> None:
    written = json.dumps(dialect.answer("Sorry 🦙 HERE \\ud83d", stop="length"))
    for half in (b"\\ud83e", b"\\uDD99", b"\xed\xa0\xbe"):
        server.script(Reply(200, written.encode().replace(b"HERE", half)))
        answer = adapter.complete(make_call())
        assert (answer.text, answer.usage) == ("Sorry 🦙 \ufffd \\ud83d", Usage(21, 7, service_tier=dialect.tier))


def test_a_decimal_from_the_tables_is_a_number(
    dialect: Dialect, server: WireServer, adapter: Provider, make_call: Make
) -> None:
    server.script(Reply(200, dialect.answer("ok")))
    schema = {"type": "object", "properties": {"n": {"type": "integer", "minimum": Decimal(1)}}, "required": ["n"]}
    tool = ToolSpec("count", "Count.", schema)
    adapter.complete(make_call(temperature=Decimal("0.25"), max_tokens=9, tools=(tool,)))
    seen = dialect.seen(server.requests[0])
    assert seen.temperature == (0.25 if dialect.has_temperature else None)
    assert seen.tools["count"]["properties"]["n"]["minimum"] == 1


def test_reasoning_models_are_sent_no_temperature(
    dialect: Dialect, server: WireServer, adapter: Provider, make_call: Make
) -> None:
    for model in ("o4-mini", "gpt-5.2", "claude-opus-4-7", "eu.anthropic.claude-opus-4-8"):
        server.script(Reply(200, dialect.answer("ok")))
        adapter.complete(make_call(model=model, temperature=0.2))
        assert dialect.seen(server.requests[-1]).temperature is None


def test_tool_call(dialect: Dialect, server: WireServer, adapter: Provider, make_call: Make) -> None:
    asked = ("toolu_1", "get_order", {"order_id": "A-1042", "weight": 1.10})
    server.script(Reply(200, dialect.answer("Let me look.", [asked], "tools")))
    answer = adapter.complete(make_call(tools=(ORDER, NOW)))
    assert answer.stop_reason == "tool_calls"
    assert answer.text == "Let me look."
    [call] = answer.tool_calls
    assert (call.id, call.name) == ("toolu_1", "get_order")
    assert call.arguments == {"order_id": "A-1042", "weight": Decimal("1.1")}
    assert dialect.seen(server.requests[0]).tools == {"get_order": ORDER.parameters, "now": NOW.parameters}


def test_several_tool_calls(dialect: Dialect, server: WireServer, adapter: Provider, make_call: Make) -> None:
    asked = [("a", "get_order", {"order_id": "1"}), ("b", "now", {}), ("c", "get_order", {"order_id": "2"})]
    server.script(Reply(200, dialect.answer("", asked, "tools")))
    answer = adapter.complete(make_call(tools=(ORDER, NOW)))
    assert [(c.id, c.name, c.arguments) for c in answer.tool_calls] == asked
    assert answer.text == ""


def test_tool_results_go_back(dialect: Dialect, server: WireServer, adapter: Provider, make_call: Make) -> None:
    server.script(Reply(200, dialect.answer("It was shipped.")))
    messages = (
        Message("user", "Where are my orders?"),
        Message(
            "assistant",
            "Looking.",
            tool_calls=(
                ToolCall("call:1/x", "get_order", {"order_id": "A", "price": Decimal("9.90")}),
                ToolCall("b", "get_order", None, raw='{"order_id": '),
            ),
        ),
        Message("tool", "shipped", tool_call_id="call:1/x"),
        Message("tool", "", tool_call_id="b"),
        Message("user", "Be brief."),
    )
    adapter.complete(make_call(messages=messages, tools=(ORDER,)))
    seen = dialect.seen(server.requests[0]).messages
    assert [(role, kind) for role, kind, _ in seen] == [
        ("user", "text"),
        ("assistant", "text"),
        ("assistant", "call"),
        ("assistant", "call"),
        ("tool", "result"),
        ("tool", "result"),
        ("user", "text"),
    ]
    first, second = seen[2][2], seen[3][2]
    assert first[1:] == ("get_order", {"order_id": "A", "price": 9.9})
    assert second[1:] == ("get_order", {"not_json": '{"order_id": '})
    # Whatever the ids became, they still belong together, and differ.
    assert (first[0], second[0]) == (seen[4][2][0], seen[5][2][0])
    assert first[0] != second[0]
    assert seen[4][2][1] == "shipped"


def test_forced_tool(dialect: Dialect, server: WireServer, adapter: Provider, make_call: Make) -> None:
    server.script(Reply(200, dialect.answer("", [("a", "give", {"category": "billing"})], "tools")))
    answer = adapter.complete(make_call(tools=(ToolSpec("give", "Give it.", TICKET),), forced_tool="give"))
    assert answer.tool_calls[0].arguments == {"category": "billing"}
    assert dialect.seen(server.requests[0]).forced == "give"


def test_structured_output(dialect: Dialect, server: WireServer, adapter: Provider, make_call: Make) -> None:
    server.script(Reply(200, dialect.answer('{"category":"billing","urgent":false}')))
    answer = adapter.complete(make_call(output_schema=TICKET))
    assert json.loads(answer.text) == {"category": "billing", "urgent": False}
    seen = dialect.seen(server.requests[0])
    assert seen.schema["properties"] == TICKET["properties"]
    assert seen.schema["required"] == TICKET["required"]
    if dialect.strict:
        assert seen.strict is True
        assert seen.schema["additionalProperties"] is False


def test_a_schema_that_the_native_mode_cannot_say(
    dialect: Dialect, server: WireServer, adapter: Provider, make_call: Make
) -> None:
    tree = {
        "type": "object",
        "properties": {"name": {"type": "string"}, "children": {"type": "array", "items": {"$ref": "#"}}},
        "required": ["name"],
    }
    value = {"name": "root", "children": [{"name": "leaf"}]}
    if dialect.recursive_schemas:
        server.script(Reply(200, dialect.answer(json.dumps(value))))
    else:
        server.script(Reply(200, dialect.answer("", [("a", TOOL_NAME, value)], "tools")))
    answer = adapter.complete(make_call(output_schema=tree))
    assert json.loads(answer.text) == value
    assert (answer.stop_reason, answer.tool_calls) == ("end", ())
    seen = dialect.seen(server.requests[0])
    if dialect.recursive_schemas:
        assert seen.schema == tree
        assert seen.strict is False
    else:
        assert seen.forced == TOOL_NAME
        # Gemini takes no references: the tool says some levels of it (test_recursive_parameters).
        assert dialect.name == "google" or seen.tools == {TOOL_NAME: tree}
        assert ("$ref" in json.dumps(seen.tools)) is (dialect.name != "google")


def test_usage_in_parts(dialect: Dialect, server: WireServer, adapter: Provider, make_call: Make) -> None:
    figures = Figures(
        prompt=2048,
        answer=503,
        cached=1024,
        written=512 if dialect.counts_writes else 0,
        reasoning=320 if dialect.counts_reasoning else 0,
    )
    server.script(Reply(200, dialect.answer("ok", usage=figures)))
    usage = adapter.complete(make_call()).usage
    assert usage == Usage(2048, 503, 1024, figures.written, figures.reasoning, service_tier=dialect.tier)


@pytest.mark.parametrize("broken", [None, {}, {"prompt_tokens": "many"}, {"input_tokens": -1, "output_tokens": 2}])
def test_usage_that_is_missing_or_broken_is_estimated(
    dialect: Dialect, server: WireServer, adapter: Provider, make_call: Make, broken: Any
) -> None:
    body = dialect.answer("Sorry to hear that.", usage=None)
    if broken is not None:
        body[dialect.usage_field] = broken
    server.script(Reply(200, body))
    usage = adapter.complete(make_call()).usage
    assert usage.estimated
    assert 8 <= usage.input_tokens <= 14
    assert 4 <= usage.output_tokens <= 6


def test_cut_off(dialect: Dialect, server: WireServer, adapter: Provider, make_call: Make) -> None:
    server.script(Reply(200, dialect.answer("Sorry to", stop="length")))
    answer = adapter.complete(make_call(max_tokens=2))
    assert (answer.text, answer.stop_reason) == ("Sorry to", "max_tokens")


def test_cut_off_before_any_text(dialect: Dialect, server: WireServer, adapter: Provider, make_call: Make) -> None:
    server.script(Reply(200, dialect.answer("", stop="length", usage=Figures(21, 64))))
    with pytest.raises(InvalidModelResponse, match="max_tokens") as caught:
        adapter.complete(make_call(max_tokens=64))
    assert caught.value.usage == Usage(21, 64, service_tier=dialect.tier)


def test_cut_off_inside_a_tool_call(dialect: Dialect, server: WireServer, adapter: Provider, make_call: Make) -> None:
    arguments: Any = '{"order_id": "A' if dialect.arguments_are_text else {}
    server.script(Reply(200, dialect.answer("", [("a", "get_order", arguments)], "length")))
    answer = adapter.complete(make_call(tools=(ORDER,), max_tokens=5))
    assert answer.stop_reason == "max_tokens"
    assert answer.tool_calls[0].arguments is None


def test_broken_tool_arguments(dialect: Dialect, server: WireServer, adapter: Provider, make_call: Make) -> None:
    for text in ('{"order_id": ', "[1, 2]", "just text"):
        server.script(Reply(200, dialect.answer("", [("a", "get_order", text)], "tools")))
        [call] = adapter.complete(make_call(tools=(ORDER,))).tool_calls
        assert call.arguments is None
        assert call.raw == text


def test_empty_content(dialect: Dialect, server: WireServer, adapter: Provider, make_call: Make) -> None:
    for text in ("", "  \n"):
        server.script(Reply(200, dialect.answer(text)))
        with pytest.raises(InvalidModelResponse, match="empty") as caught:
            adapter.complete(make_call())
        assert caught.value.usage == Usage(21, 7, service_tier=dialect.tier)


def test_refusal(dialect: Dialect, server: WireServer, adapter: Provider, make_call: Make) -> None:
    server.script(Reply(200, dialect.answer("", stop="refusal")))
    with pytest.raises(ContentFiltered, match="declined") as caught:
        adapter.complete(make_call())
    assert caught.value.usage == Usage(21, 7, service_tier=dialect.tier)
    assert caught.value.next_model


def test_five_megabytes(dialect: Dialect, server: WireServer, adapter: Provider, make_call: Make) -> None:
    text = "All work and no play. " * (5 * 1024 * 1024 // 22)
    server.script(Reply(200, dialect.answer(text)))
    assert adapter.complete(make_call()).text == text


def test_cache_points(dialect: Dialect, server: WireServer, adapter: Provider, make_call: Make) -> None:
    opening = Message("user", "A long text.", stable=True)
    later = (
        Message("assistant", "", tool_calls=(ToolCall("a", "now", {}),)),
        Message("tool", "noon", tool_call_id="a", stable=True),
    )
    expected = [
        # A single call without tools will have no second one: only the system prompt is worth a point.
        (make_call(messages=(opening,), prompt_cache=True), 1),
        (make_call(messages=(opening,), prompt_cache=True, tools=(NOW,)), 2),
        (make_call(messages=(opening, *later), prompt_cache=True, tools=(NOW,)), 3),
        (make_call(messages=(opening, *later), tools=(NOW,)), 0),
        (make_call(messages=(opening,) + later * 5, prompt_cache=True, tools=(NOW,)), 4),
    ]
    for call, points in expected:
        server.script(Reply(200, dialect.answer("ok")))
        adapter.complete(call)
        assert dialect.seen(server.requests[-1]).cache_points == (points if dialect.cache_points else 0)


def test_one_connection_for_many_calls(
    dialect: Dialect, server: WireServer, adapter: Provider, make_call: Make
) -> None:
    for _ in range(3):
        server.script(Reply(200, dialect.answer("ok")))
        adapter.complete(make_call())
    assert [request.connection for request in server.requests] == [1, 1, 1]


def test_a_connection_that_the_server_closed_while_idle_is_replaced(
    dialect: Dialect, server: WireServer, adapter: Provider, make_call: Make
) -> None:
    server.script(*[Reply(200, dialect.answer("ok"))] * 2)
    adapter.complete(make_call())
    server.drop_connections()
    assert adapter.complete(make_call()).text == "ok"
    assert [request.connection for request in server.requests] == [1, 2]


def test_side_by_side(dialect: Dialect, server: WireServer, adapter: Provider, make_call: Make) -> None:
    server.script(*[Reply(200, dialect.answer("ok"))] * 12)
    with ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(lambda _: adapter.complete(make_call()).text, range(12)))
    assert answers == ["ok"] * 12
