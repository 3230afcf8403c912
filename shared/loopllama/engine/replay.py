"""Replaying a run: a new run that keeps what earlier steps came to and redoes the rest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

from loopllama.aws import dynamo
from loopllama.core import clock
from loopllama.core.names import meant
from loopllama.engine.accept import begin, check_json, check_texts, new_run, new_run_id, run_id_of, started_before
from loopllama.engine.step_context import is_finished
from loopllama.errors import Conflict, InvalidRequest
from loopllama.runs import prompts
from loopllama.runs.step_ref import ITERATION, iteration_of, step_key
from loopllama.runs.store import RUN, RunStore
from loopllama.runs.totals import totals
from loopllama.runs.value_store import ValueStore
from loopllama.settings import Settings
from loopllama.workflows import graph
from loopllama.workflows.store import DefinitionStore

if TYPE_CHECKING:
    from decimal import Decimal

    from loopllama.runs.records import Run, StepRecord
    from loopllama.workflows.types import CrewStep, WorkflowItem

MAX_PROMPT = 8000
_KEPT = (
    *("item", "step", "order", "role", "status", "model", "iteration", "item_index", "item_count"),
    *("loop_ended", "skipped_because"),
)


def replay_run(
    settings: Settings,
    run_id: str,
    from_step: str,
    *,
    run_input: Any = None,
    models: Mapping[str, str] | None = None,
    system_prompts: Mapping[str, str] | None = None,
    key: str | None = None,
    api_key: str | None = None,
    key_max_usd: Decimal | None = None,
) -> str:
    """Start a run of the same version of the workflow that begins at `from_step`; returns its id.

    Steps before it in the crew are kept as they ended in run `run_id`: no model is called for them, and they cost
    nothing here. A step before it that depends on a redone one is redone too. `run_input` replaces the input; `models`
    adds to the run's own; `system_prompts` (step to text) replaces those of redone steps. `key` makes it idempotent.

    Raises `RunNotFound`, `WorkflowNotFound`, `WorkflowPaused`, `InvalidRequest`, and `Conflict` where a step that
    would be kept has not finished.
    """
    request = {
        "replay": run_id,
        "from_step": from_step,
        "input": run_input,
        "models": models or {},
        "system_prompts": system_prompts or {},
    }
    check_json(request)
    if key and (started := started_before(settings, key, request)):
        return started
    store, values, definitions = RunStore(settings), ValueStore(settings), DefinitionStore(settings)
    before = store.run(run_id)
    status = definitions.get(before["workflow_id"])["status"]
    workflow: WorkflowItem = {
        **definitions.get(before["workflow_id"], int(before["workflow_version"])),
        "status": status,
    }
    crew = workflow["definition"]["crew"]
    kept = kept_steps(crew, from_step)
    _check_prompts(system_prompts, crew, kept)

    new_id = run_id_of(key) if key else new_run_id()
    if run_input is None:
        run_input = values.load(before["input"])
    all_models = {**(before.get("models") or {}), **(models or {})}
    run = new_run(workflow, new_id, run_input, all_models, before.get("tags"), None, before.get("pin"))
    run |= {
        "api_key": api_key,
        "key_max_usd": key_max_usd,
        "system_prompts": dict(system_prompts) if system_prompts else None,
        "replayed_from": {"run_id": run_id, "from_step": from_step},
        "budget": before.get("budget"),
        "input": values.store(new_id, "input", run_input),
    }
    run |= cast("Run", {name: value for name, value in before.items() if name in {ITERATION + step for step in kept}})
    # The kept steps before the run itself: whoever finds the run finds them.
    _copy(settings, store, values, before, run, [step for step in crew if step["name"] in kept])
    begin(settings, run, key, request)
    return new_id


def kept_steps(crew: Sequence[CrewStep], from_step: str) -> set[str]:
    """Return the steps before `from_step` in the crew that need, directly or through others, only such steps. Raises
    `InvalidRequest` where there is no such step."""
    names = [step["name"] for step in crew]
    if from_step not in names:
        message = f"there is no such step; the steps are {', '.join(names)}{meant(from_step, names)}"
        raise InvalidRequest.of("fromStep", message, sentence=f"The run has no step {from_step[:60]!r}: {message}")
    kept = set(names[: names.index(from_step)])
    while True:
        dropped = {step["name"] for step in crew if step["name"] in kept and not kept.issuperset(step["needs"])}
        for step in crew:
            if step.get("repeat") and step["name"] not in kept:
                dropped |= kept.intersection(graph.stretch(crew, step))  # a loop is redone as a whole
        if not dropped:
            return kept
        kept -= dropped


def _copy(
    settings: Settings,
    store: RunStore,
    values: ValueStore,
    before: Run,
    run: Run,
    kept: Sequence[CrewStep],
) -> None:
    """Write the records of the kept steps into the new run, without what their calls used and cost."""
    crew = DefinitionStore(settings).get(run["workflow_id"], int(run["workflow_version"]))["definition"]["crew"]
    keys = {step["name"]: step_key(step["name"], iteration_of(before, crew, step["name"])) for step in kept}
    records = store.items(before["run_id"], keys.values())
    for name, key in keys.items():
        if not is_finished(records.get(key, {})):
            raise Conflict(
                f"Step {name!r} of run {before['run_id']} has not finished; replay from it or from before it."
            )
    quoted = {key for record in records.values() for key in prompts.items_of(record.get("input"))}
    quoted -= {RUN, *records}
    items: dict[str, Run | StepRecord] = {RUN: before, **records, **store.items(before["run_id"], quoted)}
    now, delete_at = clock.now_text(), clock.now_ms() // 1000 + settings.retention_days * 86400
    for record in records.values():
        # Values of their own: the other run's may be deleted earlier, and its input may be another one.
        copied_values = {
            name: values.store(run["run_id"], f"{record['step']}/{name}", values.load(stored))
            for name, stored in (
                ("input", prompts.whole(record.get("input"), items)),
                ("output", record.get("output")),
            )
        }
        copy = {
            **{name: record.get(name) for name in _KEPT},
            "run_id": run["run_id"],
            **copied_values,
            **totals(()),
            "started_at": now,
            "finished_at": now,
            "latency_ms": 0,
            "replayed_from": record.get("replayed_from") or before["run_id"],
            "delete_at": delete_at,
        }
        dynamo.put_new(store.dynamodb, store.table, copy, "run_id")


def _check_prompts(system_prompts: Mapping[str, str] | None, crew: Sequence[CrewStep], kept: set[str]) -> None:
    check_texts("systemPrompts", system_prompts, len(crew), MAX_PROMPT)
    redone = {step["name"] for step in crew} - kept
    for name, text in (system_prompts or {}).items():
        if not text.strip():
            raise InvalidRequest.of(f"systemPrompts.{name[:60]}", "is blank: say what the agent does")
        if name not in redone:
            message = "is kept as it ended" if name in kept else "there is no such step"
            field = f"systemPrompts.{name[:60]}"
            sentence = f"{field}: {message}; steps that are redone: {', '.join(sorted(redone))}{meant(name, redone)}"
            raise InvalidRequest.of(field, message, sentence=sentence)
