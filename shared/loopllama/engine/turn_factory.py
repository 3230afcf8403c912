"""What a step's turn is made of: the models of its route, its tools, its limits."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from loopllama import providers
from loopllama.agent import loop
from loopllama.agent.call_bounds import Limits
from loopllama.agent.tool_calls import Tools
from loopllama.catalog import answering, variants
from loopllama.catalog.model import Model
from loopllama.core import clock
from loopllama.engine.step_context import View
from loopllama.errors import ModelUnknown, NoEligibleModel
from loopllama.llm.token_estimate import most_tokens
from loopllama.routing.decision import Route, RouteRequest
from loopllama.routing.router import Router
from loopllama.runs import waits
from loopllama.runs.attempt_log import StepLedger
from loopllama.runs.step_writer import StepWriter
from loopllama.runs.totals import attempts_of
from loopllama.settings import Settings
from loopllama.tools.definitions import ASK_HUMAN
from loopllama.workflows.store import DefinitionStore

if TYPE_CHECKING:
    from loopllama.engine.parallelism import Parallelism
    from loopllama.runs.records import Ignored, RouteRecord, StepRecord
    from loopllama.tools.store import KeptTools
    from loopllama.workflows.types import CrewStep


class TurnMaker:
    """Makes turns in one process: holds the router, whose caches outlive an invocation."""

    def __init__(self, settings: Settings, definitions: DefinitionStore) -> None:
        self._settings = settings
        self._definitions = definitions
        self._router = Router(settings)
        self._tools: KeptTools | None = None  # of the steps that have some

    def parallelism(self, *, fresh: bool) -> Parallelism:
        """Return how many branches of a fork may run at once; `fresh`: by what the table says now."""
        from loopllama.engine.parallelism import Parallelism  # few steps fork

        health = self._router.health(fresh=fresh)
        return Parallelism(health, self._settings.max_concurrency, clock.now_seconds)

    def make(
        self,
        view: View,
        writer: StepWriter,
        ledger: StepLedger,
        text: str,
        started: float,
        remaining_ms: int,
        *,
        whole: bool,
        stops: Callable[[], bool],
    ) -> loop.AgentLoop:
        """Return the turn of a step on the prompt `text`, in an invocation that began at `started` (`time.monotonic()`)
        with `remaining_ms` left; it is `whole` where no step came before; `stops` looks whether nothing more may begin.
        Raises `NoEligibleModel`, `ModelUnknown`, `WorkflowInvalid` and `ToolInvalid`."""
        attempt_order, decision = self._route(view, text, writer)
        max_tokens, temperature = decision.get("max_tokens"), decision.get("temperature")
        return loop.AgentLoop(
            view.step,
            attempt_order,
            max_tokens=None if max_tokens is None else int(max_tokens),
            temperature=None if temperature is None else float(temperature),
            ledger=ledger,
            tools=self._toolbox(view.step),
            provider_for=lambda model: providers.provider_for(model, self._settings),
            circuit_breaker=self._router.circuit_breaker,
            call_slots=self._router.call_slots,
            priced_as=lambda model, name: answering.priced_as(model, name, self._router.answering),
            limits=_limits(self._settings, view.step, writer.record, started, remaining_ms, whole),
            idempotency_key=f"{view.work.run_id}/{view.work.key}",
            stops=stops,
            answers=waits.answers_of(view.record),
        )

    def _toolbox(self, step: CrewStep) -> Tools | None:
        """Return what the step's agent may call; its definitions are read unless this process has them. Raises
        `WorkflowInvalid` and `ToolInvalid`."""
        names = [name for name in step.get("tools") or () if name != ASK_HUMAN.name]
        if not names:
            return None
        from loopllama.tools.store import KeptTools
        from loopllama.tools.toolbox import Toolbox

        if self._tools is None:
            self._tools = KeptTools(self._settings)
        return Toolbox(self._tools.named(names, clock.now_seconds()), names)

    def _as_profiles(self, attempt_order: Sequence[Model]) -> tuple[list[Model], dict[str, str]]:
        """Return the models with what is known of those that inference profiles stand for, which only Bedrock says; and
        why some are left out: their names ask for an effort or a tier that the model behind the profile does not
        have. Raises `NoEligibleModel` where none is left."""
        able: list[Model] = []
        lacking: dict[str, str] = {}
        for named in attempt_order:
            model = providers.behind_profile(named, self._router.model)
            try:
                able.append(variants.of(model, model.effort or "", model.service_tier or ""))
            except ModelUnknown as error:
                lacking[named.id] = str(error)
        if lacking and not able:
            raise NoEligibleModel("; ".join(lacking.values()))
        return able, lacking

    def _route(self, view: View, text: str, writer: StepWriter) -> tuple[Sequence[Model], RouteRecord]:
        """Return the models to try and the decision as recorded. A retry keeps its decision unless its first model has
        failed in the meantime or a model of it has been disabled."""
        work, kept = writer.work, writer.record.get("route")
        if kept and not any(
            attempt["model"] == kept["attempt_order"][0] and attempt["outcome"] not in ("ok", "open")
            for attempt in attempts_of(writer.record).values()
        ):
            restored = self._router.restore(kept)
            if restored is not None:
                return self._as_profiles(restored.attempt_order)[0], kept
        began = time.perf_counter()
        route: Route = self._router.decide(
            RouteRequest(
                workflow_id=work.workflow_id,
                workflow_model=self._definitions.get(work.workflow_id, work.version)["definition"].get("model"),
                step=view.step,
                run_models=view.run.get("models") or {},
                required=frozenset({"tools"}) if view.step.get("tools") else frozenset(),
                prompt_tokens=most_tokens(text),
                run_id=work.run_id,
                pinned=view.pinned,
            )
        )
        decision = route.to_record()
        attempt_order, lacking = self._as_profiles(route.attempt_order)
        ignored: list[Ignored] = [
            {"layer": route.source, "model": name, "reason": reason} for name, reason in lacking.items()
        ]
        writer.decide(
            {
                "route": decision,
                "source": route.source,
                "route_version": route.route_version,
                "ignored": [*route.ignored, *ignored] or None,
                "invalid_overrides": route.invalid_overrides or None,
                "routing_ms": round((time.perf_counter() - began) * 1000),
            }
        )
        return attempt_order, decision


def _limits(
    settings: Settings, step: CrewStep, record: StepRecord, started: float, remaining_ms: int, whole: bool
) -> Limits:
    # A tenth of the invocation, at most 5 s, is kept for writing the record.
    call_ends = started + remaining_ms / 1000 - min(5.0, remaining_ms / 10_000)
    turn_ends = float("inf")
    if step.get("timeout_seconds"):
        now = clock.now_text()
        used_ms = clock.ms_between(record["started_at"], now) - waits.of_step(record, now)
        turn_ends = time.monotonic() + float(step["timeout_seconds"]) - used_ms / 1000
    return Limits(
        call_ends=call_ends,
        turn_ends=turn_ends,
        # In a fresh invocation there is always time for a call; later ones start only with a third of it left.
        shortest_call=min(60.0, remaining_ms / 3000),
        max_turns=int(step.get("max_turns", loop.MAX_TURNS)),
        longest_call=settings.model_timeout_seconds,
        whole=whole,
    )
