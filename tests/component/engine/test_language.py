"""The crew's language in the engine: skipped steps, forEach, loops, people."""

from __future__ import annotations

import time
from decimal import Decimal
from types import SimpleNamespace
from typing import Any

import pytest
from support.deployment import Deployment

from loopllama.core import clock, exact_json
from loopllama.engine import human_input
from loopllama.errors import Conflict, InvalidRequest, ModelRejected, RunFailed
from loopllama.llm.types import Answer, ToolCall, Usage

TEXTS = {"type": "object", "properties": {"list": {"type": "array"}, "ok": {"type": "boolean"}}}


def by_system(answers: dict[str, Any]) -> Any:
    """A script that answers by the agent's system prompt."""

    def script(call: Any) -> Answer | str:
        answer = next(answers[key] for key in answers if key in call.system)
        answer = answer(call) if callable(answer) else answer
        return answer if isinstance(answer, str | Answer) else exact_json.dumps(answer)

    return script


def statuses(run: dict[str, Any]) -> dict[str, str]:
    return {step["step"]: step["status"] for step in run["steps"]}


def test_a_step_whose_condition_is_false_is_skipped_and_so_is_what_only_follows_it(live: Deployment) -> None:
    crew = [
        {"name": "a", "outputSchema": TEXTS, "systemPrompt": "A."},
        {"name": "b", "when": "steps.a.output.ok", "needs": ["a"]},
        {"name": "c", "needs": ["b"]},
        {"name": "d", "needs": ["a", "c"], "prompt": "<{{ steps.c.output }}>"},
    ]
    live.provider.script = by_system({"A.": {"ok": False}, "Do.": "done"})
    run_id = live.accept(live.push(crew))
    live.play(run_id)
    run = live.read(run_id)
    assert statuses(run) == {"a": "completed", "b": "skipped", "c": "skipped", "d": "completed"}
    assert run["status"] == "completed"
    assert live.provider.calls[-1].messages[0].text == "<>"
    assert len(live.provider.calls) == 2
    assert [step["output"] for step in run["steps"]][1] is None


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


NUMBERS = {
    "score": Decimal("0.80"),
    "xs": [Decimal("0.1"), Decimal("0.2"), 3],
    "big": [Decimal("1E+30"), Decimal("0.1")],
}
HOLD = [
    "steps.a.output.score >= `0.8`",
    "steps.a.output.score == `0.80`",
    "input.score == steps.a.output.score",
    "sum(steps.a.output.xs[:2]) == `0.3`",
    "avg(steps.a.output.xs) == `1.1`",
    "max(steps.a.output.xs) == `3.0`",
    "contains(steps.a.output.xs, `0.1`)",
    "length(steps.a.output.xs[?@ >= `0.2`]) == `2`",
    "sort_by(input.rows, &n)[0].n == `-0.5`",
    "to_number('0.80') == steps.a.output.score",
    "to_string(steps.a.output.score) == '0.8'",
    "type(steps.a.output.score) == 'number'",
    "ceil(steps.a.output.score) == `1` && floor(steps.a.output.score) == `0`",
    "sum(steps.a.output.big) == `1000000000000000000000000000000.1`",
]
FAIL = [
    "steps.a.output.score > `0.8`",
    "steps.a.output.score < `0.8`",
    "steps.a.output.score != `0.8`",
    "steps.a.output.score > '0.7'",
    "steps.a.output.xs[0] == `true`",
    "contains(steps.a.output.xs, `true`)",
    "input.yes == `1`",
]


def test_conditions_see_the_numbers_that_the_record_has(live: Deployment) -> None:
    """In `when` and `until`: a loop whose condition holds takes one round, and else all of them."""
    crew: list[dict[str, Any]] = [{"name": "a", "systemPrompt": "A.", "outputSchema": {"type": "object"}}]
    for place, text in enumerate([*HOLD, *FAIL]):
        crew.append({"name": f"when_{place}", "needs": ["a"], "when": text})
        until = {"backTo": f"until_{place}", "until": text, "max": 2}
        crew.append({"name": f"until_{place}", "needs": ["a"], "repeat": until})
    live.provider.script = by_system({"A.": NUMBERS, "Do.": "done"})
    run_input = {
        "score": Decimal("0.8"),
        "yes": True,
        "rows": [{"n": 1}, {"n": Decimal("-0.5")}, {"n": Decimal("2.5")}],
    }
    run_id = live.accept(live.push(crew), run_input)
    live.play(run_id)
    steps = live.read(run_id)["steps"]
    ran = {one["step"] for one in steps if one["status"] == "completed"}
    rounds = [one["step"] for one in steps]
    for place, text in enumerate([*HOLD, *FAIL]):
        assert (f"when_{place}" in ran) is (text in HOLD), text
        assert rounds.count(f"until_{place}") == (1 if text in HOLD else 2), text


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
        raise ModelRejected("bad item")
    return "fine"


def test_a_failed_item_fails_the_step_and_a_redrive_pays_only_for_it(live: Deployment) -> None:
    live.provider.script = by_system({"Split.": {"list": [{"n": n} for n in range(3)]}, "Do.": failing, "Sum.": "ok"})
    run_id = live.accept(live.push(each_crew(maxConcurrency=1)))
    with pytest.raises(RunFailed, match="'work' failed: ItemsFailed"):
        live.play(run_id)
    said = "2 of 3 items failed, at most 0 may: item 2: ModelRejected: bad item; item 3: not run"
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
            return Answer("", Usage(7, 1), "tool_calls", (ToolCall("t", "ask_human", {}),))
        raise ModelRejected("bad item")

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
    rows = live.runs.dynamodb.scan(TableName=live.settings.usage_table)["Items"]
    assert sorted(row["tokens_in"]["N"] for row in rows if row["step"]["S"] == "work" and "tokens_in" in row)[-1] == "7"


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


def loop_crew(most: int = 3) -> list[dict[str, Any]]:
    return [
        {"name": "plan", "systemPrompt": "Plan."},
        {"name": "write", "systemPrompt": "Write."},
        {
            "name": "review",
            "systemPrompt": "Review.",
            "outputSchema": TEXTS,
            "repeat": {"backTo": "write", "until": "steps.review.output.ok", "max": most},
        },
        {"name": "send", "systemPrompt": "Send."},
    ]


def test_a_reviewer_sends_a_writer_back_until_it_is_good(live: Deployment) -> None:
    verdicts = iter([{"ok": False, "note": "shorter"}, {"ok": True}])
    drafts = iter(["first draft", "second draft"])
    live.provider.script = by_system(
        {
            "Plan.": "the plan",
            "Write.": lambda call: next(drafts),
            "Review.": lambda call: next(verdicts),
            "Send.": "sent",
        }
    )
    run_id = live.accept(live.push(loop_crew()))
    live.play(run_id)
    run = live.read(run_id)
    assert run["status"] == "completed"
    assert [step["id"] for step in run["steps"]] == [
        "STEP#plan#0#0",
        "STEP#write#0#0",
        "STEP#write#1#0",
        "STEP#review#0#0",
        "STEP#review#1#0",
        "STEP#send#0#0",
    ]
    second = live.provider.calls[3].messages[0].text
    assert "first draft" in second
    assert "shorter" in second
    last = live.provider.calls[-1].messages[0].text
    assert "second draft" in last
    assert "first draft" not in last
    assert run["cost_usd"] == sum(step["cost_usd"] for step in run["steps"])


JUDGED = {"type": "object", "properties": {"ok": {"type": "boolean"}, "hint": {"type": "string"}, "todo": {}}}


def test_what_a_later_step_of_a_loop_said_is_nothing_in_the_first_round(live: Deployment) -> None:
    """In its template, its conditions and its list, and in the next round what it said."""
    verdicts = iter([{"ok": False, "hint": "shorter", "todo": ["b"]}, {"ok": True}])
    crew = [
        {
            "name": "write",
            "systemPrompt": "Write.",
            "when": "steps.judge.output == `null` || steps.judge.output.hint",
            "forEach": "steps.judge.output.todo || input.list",
            "prompt": "{{ item }}|{{ steps.judge.output.hint }}|{{ steps.write.output }}|{{ steps.judge.output }}",
        },
        {"name": "polish", "systemPrompt": "Polish.", "prompt": "{{ steps.judge.output.hint }}"},
        {
            "name": "judge",
            "systemPrompt": "Judge.",
            "outputSchema": JUDGED,
            "prompt": "{{ steps.write.output }}|{{ steps.judge.output.hint }}",
            "repeat": {"backTo": "write", "until": "steps.judge.output.ok", "max": 4},
        },
    ]
    live.provider.script = by_system({"Write.": "w", "Polish.": "p", "Judge.": lambda call: next(verdicts)})
    run_id = live.accept(live.push(crew), {"list": ["a", "b"]})
    live.play(run_id)
    assert live.read(run_id)["error"] is None
    said = '{"ok": false, "hint": "shorter", "todo": ["b"]}'
    assert [call.messages[0].text for call in live.provider.calls] == [
        "a|||",
        "b|||",
        "",
        '["w", "w"]|',
        f'b|shorter|["w", "w"]|{said}',
        "shorter",
        '["w"]|shorter',
    ]


def test_a_loop_ends_after_its_last_round(live: Deployment) -> None:
    live.provider.script = by_system({"Plan.": "p", "Write.": "w", "Review.": {"ok": False}, "Send.": "sent"})
    run_id = live.accept(live.push(loop_crew(most=2)))
    live.play(run_id)
    assert live.read(run_id)["output"] == "sent"
    assert len(live.provider.calls) == 6


def test_a_loop_survives_dying_before_it_goes_back(live: Deployment, monkeypatch: pytest.MonkeyPatch) -> None:
    live.provider.script = by_system({"Plan.": "p", "Write.": "w", "Review.": {"ok": False}, "Send.": "sent"})
    run_id = live.accept(live.push(loop_crew(most=2)))
    state = live.start(run_id)

    class Died(BaseException):
        pass

    def die(*_: Any) -> None:
        raise Died

    with monkeypatch.context() as patch:
        patch.setattr("loopllama.engine.transitions._again", die)
        with pytest.raises(Died):
            live.chain(live.map(state)[0])
    state = live.advance(state)
    assert [one["step"] for one in state["ready"]] == ["review"], "a loop that is not done is not finished"
    live.chain(live.map(state)[0])
    live.advance(state)
    assert live.read(run_id)["status"] == "completed"
    assert len(live.provider.calls) == 6


def test_a_step_waits_for_approval_to_start(live: Deployment) -> None:
    workflow = live.push([{"name": "one"}, {"name": "pay", "approval": True}])
    run_id = live.accept(workflow)
    state = live.start(run_id)
    assert live.chain(live.map(state)[0])["outcome"] == "waiting"
    run = live.read(run_id)
    assert run["status"] == "waiting_input"
    assert (run["pending"]["kind"], run["pending"]["step"]) == ("approval", "pay")
    assert len(live.provider.calls) == 1
    with pytest.raises(InvalidRequest, match="waits for an approval"):
        human_input.respond(live.runs, run_id, {"input": "yes"})
    human_input.respond(live.runs, run_id, {"approved": True})
    with pytest.raises(Conflict, match="waits for no answer"):
        human_input.respond(live.runs, run_id, {"approved": False})
    work = {**live.map(state)[0], "step": "pay"}
    assert live.chain(work)["outcome"] == "done"
    live.advance(state)
    run = live.read(run_id)
    assert (run["status"], run["pending"]) == ("completed", None)


def test_declined_and_unanswered_approvals_fail_the_step(live: Deployment) -> None:
    workflow = live.push([{"name": "pay", "approval": {"start": True, "timeoutSeconds": 60}}])
    for answer, message in (
        ({"approved": False, "note": "too much"}, "declined to let the step start: too much"),
        (None, "nobody answered by"),
    ):
        run_id = live.accept(workflow)
        state = live.start(run_id)
        waited = live.step(live.map(state)[0])
        assert (waited["outcome"], 58 <= waited["seconds"] <= 60) == ("waiting", True)
        if answer:
            human_input.respond(live.runs, run_id, answer)
        else:
            live.wait(61)
        assert live.step(live.map(state)[0])["outcome"] == "failed"
        with pytest.raises(RunFailed):
            live.advance(state)
        assert message in live.read(run_id)["error"]
        # A redrive asks again, where people can see it.
        again = live.map(live.advance(state))[0]
        assert live.step(again)["outcome"] == "waiting"
        assert live.read(run_id)["pending"]["step"] == "pay"
        human_input.respond(live.runs, run_id, {"approved": True})
        assert live.step(again)["outcome"] == "done"
        assert len(live.provider.calls) == 1
        live.provider.calls.clear()


def test_an_agent_asks_a_person_and_goes_on_with_the_answer(live: Deployment) -> None:
    question = "Which colour? " * 100

    def script(call: Any) -> Answer:
        if len(call.messages) == 1:
            return Answer("", Usage(1, 1), "tool_calls", (ToolCall("t1", "ask_human", {"question": question}),))
        return Answer(f"painted {call.messages[-1].text}", Usage(1, 1))

    live.provider.script = script
    run_id = live.accept(live.push([{"name": "paint", "tools": ["ask_human"]}]))
    state = live.start(run_id)
    assert live.step(live.map(state)[0])["outcome"] == "waiting"
    assert live.read(run_id)["pending"]["prompt"] == question
    assert len(live.runs.run(run_id)["pending"]["STEP#paint#0#0"]["prompt"]) == 1000, "the run's item stays small"
    human_input.respond(live.runs, run_id, {"input": "blue"})
    live.wait(61)
    assert live.step(live.map(state)[0])["outcome"] == "done"
    live.advance(state)
    run = live.read(run_id)
    assert run["output"] == "painted blue"
    assert len(live.provider.calls) == 2, "the first call is not made again"
    assert run["steps"][0]["tool_calls"][0]["result"] == "blue"


def test_waiting_for_a_person_is_no_time_of_the_turn(live: Deployment, monkeypatch: pytest.MonkeyPatch) -> None:
    passed = [0.0]
    monkeypatch.setattr(clock, "time", SimpleNamespace(time=lambda: time.time() + sum(passed)))

    def script(call: Any) -> Answer:
        if len(call.messages) == 1:
            passed.append(10)
            return Answer("", Usage(1, 1), "tool_calls", (ToolCall("t1", "ask_human", {"question": "Which?"}),))
        return Answer("painted", Usage(1, 1))

    live.provider.script = script
    crew = [{"name": "paint", "tools": ["ask_human"], "approval": True, "timeoutSeconds": 30}]
    workflow = live.push(crew)
    for slow in (False, True):
        run_id = live.accept(workflow)
        work = live.map(live.start(run_id))[0]
        for answer in ({"approved": True}, {"input": "blue"}):
            assert live.step(work)["outcome"] == "waiting"
            passed.append(3600)
            human_input.respond(live.runs, run_id, answer)
        passed.append(25 if slow else 0)
        assert live.step(work)["outcome"] == ("failed" if slow else "done")
    assert "timeoutSeconds are used up" in live.read(run_id)["steps"][0]["error"]


def test_an_answer_that_was_stored_and_not_delivered_is_delivered_when_the_token_comes(
    live: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    delivered: list[str] = []
    monkeypatch.setattr(human_input, "deliver", delivered.append)
    run_id = live.accept(live.push([{"name": "pay", "approval": True}]))
    work = live.map(live.start(run_id))[0]
    live.step(work)
    human_input.respond(live.runs, run_id, {"approved": True})
    assert delivered == []
    assert live.step({"work": work, "token": "t-1"})["outcome"] == "waiting"
    assert delivered == ["t-1"]
