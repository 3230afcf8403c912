"""RunStep: one step of one run, as far as this invocation gets; what the chain does next is its outcome."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from .. import agent, clock, providers, scheduling, tracing
from ..accounts import attempts_of, totals
from ..catalog import Model
from ..definitions import DefinitionStore
from ..errors import LeaseLost, LoopLlamaError, RunNotFound
from ..ledger import StepLedger
from ..routing import Route, Router, RouteRequest
from ..runs import RUN, RunStore, StepWriter, Work, step_key
from ..settings import Settings
from ..values import ValueStore

RETRIES = 5
"""How often a step is tried later where the agent sets no `retries`."""
LONGEST_WAIT_SECONDS = 900
_FINISHED = ("completed", "skipped")


class StepRunner:
    """Runs steps in one process: holds what outlives an invocation (clients, route and definition caches)."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._store = RunStore(settings)
        self._definitions = DefinitionStore(settings)
        self._values = ValueStore(settings)
        self._router = Router(settings)

    def run_step(self, payload: Mapping[str, Any], owner: str, remaining_ms: int) -> dict[str, Any]:
        """Take the step as far as `remaining_ms` lets. `owner` identifies this invocation.

        Returns the state machine's payload (docs/design.md) with an `outcome`. A step's own failure is an outcome,
        not an exception.
        """
        work = Work.from_payload(payload)
        started = time.monotonic()
        crew = self._definitions.get(work.workflow_id, work.version)["definition"]["crew"]
        order, step = scheduling.step_named(crew, work.step)
        earlier = scheduling.ancestors(crew, work.step)
        items = self._store.items(work.run_id, [RUN, work.key, *map(step_key, earlier)])
        if RUN not in items:
            raise RunNotFound(f"there is no run {work.run_id!r}")
        run, record = items.pop(RUN), items.get(work.key, {})
        if record.get("status") in _FINISHED:
            return self._go_on(work, crew, items, record)
        if record.get("status") == "failed":
            return self._end(work, "failed")
        if run["status"] != "running" or run.get("stopping"):
            return self._end(work, "stopped")
        if record.get("lease_owner") not in (None, owner) and int(record["lease_until"]) > clock.now_ms():
            return self._later(work, int(record["lease_until"]))

        writer = StepWriter(self._store, work, record, owner, clock.now_ms() + remaining_ms)
        if "started_at" not in record:
            writer.decide(
                {
                    "step": work.step,
                    "order": order,
                    "role": step["role"],
                    "started_at": clock.now_text(),
                    "input": ["input", *(f"steps.{name}" for name in earlier)],
                    "delete_at": run.get("delete_at"),
                    "tags": run.get("tags"),
                    "api_key": run.get("api_key"),
                }
            )
        try:
            return self._take(step, crew, run, items, earlier, writer, started, remaining_ms)
        except LeaseLost as lost:
            return self._lost(work, crew, items, lost)

    def _take(
        self,
        step: Mapping[str, Any],
        crew: Sequence[Mapping[str, Any]],
        run: Mapping[str, Any],
        items: Mapping[str, dict[str, Any]],
        earlier: Sequence[str],
        writer: StepWriter,
        started: float,
        remaining_ms: int,
    ) -> dict[str, Any]:
        work = writer.work
        ledger = StepLedger(writer, self._values)
        try:
            text = self._prompt(step, crew, run, items, earlier)
            chain, decision = self._route(step, run, text, writer)
            turn = agent.Turn(
                step,
                chain,
                max_tokens=_int(decision.get("max_tokens")),
                temperature=_float(decision.get("temperature")),
                ledger=ledger,
                tools=self._toolbox(step),
                provider_for=lambda model: providers.provider_for(model, self._settings),
                limits=self._limits(step, writer.record["started_at"], started, remaining_ms),
                idempotency_key=f"{work.run_id}/{work.key}",
            )
            result = turn.take(text)
        except agent.OutOfTime:
            writer.write({}, release=True)
            return {**work.to_payload(), "outcome": "continue"}
        except agent.RetryLater as trouble:
            tries = int(writer.record.get("tries", 0)) + 1
            if tries <= int(step.get("retries", RETRIES)):
                seconds = min(LONGEST_WAIT_SECONDS, max(1, round(trouble.seconds or 2 ** min(tries, 6))))
                writer.write({"tries": tries}, release=True)
                return {**work.to_payload(), "outcome": "retry_later", "seconds": seconds}
            return self._fail(writer, ledger, trouble.error)
        except LeaseLost:
            raise
        except LoopLlamaError as error:
            return self._fail(writer, ledger, error)
        return self._complete(crew, items, writer, ledger, result, turn.model)

    def _prompt(
        self,
        step: Mapping[str, Any],
        crew: Sequence[Mapping[str, Any]],
        run: Mapping[str, Any],
        items: Mapping[str, dict[str, Any]],
        earlier: Sequence[str],
    ) -> str:
        roles = {one["name"]: one["role"] for one in crew}
        outputs = [
            agent.Earlier(name, roles[name], self._values.load(items[step_key(name)].get("output"))) for name in earlier
        ]
        return agent.prompt(step, self._values.load(run["input"]), outputs)

    def _route(
        self, step: Mapping[str, Any], run: Mapping[str, Any], text: str, writer: StepWriter
    ) -> tuple[Sequence[Model], Mapping[str, Any]]:
        """The models to try and the decision as recorded. A retry keeps its decision unless its first model has
        failed in the meantime or a model of it has been disabled."""
        work, kept = writer.work, writer.record.get("route")
        if kept and not any(
            attempt["model"] == kept["chain"][0] and attempt["outcome"] not in ("ok", "open")
            for attempt in attempts_of(writer.record).values()
        ):
            restored = self._router.restore(kept)
            if restored is not None:
                return restored.chain, kept
        began = time.perf_counter()
        route: Route = self._router.decide(
            RouteRequest(
                workflow_id=work.workflow_id,
                workflow_model=self._definitions.get(work.workflow_id, work.version)["definition"].get("model"),
                step=step,
                run_models=run.get("models") or {},
                required=frozenset({"tools"}) if step.get("tools") else frozenset(),
                prompt_tokens=agent.estimated_tokens(text),
                run_id=work.run_id,
            )
        )
        decision = route.to_record()
        writer.decide(
            {
                "route": decision,
                "source": route.source,
                "route_version": route.route_version,
                "ignored": list(route.ignored) or None,
                "invalid_overrides": route.invalid_overrides or None,
                "routing_ms": round((time.perf_counter() - began) * 1000),
            }
        )
        return route.chain, decision

    def _toolbox(self, step: Mapping[str, Any]) -> agent.Tools | None:
        if not step.get("tools"):
            return None
        from ..tools import Toolbox

        return Toolbox(self._settings, step["tools"])

    def _limits(self, step: Mapping[str, Any], opened_at: str, started: float, remaining_ms: int) -> agent.Limits:
        # A tenth of the invocation, at most 5 s, is kept for writing the record.
        call_ends = started + remaining_ms / 1000 - min(5.0, remaining_ms / 10_000)
        turn_ends = float("inf")
        if step.get("timeout_seconds"):
            used = clock.ms_between(opened_at, clock.now_text()) / 1000
            turn_ends = time.monotonic() + float(step["timeout_seconds"]) - used
        return agent.Limits(
            call_ends=call_ends,
            turn_ends=turn_ends,
            # In a fresh invocation there is always time for a call; later ones start only with a third of it left.
            shortest_call=min(60.0, remaining_ms / 3000),
            max_turns=int(step.get("max_turns", agent.MAX_TURNS)),
        )

    def _complete(
        self,
        crew: Sequence[Mapping[str, Any]],
        items: Mapping[str, dict[str, Any]],
        writer: StepWriter,
        ledger: StepLedger,
        result: Any,
        model: str | None,
    ) -> dict[str, Any]:
        work, finished_at = writer.work, clock.now_text()
        sums, spent = ledger.closing()
        writer.write(
            {
                "status": "completed",
                "output": self._values.store(work.run_id, f"{writer.path}/output", result),
                "model": model,
                "finished_at": finished_at,
                "latency_ms": clock.ms_between(writer.record["started_at"], finished_at),
                **sums,
            },
            release=True,
            remove=spent,
        )
        outcome = self._go_on(work, crew, items, writer.record)
        tracing.step_ended(work.workflow_id, work.run_id, writer.record)
        return outcome

    def _fail(self, writer: StepWriter, ledger: StepLedger, error: LoopLlamaError) -> dict[str, Any]:
        work, finished_at, attempts = writer.work, clock.now_text(), ledger.attempts
        writer.write(
            {
                "status": "failed",
                "error": {"type": type(error).__name__, "message": str(error)[:4000]},
                "model": list(attempts.values())[-1]["model"] if attempts else None,
                "finished_at": finished_at,
                "latency_ms": clock.ms_between(writer.record["started_at"], finished_at),
                **totals(attempts.values()),
            },
            release=True,
        )
        # Siblings look at this before their next model call; AdvanceRun decides what becomes of the run.
        self._store.change(work.run_id, {"stopping": True}, only_from=("running",))
        tracing.step_ended(work.workflow_id, work.run_id, writer.record)
        return self._end(work, "failed")

    # What the chain does next

    def _go_on(
        self,
        work: Work,
        crew: Sequence[Mapping[str, Any]],
        items: Mapping[str, dict[str, Any]],
        record: Mapping[str, Any],
    ) -> dict[str, Any]:
        """The outcome of a completed step; derived anew, and the same, however often it is asked for. Its usage is
        written here, so that an invocation that died before it could is made up for by the next."""
        self._store.add_usage(work, record, attempts_of(record))
        known = {item["step"] for item in items.values() if item.get("status") in _FINISHED} | {work.step}
        dependents = scheduling.dependents(crew, work.step)
        doubtful = {need for one in dependents for need in one["needs"]} - known
        if doubtful:
            others = self._store.items(work.run_id, map(step_key, sorted(doubtful)))
            known |= {item["step"] for item in others.values() if item.get("status") in _FINISHED}
        unblocked = [one for one in dependents if known.issuperset(one["needs"])]
        if not unblocked or (work.depth and len(unblocked) > 1):
            # A fork inside a fork waits for the round: AdvanceRun finds these steps ready.
            return self._end(work, "done")
        following = [
            Work(work.run_id, work.workflow_id, work.version, one["name"], depth=work.depth) for one in unblocked
        ]
        mine = [
            one
            for one, definition in zip(following, unblocked, strict=True)
            if not scheduling.is_join(definition) or self._store.claim(one, work.key)
        ]
        if not mine:
            return self._end(work, "done")
        if len(mine) == 1:
            return {**mine[0].to_payload(), "outcome": "continue"}
        forked = [Work(one.run_id, one.workflow_id, one.version, one.step, depth=1) for one in mine]
        return {**work.to_payload(), "outcome": "fork", "ready": [one.to_payload() for one in forked]}

    def _lost(
        self, work: Work, crew: Sequence[Mapping[str, Any]], items: Mapping[str, dict[str, Any]], lost: LeaseLost
    ) -> dict[str, Any]:
        """Another invocation has the step, or has ended it. What this one paid is settled already."""
        record = self._store.items(work.run_id, [work.key]).get(work.key, {})
        if record.get("status") in _FINISHED:
            return self._go_on(work, crew, {**items, work.key: record}, record)
        if record.get("status") == "failed":
            return self._end(work, "failed")
        return self._later(work, lost.until)

    def _later(self, work: Work, until_ms: int) -> dict[str, Any]:
        seconds = max(1, -(-(until_ms - clock.now_ms()) // 1000))
        return {**work.to_payload(), "outcome": "retry_later", "seconds": seconds}

    def _end(self, work: Work, outcome: str) -> dict[str, Any]:
        return {**work.to_payload(), "outcome": outcome}


def _int(value: Any) -> int | None:
    return None if value is None else int(value)


def _float(value: Any) -> float | None:
    return None if value is None else float(value)
