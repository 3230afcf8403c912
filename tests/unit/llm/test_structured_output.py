"""Structured output: what is read from an answer, and what the model is told when it does not fit."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loopllama.core import json_schema
from loopllama.errors import InvalidRequest, OutputInvalid
from loopllama.llm import structured_output
from loopllama.llm.types import ModelResponse, ToolCall, Usage

INVOICE = {
    "type": "object",
    "properties": {
        "number": {"type": "string"},
        "date": {"type": "string", "format": "date"},
        "total": {"type": "number", "minimum": 0},
        "items": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {"price": {"type": "number"}},
                "required": ["price"],
            },
        },
    },
    "required": ["number", "total"],
    "additionalProperties": False,
}
GOOD = '{"number": "A-17", "date": "2026-11-23", "total": 12.30, "items": [{"price": 12.3}]}'

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


class TestReading:
    def test_plain_json_keeps_numbers_exact(self):
        answer = structured_output.parse_answer(GOOD, INVOICE)
        assert answer["total"] == Decimal("12.30")
        assert answer["items"] == [{"price": Decimal("12.3")}]

    @pytest.mark.parametrize(
        "text",
        [
            f"```json\n{GOOD}\n```",
            f"```\n{GOOD}\n```",
            f"Sure! Here is the invoice [1]:\n\n```json\n{GOOD}\n```\nAnything else?",
            f"The invoice is {GOOD}. I hope this helps {{you}}.",
            f"First [1, 2] then {{broken: and then {GOOD}",
            f"\ufeff{GOOD}",
        ],
    )
    def test_json_between_other_text(self, text):
        assert structured_output.parse_answer(text, INVOICE)["number"] == "A-17"

    def test_the_first_valid_value_counts(self):
        text = '{"number": "x"} or rather {"number": "y", "total": 1} or {"number": "z", "total": 2}'
        assert structured_output.parse_answer(text, INVOICE)["number"] == "y"

    def test_scalars_and_lists_are_answers_too(self):
        assert structured_output.parse_answer("42", {"type": "integer"}) == 42
        assert structured_output.parse_answer(' ["a"] ', {"type": "array"}) == ["a"]

    @pytest.mark.parametrize("name", sorted(structured_output.ANSWER_TOOLS))
    def test_the_answer_tools_arguments_are_the_answer(self, name):
        spec = structured_output.as_tool(INVOICE)
        assert (spec.name, spec.parameters) == (structured_output.TOOL_NAME, INVOICE)
        call = ToolCall("c1", name, {"number": "A", "total": Decimal("0.10")}, raw='{"number":"A","total":0.10}')
        answer = structured_output.from_answer_tool(ModelResponse("Here it is.", Usage(1, 1), "tool_calls", (call,)))
        assert (answer.stop_reason, answer.tool_calls) == ("end", ())
        assert structured_output.parse_answer(answer.text, INVOICE) == {"number": "A", "total": Decimal("0.1")}

    def test_a_call_beside_the_answer_tool_is_not_lost(self):
        calls = (ToolCall("c1", "get_order", {}, "{}"), ToolCall("c2", structured_output.TOOL_NAME, {}, "{}"))
        for order in (calls, calls[::-1]):
            answer = ModelResponse("", Usage(1, 1), "tool_calls", order)
            assert structured_output.from_answer_tool(answer) is answer

    def test_thoughts_are_not_looked_at(self):
        draft = '{"number": "A-17", "total": 1}'
        for text in (f"<think>\nPerhaps {draft}?\n</think>\n\n{GOOD}", f"Perhaps {draft}?\n</think>\n{GOOD}"):
            assert structured_output.parse_answer(text, INVOICE)["total"] == Decimal("12.30")
        with pytest.raises(OutputInvalid):
            structured_output.parse_answer(f"<think>{draft}</think>", INVOICE)

    @pytest.mark.parametrize(
        "text",
        [
            "Sure. <think>Perhaps {draft}?</think> {good}",
            "Sure.\n<think>Perhaps {draft}?</think>\n{good}",
            "```json\n<think>{draft}</think>\n{good}\n```",
            "Sure. <think>\n```json\n{draft}\n```\n</think>\n```json\n{good}\n```",
            "<thinking>{draft}</thinking>\n<answer>{good}</answer>",
            "<reasoning>{draft}</reasoning><output>{good}</output>",
            "{good}\n<think>or {draft}?</think>",
        ],
    )
    def test_a_draft_in_thoughts_anywhere_is_not_the_answer(self, text):
        good = json.dumps({"number": "A-17", "total": 1, "note": "no <think>draft</think> here"})
        text = text.replace("{draft}", json.dumps({"number": "draft", "total": 0})).replace("{good}", good)
        assert structured_output.parse_answer(text, INVOICE | {"additionalProperties": True}) == json.loads(good)

    @given(json_values)
    def test_any_json_value_comes_back(self, value):
        text = json.dumps(value)
        for wrapped in (text, f"```json\n{text}\n```"):
            assert structured_output.parse_answer(wrapped, {}) == json.loads(text, parse_float=Decimal)

    @given(st.text() | st.text(alphabet='[]{}",:01ae.\\u`\n ', max_size=200))
    def test_any_text_is_read_or_refused(self, text):
        try:
            answer = structured_output.parse_answer(text, INVOICE)
        except OutputInvalid:
            return
        assert json_schema.violations(INVOICE, answer) == []


class TestRefusing:
    def test_violations_are_listed_with_their_places(self):
        bad = {"total": -1, "date": "yesterday", "items": [{"price": 1}, {"price": "2"}], "extra": None}
        with pytest.raises(OutputInvalid) as caught:
            structured_output.parse_answer(json.dumps(bad), INVOICE)
        message = str(caught.value)
        for expected in (
            "$: 'number' is a required property",
            "$: Additional properties are not allowed ('extra' was unexpected)",
            "$.total: -1 is less than the minimum of 0",
            "$.date: 'yesterday' is not a 'date'",
            "$.items[1].price: '2' is not of type 'number'",
        ):
            assert f"- {expected}\n" in message
        assert "and more" not in message

    def test_at_most_five(self):
        with pytest.raises(OutputInvalid) as caught:
            structured_output.parse_answer(json.dumps(["x"] * 10_000), {"type": "array", "items": {"type": "number"}})
        assert str(caught.value).count("is not of type") == 5
        assert "- and more" in str(caught.value)

    def test_long_values_are_not_repeated(self):
        with pytest.raises(OutputInvalid) as caught:
            structured_output.parse_answer(json.dumps({"number": ["x" * 50_000], "total": 1}), INVOICE)
        assert "$.number: the value is not of type 'string'" in str(caught.value)
        assert len(str(caught.value)) < 1000

    def test_the_nearest_branch_is_named(self):
        schema = {"anyOf": [{"properties": {"a": {"type": "integer"}}, "type": "object"}, {"type": "integer"}]}
        with pytest.raises(OutputInvalid, match=r"nearest: \$.a: 'x' is not of type 'integer'"):
            structured_output.parse_answer('{"a": "x"}', schema)

    def test_the_longest_candidate_is_the_one_reported(self):
        with pytest.raises(OutputInvalid, match="'total' is a required property"):
            structured_output.parse_answer('See [1]. {"number": "A-17"} [2]', INVOICE)

    @pytest.mark.parametrize(
        ("text", "reason"),
        [
            ("", "empty"),
            (" \n", "empty"),
            ("I cannot do that.", "not JSON"),
            ('{"number": "A", "total": NaN}', "NaN"),
            ('{"number": "A", "total": 1e999}', "out of range"),
            ('{"number": "A", "total": 1e99999999999999999999}', "out of range"),
            ('{"number": "A", "total": ' + "9" * 5000 + "}", "not JSON"),
            ('{"number": "\\ud800", "total": 1}', "surrogate"),
            ("[" * 100_000, "not JSON"),
            ('{"a":' * 100_000, "not JSON"),
            ("x" * 1_000_001, "at most 1,000,000"),
        ],
    )
    def test_what_is_no_answer(self, text, reason):
        with pytest.raises(OutputInvalid, match=reason):
            structured_output.parse_answer(text, INVOICE)

    @pytest.mark.parametrize("raw", ['{"number": ', '{"total": NaN}'])
    def test_broken_arguments_of_the_answer_tool(self, raw):
        call = ToolCall("c", structured_output.TOOL_NAME, None, raw)
        with pytest.raises(OutputInvalid, match="not JSON"):
            structured_output.parse_answer(
                structured_output.from_answer_tool(ModelResponse("", Usage(1, 1), "end", (call,))).text, INVOICE
            )


class TestModes:
    @pytest.mark.parametrize(
        ("capabilities", "mode"),
        [
            ({"structured_output", "tools"}, "native"),
            ({"structured_output"}, "native"),
            ({"tools", "images"}, "tool"),
            (set(), "instructions"),
            (None, "instructions"),
        ],
    )
    def test_by_capabilities(self, capabilities, mode):
        assert structured_output.mode_for(capabilities, INVOICE) == mode

    def test_only_objects_are_asked_for_natively(self):
        assert structured_output.mode_for({"structured_output", "tools"}, {"type": "array"}) == "instructions"

    def test_instructions_hold_the_schema(self):
        text = structured_output.instructions(INVOICE)
        assert json.loads(text[text.index("{") :]) == INVOICE


class TestSchemas:
    @pytest.mark.parametrize(
        ("schema", "reason"),
        [
            ([], "an object, not list"),
            ({"type": "text"}, "no valid JSON Schema: .*'text'"),
            ({"type": "object", "required": "a"}, r"\$.required: 'a' is not of type 'array'"),
            ({"properties": {"a": {"pattern": "("}}}, r"\$.properties.a.pattern"),
            ({"$ref": "https://example.com/schema.json"}, "outside the schema"),
            ({"items": [{"allOf": [{"$ref": "file:///etc/passwd"}]}]}, "outside the schema"),
            ({"$dynamicRef": "other#x"}, "outside the schema"),
            ({"$ref": "#/$defs/missing"}, "names nothing"),
            ({"$schema": "https://example.com/draft"}, "unknown"),
            ({"$schema": ["a"]}, "unknown"),
            ({"description": "x" * 70_000}, "bytes"),
            ({"default": float("inf")}, "cannot be written as JSON"),
        ],
    )
    def test_refused(self, schema, reason):
        with pytest.raises(InvalidRequest, match=reason):
            json_schema.check(schema)
        with pytest.raises(InvalidRequest, match=reason):
            structured_output.parse_answer("{}", schema)

    def test_too_deep(self):
        deep: dict = {}
        for _ in range(40):
            deep = {"items": deep}
        with pytest.raises(InvalidRequest, match="deeper than 32"):
            json_schema.check(deep)
        for _ in range(10_000):
            deep = {"items": deep}
        with pytest.raises(InvalidRequest, match="deeper than 32"):
            json_schema.check(deep)

    def test_references_inside_work(self):
        schema = {
            "$defs": {"node": {"type": "object", "properties": {"next": {"$ref": "#/$defs/node"}, "$ref": {}}}},
            "$ref": "#/$defs/node",
            "examples": [{"$ref": "https://example.com/this-is-data"}],
        }
        assert structured_output.parse_answer('{"next": {"next": {}}}', schema) == {"next": {"next": {}}}
        with pytest.raises(OutputInvalid, match=r"\$.next.next: 1 is not of type 'object'"):
            structured_output.parse_answer('{"next": {"next": 1}}', schema)

    def test_a_reference_that_hides_is_not_followed(self):
        hidden = {"properties": {"default": {"$ref": "https://example.com/schema.json"}}}
        with pytest.raises(InvalidRequest, match="is outside the schema"):
            structured_output.parse_answer('{"default": 1}', hidden)

    def test_a_schema_without_end_is_survived(self):
        with pytest.raises(OutputInvalid, match="nested too deep"):
            structured_output.parse_answer("{}", {"$ref": "#"})

    def test_schemas_as_dynamodb_gives_them(self):
        schema = {"type": "object", "properties": {"n": {"enum": [Decimal("0.1")], "multipleOf": Decimal("0.1")}}}
        assert structured_output.parse_answer('{"n": 0.1}', schema) == {"n": Decimal("0.1")}
        assert structured_output.parse_answer('"ab"', {"maxLength": Decimal("2")}) == "ab"

    @pytest.mark.parametrize(
        ("name", "good", "bad"),
        [
            ("date", "2026-02-28", "2026-02-30"),
            ("date-time", "2026-11-23T20:15:00Z", "2026-11-23 20:15"),
            ("date-time", "2026-11-23t20:15:00.5+01:00", "2026-11-23T20:15:00"),
            ("email", "a@example.com", "a"),
            ("uuid", "123e4567-e89b-12d3-a456-426614174000", "123"),
        ],
    )
    def test_formats(self, name, good, bad):
        schema = {"format": name}
        assert json_schema.violations(schema, good) == []
        assert json_schema.violations(schema, 5) == []
        assert len(json_schema.violations(schema, bad)) == 1

    def test_the_draft_that_the_schema_names(self):
        schema = {"$schema": "http://json-schema.org/draft-07/schema#", "items": [{"type": "integer"}]}
        assert len(json_schema.violations(schema, ["a"])) == 1


def test_importing_loads_no_library():
    code = (
        "import sys; import loopllama.llm.structured_output; "
        "print([m for m in ('jsonschema', 'referencing') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env={"PYTHONPATH": "shared"}, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


def test_json_behind_many_sources_in_brackets():
    cited = " ".join(f"A fact [{number}]." for number in range(500))
    assert structured_output.parse_answer(f"{cited}\n{GOOD}", INVOICE)["number"] == "A-17"
    cited = " ".join(f"A fact [{number}, see {{" for number in range(400))
    assert structured_output.parse_answer(f"{cited}\n{GOOD}", INVOICE)["number"] == "A-17"


def test_looking_for_json_ends_in_time():
    began = time.monotonic()
    for text in ("[1," * 300_000, '[{"a": "' * 100_000, "[" * 900_000, "[1] " * 200_000):
        with pytest.raises(OutputInvalid):
            structured_output.parse_answer(text, INVOICE)
    assert time.monotonic() - began < 30


OBJECT = {"type": "object", "properties": {"label": {"type": "string"}}, "required": ["label"]}


@pytest.mark.parametrize(
    "text",
    ['{"label": "a\n\tb"}', '```json\n{"label": "a\n\tb"}\n```', 'It is: {"label": "a\n\tb"} so.'],
    ids=["alone", "in a fence", "between sentences"],
)
def test_texts_may_hold_line_ends_and_tabs_as_they_are(text):
    assert structured_output.parse_answer(text, OBJECT) == {"label": "a\n\tb"}


def test_the_json_text_of_a_json_text_is_read():
    assert structured_output.parse_answer(json.dumps('{"label": "a", "n": 1.50}'), OBJECT) == {
        "label": "a",
        "n": Decimal("1.50"),
    }
    assert structured_output.parse_answer('"{}"', {"type": "string"}) == "{}"
    with pytest.raises(OutputInvalid):
        structured_output.parse_answer(json.dumps('{"label": 1}'), OBJECT)
