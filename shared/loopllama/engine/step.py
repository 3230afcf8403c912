"""RunStep: one step of one run, as far as this invocation gets; what the chain does next is its outcome.

`step_ending` writes how the invocation leaves the step.
"""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING

from loopllama.agent import loop
from loopllama.agent.tool_calls import Waiting
from loopllama.aws import errors
from loopllama.core import clock
from loopllama.engine import history, human_input, lone_chain, loops
from loopllama.engine.step_context import FINISHED, View, look
from loopllama.engine.step_ending import RETRIES, StepEnding, later
from loopllama.engine.transitions import ended, fork
from loopllama.engine.turn_factory import TurnMaker
from loopllama.errors import AwsRefused, AwsUnavailable, FunctionDied, LeaseLost, LoopLlamaError
from loopllama.runs import prompts, step_writer
from loopllama.runs.attempt_log import StepLedger
from loopllama.runs.step_ref import Work
from loopllama.runs.step_writer import CRASH_COUNT, StepWriter
from loopllama.runs.store import RunStore
from loopllama.runs.value_store import ValueStore
from loopllama.settings import Settings
from loopllama.telemetry import handler
from loopllama.workflows import expressions, graph
from loopllama.workflows.store import DefinitionStore

if TYPE_CHECKING:
    from collections.abc import Sequence

    from loopllama.runs.records import Run, StepOutcome, StepPayload, StepRecord
    from loopllama.runs.reservations import Allowance
    from loopllama.workflows.types import CrewStep

MOST_CRASHES = 4
"""Invocations in a row that may die with a step, as often as the state machine repeats one that died. It does not see
them as a row: between two of them it waits for the lease of the first."""


class StepRunner:
    """Runs steps in one process: holds what outlives an invocation (clients, route and definition caches)."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._store = RunStore(settings)
        self._definitions = DefinitionStore(settings)
        self._values = ValueStore(settings)
        self._ending = StepEnding(self._store, self._values)
        self._turns = TurnMaker(settings, self._definitions)

    def run_steps(self, payload: StepPayload, owner: str, remaining_ms: int) -> StepOutcome:
        """Take a step, and those that follow it in its chain, as many as the deployment allows to one invocation and
        as long as half of its time is left; `run_step` says what is returned. Each saves the state machine a
        transition or two. A step that goes on later goes on in an invocation of its own."""
        payload = self._opened(payload)
        first, ends = payload, time.monotonic() + remaining_ms / 1000
        outcome = self._step(payload, owner, remaining_ms)
        for _ in range(self._settings.steps_per_invocation - 1):
            left_ms = round((ends - time.monotonic()) * 1000)
            if outcome["outcome"] != "continue" or left_ms < remaining_ms / 2:
                break
            if Work.from_payload(outcome) == Work.from_payload(payload):
                break
            payload = outcome
            handler.working_on(payload)
            outcome = self._step(payload, owner, left_ms, whole=False)
        return self._told(first, outcome)

    def run_step(self, payload: StepPayload, owner: str, remaining_ms: int) -> StepOutcome:
        """Take the step as far as `remaining_ms` lets. `owner` identifies this invocation.

        Returns the state machine's payload (docs/design.md) with an `outcome`. A step's own failure is an outcome,
        not an exception.
        """
        payload = self._opened(payload)
        return self._told(payload, self._step(payload, owner, remaining_ms))

    def _opened(self, payload: StepPayload) -> StepPayload:
        """Return the work that the state machine hands over, with how often it has repeated the invocation. Executions
        that began with an earlier version hand it over bare."""
        if "token" in payload or "work" not in payload:
            return payload
        if times := payload.get("retry", 0):
            self._turns.parallelism(fresh=False).repeated(times)
        return {**payload["work"], "retry": times}

    def _told(self, payload: StepPayload, outcome: StepOutcome) -> StepOutcome:
        """Return the outcome that the execution's history has room for. Raises `LineLeft` in a line."""
        if payload.get("depth", 0) < 0:
            return lone_chain.told(self._store, self._crew(Work.from_payload(payload)), payload, outcome)
        charged = history.charged(payload, outcome)
        if charged["outcome"] == "set_aside" and outcome["outcome"] == "retry_later":
            step_writer.put_off(self._store, Work.from_payload(outcome), outcome["seconds"])
        return charged

    def _crew(self, work: Work) -> Sequence[CrewStep]:
        return self._definitions.get(work.workflow_id, work.version)["definition"]["crew"]

    def _step(self, payload: StepPayload, owner: str, remaining_ms: int, *, whole: bool = True) -> StepOutcome:
        """Take the step, `whole` where no step came before it in this invocation."""
        if "token" in payload:
            work = Work.from_payload(payload["work"])
            human_input.keep_token(self._store, work, payload["token"])
            # Who stopped the run before the token was there had nobody to wake.
            if self._stops(work, self._store.run(work.run_id)):
                human_input.deliver(payload["token"])
            return ended(work, "waiting")
        work, started = Work.from_payload(payload), time.monotonic()
        crew = self._crew(work)
        if work.depth < 0 and graph.step_named(crew, work.step)[1].get("for_each"):
            return fork(work, [work])  # its items are chains beside it
        view = look(self._store, self._values, crew, work)
        if (settled := self._settled(view, owner)) is not None:
            return settled
        writer = StepWriter(self._store, work, view.record, owner, clock.now_ms() + remaining_ms)
        self._describe(view, writer)
        ledger = StepLedger(writer, self._values, self._allowance(view))
        try:
            return self._take(view, writer, ledger, payload, started, remaining_ms, whole)
        except LeaseLost as lost:
            return self._ending.lost(view, lost)
        except Exception as error:
            if isinstance(errors.trouble(error), AwsUnavailable):
                self._let_go(writer)
            raise

    def _take(
        self,
        view: View,
        writer: StepWriter,
        ledger: StepLedger,
        payload: StepPayload,
        started: float,
        remaining_ms: int,
        whole: bool,
    ) -> StepOutcome:
        """Go through the step. Raises `LeaseLost`, and what the SDK and `aws` raise where AWS does not answer."""
        try:
            _count_death(view, writer)
            if (skipped := self._skipped(view)) is not None:
                return self._ending.finish(view, writer, skipped)
            if view.step.get("for_each") and not view.work.item:
                return self._each(view, writer, payload)
            human_input.check_start(view.step, view.record)
            text = view.prompt()
            self._keep_prompt(view, writer, text)
            turn = self._turns.make(
                view,
                writer,
                ledger,
                text,
                started,
                remaining_ms,
                whole=whole,
                stops=lambda: self._stops(view.work, self._store.run(view.work.run_id)),
            )
            output = turn.take(text)
            return self._ending.complete(view, writer, ledger, output, turn.model)
        except loop.OutOfTime:
            writer.write({}, release=True)
            return ended(view.work, "continue")
        except loop.Stopped:
            writer.write({}, release=True)
            return ended(view.work, "stopped")
        except loop.RetryLater as trouble:
            return self._ending.retry_later(view, writer, ledger, trouble)
        except Waiting as question:
            return self._ending.wait(view, writer, ledger, question)
        except (LeaseLost, AwsUnavailable):
            raise
        except LoopLlamaError as error:
            return self._ending.fail(view, writer, ledger, error)
        except Exception as error:
            if isinstance(of_aws := errors.trouble(error), AwsRefused):
                return self._ending.fail(view, writer, ledger, of_aws)
            raise

    def _let_go(self, writer: StepWriter) -> None:
        """Release the lease: the state machine is about to invoke again, and the next invocation need not wait for
        it."""
        with contextlib.suppress(Exception):
            writer.write({}, release=True)

    def _settled(self, view: View, owner: str) -> StepOutcome | None:
        """Return the outcome where there is nothing (left, yet, any more) to do."""
        work, record = view.work, view.record
        if record.get("status") in FINISHED:
            return self._ending.go_on(view)
        if record.get("status") == "failed":
            return self._ending.give_up(view, record)
        if self._stops(work, view.run):
            return ended(work, "stopped")
        if record.get("lease_owner") not in (None, owner) and int(record["lease_until"]) > clock.now_ms():
            return later(work, int(record["lease_until"]))
        if int(record.get("retry_at", 0)) > clock.now_ms():
            return later(work, int(record["retry_at"]))
        return None

    def _stops(self, work: Work, run: Run) -> bool:
        """Return whether nothing more may begin: the run has ended or is about to, or the item's forEach step is."""
        if run["status"] != "running" or run.get("stopping"):
            return True
        return bool(work.item and self._store.items(work.run_id, [work.parent.key])[work.parent.key].get("stopping"))

    def _describe(self, view: View, writer: StepWriter) -> None:
        """Add what goes with the step's first write, or its first since the run was redriven: while the run had failed
        nothing could go on, and that time is neither latency nor a part of `timeoutSeconds`."""
        if view.record.get("started_at", "") >= (view.run.get("reopened_at") or "0"):
            return
        writer.decide(
            {
                "step": view.work.step,
                "order": view.order,
                "role": view.step["role"],
                "started_at": clock.now_text(),
                "iteration": view.work.iteration or None,
                "item_index": view.work.item or None,
                "delete_at": view.run.get("delete_at"),
                "tags": view.run.get("tags"),
                "api_key": view.run.get("api_key"),
            }
        )

    def _keep_prompt(self, view: View, writer: StepWriter, text: str) -> None:
        """Let the step's next write say what its agent receives."""
        kept = prompts.keep(self._values, view.work.run_id, f"{writer.path}/input", text, view.texts())
        if writer.record.get("input") != kept:
            writer.decide({"input": kept})

    def _allowance(self, view: View) -> Allowance | None:
        """Return what budgets leave to the step's calls; what an invocation that died has left reserved is settled."""
        work = view.work
        definition = self._definitions.get(work.workflow_id, work.version)["definition"]
        ceiling_usd = self._settings.daily_cost_limit or None
        bounds = (view.run.get("budget"), definition.get("budget"), view.run.get("key_max_usd"), ceiling_usd)
        if not any(bounds):
            return None
        from loopllama.runs import reservations  # most runs have no budget, and a start takes its time for each import

        tries = int(view.record.get("tries", 0))
        allowance = reservations.of_step(
            self._settings.runs_table,
            view.run,
            definition,
            work.key,
            [view.record, view.before.get(work.step, {})],
            patient=tries < int(view.step.get("retries", RETRIES)),
            ceiling_usd=ceiling_usd,
        )
        if allowance is not None:
            allowance.recover(view.record)
        return allowance

    def _skipped(self, view: View) -> StepRecord | None:
        """Return what the record of a step says that is skipped, `None` where it is not."""
        needs = view.step["needs"]
        if needs and all(loops.passes_over(view.records.get(name, {})) for name in needs):
            return loops.skipped(view, None)
        when = view.step.get("when")
        if when is None or view.work.item:
            return None
        condition, document = expressions.parse(when), view.document()
        return None if condition.holds(document) else loops.skipped(view, condition.reason(document))

    def _each(self, view: View, writer: StepWriter, payload: StepPayload) -> StepOutcome:
        """Return the step itself, beside its items: forks into them, then gathers."""
        from loopllama.engine import for_each

        crashed = payload.get("ended")
        if crashed is not None and for_each.is_set_aside(self._store, view, crashed, payload.get("left_out", 0)):
            writer.write({"set_aside": True}, release=True)
            return ended(view.work, "set_aside")
        if crashed is None:
            forked = for_each.begin(self._store, view, writer, lambda: self._turns.parallelism(fresh=True).allowed())
            if forked is not None:
                return forked
            view.records[view.work.step] = writer.record
        output = for_each.gather(self._store, view, writer, crashed or ())
        stored = self._ending.stored(view, writer, output)
        return self._ending.finish(view, writer, {"status": "completed", "output": stored})


def _count_death(view: View, writer: StepWriter) -> None:
    """Note that the invocation before this one died, which its lease says: it was not let go of. Raises
    `FunctionDied` where too many did."""
    if not int(view.record.get("lease_until", 0)):
        return
    deaths = int(view.record.get(CRASH_COUNT) or 0) + 1
    if deaths > MOST_CRASHES:
        raise FunctionDied(
            f"{deaths} invocations died with the step, one after the other; the function's log says why: it may need "
            "more memory or time (the template's parameters StepMemoryMb and StepTimeoutSeconds)"
        )
    writer.decide({CRASH_COUNT: deaths})
