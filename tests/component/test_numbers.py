"""Numbers at every door, those of JSON's whole grammar: each is taken as it is, or refused by a sentence that names its
place; none is a mistake of ours, and none keeps us busy.
"""

from __future__ import annotations

import base64
import contextlib
import io
import json
import re
import time
import uuid
from collections.abc import Callable, Iterator
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any, cast

import boto3
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from support.api_client import InProcess
from support.deployment import Deployment, deployment
from support.numerals import NUMERALS, taken

from loopllama.api.responses import parse_body, read_body
from loopllama.aws import dynamo
from loopllama.aws.versioned import version_of
from loopllama.catalog.entries import parse_item
from loopllama.core import exact_json, json_schema, pagination
from loopllama.core.numbers import exact, floats
from loopllama.engine.start import start_run
from loopllama.engine.triggers import accept_event
from loopllama.errors import CredentialsRejected, InvalidRequest, OutputInvalid, ToolFailed, WorkflowInvalid
from loopllama.llm import structured_output
from loopllama.llm.types import Answer, Usage
from loopllama.providers import credentials, wire
from loopllama.providers.simulated.filling import Filler
from loopllama.providers.simulated.reading import Reading
from loopllama.routing.overrides import CHOICE, parse_row
from loopllama.routing.step_stats import parse_facts
from loopllama.settings import Settings
from loopllama.tools import secrets
from loopllama.tools.builtin import calculate
from loopllama.tools.toolbox import Toolbox
from loopllama.workflows.schema import Workflow
from loopllama_cli import tool_files, workflow_files
from loopllama_cli.commands.common import read_input
from loopllama_cli.commands.deploy import as_sam_takes_it

LONGEST = 2.0
"""Seconds that a number may take anywhere; what they guard against takes minutes, or more memory than there is."""
SCHEMA = {"type": "object", "properties": {"n": {"type": "number"}}, "required": ["n"], "additionalProperties": False}


@contextlib.contextmanager
def soon() -> Iterator[None]:
    began = time.process_time()
    yield
    assert time.process_time() - began < LONGEST


def number(value: Any) -> Fraction:
    """What was read, exactly."""
    assert isinstance(value, int | Decimal)
    assert not isinstance(value, bool)
    return Fraction(value)


def tried(call: Callable[[], Any], kind: type[Exception]) -> tuple[Any, Any]:
    """What a call returns, or the error that it refuses with."""
    try:
        return call(), None
    except kind as error:
        return None, error


def check_door(door: Callable[[str], Any], numeral: str, kind: type[Exception], place: str = "n") -> None:
    """A door that takes `{"n": numeral}` and returns what it made of it."""
    with soon():
        read, error = tried(lambda: door(f'{{"n": {numeral}}}'), kind)
    if error is None:
        assert number(read["n"]) == taken(numeral)
        return
    assert taken(numeral) is None, error
    assert "out of range" in str(error) or "no JSON number" in str(error)
    assert re.search(rf"\b{place}\b", str(error))
    assert len(str(error)) < 600


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
    assert exact_json.loads('{"a": 1e999, "a": 5}') == {"a": 5}  # the last of a name counts, as everywhere


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
            pagination.read(base64.urlsafe_b64encode(text.encode()).decode(), re.compile(".*"))


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


@given(NUMERALS)
def test_tools_of_a_deployment(numeral: str) -> None:
    tool = {"type": "lambda", "function": "f", "description": "d", "parameters": {**SCHEMA, "x": "@"}}
    text = json.dumps({"t": tool}).replace('"@"', numeral)

    def deployed(text: str) -> None:
        made = Settings.from_environment({"TOOLS": text})
        Toolbox(made, ["t"])

    for read, kind in ((tool_files.check_tools, InvalidRequest), (deployed, ValueError)):
        with soon():
            _, error = tried(lambda read=read: read(text), kind)
        assert (error is None) == (taken(numeral) is not None)
        assert error is None or ("$.t.parameters.x" in str(error) and "TOOLS" in str(error).upper())
    with soon():
        assert numeral in as_sam_takes_it(text)


class Secrets:
    """Stands for Secrets Manager and Lambda, and says one text."""

    def __init__(self, text: str) -> None:
        self.text = text

    def client(self, service: str, **_: Any) -> Secrets:
        return self

    def get_secret_value(self, **_: Any) -> dict[str, Any]:
        return {"SecretString": self.text}

    def invoke(self, **_: Any) -> dict[str, Any]:
        return {"Payload": io.BytesIO(self.text.encode())}


@given(NUMERALS)
def test_secrets(numeral: str) -> None:
    with soon(), pytest.raises(CredentialsRejected, match="secret 's'"):
        credentials._checked("p", credentials._parse("p", "s", f'{{"api_key": {numeral}}}'), "secret 's'", Settings())
    secrets._kept.clear()
    for text in (numeral, f'{{"key": {numeral}}}', f'{{"other": {numeral}}}'):
        secret = secrets.Secret("s", "Authorization", "", "key")
        with soon(), pytest.raises(ToolFailed, match="secret 's' is n"):
            secret.value(Secrets(text), "tool")
        secrets._kept.clear()


ORDER = {"type": "lambda", "function": "f", "description": "d", "parameters": SCHEMA}


@given(NUMERALS)
def test_what_a_function_answers_a_tool_call(numeral: str) -> None:
    box = Toolbox(Settings(tools={"t": ORDER}), ["t"], aws=Secrets(f'{{"n": {numeral}}}'))

    def door(_: str) -> Any:
        return exact_json.loads(box.call(wire.tool_call("1", "t", '{"n": 1}', 0), idempotency_key="k", timeout=10))

    check_door(door, numeral, ToolFailed)


@given(NUMERALS)
def test_what_a_model_calls_a_tool_with(numeral: str) -> None:
    box = Toolbox(Settings(tools={"t": ORDER}), ["t"], aws=Secrets("null"))

    def door(text: str) -> Any:
        call = wire.tool_call("1", "t", text, 0)
        box.call(call, idempotency_key="k", timeout=10)
        return call.arguments

    check_door(door, numeral, ToolFailed)
    asked = exact_json.loads_around(f'{{"n": {numeral}}}')
    with soon():
        call = wire.tool_call("1", "t", asked, 0)  # an object inside the answer's own JSON
    assert (call.arguments is None) == (taken(numeral) is None)
    if call.arguments is None:
        assert call.raw == f'{{"n":{numeral}}}'


@given(NUMERALS)
def test_what_a_model_answers(numeral: str) -> None:
    check_door(lambda text: structured_output.parse_answer(text, SCHEMA), numeral, OutputInvalid)
    check_door(lambda text: structured_output.parse_answer(f"Here: {text}!", SCHEMA), numeral, OutputInvalid)
    call = wire.tool_call("1", structured_output.TOOL_NAME, exact_json.loads_around(f'{{"n": {numeral}}}'), 0)
    answer = structured_output.from_answer_tool(Answer("", Usage(1, 1), "tool_calls", (call,)))
    check_door(lambda _: structured_output.parse_answer(answer.text, SCHEMA), numeral, OutputInvalid)


@given(NUMERALS)
def test_counts_of_tokens(numeral: str) -> None:
    with soon():
        found = wire.count(exact_json.loads_around(numeral))
    size = taken(numeral)
    assert found == (size if size is not None and 0 <= size < wire.MOST_TOKENS and size.denominator == 1 else None)


@given(NUMERALS)
def test_what_the_simulated_model_reads(numeral: str) -> None:
    with soon():
        for value in Reading(f'Total: {numeral} {{"n": {numeral}}}').objects:
            json.dumps(value, allow_nan=False)


# Doors of runs


@pytest.fixture(scope="module")
def live() -> Iterator[Deployment]:
    with pytest.MonkeyPatch.context() as patch, deployment(patch) as made:
        made.push([{"name": "a", "prompt": "{{ input }}"}, {"name": "b", "when": "input.n > `5`"}], name="w")
        boto3.client("s3").create_bucket(Bucket="uploads")
        yield made


def run_of(live: Deployment, accept: Callable[[], Any]) -> Any:
    run_id = accept()
    run = live.read(run_id)
    live.play(run_id)
    assert live.read(run_id)["status"] == "completed"
    return run["input"]


@settings(max_examples=25)
@given(NUMERALS)
def test_an_upload(live: Deployment, numeral: str) -> None:
    def door(text: str) -> Any:
        name = uuid.uuid4()
        key = f"w/{name}.json"
        tag = boto3.client("s3").put_object(Bucket="uploads", Key=key, Body=text.encode())["ETag"].strip('"')
        made = {"bucket": {"name": "uploads"}, "object": {"key": key, "size": len(text), "etag": tag}}
        event = {"id": key, "detail-type": "Object Created", "detail": made}
        return run_of(live, lambda: accept_event(live.settings, event))

    check_door(door, numeral, InvalidRequest)


@settings(max_examples=25)
@given(NUMERALS)
@example("1e400")
@example("9" * 400)
def test_an_event_and_an_execution_by_hand(live: Deployment, numeral: str) -> None:
    with contextlib.suppress(ValueError):
        value = json.loads(numeral)  # as Lambda's runtime reads it: the nearest double
        name, detail = uuid.uuid4(), {"workflow": "w", "input": {"n": value}}
        event = {"id": str(name), "detail-type": "RunRequested", "detail": detail}
        by_hand = {"request": detail, "execution_arn": f"arn:{name}", "execution_name": f"hand-{name}"}

        def started() -> str:
            return str(start_run(live.settings, by_hand)["run_id"])

        for accept in (started, lambda: accept_event(live.settings, event)):
            with soon():
                run_id, error = tried(accept, InvalidRequest)
            if error is not None:
                assert error.details[0]["field"] == "input.n"
                assert taken(numeral) is None
                continue
            assert number(live.read(run_id)["input"]["n"]) == Fraction(str(value))
            live.play(run_id)
            assert live.read(run_id)["status"] == "completed"


@settings(max_examples=25)
@given(NUMERALS)
@example("1e300000000")
@example("1e5000")
def test_the_api_starts_and_replays_runs(live: Deployment, numeral: str) -> None:
    ask = InProcess(live.settings).ask
    with soon():
        status, answer = ask("POST", "/v1/workflows/w/runs", f'{{"input": {{"n": {numeral}}}}}')
    if taken(numeral) is None:
        assert (status, [one["field"] for one in answer["details"]]) == (400, ["input.n"])
        return
    assert status == 202
    assert number(answer["data"]["input"]["n"]) == taken(numeral)
    live.play(answer["data"]["id"])
    assert live.read(answer["data"]["id"])["status"] == "completed"
    with soon():
        path = f"/v1/runs/{answer['data']['id']}/replay"
        status, answer = ask("POST", path, f'{{"fromStep": "b", "input": {{"n": {numeral}}}}}')
    assert (status, number(answer["data"]["input"]["n"])) == (202, taken(numeral))


def test_a_run_that_was_accepted_before_the_rule_can_be_read(live: Deployment) -> None:
    run_id = live.accept("w", {"n": 1})
    client = boto3.client("dynamodb")
    client.update_item(
        TableName=live.settings.runs_table,
        Key={"run_id": {"S": run_id}, "item": {"S": "RUN"}},
        UpdateExpression="SET #input = :old",
        ExpressionAttributeNames={"#input": "input"},
        ExpressionAttributeValues={":old": {"M": {"$json": {"S": '{"n": 1e5000}'}}}},
    )
    assert exact_json.dumps(live.read(run_id)["input"]) == '{"n":1E+5000}'


@pytest.mark.parametrize("numeral", ["1e99999999999999999999", "1e300000000", "9" * 5000, "NaN", "[" * 300 + "]" * 300])
def test_a_model_is_told_and_asked_again(live: Deployment, numeral: str) -> None:
    answers = iter([f'{{"n": {numeral}}}', '{"n": 19.99}'])
    schema = {**SCHEMA, "properties": {"n": {"type": "number", "multipleOf": 0.01}}}
    live.push([{"name": "a", "outputSchema": schema}], name="Cents")
    live.provider.calls.clear()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(live.provider, "script", lambda _: next(answers))
        run_id = live.accept("cents")
        live.play(run_id)
    run = live.read(run_id)
    assert (run["status"], run["output"]) == ("completed", {"n": Decimal("19.99")})
    assert [one["cost_basis"] for one in run["steps"][0]["attempts"]] == ["measured"] * 2
    assert re.search(r"\$(\.n)? is (out of range|NaN|nested too deeply)", live.provider.calls[1].messages[-1].text)


def test_a_byte_order_mark_is_passed_over() -> None:
    assert parse_body(str(read_body({"body": '\ufeff{"a": 1}'}))) == {"a": 1}
    assert exact_json.loads('\ufeff{"a": 1}'.encode()) == {"a": 1}
    assert credentials._parse("p", "s", '\ufeff {"api_key": "k"}\r\n') == {"api_key": "k"}


@pytest.mark.parametrize(
    "rule", [{"minimum": 3}, {"minimum": 1, "maximum": 9}, {"maximum": -5}, {"exclusiveMinimum": 0.1}]
)
@pytest.mark.parametrize("step", [0.01, 0.07, 0.1, 5e-3, 0.5])
@pytest.mark.parametrize("kind", ["number", "integer"])
def test_the_simulated_model_answers_by_the_same_rule(rule: dict[str, Any], step: float, kind: str) -> None:
    schema = {
        "type": "object",
        "properties": {"amount": {"type": kind, "multipleOf": step, **rule}},
        "required": ["amount"],
    }
    for text in ("Nothing is said.", "Amount: 19.99", "Amount: 19.995, or 9e999, or " + "9" * 5000):
        value = Filler(Reading(text), "Say the amount.", schema).fill(schema)[0]
        assert json_schema.violations(schema, value) == [], value


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
            parse_row(cast("Any", {"model": "small", "policy": "fixed", name: row[name]}))
        parse_item({"model": "m", **{name: data.draw(forms) for name in ENTRY}})
        parse_facts(dict.fromkeys(("calls", "tokens_in", "tokens_out", "tokens_cached", "wanted_at"), value))
        parse_facts({"latency": {"m": {"ms": value, "samples": value}}})
        version_of({"version": value})


@given(st.lists(NUMERALS, min_size=2, max_size=2), st.sampled_from(["+", "-", "*", "/", "//", "%", "**", "round"]))
def test_the_calculator(numerals: list[str], operator: str) -> None:
    one, other = numerals
    text = f"round({one}, {other})" if operator == "round" else f"{one} {operator} {other}"
    with soon():
        result, error = tried(lambda: calculate(text), ToolFailed)
    assert error is not None or Decimal(result).is_finite()


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


# JSON Schema


def follows(value: str, schema: str) -> bool:
    return not json_schema.violations(exact_json.loads(schema), exact_json.loads(value))


@pytest.mark.parametrize(
    ("schema", "good", "bad"),
    [
        (
            '{"multipleOf": 0.01}',
            "4.02 1.11 606.67 600.03 12.30 19.99 0.07 10001.12 1e15 -0.01 0 1e300 123456789012345678901234567890.12",
            "4.021 0.005 19.990000000000001 1e-300 123456789012345678901234567890.123",
        ),
        ('{"multipleOf": 0.0001}', "0.0075 1.0001", "0.00751"),
        ('{"multipleOf": 1e-8}', "1e300 12391239123", "1.23e-9"),
        ('{"multipleOf": 3}', "9 9.0 9e0 -3 1" + "0" * 100 + "2", "10 9.1 1e300"),
        ('{"multipleOf": 2.5}', "5 7.5 1e2", "6 7.6"),
        ('{"maximum": 0.1}', "0.1 0.10 1e-1 -5", "0.1000000000000000000001 1"),
        ('{"minimum": 0.3}', "0.3 1" + "0" * 300, "0.29999999999999999999999"),
        ('{"exclusiveMaximum": 0.3}', "0.29999999999999999999999", "0.3 3e-1"),
        ('{"exclusiveMinimum": 9007199254740992}', "9007199254740993 9007199254740992.5", "9007199254740992"),
        ('{"const": 0.1}', "0.1 0.10 1e-1", "0.10000000000000000001 0.11"),
        ('{"enum": [0.1, 1, true]}', "0.1 1.0 1e0 true", "0.2 false 0"),
        ('{"const": 1}', "1 1.0 10e-1", "true 1.00000000000000000001"),
        ('{"type": "integer"}', "1 1.0 1e2 -0 -0.0 1e300 1" + "0" * 300, "1.5 1e-1 1.00000000000000000001 true"),
        ('{"type": "number"}', "1 1.0 1e2", 'true "1"'),
        ('{"uniqueItems": true}', "[1,2,1.5] [1,true] [0,false] [0.1,0.10000000000000000001]", "[1,1.0] [0.1,1e-1]"),
        ('{"minLength": 2.0, "maxItems": 1e0}', '"ab" [1]', '"a" [1,2]'),
        (
            '{"$schema": "http://json-schema.org/draft-04/schema#", "type": "integer", "multipleOf": 0.5}',
            "1",
            "1.0 1.5",
        ),
        ('{"$schema": "http://json-schema.org/draft-07/schema#", "type": "integer"}', "1 1.0", "1.5"),
    ],
)
def test_schemas_compare_numbers_as_they_are_written(schema: str, good: str, bad: str) -> None:
    for value in good.split():
        assert follows(value, schema), value
    for value in bad.split():
        assert not follows(value, schema), value


@given(
    NUMERALS, NUMERALS, st.sampled_from(["multipleOf", "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"])
)
def test_schemas_against_fractions(one: str, other: str, keyword: str) -> None:
    value, bound = taken(one), taken(other)
    if value is None or bound is None or (keyword == "multipleOf" and bound <= 0):
        return
    expected = {
        "multipleOf": lambda: (value / bound).denominator == 1,
        "minimum": lambda: value >= bound,
        "maximum": lambda: value <= bound,
        "exclusiveMinimum": lambda: value > bound,
        "exclusiveMaximum": lambda: value < bound,
    }[keyword]()
    with soon():
        assert follows(one, f'{{"{keyword}": {other}}}') == expected
        assert follows(one, f'{{"enum": [{other}]}}') == (value == bound)
        assert follows(one, '{"type": "integer"}') == (value.denominator == 1)
        assert follows(f"[{one}, {other}]", '{"uniqueItems": true}') == (value != bound)


def test_what_does_not_follow_is_told_in_json() -> None:
    schema = {"properties": {"price": {"multipleOf": 0.01, "maximum": Decimal("99.90")}}}
    assert json_schema.violations(schema, {"price": Decimal("100.005")}) == [
        "$.price: 100.005 is not a multiple of 0.01",
        "$.price: 100.005 is greater than the maximum of 99.9",
    ]


def test_a_tools_parameters_are_checked_as_exactly() -> None:
    parameters = {"type": "object", "properties": {"amount": {"type": "number", "multipleOf": 0.01}}}
    box = Toolbox(Settings(tools={"t": {**ORDER, "parameters": parameters}}), ["t"], aws=Secrets("null"))
    for amount in ("19.99", "0.07", "606.67", "4.02"):
        call = wire.tool_call("1", "t", f'{{"amount": {amount}}}', 0)
        assert box.call(call, idempotency_key="k", timeout=10) == "null"
    with pytest.raises(ToolFailed, match=r"4\.021 is not a multiple of 0.01"):
        box.call(wire.tool_call("1", "t", '{"amount": 4.021}', 0), idempotency_key="k", timeout=10)
