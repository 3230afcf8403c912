"""A run's life against a simple model of it: whatever happens in whatever order, the record says what the model says.

The crew is a line of three: `a`, then `b`, which a person must approve, then `c`, under a budget. Hypothesis plays the
state machine, the people, the reconciler and the misfortunes; what came to its end is replayed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from decimal import Decimal
from typing import Any, cast

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test
from support.deployment import Deployment, Killed, dies_once_settled
from support.scripts import answer, die, reject

from loopllama.engine import human_input
from loopllama.engine import step as step_module
from loopllama.engine.advance import advance_run
from loopllama.engine.cancel import cancel_run
from loopllama.engine.reconcile import execution_ended, reconcile_run
from loopllama.engine.replay import replay_run
from loopllama.engine.start import start_run
from loopllama.engine.step_ending import StepEnding
from loopllama.errors import Conflict, RunFailed
from loopllama.runs.step_ref import ALONE
from loopllama.runs.store import FINAL, RunStore

NAMES = ("a", "b", "c")
CALL = Decimal("0.00045")
EXAMPLES, PHASES = 15, (Phase.generate,)
LEASE, EXPIRY = 60, 200
"""Seconds: an invocation's time, and that for the approval."""


begun = precondition(lambda self: self.status != "queued")
calls = precondition(lambda self: self.calling())


class RunLife(RuleBasedStateMachine):
    """The model: what each step is, what was paid for it, what is lost of it, who holds it, what the person said."""

    def __init__(self, live: Deployment, workflow: str) -> None:
        super().__init__()
        self.live = live
        # A budget that nobody reaches: what it says is spent must come out right whatever happens on the way.
        self.run_id = live.accept(workflow, budget={"max_steps": 100})
        self.status = "queued"
        self.steps = dict.fromkeys(NAMES, "todo")
        self.ok: Counter[str] = Counter()
        self.lost: Counter[str] = Counter()
        self.rejected: Counter[str] = Counter()
        self.held: dict[str, int] = {}
        self.deaths: Counter[str] = Counter()
        self.clock = 0
        self.asked: int | None = None
        self.said: bool | None = None
        self.shown = False
        """Whether the run shows the question: not after it has ended, before the step has asked again."""
        self.unbilled: list[str] = []
        """Steps whose last invocation died between their record and their bill."""
        self.calls = len(live.provider.calls)
        self.made = 0
        self.stopping = False

    # What the model knows

    @property
    def next(self) -> str | None:
        """The first step that is not done."""
        return next((name for name in NAMES if self.steps[name] != "done"), None)

    def ready(self, name: str) -> bool:
        """Whether the state machine may invoke RunStep for a step."""
        before = NAMES[: NAMES.index(name)]
        return self.status != "queued" and all(self.steps[one] == "done" for one in before)

    def calling(self) -> str | None:
        """The step whose invocation would call the model now."""
        name = self.next
        return name if name and self.ready(name) and self.goes(name) == "call" else None

    def goes(self, name: str) -> str:
        """What an undisturbed invocation finds before it would call the model; `call` where it would."""
        if self.steps[name] != "todo":
            return self.steps[name]
        if self.status != "running" or self.stopping:
            return "stopped"
        if self.held.get(name, 0) > self.clock:
            return "retry_later"
        if name == "b" and self.said is None:
            return "expired" if self.asked is not None and self.asked + EXPIRY <= self.clock else "waiting"
        if name == "b" and not self.said:
            return "declined"
        if self.deaths[name] > step_module.MOST_CRASHES:
            return "dead"
        return "settled" if self.ok[name] else "call"

    def fails(self, name: str) -> None:
        self.steps[name], self.stopping = "failed", True
        self.deaths[name] = 0

    def step(self, name: str, script: Callable[[Any], Any] = answer, owner: str = "one", *, alone: bool = False) -> str:
        self.live.provider.script = script
        work: dict[str, Any] = {"run_id": self.run_id, "workflow": "life", "version": 1, "step": name}
        place = {"contract": 2, "depth": ALONE, "round": 0, "left": 10_000} if alone else {"contract": 1}
        told = self.live.step(work | place, owner, LEASE * 1000)
        return str(told["ended"][0]["outcome"] if told["outcome"] == "advance" else told["outcome"])

    def after(self, name: str) -> str:
        """The outcome of a step that is done."""
        return "done" if name == "c" else "continue"

    def expect(self, name: str, outcome: str) -> None:
        """What an undisturbed invocation does."""
        found = self.goes(name)
        if found in ("done", "call", "settled"):
            if found == "call":
                self.ok[name] += 1
                self.made += 1
            self.steps[name] = "done"
            assert outcome == self.after(name)
            return
        if found in ("expired", "declined", "dead"):
            self.fails(name)
            self.asked, self.shown = None, False
            found = "failed"
        if found == "waiting":
            self.shown = True
        if found == "waiting" and self.asked is None:
            self.asked = self.clock
        assert outcome == found

    # What the state machine does

    @rule()
    def start(self) -> None:
        arn = self.live.settings.state_machine_arn.replace(":stateMachine:", ":execution:") + f":{self.run_id}"
        event = {"request": {"contract": 1, "run_id": self.run_id}, "execution_arn": arn, "execution_name": self.run_id}
        if self.status in ("completed", "cancelled"):
            with pytest.raises(RunFailed):
                start_run(self.live.settings, event)
            return
        ready = start_run(self.live.settings, event)["ready"]
        assert ready == [{"step": "a", "iteration": 0, "item": 0}]
        if self.status == "failed":  # somebody redrives an execution that ended in this state
            self.stopping, self.shown = False, False
        self.status = "running"

    @begun
    @rule(name=st.sampled_from([None, None, None, *NAMES]), alone=st.booleans())
    def take_a_step(self, name: str | None, alone: bool = False) -> None:
        """Mostly the next one, or one that is done. `alone`, the last one completes the run, all billed."""
        name = name or self.next
        if name and self.ready(name):
            alone = alone and not set(self.unbilled) - {name}
            outcome = self.step(name, owner="one", alone=alone)
            self.expect(name, outcome)
            if name in self.unbilled:
                self.unbilled.remove(name)
            if alone and outcome == "done" and self.status == "running":
                self.status = "completed"

    @calls
    @rule()
    def die_in_the_call(self) -> None:
        if name := self.calling():
            with pytest.raises(Killed):
                self.step(name, die, "dead")
            self.made += 1
            self.lost[name] += 1
            self.held[name] = self.clock + LEASE
            self.deaths[name] += 1

    @calls
    @rule()
    def die_when_the_answer_is_settled(self) -> None:
        if name := self.calling():
            with dies_once_settled(), pytest.raises(Killed):
                self.step(name, owner="dead")
            self.made += 1
            self.ok[name] += 1
            self.held[name] = self.clock + LEASE
            self.deaths[name] += 1

    @begun
    @rule()
    def die_when_the_step_is_recorded(self) -> None:
        """Before its bill is written."""
        name = self.next
        if name and self.ready(name) and self.goes(name) in ("call", "settled"):
            paid = self.goes(name) == "call"
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(StepEnding, "go_on", die)
                with pytest.raises(Killed):
                    self.step(name, owner="dead")
            self.ok[name] += paid
            self.made += paid
            self.steps[name] = "done"
            self.unbilled.append(name)

    @calls
    @rule()
    def answer_late(self) -> None:
        """An invocation that everybody takes for dead gets its answer when another one has done the step."""
        if name := self.calling():

            def slow(call: Any) -> str:
                self.live.wait(LEASE + 1)
                self.clock += LEASE + 1
                assert self.step(name, owner="other") == self.after(name)
                return "late"

            assert self.step(name, slow, "slow") == self.after(name)
            self.made += 2
            self.ok[name] += 2
            self.steps[name] = "done"

    @calls
    @rule()
    def be_rejected(self) -> None:
        if name := self.calling():
            assert self.step(name, reject, f"rejected-{self.made}") == "failed"
            self.made += 1
            self.rejected[name] += 1
            self.fails(name)

    @begun
    @rule(retry=st.integers(0, 1), crashed=st.booleans())
    def advance(self, retry: int, crashed: bool) -> None:
        """No chain is alive. On a failed run this is a redrive, unless the state machine repeats the invocation."""
        crashed = bool(
            self.unbilled or (crashed and self.next)
        )  # nobody invokes that step again, or it would be billed
        self.unbilled.clear()
        ended = [{"outcome": "crashed", "step": self.next or "c", "error": "Runtime.ExitError"}] if crashed else []
        event = {"contract": 1, "run_id": self.run_id, "round": 0, "ended": ended, "retry": retry}
        all_done = set(self.steps.values()) == {"done"}
        gives_up = "failed" in self.steps.values() or (crashed and not all_done)
        if self.status == "failed" and not retry:
            self.redriven()
        elif self.status == "failed" or (self.status == "running" and gives_up):
            with pytest.raises(RunFailed):
                advance_run(self.live.settings, event)
            self.status = "failed"
            return
        state = advance_run(self.live.settings, event)
        if self.status == "running" and all_done and state["outcome"] == "done":
            self.status = "completed"
        assert state["outcome"] == ("more" if self.status == "running" else "done")
        if self.status == "running":
            assert [one["step"] for one in state["ready"]] == ([self.next] if self.next else [])

    def redriven(self) -> None:
        self.status, self.stopping, self.shown = "running", False, False
        for name, step in self.steps.items():
            if step == "failed":
                self.steps[name] = "todo"
                self.held.pop(name, None)
                if name == "b" and not self.said:
                    self.asked = self.said = None

    @precondition(lambda self: self.made)
    @rule(status=st.sampled_from(["TIMED_OUT", "TIMED_OUT", "FAILED", "ABORTED"]))
    def end_the_execution(self, status: str) -> None:
        """From outside."""
        execution_ended(self.live.settings, {"name": self.run_id, "status": status})
        if self.status not in FINAL:
            self.status = "cancelled" if status == "ABORTED" else "failed"

    # What people and time do

    @precondition(lambda self: self.status in FINAL or self.made > 2)
    @rule()
    def cancel(self) -> None:
        if self.status in ("completed", "failed"):
            with pytest.raises(Conflict):
                cancel_run(self.live.settings, self.run_id)
            return
        cancel_run(self.live.settings, self.run_id)
        self.status = "cancelled"

    @begun
    @rule(approved=st.sampled_from([True, True, False]))
    def respond(self, approved: bool) -> None:
        open_ = self.status == "running" and self.shown and self.said is None
        if open_ and self.asked is not None and self.asked + EXPIRY > self.clock:
            human_input.respond(self.live.runs, self.run_id, {"approved": approved})
            self.said = approved
            return
        with pytest.raises(Conflict):
            human_input.respond(self.live.runs, self.run_id, {"approved": approved})

    @rule(seconds=st.sampled_from([30, 61, 201]))
    def pass_time(self, seconds: int) -> None:
        self.live.wait(seconds)
        self.clock += seconds

    @rule()
    def reconcile(self) -> None:
        outcome = reconcile_run(self.live.settings, RunStore(self.live.settings), self.run_id)
        assert outcome == ("started" if self.status == "queued" else "checked")

    # What always holds

    @invariant()
    def the_record_says_what_the_model_says(self) -> None:
        run = self.live.read(self.run_id)
        assert run["status"] in (self.status, "waiting_input")
        shown = {"todo": ("queued", "running"), "done": ("completed",), "failed": ("failed",)}
        for step in run["steps"]:
            name = step["step"]
            assert step["status"] in shown[self.steps[name]]
            outcomes = Counter(attempt["outcome"].replace("open", "lost") for attempt in step["attempts"])
            assert outcomes["ok"] == self.ok[name]
            assert outcomes["lost"] == self.lost[name]
            assert outcomes["ModelRequestRejected"] == self.rejected[name]
            assert outcomes.total() == self.ok[name] + self.lost[name] + self.rejected[name]
        assert len(self.live.provider.calls) - self.calls == self.made
        assert (run["cost_usd"] or 0) == CALL * self.ok.total()
        if run["status"] == "completed":
            assert run["output"] in ("fine", "late")
            assert self.live.runs.run(self.run_id)["cost_usd"] == CALL * self.ok.total()

    def teardown(self) -> None:
        """However far it came: it can be brought to its end, and record, totals and bill say the same."""
        if self.status == "queued":
            self.start()
        for _ in range(12):
            if self.status not in ("running", "failed"):
                break
            if self.status == "failed":
                self.advance(0, False)
            if self.next is None or self.steps[self.next] == "failed":
                self.advance(1, False)
            else:
                self.take_a_step(None)
                self.pass_time(61)
                if self.goes("b") == "waiting" and self.asked is not None:
                    self.respond(True)
        assert self.status in ("completed", "cancelled")
        self.the_record_says_what_the_model_says()
        store = RunStore(self.live.settings)
        if "check_at" in store.run(self.run_id):
            self.reconcile()
        run, rows = store.run(self.run_id), self.bill()
        assert not {"active", "check_at", "pending"}.intersection(run)
        assert run.get("cost_usd", 0) == sum(row.get("cost_usd", 0) for row in rows) == CALL * self.ok.total()
        assert len(rows) == self.made
        billed = Counter[str]()
        for row in rows:
            billed[row["step"]] += int(row["steps"])
        assert +billed == Counter(name for name, step in self.steps.items() if step == "done")
        if self.status == "completed":
            budget = self.live.read(self.run_id)["budget"]
            assert (budget["spent"]["steps"], budget["reserved"]["steps"]) == (len(NAMES), 0)
            self.replay()

    def replay(self) -> None:
        """What is kept is as it was and costs nothing; what is redone begins anew. Asked for twice, it is one run."""
        made = {replay_run(self.live.settings, self.run_id, "b", key=self.run_id) for _ in range(2)}
        assert len(made) == 1
        run = self.live.read(made.pop())
        assert [step["status"] for step in run["steps"]] == ["completed", "queued", "queued"]
        assert (run["status"], run["cost_usd"] or 0, run["steps"][0]["attempts"]) == ("queued", 0, [])
        assert run["steps"][0]["output"] == self.live.read(self.run_id)["steps"][0]["output"]
        cancel_run(self.live.settings, run["id"])

    def bill(self) -> list[dict[str, Any]]:
        return [row for row in self.live.usage_rows() if row["run_id"] == self.run_id]


def test_a_runs_life(live: Deployment) -> None:
    approval = {"start": True, "timeoutSeconds": EXPIRY}
    workflow = live.push([{"name": "a"}, {"name": "b", "approval": approval}, {"name": "c"}], name="life")
    run_state_machine_as_test(
        cast("Any", lambda: RunLife(live, workflow)),
        settings=settings(
            max_examples=EXAMPLES,
            stateful_step_count=14,
            deadline=None,
            derandomize=True,
            suppress_health_check=list(HealthCheck),
            phases=PHASES,
        ),
    )


def test_a_redrive_after_an_execution_that_ended_from_outside_bills_what_was_not_billed(live: Deployment) -> None:
    """An invocation died between a step's record and its bill, and the execution's time was over at that moment."""
    workflow = live.push([{"name": "a"}, {"name": "b", "approval": {"start": True}}, {"name": "c"}], name="life")
    life = RunLife(live, workflow)
    life.start()
    life.die_when_the_step_is_recorded()
    life.end_the_execution("TIMED_OUT")
    life.teardown()
