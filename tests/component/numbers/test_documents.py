"""Numbers at every door, those of JSON's whole grammar: each is taken as it is, or refused by a sentence that names its
place; none is a mistake of ours, and none keeps us busy. Here: the rule, and the doors of documents.
"""

from __future__ import annotations

import base64
import contextlib
import json
import re
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.deployment import Deployment
from support.numerals import NUMERALS, check_door, number, soon, taken, tried

from loopllama.api.responses import parse_body, read_body
from loopllama.aws import dynamo
from loopllama.aws.versioned import version_of
from loopllama.catalog.entries import parse_item
from loopllama.core import exact_json, pagination
from loopllama.core.numbers import exact, floats
from loopllama.errors import InvalidRequest, WorkflowInvalid
from loopllama.policies.samples import read as read_samples
from loopllama.policies.step_stats import parse_facts
from loopllama.providers import credentials
from loopllama.routing.overrides import CHOICE, parse_row
from loopllama.workflows.schema import Workflow
from loopllama_cli import workflow_files
from loopllama_cli.commands.common import read_input

# The rule itself


@given(NUMERALS)
def test_the_rule(numeral: str) -> None:
    check_door(exact_json.loads, numeral, exact_json.NotTaken)
    check_door(lambda text: exact_json.loads(text.encode()), numeral, exact_json.NotTaken)


@given(NUMERALS)
def test_what_is_taken_is_written_and_read_again_and_checked_as_the_same(numeral: str) -> None:
    size = taken(numeral)
    if size is None:
        return
    with soon():
        value = exact_json.loads(numeral)
        for text in (exact_json.dumps(value), exact_json.dumps([value], indent=2)[1:-1]):
            assert number(exact_json.loads(text)) == number(exact_json.loads_kept(text)) == size
            assert json.loads(text) == pytest.approx(float(size))
        exact_json.check({"a": [value]})


@given(NUMERALS)
def test_values_that_somebody_else_has_read_follow_the_same_rule(numeral: str) -> None:
    with contextlib.suppress(ValueError):  # Lambda's runtime is no door of ours: it takes no integer of 5,000 digits
        value = json.loads(numeral)
        if isinstance(value, int) or (taken(numeral) is None) == (value not in (0, float(value))):
            with soon():
                _, error = tried(lambda: exact_json.check({"n": [value]}), exact_json.NotTaken)
            assert (error is None) == (abs(value) <= 1.7976931348623157e308)
            assert error is None or error.field == "n.0"


def test_a_number_that_is_not_taken_is_found_wherever_it_is() -> None:
    for text, place, field in (
        ("1e999", "$ ", ""),
        ('{"items": [{"a": 1}, {"a b": -1e999}]}', "$.items[1]['a b'] ", "items.1.a b"),
        ('{"a": 1e999, "b": NaN}', "$.a ", "a"),
        ("[" * 150 + "NaN" + "]" * 150, "$[0][0]", ".".join("0" * 10)),
    ):
        with pytest.raises(exact_json.NotTaken) as caught:
            exact_json.loads(text)
        assert str(caught.value).startswith(place)
        assert caught.value.field == field
        assert len(str(caught.value)) < 500
    assert exact_json.loads('{"a": 1e999, "a": 5}', last_wins=True) == {
        "a": 5
    }  # the last of a name counts, as everywhere


@pytest.mark.parametrize("levels", [199, 200, 201, 900, 100_000])
def test_levels(levels: int) -> None:
    for text in ("[" * levels + "]" * levels, '{"a":' * levels + "1.5" + "}" * levels):
        if levels <= exact_json.MAX_LEVELS:
            assert exact_json.loads(text) == exact_json.loads_around(text)
            continue
        for read in (exact_json.loads, exact_json.loads_around):
            with pytest.raises(exact_json.NotTaken, match="nested too deeply: at most 200 levels"):
                read(text)
    deep: Any = 1
    for _ in range(levels):
        deep = {"a": deep}
    with contextlib.nullcontext() if levels <= exact_json.MAX_LEVELS else pytest.raises(exact_json.NotTaken):
        exact_json.check(deep)


@given(NUMERALS)
def test_a_number_spoils_nothing_beside_it_where_only_some_fields_are_read(numeral: str) -> None:
    with soon():
        read = exact_json.loads_around(f'{{"n": [{numeral}], "text": "hello"}}')
        assert read["text"] == "hello"
        if taken(numeral) is None:
            assert exact_json.dumps(read["n"]) == f"[{numeral}]"  # as it was written
        else:
            assert number(read["n"][0]) == taken(numeral)


# Doors that read texts


@given(NUMERALS)
def test_a_body_of_the_api(numeral: str) -> None:
    check_door(parse_body, numeral, InvalidRequest)
    _, error = tried(lambda: parse_body(f'{{"input": {{"n": [{numeral}]}}}}'), InvalidRequest)
    assert (error is None) == (taken(numeral) is not None)
    assert error is None or error.details[0]["field"] == "input.n.0"


@given(NUMERALS)
def test_a_cursor(numeral: str) -> None:
    for text in (numeral, f"[{numeral}, {numeral}]", f'["w", {numeral}]'):
        with soon(), pytest.raises(InvalidRequest, match="must be the next_cursor"):
            pagination.read(base64.urlsafe_b64encode(text.encode()).decode(), None, re.compile(".*"), pagination.TIME)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("files")


@given(NUMERALS)
def test_an_input_file_of_the_command_line(folder: Path, numeral: str) -> None:
    def door(text: str) -> Any:
        (folder / "input.json").write_text(text)
        return read_input(f"@{folder / 'input.json'}")

    check_door(door, numeral, InvalidRequest)


@given(NUMERALS, st.sampled_from([".json", ".yaml"]))
def test_a_file_of_routes_or_of_a_workflow(folder: Path, numeral: str, suffix: str) -> None:
    if numeral.lstrip("-")[0] not in "0123456789":
        return  # a text, in YAML
    file = folder / f"file{suffix}"

    def door(text: str) -> Any:
        file.write_text(text)
        return workflow_files.read(file)

    check_door(door, numeral, WorkflowInvalid)
    crew = f'[{{"role": "A", "systemPrompt": "x",\n "temperature": {numeral}}}]'
    file.write_text(f'{{"name": "x",\n "crew": {crew}}}')
    with soon():
        made, error = tried(lambda: workflow_files.load(file), WorkflowInvalid)
    if error is not None:
        assert (error.details[0]["line"], error.details[0]["field"]) == (3, "crew.0.temperature")
        return
    size = taken(numeral)
    assert size is not None
    assert made.crew[0].temperature == float(size)
    assert size == 0 or Fraction(1, 10**101) < size <= 2


def test_a_byte_order_mark_is_passed_over() -> None:
    assert parse_body(str(read_body({"body": '\ufeff{"a": 1}'}))) == {"a": 1}
    assert exact_json.loads('\ufeff{"a": 1}'.encode()) == {"a": 1}
    assert credentials._parse("p", "s", '\ufeff {"api_key": "k"}\r\n') == {"api_key": "k"}


# Rows that somebody writes by hand, and arithmetic

OF_DYNAMODB = st.builds(
    "{}{}E{}".format, st.sampled_from(["", "-"]), st.integers(0, 10**37), st.integers(-130, 125 - 38)
) | st.sampled_from(["0", "1", "1.5", "9.9E+125", "1E-130", "9" * 38, "1E+10"])
"""What DynamoDB's numbers are, https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/Constraints.html."""
ROW = (*CHOICE, "max_tokens", "temperature", "pin", "expires_at", "version")
ENTRY = ("prices", "context_window", "max_output", "capabilities", "enabled", "replaced_by", "options", "alias_of")


@given(OF_DYNAMODB, st.data())
def test_a_row_by_hand(text: str, data: st.DataObject) -> None:
    value = dynamo.from_item({"n": {"N": text}})["n"]
    held = [value, [value], {"model": value}, [{"model": "m", "weight": value}], [{"input": value, "output": value}]]
    forms = st.sampled_from([*held, {"a": {"b": [value]}}, {value}])
    row: Any = {name: data.draw(forms) for name in ROW}
    with soon():
        parse_row({"model": "small", "policy": "weighted", **row})
        for name in row:
            parse_row({"model": "small", "policy": "fixed", name: row[name]})
        parse_item({"model": "m", **{name: data.draw(forms) for name in ENTRY}})
        counts = ("calls", "input_tokens", "output_tokens", "cached_tokens", "wanted_at", "observed_at")
        parse_facts(dict.fromkeys(counts, value), 0.0)
        parse_facts({"observed_at": 0, "latency": {"m": {"ms": value, "samples": value, "count": value}}}, 0.0)
        read_samples({"m": [value, f"1 {value} ok 1 1 1 t 1"]}, 9)
        version_of({"version": value})


@pytest.mark.parametrize("field", ["temperature", "weight"])
@pytest.mark.parametrize("value", [1e-101, 5e-324, 1e-100, 0.0, 1e-9])
def test_a_workflow_has_no_number_that_dynamodb_does_not_keep(live: Deployment, field: str, value: float) -> None:
    more = {"temperature": value}
    if field == "weight":
        more = {"policy": "weighted", "candidates": [{"model": "a", "weight": value}, {"model": "b", "weight": 1}]}  # type: ignore[dict-item]
    made, error = tried(lambda: live.push([{"name": "a", **more}], name="Tiny"), WorkflowInvalid)
    assert (made, error is None) == ("tiny" if value in (0, 1e-9, 1e-100) else None, value in (0, 1e-9, 1e-100))
    assert error is None or "too near to 0" in str(error)


@given(NUMERALS)
def test_a_workflow_of_the_api(numeral: str) -> None:
    schema = f'{{"type": "object", "properties": {{"a": {{"maximum": {numeral}}}}}}}'
    crew = f'[{{"role": "A", "systemPrompt": "x", "outputSchema": {schema}, "temperature": {numeral}}}]'
    for text in (f'{{"name": "x", "crew": {crew}}}', f'{{"name": "x", "budget": {{"maxCostUsd": {numeral}}}}}'):
        with soon():
            made, error = tried(lambda text=text: Workflow.model_validate(floats(parse_body(text))), InvalidRequest)
            if error is None:
                assert taken(numeral) is not None
                dynamo.to_item(exact(made.to_definition()))
