"""Values that the simulated model fills in: each stands in what it was given."""

from __future__ import annotations

from typing import Any

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.simulated import TICKET, field, filled

from loopllama.providers.simulated.filling import Filler
from loopllama.providers.simulated.reading import Reading

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
