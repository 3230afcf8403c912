"""The crew's language on the state machine: conditions, lists, loops, people, forks inside forks."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from typing import Any

import pytest
from support.people import answer_all
from support.provider_server import Calls, Hold, Reply, Status, Text
from support.system import System

from loopllama.engine.human_input import respond
from loopllama.errors import Conflict
from loopllama.runs.store import RunStore

ANY = {"type": "object"}
CALL = Decimal("0.00045")
"""100 and 10 tokens at 3 and 15 USD a million: what one call of the scripted provider costs."""


def by_step(replies: dict[str, Any]) -> Callable[[dict[str, Any]], Reply]:
    """Answers by the step that asks: a reply, an iterator of them, or a function of the prompt's text."""

    def answer(request: dict[str, Any]) -> Reply:
        step = request["messages"][0]["content"].partition("Do ")[2].partition(".")[0]
        found = replies[step]
        if callable(found):
            found = found(request["messages"][1]["content"])
        elif hasattr(found, "__next__"):
            found = next(found)
        return found if isinstance(found, Text | Calls | Status | Hold) else Text(_text(found))

    return answer


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def statuses(run: dict[str, Any]) -> dict[str, str]:
    return {step["id"] or step["step"]: step["status"] for step in run["steps"]}


def output(run: dict[str, Any], step: str) -> Any:
    """A step's own output, beside its items'."""
    return next(one["output"] for one in run["steps"] if one["step"] == step and one["item"] is None)


def assert_paid_once(system: System, run: dict[str, Any], requests: int) -> None:
    """Every request is an attempt on record, every one has its row in the bill, and all of them say the same sum."""
    attempts = [attempt for step in run["steps"] for attempt in step["attempts"]]
    rows = system.usage(run["id"])
    stored = system.item(run["id"], "RUN")
    assert len(attempts) == len(rows) == requests
    assert run["cost_usd"] == stored["cost_usd"] == sum(row["cost_usd"] for row in rows)
    assert run["tokens_in"] == stored["input_tokens"] == sum(row["input_tokens"] for row in rows)


def waits(system: System, run_id: str) -> dict[str, Any]:
    """What a run asks, once its execution waits for the answer."""
    system.until(lambda: system.read(run_id)["status"] == "waiting_input")
    pending = system.item(run_id, "RUN")["pending"]
    for key in pending:
        system.until(lambda: "token" in system.item(run_id, key))  # noqa: B023 - waited for here
    shown: dict[str, Any] = system.read(run_id)["pending"]
    return shown


@pytest.fixture(scope="module")
def store(system: System) -> RunStore:
    return RunStore(system.settings)


def test_a_condition_that_is_false_skips_the_step_and_what_only_follows_it(system: System, provider: Any) -> None:
    script, model = provider(by_step({"triage": {"urgent": False}, "answer": "fine"}))
    crew = [
        {"name": "triage", "outputSchema": ANY},
        {"name": "call", "when": "steps.triage.output.urgent"},
        {"name": "report", "needs": ["call"]},
        {"name": "answer", "needs": ["triage", "report"], "prompt": "<{{ steps.report.output }}>"},
    ]
    run = system.run(system.push("When", crew, model=model))
    assert run["status"] == "completed", run["error"]
    assert [step["status"] for step in run["steps"]] == ["completed", "skipped", "skipped", "completed"]
    assert script.requests[-1]["messages"][1]["content"] == "<>"
    assert run["output"] == "fine"
    assert_paid_once(system, run, 2)


class Together(Hold):
    """A call that waits until `number` of them are in progress at once, and knows how many ever were."""

    def __init__(self, number: int) -> None:
        super().__init__(Text("done"))
        self._barrier, self._lock = threading.Barrier(number), threading.Lock()
        self._now, self.most = 0, 0

    def hold(self) -> Text | Calls | Status | Any:
        with self._lock:
            self._now += 1
            self.most = max(self.most, self._now)
        self._barrier.wait(60)
        with self._lock:
            self._now -= 1
        return self.then


EACH: list[Any] = [
    {"name": "split", "outputSchema": ANY},
    {"name": "work", "forEach": "steps.split.output.list", "prompt": "item {{ item.n }}"},
    {"name": "sum"},
]


def each(**fields: Any) -> list[dict[str, Any]]:
    return [EACH[0], {**EACH[1], **fields}, EACH[2]]


def numbers(count: int) -> dict[str, Any]:
    return {"list": [{"n": n} for n in range(count)]}


def test_sixty_items_run_five_at_once_and_no_more(system: System, provider: Any) -> None:
    together = Together(5)
    script, model = provider(by_step({"split": numbers(60), "work": lambda _: together, "sum": "ok"}))
    run = system.run(system.push("Sixty", each(maxConcurrency=5), model=model))
    assert run["status"] == "completed", run["error"]
    assert together.most == 5
    assert output(run, "work") == ["done"] * 60
    prompts = [r["messages"][1]["content"] for r in script.requests if "Do work." in r["messages"][0]["content"]]
    assert sorted(prompts) == sorted(f"item {n}" for n in range(60))
    assert_paid_once(system, run, 62)
    assert run["cost_usd"] == 62 * CALL


def test_a_failed_item_is_tolerated_or_fails_the_step(system: System, provider: Any) -> None:
    def work(text: str) -> Reply:
        return Status(400, "not this one") if text == "item 1" else Text(text)

    _, model = provider(by_step({"split": numbers(3), "work": work, "sum": "ok"}))
    run = system.run(system.push("Tolerated", each(maxFailures=1), model=model))
    assert run["status"] == "completed", run["error"]
    assert output(run, "work") == ["item 0", None, "item 2"]
    assert statuses(run)["STEP#work#0#2"] == "failed"
    run = system.run(system.push("Not tolerated", each(), model=model))
    assert run["status"] == "failed"
    assert run["error"].startswith("step 'work': ItemsFailed: 1 of 3 items failed, at most 0 may: ")
    assert "item 2: ModelRequestRejected: " in run["error"]


def test_large_values_come_and_go_through_s3_at_every_item(system: System, provider: Any) -> None:
    large = {n: chr(97 + n) * 40_000 for n in range(8)}
    items = {"list": [{"n": text} for text in large.values()]}
    script, model = provider(
        by_step({"split": items, "work": lambda text: text.removeprefix("item ").upper(), "sum": "ok"})
    )
    run = system.run(system.push("Large", each(), model=model))
    assert run["status"] == "completed", run["error"]
    assert output(run, "work") == [text.upper() for text in large.values()]
    assert all(text.upper() in script.requests[-1]["messages"][1]["content"] for text in large.values())
    for item in ("STEP#split#0#0", "STEP#work#0#0", "STEP#work#0#1", "STEP#work#0#8"):
        assert set(system.item(run["id"], item)["output"]) == {"$s3", "bytes"}
    assert max(len(json.dumps(e)) for e in events(system, run["id"])) < 10_000  # nothing of it in the execution's state


def events(system: System, run_id: str) -> list[Any]:
    pages = system.client("stepfunctions").get_paginator("get_execution_history")
    arn = system.execution_arn(run_id)
    return [json.loads(json.dumps(e, default=str)) for page in pages.paginate(executionArn=arn) for e in page["events"]]


def test_a_reviewer_sends_a_writer_back_until_it_is_good(system: System, provider: Any) -> None:
    verdicts = iter([{"ok": False, "note": "shorter"}, {"ok": False, "note": "kinder"}, {"ok": True}])
    drafts = iter(["first", "second", "third"])
    script, model = provider(by_step({"write": drafts, "review": verdicts, "send": lambda text: text}))
    crew = [
        {"name": "write"},
        {
            "name": "review",
            "outputSchema": ANY,
            "repeat": {"backTo": "write", "until": "steps.review.output.ok", "max": 5},
        },
        {"name": "send", "prompt": "{{ steps.write.output }}"},
    ]
    run = system.run(system.push("Review", crew, model=model))
    assert run["status"] == "completed", run["error"]
    assert run["output"] == "third"
    assert [(step["step"], step["iteration"]) for step in run["steps"]] == [
        *((name, again) for again in range(3) for name in ("write", "review")),
        ("send", 0),
    ]
    assert "shorter" in script.requests[2]["messages"][1]["content"]
    assert_paid_once(system, run, 7)


def test_a_step_waits_for_approval_and_one_of_two_answers_wins(system: System, store: RunStore, provider: Any) -> None:
    script, model = provider(by_step({"draft": "a draft", "pay": "paid"}))
    run_id = system.start(system.push("Approval", [{"name": "draft"}, {"name": "pay", "approval": True}], model=model))
    asked = waits(system, run_id)
    assert (asked["kind"], asked["step"]) == ("approval", "pay")
    assert len(script.requests) == 1

    def answer(by: str) -> str:
        try:
            respond(store, run_id, {"approved": True}, by)
        except Conflict as refused:
            return str(refused)
        return by

    with ThreadPoolExecutor(2) as pool:
        answers = list(pool.map(answer, ["Ann", "Bob"]))
    run = system.wait(run_id)
    assert run["status"] == "completed", run["error"]
    assert (run["output"], run["pending"]) == ("paid", None)
    (winner,) = {"Ann", "Bob"}.intersection(answers)
    assert system.item(run_id, "STEP#pay#0#0")["human_start"]["by"] == winner
    (refused,) = set(answers) - {winner}
    assert refused == "somebody has answered already" or "waits for no answer" in refused
    assert_paid_once(system, run, 2)


def test_an_agent_asks_and_goes_on_with_the_answer(system: System, store: RunStore, provider: Any) -> None:
    replies = iter([Calls("ask_human", {"question": "Which colour?"}), Text("painted blue")])
    script, model = provider(lambda _: next(replies))
    run_id = system.start(system.push("Asks", [{"name": "paint", "tools": ["ask_human"]}], model=model))
    asked = waits(system, run_id)
    assert (asked["kind"], asked["prompt"]) == ("input", "Which colour?")
    respond(store, run_id, {"input": "blue"})
    run = system.wait(run_id)
    assert (run["status"], run["output"]) == ("completed", "painted blue")
    assert script.requests[1]["messages"][-1]["content"] == "blue"
    assert_paid_once(system, run, 2)


def test_a_question_that_nobody_answers_expires_and_says_when(system: System, store: RunStore, provider: Any) -> None:
    script, model = provider(by_step({"draft": "a draft"}))
    crew = [{"name": "draft"}, {"name": "pay", "approval": {"start": True, "timeoutSeconds": 2}}]
    run_id = system.start(system.push("Expires", crew, model=model))
    asked = waits(system, run_id)
    run = system.wait(run_id)
    assert run["status"] == "failed"
    assert run["error"].startswith(f"step 'pay': ApprovalTimedOut: nobody answered by {asked['expires_at']}")
    with pytest.raises(Conflict, match=f"it is failed: nobody answered by {asked['expires_at']}"):
        respond(store, run_id, {"approved": True})
    assert len(script.requests) == 1


def test_a_run_that_waits_outlives_every_process(system: System, store: RunStore, provider: Any) -> None:
    _, model = provider(by_step({"draft": "a draft", "left": "l", "right": "r"}))
    crew = [
        {"name": "draft"},
        {"name": "left", "needs": ["draft"], "approval": True},
        {"name": "right", "needs": ["draft"], "approval": True},
    ]
    run_id = system.start(system.push("Outlives", crew, model=model))
    system.until(lambda: len(system.item(run_id, "RUN").get("pending") or {}) == 2)
    waits(system, run_id)
    system.kill("StartRun", "RunStep", "AdvanceRun", "AcceptRun", "PublishEvents", "ReconcileRuns", "Api")
    assert answer_all(store, run_id, {"approved": True}) == {
        "Approve step left (left) to start",
        "Approve step right (right) to start",
    }
    run = system.wait(run_id)
    assert run["status"] == "completed", run["error"]
    assert_paid_once(system, run, 3)


def test_forks_inside_forks_and_lists_inside_forks(system: System, provider: Any) -> None:
    names = ("left", "right", "left_one", "left_two", "end")
    replies = {name: name for name in names} | {"split": numbers(4), "work": lambda text: text}
    _, model = provider(by_step(replies))
    crew = [
        EACH[0],
        {"name": "left", "needs": ["split"]},
        {"name": "right", "needs": ["split"]},
        {"name": "left_one", "needs": ["left"]},
        {"name": "left_two", "needs": ["left"]},
        {**EACH[1], "needs": ["right"]},
        {"name": "end", "needs": ["left_one", "left_two", "work"]},
    ]
    run = system.run(system.push("Nested", crew, model=model))
    assert run["status"] == "completed", run["error"]
    assert output(run, "work") == [f"item {n}" for n in range(4)]
    assert set(statuses(run).values()) == {"completed"}
    assert_paid_once(system, run, 10)


@pytest.mark.aws
def test_hundreds_of_items(system: System) -> None:
    """As many as half a minute of the local stack takes, which needs 40 to 90 ms for each."""
    crew = [{"name": "work", "forEach": "input.list", "prompt": "Item {{ item.n }} is good."}]
    run_id = system.start(system.push("Hundreds", crew), numbers(150))
    assert system.wait_execution(run_id, 180)["status"] == "SUCCEEDED"
    run = system.wait(run_id)
    assert run["status"] == "completed", run["error"]
    assert output(run, "work") == [f"Item {n} is good." for n in range(150)]
    rows = system.usage(run_id)
    assert [row["steps"] for row in rows] == [1] * 150
    assert sum(row["cost_usd"] for row in rows) == run["cost_usd"] == system.item(run_id, "RUN")["cost_usd"]
