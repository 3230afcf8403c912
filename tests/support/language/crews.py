"""Random crews in the generated part of the language, each expression beside its meaning.

All is drawn from one `Random`, so that a seed gives the same crew again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from random import Random
from typing import Any

from support.language.expressions import (
    Expression,
    Sight,
    at_least,
    both,
    either,
    ends_with,
    filtered,
    first,
    length,
    less,
    only,
    or_empty,
    same,
)
from support.language.values import field as field_of
from support.language.values import is_true

MODELS = ("house:one", "house:two", "house:three")
SCHEMA = {
    "type": "object",
    "required": ["ok"],
    "properties": {
        "ok": {"type": "boolean"},
        "n": {"type": "number"},
        "todo": {"type": "array"},
        "note": {"type": ["string", "null"]},
        "any": {},
    },
}
WAIT_SECONDS = 1000
"""How long a person has for an answer."""


@dataclass(frozen=True)
class Reference:
    """`{{ … }}`: `root` is `input`, `item` or a step's name."""

    root: str
    path: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        head = [self.root] if self.root in ("input", "item") else ["steps", self.root, "output"]
        return "{{ " + ".".join([*head, *self.path]) + " }}"


@dataclass(frozen=True)
class Step:
    """An agent of a crew, and its step. `line` names the steps of the loop that it ends, from the first to itself."""

    name: str
    needs: tuple[str, ...]
    structured: bool = False
    when: Expression | None = None
    each: Expression | None = None
    prompt: tuple[str | Reference, ...] | None = None
    line: tuple[str, ...] = ()
    until: Expression | None = None
    rounds: int = 0
    approval: bool = False
    asks: bool = False
    at_once: int | None = None
    may_fail: int = 0
    retries: int | None = None
    model: str | None = None

    @property
    def role(self) -> str:
        return f"Role {self.name}"

    @property
    def names(self) -> set[str]:
        """The steps that it names."""
        said = [expression.names for expression in (self.when, self.each, self.until) if expression]
        templates = {part.root for part in self.prompt or () if isinstance(part, Reference)}
        return set(self.needs).union(self.line, templates, *said) - {"input", "item", self.name}

    def definition(self) -> dict[str, Any]:
        """As a workflow file has it."""
        texts = [part if isinstance(part, str) else part.text for part in self.prompt or ()]
        repeat = self.until and {"backTo": self.line[0], "until": self.until.text, "max": self.rounds}
        fields = {
            "when": self.when and self.when.text,
            "forEach": self.each and self.each.text,
            "prompt": "".join(texts) if self.prompt is not None else None,
            "repeat": repeat,
            "outputSchema": SCHEMA if self.structured else None,
            "approval": {"start": True, "timeoutSeconds": WAIT_SECONDS} if self.approval or self.asks else None,
            "tools": ["ask_human"] if self.asks else None,
            "maxConcurrency": self.at_once,
            "maxFailures": self.may_fail if self.each else None,
            "retries": self.retries,
            "model": self.model,
        }
        if self.asks and not self.approval:
            fields["approval"] = None
        said = {name: value for name, value in fields.items() if value is not None}
        agent = {"name": self.name, "role": self.role, "systemPrompt": f"Be {self.name}."}
        return {**agent, "needs": list(self.needs), **said}


@dataclass(frozen=True)
class Crew:
    """A workflow. The order of `steps` is the file's, in which a step may stand before those that it needs."""

    steps: tuple[Step, ...]
    model: str = MODELS[0]
    pinned: bool = False

    def __getitem__(self, name: str) -> Step:
        return next(step for step in self.steps if step.name == name)

    def loop_of(self, name: str) -> Step | None:
        """The step that ends the loop which goes over this one."""
        return next((step for step in self.steps if name in step.line), None)

    def before(self, name: str) -> list[str]:
        """All that a step needs, directly or through others, in the file's order."""
        found = set(self[name].needs)
        while more := {need for step in found for need in self[step].needs} - found:
            found |= more
        return [step.name for step in self.steps if step.name in found]

    def without(self, names: frozenset[str]) -> Crew:
        """The crew without some steps, and without those that name them."""
        gone = set(names)
        while more := {step.name for step in self.steps if step.names & gone} - gone:
            gone |= more
        gone |= {name for step in self.steps if step.name in gone for name in step.line}
        left = tuple(step for step in self.steps if step.name not in gone)
        return self if left == self.steps else replace(self, steps=left).without(frozenset(gone))


def random_input(rng: Random) -> Any:
    """A run's input: mostly an object of the fields that expressions name."""
    if rng.random() < 0.03:
        return rng.choice(["plain text", ["x", "y"]])
    items = [f"item {place}" if rng.random() < 0.5 else {"ok": rng.random() < 0.5, "name": f"é{place}"}
             for place in range(rng.choice([0, 1, 2, 2, 3, 4]))]  # fmt: skip
    given = {"flag": rng.random() < 0.6, "n": rng.choice([0, 3, Decimal("0.8")]), "items": items, "text": "wörds"}
    return {name: value for name, value in given.items() if rng.random() < 0.98}


def random_crew(rng: Random) -> Crew:
    """A crew of up to eight steps, some of them in loops."""
    maker = _Maker(rng)
    for _ in range(rng.choice([1, 2, 3, 4, 5, 6, 7])):
        maker.add_loop() if rng.random() < 0.3 else maker.add_step()
    steps = maker.steps
    if rng.random() < 0.15:
        rng.shuffle(steps)
    return Crew(tuple(steps), model=rng.choice(MODELS), pinned=rng.random() < 0.15)


@dataclass
class _Maker:
    rng: Random
    steps: list[Step] = field(default_factory=list)
    open: list[str] = field(default_factory=list)
    """Steps that others may need: not those within a loop, but for its last."""

    def add_step(self) -> None:
        step = self._body(self._new_name(), self._needs(), [])
        if self.rng.random() < 0.3:
            step = replace(step, when=self._condition(self._seen(step), []))
        self._add(step)
        self.open.append(step.name)

    def add_loop(self) -> None:
        """A line of one to three steps, the last of which goes back."""
        rng, needs = self.rng, self._needs()
        letter = self._new_name()
        names = [f"{letter}{place}" for place in range(1, rng.choice([1, 2, 2, 3]) + 1)]
        judged = rng.random() < 0.7
        # Those that come later are read by those before them, and so must be known as far as their form goes.
        shape = {name: Step(name, (), structured=name == names[-1] and judged) for name in names}
        self._shapes = shape
        made: list[Step] = []
        for place, name in enumerate(names):
            later = names[place:]
            step = self._body(name, needs if place == 0 else (names[place - 1],), later, last=place == len(names) - 1)
            if rng.random() < 0.3 and place in (0, len(names) - 1):
                condition = self._condition([*self._seen(step)], later)
                # Of what comes later nothing is there in the first round.
                text = f"steps.{later[-1]}.output == `null` || {condition.text}"
                step = replace(step, when=Expression(
                    text,
                    lambda sight, last=later[-1], of=condition.of: sight.output(last) is None or of(sight),
                    condition.names | {later[-1]},
                ) if rng.random() < 0.6 else condition)  # fmt: skip
            if place == len(names) - 1:
                until = self._condition([*self._seen(step), name, name], [])
                step = replace(step, line=tuple(names), until=until, rounds=rng.choice([2, 2, 3, 4]))
            made.append(step)
            self._add(step)
        self._shapes = {}
        self.open.append(names[-1])

    _shapes: dict[str, Step] = field(default_factory=dict)

    def _add(self, step: Step) -> None:
        self.steps.append(step)

    def _new_name(self) -> str:
        letters = {step.name[0] for step in self.steps}
        return next(letter for letter in "abcdefgh" if letter not in letters)

    def _needs(self) -> tuple[str, ...]:
        rng = self.rng
        if not self.open or rng.random() < 0.15:
            return ()
        if rng.random() < 0.5:
            return (self.open[-1],)
        return tuple(sorted(rng.sample(self.open, rng.randint(1, min(3, len(self.open))))))

    def _seen(self, step: Step) -> list[str]:
        """The steps before it, as the crew stands."""
        return Crew((*self.steps, step)).before(step.name)

    def _step(self, name: str) -> Step:
        return self._shapes.get(name) or next(step for step in self.steps if step.name == name)

    def _body(self, name: str, needs: tuple[str, ...], later: Sequence[str], *, last: bool = False) -> Step:
        rng = self.rng
        shape = self._shapes.get(name)
        step = Step(
            name,
            needs,
            structured=shape.structured if shape else rng.random() < 0.45,
            approval=rng.random() < 0.12,
            asks=rng.random() < 0.12,
            retries=rng.choice([None, None, 0, 1]),
            model=rng.choice([None, None, None, *MODELS]),
        )
        seen = self._seen(step)
        if rng.random() < 0.25 and not last:
            step = replace(
                step,
                each=self._list(seen, [one for one in later if one != name]),
                at_once=rng.choice([None, 1, 2]),
                may_fail=rng.choice([0, 0, 1, 2]),
            )
            if shape:  # its own output is a list then, which nothing before it in the loop reads as anything else
                self._shapes[name] = step
        if rng.random() < 0.65:
            step = replace(step, prompt=self._prompt(step, seen, later))
        return step

    def _prompt(self, step: Step, seen: Sequence[str], later: Sequence[str]) -> tuple[str | Reference, ...]:
        rng = self.rng
        parts: list[str | Reference] = [] if rng.random() < 0.15 else [f"Say {step.name}: "]
        if step.each:
            parts += [Reference("item"), " "]
            if rng.random() < 0.04:
                parts.append(Reference("item", ("name",)))
        for _ in range(rng.randint(0, 3)):
            parts += [self._reference([*seen, *later]), rng.choice([" | ", "\n", ""])]
        return tuple(parts) if "".join(part for part in parts if isinstance(part, str)) or len(parts) > 1 else ("Go.",)

    def _reference(self, names: Sequence[str]) -> Reference:
        rng = self.rng
        if not names or rng.random() < 0.25:
            return Reference("input", rng.choice([(), (), (), ("text",), ("n",), ("items",)]))
        step = self._step_or_text(rng.choice(names))
        if step.each:
            return Reference(step.name, rng.choice([(), (), (), (), (), ("0",)]))
        if step.structured and rng.random() < 0.6:
            return Reference(
                step.name, rng.choice([("ok",), ("n",), ("todo",), ("any",), ("note",)] * 3 + [("todo", "0")])
            )
        return Reference(step.name)

    def _step_or_text(self, name: str) -> Step:
        return self._shapes.get(name) or next((step for step in self.steps if step.name == name), Step(name, ()))

    def _list(self, seen: Sequence[str], later: Sequence[str]) -> Expression:
        rng = self.rng
        own = [
            Expression("input.items", lambda sight: field_of(sight.input, "items")),
            Expression("input.items[?ok]", lambda sight: filtered(field_of(sight.input, "items"))),
            Expression("input.items[:2]", lambda sight: first(field_of(sight.input, "items"), 2)),
        ]
        from_steps = []
        for name in seen:
            step = self._step_or_text(name)
            if step.each:
                from_steps.append(Expression(f"steps.{name}.output", lambda sight, n=name: sight.output(n), only(name)))
            elif step.structured:
                todo = lambda sight, n=name: field_of(sight.output(n), "todo")  # noqa: E731
                from_steps.append(Expression(f"steps.{name}.output.todo", todo, only(name)))
        for name in (*seen, *later):
            step = self._step_or_text(name)
            if step.structured and not step.each:
                from_steps.append(either(
                    Expression(f"steps.{name}.output.todo",
                               lambda sight, n=name: field_of(sight.output(n), "todo"), only(name)),
                    own[0],
                ))  # fmt: skip
        return rng.choice(from_steps) if from_steps and rng.random() < 0.6 else rng.choice(own)

    def _condition(self, names: Sequence[str], later: Sequence[str]) -> Expression:
        rng = self.rng
        drawn = rng.random()
        if drawn < 0.15:
            inner = self._condition(names, later)
            return Expression(f"!({inner.text})", lambda sight: not is_true(inner.of(sight)), inner.names)
        if drawn < 0.35:
            left, right = self._condition(names, later), self._condition(names, later)
            return either(left, right) if rng.random() < 0.5 else both(left, right)
        return self._atom([*names, *later])

    def _atom(self, names: Sequence[str]) -> Expression:
        rng = self.rng
        if not names or rng.random() < 0.2:
            return rng.choice([
                Expression("input.flag", lambda sight: field_of(sight.input, "flag")),
                Expression("input.n < `2`", lambda sight: less(field_of(sight.input, "n"), 2)),
                Expression("input.n", lambda sight: field_of(sight.input, "n")),
                Expression("input.absent", lambda sight: field_of(sight.input, "absent")),
            ])  # fmt: skip
        name = rng.choice(names)
        step, out, said = self._step_or_text(name), f"steps.{name}.output", only(name)
        if rng.random() < 0.15:
            return Expression(f"{out} == `null`", lambda sight: sight.output(name) is None, said)
        if step.each:
            return Expression(f"length({out} || `[]`) > `1`", lambda sight: len(or_empty(sight.output(name))) > 1, said)
        if not step.structured:
            letter = rng.choice("02468")
            return rng.choice([
                Expression(out, lambda sight: sight.output(name), said),
                Expression(f"ends_with({out} || 'x', '{letter}')",
                           lambda sight: ends_with(sight.output(name) or "x", letter), said),
            ])  # fmt: skip

        def of(part: str) -> Callable[[Sight], Any]:
            return lambda sight: field_of(sight.output(name), part)

        bound = rng.choice([2, Decimal("0.8")])
        forms = [
            Expression(f"{out}.ok", of("ok"), said),
            Expression(f"{out}.ok", of("ok"), said),
            Expression(f"{out}.n >= `{bound}`", lambda sight: at_least(of("n")(sight), bound), said),
            Expression(f"{out}.n == `0.8`", lambda sight: same(of("n")(sight), Decimal("0.8")), said),
            Expression(f"{out}.note == 'red'", lambda sight: of("note")(sight) == "red", said),
            Expression(f"contains({out}.todo || `[]`, 'x')", lambda sight: "x" in or_empty(of("todo")(sight)), said),
            Expression(f"{out}.any", of("any"), said),
            Expression(f"{out}.n", of("n"), said),
        ]
        if name not in self._shapes:
            forms.append(Expression(f"length({out}.any) > `1`", lambda sight: length(of("any")(sight)) > 1, said))
        return rng.choice(forms)
