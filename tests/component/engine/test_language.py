"""The crew's language in the engine: skipped steps, forEach, loops, people."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from support.deployment import Deployment
from support.scripts import TEXTS, by_system, statuses


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
        *(f"STEP#{name}#{again}#0" for again in range(2) for name in ("write", "review")),
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
        {"name": "polish", "systemPrompt": "Polish.", "prompt": "Hint: {{ steps.judge.output.hint }}"},
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
        "Hint: ",
        '["w", "w"]|',
        f'b|shorter|["w", "w"]|{said}',
        "Hint: shorter",
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
