"""What a run left behind, compared with the reference: its object, its events, its bill."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from loopllama.llm.usage import shown
from loopllama.queries.runs import RunReader
from support.language.reference import ReferenceRun
from support.language.turns import Disagreement, Place
from support.language.values import as_json
from support.world import World

CLOSING = {"completed": "RunCompleted", "failed": "RunFailed", "cancelled": "RunCancelled"}
SUMS = ("tokens_in", "tokens_out", "cost_usd")


@dataclass
class Record:
    """What happened in a run so far, redrives included."""

    asked: Counter[Place] = field(default_factory=Counter)
    failed: set[tuple[Place, str]] = field(default_factory=set)
    """Steps that have failed, and when."""
    ends: list[str] = field(default_factory=list)
    late: bool = False
    """Whether the run ended while a call was under way, whose answer the last event cannot know."""


def agree(what: str, got: Any, wanted: Any) -> None:
    """Raise `Disagreement` unless the engine got what the reference wants."""
    if got != wanted:
        raise Disagreement(f"{what}: the engine says {got!r}, the reference {wanted!r}")


def same(what: str, got: Any, wanted: Any) -> None:
    """The same, to the digit."""
    agree(what, as_json(got), as_json(wanted))


def place_of(told: Any) -> Place:
    """Where a step, a question or an event belongs."""
    return told["step"], told["iteration"], told["item"] or 0


def check_questions(questions: list[Any], reference: ReferenceRun) -> None:
    """What a run asks is what it may ask, each thing once, ordered by its end."""
    asked = reference.asked()
    for question in questions:
        agree(
            f"the question of {place_of(question)}",
            (question["kind"], question["prompt"]),
            asked.get(place_of(question)),
        )
    for key in ("id", "place"):
        agree(
            "questions asked twice",
            len({place_of(one) if key == "place" else one[key] for one in questions}),
            len(questions),
        )
    ends = [question["expires_at"] for question in questions]
    agree("the questions' order", ends, sorted(ends))
    for step in reference.crew.steps:
        waiting = sum(question["step"] == step.name for question in questions)
        if step.at_once and waiting > step.at_once:
            raise Disagreement(f"{waiting} items of {step.name} at once, at most {step.at_once} may")


def check(world: World, run_id: str, reference: ReferenceRun, record: Record) -> None:
    """All that is left of a run that has ended."""
    run = world.read(run_id)
    _check_end(run, reference)
    turns = _check_steps(run, reference, record)
    record.ends.append(run["status"])
    _check_sums(world, run, reference, turns)
    _check_events(world, run, reference, record)
    [listed] = [one for one in RunReader(world.settings).list(limit=100)[0] if one["id"] == run_id]
    for name in ("status", "error", "total_steps", "unsatisfied_loops", *SUMS):
        agree(f"{name} in the list of runs", listed.get(name, "nothing"), run[name])


def _check_end(run: dict[str, Any], reference: ReferenceRun) -> None:
    if reference.cancelled:
        agree("the run", (run["status"], run["error"]), ("cancelled", "Cancelled: cancelled by ann"))
    elif reference.complete:
        agree("the run", (run["status"], run["error"]), ("completed", None))
    else:
        agree("the run", run["status"], "failed")
        step, _, error = run["error"].removeprefix("step '").partition("': ")
        failed = {(name, kind) for (name, _), kind in reference.failed.items()}
        if (step, error.partition(":")[0]) not in failed:
            raise Disagreement(f"the run failed with {run['error']}, the reference with {failed}")
    if run["status"] == "completed":
        same("the run's output", run["output"], reference.output)
    agree("questions", run["questions"], [])


def _check_steps(run: dict[str, Any], reference: ReferenceRun, record: Record) -> set[Place]:
    """Every step as it stands; returns the turns that have ended."""
    whole = run["status"] == "completed"
    told = {place_of(step): step for step in run["steps"]}
    agree("records of one step", len(told), len(run["steps"]))
    ended: set[Place] = set()
    for place, step in told.items():
        wanted, output = _wanted(place, reference)
        late = not whole and step["status"] in ("queued", "running") and not _called_last(place, reference)
        # An item that failed before a redrive says so until its list begins again.
        late = late or bool(not whole and place[2] and (place, step["finished_at"]) in record.failed)
        if not late:
            agree(f"{place}", step["status"], wanted)
        a_turn = place[2] or place[:2] not in reference.lists
        if a_turn and step["status"] in ("completed", "failed") and place[0] not in reference.kept:
            ended.add(place)
        if step["status"] == "failed":
            record.failed.add((place, step["finished_at"]))
        if step["status"] in ("completed", "skipped"):
            same(f"the output of {place}", step["output"], output)
        turn = reference.turns.get(place)
        if turn and turn.calls:
            agree(f"the prompt of {place}", step["input"], reference.prompts[place])
            agree(
                f"the model of {place}", [one["model"] for one in step["attempts"]], [one.model for one in turn.calls]
            )
        else:
            agree(f"calls of {place}", step["attempts"], [])
        ends = reference.loops.get(place[0]) if place[:2] == reference.place(place[0]) else None
        if not late:
            agree(f"how the loop of {place} ended", step["loop_ended"], ends)
    missing = {place for place, turn in reference.turns.items() if turn.calls} - set(told)
    missing |= {(*place, 0) for place in reference.done if whole and place[0] not in reference.kept} - set(told)
    agree("steps without a record", missing, set())
    agree("unsatisfied loops", run["unsatisfied_loops"], sorted(
        step["step"] for step in run["steps"] if step["loop_ended"] in ("max_reached", "stopped", "unjudged")
    ) or None)  # fmt: skip
    if whole:
        agree("unsatisfied loops", run["unsatisfied_loops"], reference.unsatisfied)
    return ended


def _wanted(place: Place, reference: ReferenceRun) -> tuple[str, Any]:
    """The status of a step's record, and its output."""
    turn = reference.turns.get(place)
    if place[2]:
        return (
            ("failed", None)
            if turn and turn.error
            else ("completed", turn.answer)
            if turn and turn.answer is not None
            else ("running", None)
        )
    if place[:2] in reference.done:
        return "skipped" if place[:2] in reference.skipped else "completed", reference.done[place[:2]]
    if place[:2] in reference.failed:
        return "failed", None
    return "running", None


def _called_last(place: Place, reference: ReferenceRun) -> bool:
    """Whether the step ended with its model's answer, so that its record says it whatever came between."""
    turn = reference.turns.get(place)
    return bool(turn and (turn.answer is not None or turn.error in ("ModelRequestRejected", "OutputInvalid")))


def _check_sums(world: World, run: dict[str, Any], reference: ReferenceRun, ended: set[Place]) -> None:
    """The bill's rows are the calls, and the totals their sums."""
    calls = [(place, call) for place, turn in reference.turns.items() for call in turn.calls]
    wanted = Counter((place, call.model, call.tokens_in, call.tokens_out, call.cost_usd) for place, call in calls)
    got: Counter[Any] = Counter()
    steps: Counter[Place] = Counter()
    for row in map(shown, world.bill(run["id"])):
        _hour, _run, step, iteration, item, *_ = row["run_step_model"].split("#")
        place = (step, int(iteration), int(item))
        got[place, row["model"], row["tokens_in"], row["tokens_out"], row["cost_usd"] or 0] += 1
        steps[place] += int(row["steps"])
    agree("the bill", got - wanted, Counter())
    agree("what is not billed", wanted - got, Counter())
    told = {place_of(step): step["status"] for step in run["steps"]}
    agree("billed steps", +steps, Counter(place for place, call in dict(calls).items() if told[place] == "completed"))
    agree("total_steps", run["total_steps"], len(ended))
    stored = shown(world.item(run["id"], "RUN"))
    for name in SUMS:
        total = sum((getattr(call, name) for _, call in calls), Decimal(0))
        agree(name, (run[name], stored.get(name, 0)), (total, total))


def _check_events(world: World, run: dict[str, Any], reference: ReferenceRun, record: Record) -> None:
    events: list[Any] = [*world.events(run["id"])]
    agree("the events' numbers", [event["id"] for event in events], [str(n + 1) for n in range(len(events))])
    kinds = Counter(event["type"] for event in events)
    agree("RunStarted", [event["resumed"] for event in events if event["type"] == "RunStarted"],
          [number > 0 for number in range(len(record.ends))])  # fmt: skip
    agree("ends", [event["type"] for event in events if event["type"] in CLOSING.values()],
          [CLOSING[end] for end in record.ends])  # fmt: skip
    places = {kind: Counter(place_of(event) for event in events if event["type"] == kind)
              for kind in ("StepCompleted", "StepFailed", "RunWaiting", "QuestionExpiring")}  # fmt: skip
    completed = Counter(place_of(step) for step in run["steps"]
                        if step["status"] == "completed" and step["step"] not in reference.kept)  # fmt: skip
    agree("StepCompleted", places["StepCompleted"], completed)
    agree("StepFailed", places["StepFailed"], Counter(place for place, _ in record.failed))
    agree("RunWaiting", places["RunWaiting"], record.asked)
    agree("QuestionExpiring without a question", places["QuestionExpiring"] - record.asked, Counter())
    agree("other events", set(kinds) - {*places, "RunStarted", *CLOSING.values()}, set())
    _check_order(events, reference)
    last = max(number for number, event in enumerate(events) if event["type"] in CLOSING.values())
    behind = {(event["type"].startswith("Step"), event.get("late")) for event in events[last + 1 :]}
    agree("what comes behind the end", behind - {(True, True)}, set())
    if not record.late:
        agree("what comes behind the end", events[last + 1 :], [])
        for name in ("total_steps", "unsatisfied_loops", *SUMS):
            agree(f"{name} in the last event", events[last][name], run[name])


def _check_order(events: list[Any], reference: ReferenceRun) -> None:
    """A step's end comes behind those of all that it needs."""
    first: dict[tuple[str, int], int] = {}
    last: dict[tuple[str, int], int] = {}
    for number, event in enumerate(events):
        if event["type"] == "StepCompleted":
            place = place_of(event)
            first.setdefault(place[:2], number)
            if not place[2]:
                last[place[:2]] = number
    for (name, number), begun in first.items():
        loop = reference.crew.loop_of(name)
        for need in reference.crew[name].needs:
            of_loop = loop and need in loop.line
            before = last.get((need, number) if of_loop else reference.place(need), -1)
            if before > begun:
                raise Disagreement(f"{name} ended before {need}, which it needs")
        if loop and name == loop.line[0] and number and last.get((loop.name, number - 1), -1) > begun:
            raise Disagreement(f"round {number} of {loop.name} began before it was sent back")
