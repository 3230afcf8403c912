"""Structured output of a step: how each mode asks for it, and what becomes of an answer that is invalid."""

from __future__ import annotations

import json
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

import pytest
from support.dialects import Dialect
from support.step_dialects import OPENAI, every_dialect
from support.step_here import USAGE, Here, cost_of
from support.wire_server import Reply

from loopllama.errors import RunFailed
from loopllama.llm import structured_output

SCHEMA = {
    "type": "object",
    "properties": {"amount": {"type": "number"}, "label": {"enum": ["billing", "other"]}},
    "required": ["amount", "label"],
    "additionalProperties": False,
}
GOOD, BAD = {"amount": 12.5, "label": "billing"}, {"amount": "twelve", "label": "billing"}
MODES = {"native": ("tools", "structured_output"), "tool": ("tools",), "instructions": ()}


# Structured output


def said(dialect: Dialect, mode: str, value: Mapping[str, Any]) -> Reply:
    """An answer as the mode has it."""
    if mode == "tool":
        return Reply(200, dialect.answer("", [("call_1", structured_output.TOOL_NAME, value)], "tools"))
    text = json.dumps(value)
    return Reply(200, dialect.answer(f"Here:\n```json\n{text}\n```" if mode == "instructions" else text))


@every_dialect
@pytest.mark.parametrize("mode", MODES)
def test_structured_output_is_asked_for_in_the_mode_that_the_model_has(here: Here, mode: str) -> None:
    here.first.script(said(here.dialect, mode, GOOD))
    run_id, work = here.start(has=MODES[mode], outputSchema=SCHEMA)
    assert here.live.step(work)["outcome"] == "done"
    assert here.read(run_id)["output"] == {"amount": Decimal("12.5"), "label": "billing"}
    seen = here.dialect.seen(here.first.requests[0])
    assert (seen.schema is not None, seen.forced == structured_output.TOOL_NAME, "JSON Schema" in seen.system) == (
        mode == "native",
        mode == "tool",
        mode == "instructions",
    )
    assert set(seen.tools) == ({structured_output.TOOL_NAME} if mode == "tool" else set())


@every_dialect
@pytest.mark.parametrize("mode", MODES)
def test_one_repair_turn_with_what_was_wrong(here: Here, mode: str) -> None:
    here.first.script(said(here.dialect, mode, BAD), said(here.dialect, mode, GOOD))
    run_id, work = here.start(has=MODES[mode], outputSchema=SCHEMA)
    assert here.live.step(work)["outcome"] == "done"
    step = here.read(run_id)
    assert step["output"]["label"] == "billing"
    assert [one["outcome"] for one in step["attempts"]] == ["ok", "ok"]
    assert step["cost_usd"] == 2 * cost_of(*USAGE)
    messages = here.dialect.seen(here.first.requests[1]).messages
    assert [role for role, _, _ in messages] == ["user", "assistant", "user"]
    assert "amount: 'twelve' is not of type 'number'" in str(messages[-1][2])


@pytest.mark.parametrize("mode", MODES)
def test_after_the_repair_the_step_fails(here: Here, mode: str) -> None:
    here.first.script(*[said(here.dialect, mode, BAD)] * 2)
    run_id, work = here.start(has=MODES[mode], outputSchema=SCHEMA)
    assert here.live.step(work)["outcome"] == "failed"
    step = here.read(run_id)
    assert step["error"].startswith("OutputInvalid: The answer does not follow the output schema")
    assert "twelve" in step["error"]
    assert step["cost_usd"] == 2 * cost_of(*USAGE)
    # What the model said stays in the record: what AdvanceRun raises ends up in logs and in the execution's history.
    with pytest.raises(RunFailed, match="failed: OutputInvalid; the run's record says more") as raised:
        here.live.advance(work | {"round": 0}, [{"outcome": "failed"}])
    assert "twelve" not in str(raised.value)
    assert "twelve" in here.live.read(run_id)["error"]
    assert step["cost_basis"] == "measured"


@pytest.mark.parametrize("mode", MODES)
def test_or_the_next_fallback_begins_afresh(here: Here, mode: str) -> None:
    here.first.script(*[said(here.dialect, mode, BAD)] * 2)
    here.second.script(said(OPENAI, mode, GOOD))
    run_id, work = here.start(fallback=True, has=MODES[mode], outputSchema=SCHEMA)
    assert here.live.step(work)["outcome"] == "done"
    step = here.read(run_id)
    assert (step["model"], step["output"]["label"]) == (here.models[1], "billing")
    assert [one["model"] for one in step["attempts"]] == [here.models[0]] * 2 + [here.models[1]]
    assert [role for role, _, _ in OPENAI.seen(here.second.requests[0]).messages] == ["user"]
    assert step["cost_usd"] == 3 * cost_of(*USAGE)


def test_an_answer_that_was_cut_off_is_no_json(here: Here) -> None:
    here.first.script(*[Reply(200, here.dialect.answer('{"amount": 12', stop="length"))] * 2)
    run_id, work = here.start(has=MODES["native"], outputSchema=SCHEMA, maxTokens=5)
    assert here.live.step(work)["outcome"] == "failed"
    assert "cut off by its token limit; raise maxTokens" in here.read(run_id)["error"]
    assert [one["stop_reason"] for one in here.read(run_id)["attempts"]] == ["max_tokens"] * 2


def test_later_steps_see_the_parsed_object(here: Here) -> None:
    here.start()  # for its models
    model = here.models[0]
    crew: list[dict[str, Any]] = [
        {"name": "extract", "model": model, "outputSchema": SCHEMA},
        {"name": "skipped", "model": model, "when": "steps.extract.output.label == 'other'"},
        {
            "name": "write",
            "model": model,
            "needs": ["extract"],
            "prompt": "Refund {{ steps.extract.output.amount }} ({{ steps.extract.output.label }}).",
        },
    ]
    here.first.script(said(here.dialect, "tool", GOOD), Reply(200, here.dialect.answer("Done.")))
    run_id = here.live.accept(here.live.push(crew, name="Parsed"), "x")
    here.live.play(run_id)
    assert [step["status"] for step in here.live.read(run_id)["steps"]] == ["completed", "skipped", "completed"]
    assert here.dialect.seen(here.first.requests[1]).messages == [("user", "text", "Refund 12.5 (billing).")]


def test_an_answer_given_beside_tool_calls_is_asked_for_again(here: Here) -> None:
    both = [("call_1", "calculator", {"expression": "5 + 7.5"}), ("call_2", structured_output.TOOL_NAME, BAD)]
    here.first.script(Reply(200, here.dialect.answer("", both, "tools")), said(here.dialect, "tool", GOOD))
    run_id, work = here.start(has=MODES["tool"], outputSchema=SCHEMA, tools=["calculator"])
    assert here.live.step(work)["outcome"] == "done"
    step = here.read(run_id)
    assert step["output"] == {"amount": Decimal("12.5"), "label": "billing"}
    assert [one["outcome"] for one in step["tool_calls"]] == ["ok", "failed"]
    assert "give it again, alone" in step["tool_calls"][1]["result"]
