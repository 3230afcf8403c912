"""The simulated model: what it says stands in what it was given, and is the same every time."""

from __future__ import annotations

import json
import re
import time
from decimal import Decimal
from typing import Any

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loopllama.catalog.model import Speed
from loopllama.errors import AnswerInvalid, ModelTimeout
from loopllama.llm.structured_output import MODES, instructions
from loopllama.llm.token_estimate import count_tokens, prompt_tokens
from loopllama.llm.types import Message, ModelCall, ToolCall, ToolSpec, Usage
from loopllama.providers.simulated.adapter import Simulated
from loopllama.providers.simulated.filling import Filler
from loopllama.providers.simulated.reading import Reading, words

TICKET = """# Input

Hi, I was charged twice for order A-1042 on 2026-11-03. The amount was $49.99 each time. Please refund one of them as
soon as possible. I also cannot log in since yesterday. My email is jo.doe@example.com.

Regards,
Jo Doe

# Classifier (classify)

{"category":"billing","urgency":3,"tags":["refund","login"],"escalate":false}
"""
AT_ONCE = Simulated(Speed(700, 70), 0)


def call(text: str = TICKET, system: str = "You draft a reply about refunds.", **changes: Any) -> ModelCall:
    values: dict[str, Any] = {"model": "m", "catalog_id": "m", "timeout": 5.0, **changes}
    return ModelCall(system=system, messages=values.pop("messages", (Message("user", text),)), **values)


def filled(schema: dict[str, Any], text: str = TICKET, system: str = "") -> Any:
    answer = AT_ONCE.complete(call(text, system, output_schema=schema))
    value = json.loads(answer.text)
    jsonschema.Draft202012Validator(schema).validate(value)
    return value


def field(schema: dict[str, Any], name: str = "x", text: str = TICKET, system: str = "") -> Any:
    return filled({"type": "object", "properties": {name: schema}, "required": [name]}, text, system)[name]


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
    with pytest.raises(AnswerInvalid) as caught:
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
    monkeypatch.setattr(time, "sleep", times.append)
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


# Values for a schema


def test_values_that_stand_in_the_text() -> None:
    found = filled(
        {
            "type": "object",
            "properties": {
                "category": {"enum": ["technical", "billing", "account"]},
                "order_id": {"type": "string"},
                "email": {"type": "string", "format": "email"},
                "charged_on": {"type": "string", "format": "date"},
                "amount": {"type": "number"},
                "customer_name": {"type": "string"},
                "urgency": {"type": "integer", "minimum": 1, "maximum": 5},
                "needs_refund": {"type": "boolean"},
                "can_log_in": {"type": "boolean"},
                "escalate": {"type": "boolean"},
                "tags": {"type": "array", "items": {"enum": ["login", "refund", "shipping"]}},
                "phone": {"type": ["string", "null"]},
            },
            "required": ["category", "phone", "can_log_in"],
        }
    )
    assert found == {
        "category": "billing",
        "order_id": "A-1042",
        "email": "jo.doe@example.com",
        "charged_on": "2026-11-03",
        "amount": 49.99,
        "customer_name": "Jo Doe",
        "urgency": 3,
        "needs_refund": True,
        "can_log_in": False,
        "escalate": False,
        "tags": ["refund", "login"],
        "phone": None,
    }


@pytest.mark.parametrize(
    ("schema", "name", "text", "expected"),
    [
        ({"type": "string", "format": "date"}, "due", "Deliver it by March 3rd, 2027.", "2027-03-03"),
        ({"type": "string", "format": "date"}, "due", "Deliver it by 14 Dec 2026 please.", "2026-12-14"),
        ({"type": "string", "format": "uri"}, "link", "See https://example.com/a?b=1.", "https://example.com/a?b=1"),
        ({"type": "string"}, "website", "See https://example.com/a, it is good.", "https://example.com/a"),
        ({"type": "string"}, "currency", "It costs £5.", "GBP"),
        ({"type": "string"}, "expression", "What is (12 + 30) * 2.5 in all?", "(12 + 30) * 2.5"),
        ({"type": "string"}, "subject", "Subject: Broken lamp\nIt does not light.", "Broken lamp"),
        ({"type": "integer"}, "items", "On 2026-01-05 we ordered 12 items for $300.", 12),
        ({"type": "integer"}, "count", "It took 1,250 tries.", 1250),
        ({"type": "number"}, "price", "Two lamps, 3 days, price $19.50.", 19.5),
        ({"type": "string", "pattern": "^[A-Z]{2}\\d{3}$"}, "code", "Use code XY123 now.", "XY123"),
        ({"type": "string"}, "invoice_number", "Order 778812, invoice INV-2044 is wrong.", "INV-2044"),
        ({"const": "v1"}, "version", "Anything.", "v1"),
        ({"enum": [1, 2, 3]}, "level", "It is level 2 of the tower.", 2),
        (
            {"type": "array", "items": {"type": "string", "format": "email"}},
            "to",
            "Ask a@b.co or c@d.co.",
            ["a@b.co", "c@d.co"],
        ),
        ({"type": "array", "items": {"type": "integer"}}, "sizes", "Sizes 38, 40 and 42.", [38, 40, 42]),
    ],
)
def test_kinds_of_values(schema: dict[str, Any], name: str, text: str, expected: Any) -> None:
    assert field(schema, name, text) == expected


def test_labels_are_told_by_the_words_that_explain_them() -> None:
    schema = {"enum": ["shipping", "billing"], "description": "shipping: parcels, delivery; billing: invoices, charges"}
    assert field(schema, "category", "You made two charges to my card.") == "billing"
    assert field(schema, "category", "The delivery never came.") == "shipping"
    system = "Sort tickets. red: the customer threatens to leave. green: the customer says thanks."
    assert field({"enum": ["green", "red"]}, "mood", "I will leave you for another shop!", system) == "red"


def test_later_outputs_count_more() -> None:
    text = '{"urgency": 1}\n\n# Reviewer\n\n{"urgency": 4}'
    assert field({"type": "integer"}, "urgency", text) == 4


INVOICE = """\
Invoice number: MG-88213
Invoice date: 3 November 2026
Due date: 17 November 2026
Net amount: 1000.00
VAT amount: 70.00
Gross amount: 1,070.00 EUR
"""
RULES = """\
The rules of 2026:

1. Machines that leak
are unplugged.
2. Boxes are sturdy.

Signed in Bremen.
"""


@pytest.mark.parametrize(
    ("name", "kind", "expected"),
    [("due_date", "date", "2026-11-17"), ("vat_amount", "number", 70.0), ("gross_amount", "number", 1070.0)],
)
def test_what_a_line_says_of_a_name_counts_more_than_what_stands_near(name: str, kind: str, expected: Any) -> None:
    schema = {"type": "string", "format": "date"} if kind == "date" else {"type": kind}
    assert field(schema, name, INVOICE) == expected


def test_the_entries_of_a_numbered_list_are_the_items() -> None:
    rules = {"type": "array", "items": {"type": "object", "properties": {"rule": {"type": "string"}}}}
    assert field(rules, "rules", RULES) == [
        {"rule": "Machines that leak are unplugged."},
        {"rule": "Boxes are sturdy."},
    ]
    assert Reading("2. Second of something else.").numbered == []


def test_a_diff_is_read_line_by_line() -> None:
    head = "diff --git a/shop.py b/shop.py\n--- a/shop.py\n+++ b/shop.py\n@@ -1 +1,2 @@\n"
    long = "+    total = sum(line.amount for line in order.lines if line.paid and line.amount)"
    assert Reading(f"{head}{long}\n+    return round(total)").sentences == [long, "+    return round(total)"]


def test_a_score_between_bounds() -> None:
    schema = {"type": "number", "minimum": 0, "maximum": 1}
    much = field(schema, "confidence", "A refund of the charge, please.", "refund charge")
    little = field(schema, "confidence", "Nothing to see here.", "refund charge")
    assert 0 <= little < much <= 1


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "integer", "minimum": 10, "maximum": 20},
        {"type": "integer", "exclusiveMinimum": 5},
        {"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 0.001},
        {"type": "integer", "multipleOf": 7, "minimum": 8},
        {"type": "number", "maximum": -3},
        {"type": "string", "minLength": 30},
        {"type": "string", "maxLength": 5},
        {"type": "string", "format": "uuid"},
        {"type": "string", "format": "date-time"},
        {"type": "string", "format": "ipv4"},
        {"type": "array", "items": {"type": "string"}, "minItems": 4},
        {"type": "array", "items": {"type": "string"}, "maxItems": 1},
        {"type": "array", "items": {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}},
        {"type": "object", "properties": {}, "required": ["free"]},
        {"oneOf": [{"type": "null"}, {"type": "integer"}]},
        {"allOf": [{"type": "object", "properties": {"a": {"type": "string"}}}, {"required": ["a"]}]},
        {"type": ["integer", "null"], "minimum": 1000000},
        {"enum": [None, False]},
        {},
        True,
    ],
)
def test_whatever_is_asked_for_is_given(schema: Any) -> None:
    field(schema, "thing", "A short text without much in it.")


def test_a_schema_that_refers_to_itself_comes_to_an_end() -> None:
    node = {
        "type": "object",
        "properties": {
            "name": {"type": "string"},
            "next": {"anyOf": [{"$ref": "#/$defs/node"}, {"type": "null"}]},
            "children": {"type": "array", "items": {"$ref": "#/$defs/node"}},
        },
        "required": ["name", "next"],
    }
    filled({"$ref": "#/$defs/node", "$defs": {"node": node}})


def test_a_reference_to_nowhere_and_an_endless_one_come_to_an_end() -> None:
    filler = Filler(Reading(TICKET), "", {"$defs": {"a": {"$ref": "#/$defs/a"}}})
    filler.fill({"$ref": "#/$defs/a"})
    filler.fill({"$ref": "#/nowhere/at/all"})
    filler.fill({"type": "object", "properties": {"a": {"$ref": "#"}}, "required": ["a"]})


_leaves = st.sampled_from(
    [
        {"type": "string"},
        {"type": "string", "maxLength": 12},
        {"type": "string", "minLength": 3, "maxLength": 40},
        {"type": "integer", "minimum": -5, "maximum": 5},
        {"type": "number"},
        {"type": "boolean"},
        {"type": "null"},
        {"enum": ["low", "high"]},
        {"type": "string", "format": "date"},
        {"type": ["string", "null"]},
    ]
)
_schemas = st.recursive(
    _leaves,
    lambda inner: st.one_of(
        st.dictionaries(
            st.sampled_from(["id", "name", "urgent", "total", "notes"]), inner, min_size=1, max_size=4
        ).flatmap(
            lambda p: st.sets(st.sampled_from(sorted(p))).map(
                lambda r: {"type": "object", "properties": p, "required": sorted(r)}
            )
        ),
        st.tuples(inner, st.integers(0, 3)).map(lambda p: {"type": "array", "items": p[0], "minItems": p[1]}),
        st.lists(inner, min_size=1, max_size=3).map(lambda options: {"anyOf": options}),
    ),
    max_leaves=8,
)


@given(_schemas, st.text(max_size=300) | st.just(TICKET))
@settings(max_examples=150, deadline=None)
def test_any_schema_from_any_text(schema: dict[str, Any], text: str) -> None:
    value = Filler(Reading(text), "", schema).fill(schema, "thing")[0]
    jsonschema.Draft202012Validator(schema).validate(value)


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
    with pytest.raises(AnswerInvalid) as empty:
        AT_ONCE.complete(call(""))
    assert empty.value.simulated
