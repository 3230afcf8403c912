"""What one invocation of RunStep sees of its run: the records that its step reads, and the values behind them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from loopllama.engine import loops
from loopllama.errors import InvalidRequest, RunNotFound
from loopllama.runs.step_ref import Work, iteration_of, step_key
from loopllama.runs.store import RunStore
from loopllama.runs.value_store import ValueStore
from loopllama.workflows import expressions, graph, prompt_template, reads

if TYPE_CHECKING:
    from loopllama.runs.records import RouteRecord, Run, StepRecord
    from loopllama.workflows.types import CrewStep

FINISHED: Final = ("completed", "skipped")


def is_finished(record: StepRecord) -> bool:
    """Return whether what a step's record says lets the steps that need it start."""
    return record.get("status") in FINISHED and not record.get("repeat_pending")


@dataclass(frozen=True, slots=True)
class Earlier:
    """An earlier step as this agent sees it."""

    name: str
    role: str
    output: Any


@dataclass
class View:
    """One step of one run. `records` holds the step's own record and those of the earlier steps that it `reads`, by
    step name, each of the iteration that counts now; `loop` names the steps that repeat with it, and `before` holds
    their records of the iteration before, none in the first."""

    work: Work
    crew: Sequence[CrewStep]
    order: int
    step: CrewStep
    reads: Sequence[str]
    run: Run
    records: dict[str, StepRecord]
    loop: Sequence[str]
    before: dict[str, StepRecord]
    values: ValueStore
    pinned: RouteRecord | None = None
    """The route that the step keeps, where the run is pinned."""
    _loaded: dict[str, Any] = field(default_factory=dict)

    @property
    def record(self) -> StepRecord:
        """The step's own record; empty before its first write."""
        return self.records.get(self.work.step, {})

    @property
    def run_input(self) -> Any:
        """The run's input."""
        return self._load("input", self.run.get("input"))

    def output(self, name: str) -> Any:
        """Return a step's output; of a step that repeats and has not run in this iteration yet, what it said in the
        last, and `None` in the first."""
        return self._load(f"steps.{name}", self._counting(name).get("output"))

    def _counting(self, name: str) -> StepRecord:
        record = self.records.get(name)
        if record is None or not (is_finished(record) or name in self.reads):
            record = self.before.get(name, {})
        return record

    def document(self) -> dict[str, Any]:
        """Return what the crew's expressions are computed over."""
        names = dict.fromkeys((*self.reads, *self.loop))
        return {"input": self.run_input, "steps": {name: {"output": self.output(name)} for name in names}}

    def item(self) -> Any:
        """Return the item of the list that this turn of a forEach step is for."""
        return self.items()[self.work.item - 1]

    def items(self) -> list[Any]:
        """Return the list that a forEach step takes one turn for each item of. Raises `InvalidRequest`."""
        if "items" not in self._loaded:
            self._loaded["items"] = expressions.parse(self.step["for_each"]).of(self.document())
        items: list[Any] = self._loaded["items"]
        return items

    def prompt(self) -> str:
        """Return the agent's prompt. Raises `InvalidRequest`."""
        roles = {agent["name"]: agent["role"] for agent in self.crew}
        shown = [name for name in self.reads if loops.has_spoken(self.records.get(name, {}))]
        earlier = [Earlier(name, roles[name], self.output(name)) for name in shown]
        # A skipped step and one that comes later in a loop have no output (yet): templates see null.
        others = {name: self.output(name) for name in (*self.reads, *self.loop) if name not in shown}
        again = [
            Earlier(name, f"{roles[name]}, last time", self._load(f"before.{name}", self.before[name]["output"]))
            for name in dict.fromkeys((self.work.step, *self.before))
            if name in self.before and name not in shown and self.before[name].get("output") is not None
        ]
        item = (self.item(),) if self.work.item else ()
        return prompt_of(self.step, self.run_input, earlier, others=others, again=again, item=item)

    def texts(self) -> dict[str, str]:
        """Return the texts that the prompt was made from, by the run's items that hold them."""
        texts: dict[str, str] = {}
        for name, value in self._loaded.items():
            root, _, step = name.partition(".")
            before = self.before.get(step) if root == "before" else None
            holder = self.run if root == "input" else before or self._counting(step)
            if isinstance(value, str) and "item" in holder:
                texts[str(holder["item"])] = value
        return texts

    def _load(self, name: str, stored: Any) -> Any:
        if name not in self._loaded:
            self._loaded[name] = self.values.load(stored)
        return self._loaded[name]


def prompt_of(
    step: CrewStep,
    run_input: Any,
    earlier: Sequence[Earlier],
    *,
    others: Mapping[str, Any] | None = None,
    again: Sequence[Earlier] = (),
    item: Sequence[Any] = (),
) -> str:
    """Return what the agent is given: its `prompt` template, or else the run's input and the earlier outputs, each
    under its role, oldest first, so that steps of a run share the longest prefix a provider can cache.

    `others` are further outputs that a template may name; `again` what was said in a loop's iteration before; `item`
    holds the item of a forEach step's turn. Raises `InvalidRequest` where a template names a field that is not there.
    """
    if step.get("prompt"):
        outputs = {**(others or {}), **{turn.name: turn.output for turn in earlier}}
        template = prompt_template.parse(step["prompt"])
        text = template.render(run_input, outputs, *item)
        if not text.strip():
            # Providers refuse an empty message with an error of their own, or answer it with anything.
            names = ", ".join(f"{{{{ {reference.name} }}}}" for reference in template.references) or "its text"
            raise InvalidRequest(
                f"the prompt is empty, because {names} came to nothing: add text that stands by itself, or a `when` "
                "that skips the step"
            )
        return text
    parts = [f"# Input\n\n{prompt_template.text_of(run_input)}"]
    parts += [f"# {turn.role} ({turn.name})\n\n{prompt_template.text_of(turn.output)}" for turn in (*earlier, *again)]
    parts += [f"# Item\n\n{prompt_template.text_of(element)}" for element in item]
    return "\n\n".join(parts)


def reads_of(crew: Sequence[CrewStep], step: CrewStep) -> list[str]:
    """Return the earlier steps that a step's turn reads, in the crew's order: all that it may, unless it says by a
    template and expressions which ones. Its needs are among them, because they say whether it is skipped. A record
    costs a read unit or more, so a long crew whose prompts name what they use reads no more at its end than at its
    beginning."""
    may = graph.ancestors(crew, step["name"])
    named = reads.named_by(step)
    if named is None:
        return may
    named.update(step["needs"])
    return [name for name in may if name in named]


def look(store: RunStore, values: ValueStore, crew: Sequence[CrewStep], work: Work) -> View:
    """Read what `work` needs. One BatchGetItem; with loops in the crew the run's item before it, because it says which
    iteration counts."""
    order, step = graph.step_named(crew, work.step)
    reads = reads_of(crew, step)
    run = store.run(work.run_id) if any(agent.get("repeat") for agent in crew) else None
    keys = {name: step_key(name, iteration_of(run, crew, name) if run else 0) for name in reads}
    keys[work.step] = work.key
    repeating = graph.loop_of(crew, work.step)
    loop = graph.stretch(crew, repeating) if repeating else []
    last = {name: step_key(name, work.iteration - 1) for name in loop} if work.iteration else {}
    wanted = [*keys.values(), *last.values()]
    if run is None:
        run, items = store.run_with(work.run_id, wanted)
    else:
        items = store.items(work.run_id, wanted)
    if run is None:
        raise RunNotFound(f"there is no run {work.run_id!r}")
    pins = store.pins(work.run_id) if run.get("pinned") else {}
    prompts = run.get("system_prompts") or {}
    if work.step in prompts:  # a replay tries another one
        step = {**step, "system_prompt": prompts[work.step]}
    return View(
        work=work,
        crew=crew,
        order=order,
        step=step,
        reads=reads,
        run=run,
        loop=loop,
        records={name: items[key] for name, key in keys.items() if key in items},
        before={name: items[key] for name, key in last.items() if key in items},
        values=values,
        pinned=pins.get(work.step),
    )
