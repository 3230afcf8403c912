"""The simulated model: what it says stands in what it was given, and is the same every time."""

from __future__ import annotations

import json
import re
from decimal import Decimal

import pytest
from support.simulated import AT_ONCE, TICKET, call

from loopllama.catalog.model import Speed
from loopllama.errors import InvalidModelResponse, ModelTimeout
from loopllama.llm.structured_output import MODES, instructions
from loopllama.llm.token_estimate import count_tokens, prompt_tokens
from loopllama.llm.types import Message, ToolCall, ToolSpec, Usage
from loopllama.providers.simulated.adapter import Simulated
from loopllama.providers.simulated.reading import Reading, words

# Text


def test_it_quotes_the_sentences_that_fit() -> None:
    answer = AT_ONCE.complete(call())
    assert answer.simulated
    assert answer.stop_reason == "end"
    assert "Please refund one of them as soon as possible." in answer.text
    for sentence in re.split(r"(?<=[.!?])\s+", answer.text):
        assert sentence in TICKET.replace("\n", " ")
    assert "#" not in answer.text
    assert "{" not in answer.text


def test_what_the_system_prompt_asks_for_decides() -> None:
    text = " ".join(f"Fact {n} speaks of the {word}." for n, word in enumerate(("weather", "harbour", "museum")))
    for word in ("harbour", "museum"):
        reading = Reading(text)
        assert word in reading.relevant(words(f"You know all about the {word}."), 1)[0]


def test_a_sentence_is_quoted_once() -> None:
    answer = AT_ONCE.complete(call("The door is open.\n\n# Writer (write)\n\nThe door is open. The light is on."))
    assert answer.text == "The door is open. The light is on."


def test_no_text_is_no_answer() -> None:
    with pytest.raises(InvalidModelResponse) as caught:
        AT_ONCE.complete(call("  \n", system=""))
    assert caught.value.usage == Usage(0, 0)


def test_other_scripts() -> None:
    assert "退款" in AT_ONCE.complete(call("我的订单被收取了两次费用。请退款。", system="退款")).text


# Tokens, time, limits


def test_tokens_are_of_what_is_read_and_written() -> None:
    answer = AT_ONCE.complete(call("One two three.", system="Be brief."))
    assert answer.usage == Usage(count_tokens("Be brief.") + count_tokens("One two three."), 4)
    assert count_tokens("Be brief.") == 3


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("", 0),
        ("word", 1),
        ("eight_ok", 3),
        ("internationalization", 3),
        ("a-b", 3),
        ("请退款。", 3),
        ("12345678 9", 2),
        (" \n", 0),
    ],
)
def test_the_rule_for_tokens(text: str, tokens: int) -> None:
    assert count_tokens(text) == tokens


def test_everything_in_a_call_is_counted() -> None:
    tool = ToolSpec("t", "does it", {"type": "object"})
    messages = (
        Message("user", "hi"),
        Message("assistant", "", tool_calls=(ToolCall("1", "t", {"a": Decimal("1.5")}),)),
        Message("tool", "done", tool_call_id="1"),
    )
    plain = prompt_tokens(call("hi", system=""))
    assert plain == 1
    whole = call(system="sys", messages=messages, tools=(tool,), output_schema={"type": "object"})
    parts = ["sys", "hi", "t", '{"a": "1.5"}', "done", "t", "does it", '{"type": "object"}', '{"type": "object"}']
    assert prompt_tokens(whole) == sum(map(count_tokens, parts))


def test_the_same_for_every_model() -> None:
    answers = [
        Simulated(Speed(ttft, tps), 0).complete(call(catalog_id=name, model=name))
        for name, ttft, tps in (("gpt-x", 300, 200), ("claude-y", 2000, 20))
    ]
    assert answers[0] == answers[1]


def test_all_ways_to_ask_for_json_count_alike() -> None:
    schema = {"type": "object", "properties": {"category": {"enum": ["billing", "other"]}}, "required": ["category"]}
    answers = [AT_ONCE.complete(call(output_schema=schema, output_mode=mode)) for mode in MODES]
    assert len({(answer.text, answer.usage) for answer in answers}) == 1
    assert json.loads(answers[0].text)["category"] == "billing"


def test_instructions_are_followed_too() -> None:
    schema = {"type": "object", "properties": {"urgency": {"type": "integer"}}, "required": ["urgency"]}
    answer = AT_ONCE.complete(call(system=f"Classify.\n\n{instructions(schema)}"))
    assert json.loads(answer.text) == {"urgency": 3}


def test_max_tokens_cuts() -> None:
    answer = AT_ONCE.complete(call(max_tokens=5))
    assert answer.stop_reason == "max_tokens"
    assert answer.usage.output_tokens == 5
    assert count_tokens(answer.text) == 5
    assert AT_ONCE.complete(call()).text.startswith(answer.text)


def test_max_tokens_cuts_tool_calls() -> None:
    schema = {"type": "object", "properties": {"category": {"type": "string"}}, "required": ["category"]}
    answer = AT_ONCE.complete(call(tools=(ToolSpec("sort", "", schema),), forced_tool="sort", max_tokens=3))
    assert answer.stop_reason == "max_tokens"
    assert answer.tool_calls[0].arguments is None
    assert answer.tool_calls[0].raw == '{"category'


@pytest.fixture
def slept(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    times: list[float] = []
    monkeypatch.setattr("time.sleep", times.append)
    return times


def test_it_takes_the_models_time(slept: list[float]) -> None:
    tokens = AT_ONCE.complete(call()).usage.output_tokens
    assert slept == []
    Simulated(Speed(700, 70), 1.0).complete(call())
    Simulated(Speed(700, 70), 10.0).complete(call())
    assert slept == [pytest.approx(0.7 + tokens / 70), pytest.approx((0.7 + tokens / 70) / 10)]


def test_it_runs_out_of_time(slept: list[float]) -> None:
    with pytest.raises(ModelTimeout) as caught:
        Simulated(Speed(5000, 70), 1.0).complete(call(timeout=2.0))
    assert slept == [2.0]
    assert caught.value.simulated
    assert isinstance(caught.value.usage, Usage)
    assert caught.value.usage.output_tokens == 0


# Tools

ORDER = ToolSpec(
    "get_order",
    "Look up an order.",
    {"type": "object", "properties": {"order_id": {"type": "string"}}, "required": ["order_id"]},
)
NOW = ToolSpec("now", "The present date and time.", {"type": "object", "properties": {}})
SUM = ToolSpec(
    "calculator",
    "Work out arithmetic.",
    {"type": "object", "properties": {"expression": {"type": "string"}}, "required": ["expression"]},
)


def test_a_tool_that_can_be_filled_in_is_called_once() -> None:
    first = AT_ONCE.complete(call(tools=(NOW, SUM, ORDER)))
    assert first.stop_reason == "tool_calls"
    [asked] = first.tool_calls
    assert (asked.name, asked.arguments) == ("get_order", {"order_id": "A-1042"})
    messages = (
        Message("user", TICKET),
        Message("assistant", "", tool_calls=(asked,)),
        Message("tool", '{"status": "The refund was paid on Friday."}', tool_call_id=asked.id),
    )
    second = AT_ONCE.complete(call(messages=messages, tools=(NOW, SUM, ORDER)))
    assert second.stop_reason == "end"
    assert "The refund was paid on Friday." in second.text


def test_a_tool_that_has_nothing_to_do_with_it_is_not_called() -> None:
    assert (
        AT_ONCE.complete(call("The garden is green.", system="Describe it.", tools=(SUM, ORDER, NOW))).tool_calls == ()
    )


def test_arithmetic() -> None:
    answer = AT_ONCE.complete(call("What is 12 * (3 + 4)?", system="You calculate.", tools=(ORDER, SUM)))
    assert answer.tool_calls[0].arguments == {"expression": "12 * (3 + 4)"}


def test_a_forced_tool_is_called_whatever_the_text() -> None:
    answer = AT_ONCE.complete(call("The garden is green.", tools=(SUM, ORDER), forced_tool="get_order"))
    assert answer.tool_calls[0].name == "get_order"


def test_tools_first_and_then_the_structured_answer() -> None:
    schema = {"type": "object", "properties": {"status": {"type": "string"}}, "required": ["status"]}
    first = AT_ONCE.complete(call(tools=(ORDER,), output_schema=schema))
    assert first.tool_calls[0].name == "get_order"
    messages = (
        Message("user", TICKET),
        Message("assistant", "", tool_calls=first.tool_calls),
        Message("tool", '{"status": "paid"}', tool_call_id="call_1"),
    )
    second = AT_ONCE.complete(call(messages=messages, tools=(ORDER,), output_schema=schema))
    assert (second.text, second.tool_calls) == ('{"status":"paid"}', ())


# Limits on what it reads


def test_a_megabyte_is_read_in_good_time() -> None:
    text = "The order 4711 was late. " * 40_000
    answer = AT_ONCE.complete(
        call(text, output_schema={"type": "object", "properties": {"order": {"type": "integer"}}})
    )
    assert json.loads(answer.text) == {"order": 4711}
    assert answer.usage.input_tokens > 200_000


def test_a_text_without_a_stop_is_not_quoted_whole() -> None:
    table = "\n".join(
        f"{row};widget {row};in stock;{row * 7} pieces in the warehouse of Lyon;checked" for row in range(9_000)
    )
    for text in (table, "x" * 1_000_000):
        answer = AT_ONCE.complete(call(text))
        assert 0 < answer.usage.output_tokens < 2_000
        assert answer.usage.input_tokens > 100_000


def test_its_failures_are_marked_as_its_own() -> None:
    with pytest.raises(InvalidModelResponse) as empty:
        AT_ONCE.complete(call(""))
    assert empty.value.simulated
