"""Numbers at the doors of tools and models."""

from __future__ import annotations

import io
import json
import re
import tempfile
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.deployment import Deployment
from support.numerals import NUMERALS, SCHEMA, check_door, soon, taken, tried
from support.tool_rows import by_hand, rows

from loopllama.core import exact_json, json_schema
from loopllama.errors import CredentialsRejected, InvalidRequest, OutputInvalid, ToolFailed, ToolInvalid
from loopllama.llm import structured_output
from loopllama.llm.types import ModelResponse, Usage
from loopllama.providers import credentials, wire
from loopllama.providers.simulated.filling import Filler
from loopllama.providers.simulated.reading import Reading
from loopllama.settings import Settings
from loopllama.tools import secrets
from loopllama.tools.builtin import calculate
from loopllama.tools.toolbox import Toolbox
from loopllama_cli import tool_files
from loopllama_cli.commands.deploy import as_sam_takes_it

FILE = Path(tempfile.mkdtemp()) / "tools.json"


@given(NUMERALS)
def test_tools_of_a_deployment(numeral: str) -> None:
    tool = {"type": "lambda", "function": "f", "description": "d", "parameters": {**SCHEMA, "x": "@"}}
    text = json.dumps({"t": tool}).replace('"@"', numeral)

    def in_a_file(text: str) -> None:
        FILE.write_text(text)
        tool_files.load(FILE)

    def in_a_row(text: str) -> None:
        Toolbox({"t": by_hand("t", text.removeprefix('{"t": ').removesuffix("}"))}, ["t"])

    doors: list[tuple[Callable[[str], None], type[Exception], str]] = [
        (in_a_file, InvalidRequest, "tools.json: $.t.parameters.x"),
        (in_a_row, ToolInvalid, "t is no valid JSON: $.parameters.x"),
    ]
    for read, kind, said in doors:
        with soon():
            _, error = tried(lambda read=read: read(text), kind)
        assert (error is None) == (taken(numeral) is not None)
        assert error is None or said in str(error)
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
        credentials.checked("p", credentials._parse("p", "s", f'{{"api_key": {numeral}}}'), "secret 's'", Settings())
    secrets._kept.clear()
    for text in (numeral, f'{{"key": {numeral}}}', f'{{"other": {numeral}}}'):
        secret = secrets.Secret("s", "Authorization", "", "key")
        with soon(), pytest.raises(ToolFailed, match="secret 's' is n"):
            secret.value(Secrets(text), "tool")
        secrets._kept.clear()


ORDER = {"type": "lambda", "function": "f", "description": "d", "parameters": SCHEMA}


@given(NUMERALS)
def test_what_a_function_answers_a_tool_call(numeral: str) -> None:
    box = Toolbox(rows({"t": ORDER}), ["t"], aws=Secrets(f'{{"n": {numeral}}}'))

    def door(_: str) -> Any:
        return exact_json.loads(box.call(wire.tool_call("1", "t", '{"n": 1}', 0), idempotency_key="k", timeout=10))

    check_door(door, numeral, ToolFailed)


@given(NUMERALS)
def test_what_a_model_calls_a_tool_with(numeral: str) -> None:
    box = Toolbox(rows({"t": ORDER}), ["t"], aws=Secrets("null"))

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
    answer = structured_output.from_answer_tool(ModelResponse("", Usage(1, 1), "tool_calls", (call,)))
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


@given(st.lists(NUMERALS, min_size=2, max_size=2), st.sampled_from(["+", "-", "*", "/", "//", "%", "**", "round"]))
def test_the_calculator(numerals: list[str], operator: str) -> None:
    one, other = numerals
    text = f"round({one}, {other})" if operator == "round" else f"{one} {operator} {other}"
    with soon():
        result, error = tried(lambda: calculate(text), ToolFailed)
    assert error is not None or Decimal(result).is_finite()


def test_a_tools_parameters_are_checked_as_exactly() -> None:
    parameters = {"type": "object", "properties": {"amount": {"type": "number", "multipleOf": 0.01}}}
    box = Toolbox(rows({"t": {**ORDER, "parameters": parameters}}), ["t"], aws=Secrets("null"))
    for amount in ("19.99", "0.07", "606.67", "4.02"):
        call = wire.tool_call("1", "t", f'{{"amount": {amount}}}', 0)
        assert box.call(call, idempotency_key="k", timeout=10) == "null"
    with pytest.raises(ToolFailed, match=r"4\.021 is not a multiple of 0.01"):
        box.call(wire.tool_call("1", "t", '{"amount": 4.021}', 0), idempotency_key="k", timeout=10)
