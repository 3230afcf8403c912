"""Steps that take a turn for each item of a list."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from support.deployment import Deployment
from support.scripts import TEXTS, by_system

from loopllama.core import exact_json
from loopllama.errors import ModelRequestRejected, RunFailed
from loopllama.llm.types import ModelResponse, ToolCall, Usage


def each_crew(**fields: Any) -> list[dict[str, Any]]:
    return [
        {"name": "split", "outputSchema": TEXTS, "systemPrompt": "Split."},
        {"name": "work", "forEach": "steps.split.output.list", "prompt": "item {{ item.n }}", **fields},
        {"name": "sum", "systemPrompt": "Sum."},
    ]


def test_for_each_takes_a_turn_an_item_and_gathers_in_order(live: Deployment) -> None:
    live.provider.script = by_system(
        {
            "Split.": {"list": [{"n": n} for n in range(5)]},
            "Do.": lambda call: call.messages[0].text.upper(),
            "Sum.": "ok",
        }
    )
    run_id = live.accept(live.push(each_crew()))
    live.play(run_id)
    run = live.read(run_id)
    assert run["status"] == "completed"
    head = next(step for step in run["steps"] if step["id"] == "STEP#work#0#0")
    assert head["output"] == [f"ITEM {n}" for n in range(5)]
    assert len([step for step in run["steps"] if step["step"] == "work"]) == 6
    assert "ITEM 4" in live.provider.calls[-1].messages[0].text
    assert len(live.provider.calls) == 7


def test_items_keep_their_digits_in_prompts_and_in_the_record(live: Deployment) -> None:
    texts = ["0.1", "19.9", "12345678901234567.89", "12345678901234567890.123456789", "0.0000001", "7", "-3"]
    items = [{"n": exact_json.loads(text)} for text in texts]
    each = {"name": "each", "forEach": "sort_by(input.list, &n)[*].n", "prompt": "{{ item }} {{ input.list }}"}
    live.provider.script = lambda call: call.messages[0].text.split(" ")[0]
    run_id = live.accept(live.push([each]), {"list": items})
    live.play(run_id)
    written = "[" + ", ".join(f'{{"n": {text}}}' for text in texts) + "]"
    expected = sorted(texts, key=Decimal)
    assert [call.messages[0].text for call in live.provider.calls] == [f"{text} {written}" for text in expected]
    run = live.read(run_id)
    assert run["output"] == expected
    assert run["input"] == {"list": items}


def test_for_each_over_nothing_and_over_no_list(live: Deployment) -> None:
    live.provider.script = by_system({"Split.": {"list": []}, "Do.": "x", "Sum.": "ok"})
    workflow = live.push(each_crew())
    run_id = live.accept(workflow)
    live.play(run_id)
    assert live.read(run_id)["status"] == "completed"
    assert len(live.provider.calls) == 2
    live.provider.script = by_system({"Split.": {"ok": True}, "Do.": "x", "Sum.": "ok"})
    run_id = live.accept(workflow)
    with pytest.raises(RunFailed):
        live.play(run_id)
    assert "forEach takes a list; 'steps.split.output.list' gave nothing" in live.read(run_id)["error"]


def failing(call: Any) -> str:
    if call.messages[0].text == "item 1":
        raise ModelRequestRejected("bad item")
    return "fine"


def test_a_failed_item_fails_the_step_and_a_redrive_pays_only_for_it(live: Deployment) -> None:
    live.provider.script = by_system({"Split.": {"list": [{"n": n} for n in range(3)]}, "Do.": failing, "Sum.": "ok"})
    run_id = live.accept(live.push(each_crew(maxConcurrency=1)))
    with pytest.raises(RunFailed, match="'work' failed: ItemsFailed"):
        live.play(run_id)
    said = "2 of 3 items failed, at most 0 may: item 2: ModelRequestRejected: bad item; item 3: not run"
    assert said in live.read(run_id)["error"]
    before = len(live.provider.calls)
    assert before == 3
    live.provider.script = by_system({"Do.": "fine", "Sum.": "ok"})
    state = live.advance({"contract": 1, "run_id": run_id, "round": 0})
    assert [one["step"] for one in state["ready"]] == ["work"]
    live.chain(live.map(state)[0])
    live.advance(state)
    assert live.read(run_id)["status"] == "completed"
    assert len(live.provider.calls) == before + 3


def test_failed_items_are_tolerated_up_to_max_failures(live: Deployment) -> None:
    live.provider.script = by_system({"Split.": {"list": [{"n": n} for n in range(3)]}, "Do.": failing, "Sum.": "ok"})
    run_id = live.accept(live.push(each_crew(maxFailures=1)))
    live.play(run_id)
    run = live.read(run_id)
    assert run["status"] == "completed"
    assert next(s for s in run["steps"] if s["id"] == "STEP#work#0#0")["output"] == ["fine", None, "fine"]


def test_an_item_whose_function_died_is_billed_and_a_redrive_takes_it_again(live: Deployment) -> None:
    """Its first call is paid; its second one takes the function with it, and another item says stop."""

    class Died(BaseException):
        pass

    def script(call: Any) -> Any:
        text = call.messages[0].text
        if "Split." in call.system:
            return exact_json.dumps({"list": [{"n": n} for n in range(2)]})
        if "item 1" in text:
            if len(call.messages) > 1:
                raise Died
            return ModelResponse("", Usage(7, 1), "tool_calls", (ToolCall("t", "ask_human", {}),))
        raise ModelRequestRejected("bad item")

    live.provider.script = script
    run_id = live.accept(live.push(each_crew(tools=["ask_human"])))
    state = live.start(run_id)
    fork = live.step(live.step(live.map(state)[0]))
    first, second = live.map(fork, depth=1)
    with pytest.raises(Died):
        live.step(second)
    assert live.step(first)["outcome"] == "failed"
    died = {"outcome": "crashed", "step": "work", "item": 2, "error": "Runtime.ExitError"}
    assert live.step({**fork, "ended": [died]})["outcome"] == "failed"
    work = [row for row in live.usage_rows() if row["step"] == "work"]
    assert sorted(row["input_tokens"] for row in work if "input_tokens" in row)[-1] == 7


def test_for_each_inside_a_fork_waits_for_the_round(live: Deployment) -> None:
    crew = [
        {"name": "split", "outputSchema": TEXTS, "systemPrompt": "Split."},
        {"name": "left", "needs": ["split"]},
        {"name": "right", "needs": ["split"]},
        {"name": "work", "needs": ["left"], "forEach": "steps.split.output.list"},
    ]
    live.provider.script = by_system({"Split.": {"list": [1, 2]}, "Do.": "fine"})
    run_id = live.accept(live.push(crew))
    live.play(run_id)
    assert live.read(run_id)["status"] == "completed"
    assert len(live.provider.calls) == 5
