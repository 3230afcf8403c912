"""What must become of a run: the language of docs/workflows.md as a small interpreter.

It is told what happens (a model was called and answered, a person answered, somebody cancelled), and says whether that
may happen now, with which words, and what follows. It knows no chains, rounds of the state machine, claims or leases:
whatever order the engine takes, each call has to be one that may be made by then, and in the end none may be missing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from support.language.crews import Crew, Reference, Step
from support.language.turns import ANY, Call, Disagreement, Place, Turn
from support.language.values import Uncomputable, at_path, is_true, shown


@dataclass(frozen=True)
class Seen:
    """What a step sees in a round."""

    input: Any
    output: Callable[[str], Any]


class ReferenceRun:
    """A run of a crew. `route` says which model a step is to ask now."""

    def __init__(self, crew: Crew, run_input: Any, route: Callable[[Step], str]) -> None:
        self.crew, self.input, self._route = crew, run_input, route
        self.rounds = {step.name: 0 for step in crew.steps if step.line}
        self.done: dict[tuple[str, int], Any] = {}
        """Outputs of the steps that are done, skipped ones among them, by step and round."""
        self.skipped: set[tuple[str, int]] = set()
        self.loops: dict[str, str] = {}
        """How they ended, by their last step."""
        self.lists: dict[tuple[str, int], list[Any]] = {}
        self.turns: dict[Place, Turn] = {}
        self.prompts: dict[Place, str] = {}
        """What the agents that were called were given."""
        self.kept: set[str] = set()
        """Steps that a replay has kept."""
        self.failed: dict[tuple[str, int], str] = {}
        """What steps fail with, as soon as the engine comes to them."""
        self.halted: set[tuple[str, int]] = set()
        """Lists of which an item failed that may not, so that no other begins."""
        self.stopping = self.cancelled = False
        self._go_on()

    # What may happen

    def may_call(self, place: Place) -> bool:
        """Whether a turn may go on by a call of its model."""
        turn = self.turns.get(place)
        free = turn is not None and not turn.ended and place not in self.asked()
        return free and not self.over and place[:2] not in self.halted

    def asked(self) -> dict[Place, tuple[str, str]]:
        """What people are asked, once the engine comes to it: kind and words."""
        return {
            place: ("input", turn.question)
            if turn.question is not None
            else ("approval", f"Approve step {place[0]} ({self.crew[place[0]].role}) to start")
            for place, turn in self.turns.items()
            if not turn.ended and (turn.question is not None or (self.crew[place[0]].approval and not turn.approved))
        }

    @property
    def over(self) -> bool:
        """Whether nothing more may begin."""
        return self.stopping or self.cancelled

    @property
    def complete(self) -> bool:
        """Whether all is done."""
        return all(self.is_done(step.name) for step in self.crew.steps)

    @property
    def output(self) -> Any:
        """The run's output: that of the crew's last agent that was not skipped."""
        outputs = (self._output(step.name) for step in reversed(self.crew.steps))
        return next((output for output in outputs if output is not None), None)

    @property
    def unsatisfied(self) -> list[str] | None:
        """The loops that ended without having been found good."""
        return sorted(name for name, how in self.loops.items() if how in ("max_reached", "stopped", "unjudged")) or None

    def prompt(self, place: Place) -> str:
        """What an agent is given. Raises `Uncomputable`."""
        step, sees = self.crew[place[0]], self._sees(place[0])
        item = self.lists[place[:2]][place[2] - 1] if place[2] else None
        if step.prompt is not None:
            text = "".join(self._filled(part, sees, item) for part in step.prompt)
            if not text.strip():
                raise Uncomputable("the prompt is empty")
            return text
        loop = self.crew.loop_of(step.name)
        line: tuple[str, ...] = ()
        parts = [("Input", self.input)]
        for name in self.crew.before(step.name):
            if (output := sees.output(name)) is not None:
                parts.append((f"{self.crew[name].role} ({name})", output))
        if loop and place[1]:
            line = loop.line[loop.line.index(step.name) :]
        for name in line:
            if (output := self.done.get((name, place[1] - 1))) is not None:
                parts.append((f"{self.crew[name].role}, last time ({name})", output))
        if place[2]:
            parts.append(("Item", item))
        return "\n\n".join(f"# {title}\n\n{shown(value)}" for title, value in parts)

    def expected_talk(self, place: Place) -> list[tuple[str, Any]]:
        """The messages of the next call of a turn."""
        return [("user", self.prompt(place)), *self.turns[place].talk]

    # What happened

    def called(self, place: Place, call: Call, answer: str | dict[str, Any] | None, kind: str) -> None:
        """A model was called and answered: with an `answer` that is one, a `broken` one, a question that it `asks`, or
        that it is `rejected` or `down`."""
        turn, step = self.turns[place], self.crew[place[0]]
        self.prompts[place] = self.prompt(place)
        turn.calls.append(call)
        if kind == "asks":
            turn.question = str(answer)
        elif kind == "broken":
            turn.broken += 1
            turn.talk += [("assistant", answer), ("user", ANY)]
            if turn.broken == 2:  # it is given back once
                turn.error = "OutputInvalid"
        elif kind == "answer":
            turn.answer = answer
        elif kind == "rejected":
            turn.failed_models.add(call.model)
            turn.error = "ModelRequestRejected"
        else:
            turn.failed_models.add(call.model)
            turn.put_off += 1
            turn.decide_again()
            if turn.put_off > (5 if step.retries is None else step.retries):
                turn.error = "ModelUnavailable"
        if turn.error:
            self._fail(place)
        self._go_on()

    def model(self, place: Place) -> str:
        """The model that a turn asks: what stands when its first call is made, for the whole turn."""
        turn = self.turns[place]
        turn.model = turn.model or self._route(self.crew[place[0]])
        return turn.model

    def answered(self, place: Place, answer: bool | str | None) -> None:
        """A person has answered: approved or not, or a text; or nobody has in time."""
        turn = self.turns[place]
        turn.decide_again()
        if answer is None:
            turn.error = "ApprovalTimedOut"
        elif isinstance(answer, str):
            turn.talk += [("assistant", ANY), ("tool", answer)]
            turn.question = None
        elif answer:
            turn.approved = True
        else:
            turn.error = "ApprovalDeclined"
        self._go_on()

    def stopped(self, place: Place) -> None:
        """The engine says that a step has failed: from here on nothing more begins."""
        if not (self.turns[place].error if place[2] else place[:2] in self.failed):
            raise Disagreement(f"{place} failed, and should not")
        self._fail(place)

    def _fail(self, place: Place) -> None:
        if not place[2]:
            self.failed.setdefault(place[:2], self.turns[place].error or "" if place in self.turns else "")
            self.stopping = True
        elif not self.crew[place[0]].may_fail:
            self.halted.add(place[:2])

    def redriven(self) -> None:
        """Somebody redrives the failed run: what failed is done again, from its settled calls on."""
        self.stopping = False
        self.failed.clear()
        self.halted.clear()
        for place, turn in self.turns.items():
            if turn.error is None or place[:2] in self.done:
                continue  # an item that its list tolerates stays as it is
            if turn.error == "OutputInvalid":
                turn.talk, turn.broken = [], 0
            turn.error, turn.put_off = None, 0
            turn.decide_again()
        self._go_on()

    def replayed(self, kept: set[str], run_input: Any, route: Callable[[Step], str]) -> ReferenceRun:
        """The run that keeps some steps as they ended here."""
        other = ReferenceRun(Crew(()), run_input, route)
        other.crew, other.kept = self.crew, kept
        other.rounds = {name: self.rounds[name] if name in kept else 0 for name in self.rounds}
        places = {(name, self._round(name)) for name in kept}
        other.done = {place: self.done[place] for place in places}
        other.skipped = self.skipped & places
        other.loops = {name: how for name, how in self.loops.items() if name in kept}
        other._go_on()
        return other

    def kept_by(self, start: str) -> set[str]:
        """What a replay from a step keeps: those before it in the file that need no redone one, loops as a whole."""
        names = [step.name for step in self.crew.steps]
        kept = set(names[: names.index(start)])
        while redone := {
            name
            for name in kept
            if not kept.issuperset(self.crew[name].needs)
            or ((loop := self.crew.loop_of(name)) and not kept.issuperset(loop.line))
        }:
            kept -= redone
        return kept

    # How it goes on

    def _go_on(self) -> None:
        """Take all that needs no model and no person: skip, gather, go back; until nothing of it is left."""
        changed = True
        while changed:
            changed = any(self._take(step) for step in self.crew.steps)
            for place, turn in self.turns.items():
                if not turn.ended and place not in self.asked() and self._broken_prompt(place):
                    turn.error, changed = "InvalidRequest", True

    def _take(self, step: Step) -> bool:
        place = step.name, self._round(step.name)
        if self.is_done(step.name) or place in self.failed or not all(map(self.is_done, step.needs)):
            return False
        turn = self.turns.get((*place, 0))
        if turn is None and place not in self.lists:
            return self._begin(step, place)
        if turn is not None:
            if turn.error is not None:
                self.failed[place] = turn.error
                return True
            return turn.answer is not None and self._end(step, place, turn.answer)
        return self._gather(step, place)

    def _begin(self, step: Step, place: tuple[str, int]) -> bool:
        if step.needs and all(self._passes_over(name) for name in step.needs):
            return self._skip(step, place, by_itself=False)
        try:
            if step.when and not is_true(step.when.of(self._sees(step.name))):
                return self._skip(step, place, by_itself=True)
            if step.each is None:
                self.turns[(*place, 0)] = Turn()
                return True
            items = step.each.of(self._sees(step.name))
        except Uncomputable:
            self.failed[place] = "InvalidRequest"
            return True
        if not isinstance(items, list):
            self.failed[place] = "InvalidRequest"
            return True
        self.lists[place] = items
        self.turns |= {(*place, number): Turn() for number in range(1, len(items) + 1)}
        return True

    def _gather(self, step: Step, place: tuple[str, int]) -> bool:
        turns = [self.turns[(*place, number)] for number in range(1, len(self.lists[place]) + 1)]
        lost = sum(turn.error is not None for turn in turns)
        if lost > step.may_fail and (step.may_fail == 0 or all(turn.ended for turn in turns)):
            self.failed[place] = "ItemsFailed"
            return True
        return all(turn.ended for turn in turns) and self._end(step, place, [turn.answer for turn in turns])

    def _end(self, step: Step, place: tuple[str, int], output: Any) -> bool:
        name, number = place
        if step.until:
            sees = self._sees(name)
            mine = Seen(sees.input, lambda other: output if other == name else sees.output(other))
            last = number + 1 == step.rounds
            try:
                good = is_true(step.until.of(mine))
            except Uncomputable:
                if not last:
                    self.failed[place] = "InvalidRequest"
                    return True
                good = False
            if good or last:
                self.loops[name] = "satisfied" if good else "max_reached"
            else:
                self.rounds[name] += 1
        self.done[place] = output
        return True

    def _skip(self, step: Step, place: tuple[str, int], *, by_itself: bool) -> bool:
        """Skip a step; with the first of a loop all of its round, after which what the round before gave stands."""
        number = place[1]
        loop = self.crew.loop_of(step.name)
        if loop is None or (by_itself and step.name != loop.line[0]):
            self.done[place] = None
            self.skipped.add(place)
            if loop:
                self.loops[loop.name] = "unjudged"
            return True
        for name in loop.line:
            self.done[name, number] = self.done.get((name, number - 1))
            self.skipped.add((name, number))
        self.loops[loop.name] = "stopped" if number else "skipped"
        return True

    # What stands where

    def place(self, name: str) -> tuple[str, int]:
        """A step and the round that counts now."""
        return name, self._round(name)

    def _round(self, name: str) -> int:
        loop = self.crew.loop_of(name)
        return self.rounds[loop.name] if loop else 0

    def is_done(self, name: str) -> bool:
        """Whether those that need it may begin."""
        return (name, self._round(name)) in self.done

    def _passes_over(self, name: str) -> bool:
        return (name, self._round(name)) in self.skipped and self.loops.get(name) != "stopped"

    def _output(self, name: str) -> Any:
        return self.done.get((name, self._round(name)))

    def _sees(self, name: str) -> Seen:
        """Of a step of its own loop that has not spoken in this round, what it said in the last."""
        loop, number = self.crew.loop_of(name), self._round(name)

        def output(other: str) -> Any:
            if loop and other in loop.line and (other, number) not in self.done:
                return self.done.get((other, number - 1))
            return self._output(other)

        return Seen(self.input, output)

    def _filled(self, part: str | Reference, sees: Seen, item: Any) -> str:
        if isinstance(part, str):
            return part
        if part.root in ("input", "item"):
            return shown(at_path(sees.input if part.root == "input" else item, part.path))
        output = sees.output(part.root)
        return "" if output is None else shown(at_path(output, part.path))

    def _broken_prompt(self, place: Place) -> bool:
        try:
            self.prompt(place)
        except Uncomputable:
            return True
        return False
