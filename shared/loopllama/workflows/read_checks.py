"""What a step's template and expressions read, checked against what there can be when it takes its turn."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from loopllama.core.names import closest
from loopllama.workflows import expressions, prompt_template
from loopllama.workflows.expression_checks import Document, follow
from loopllama.workflows.static_types import ANYTHING, Described, Listed, Named, Nothing, Text, Type

if TYPE_CHECKING:
    from loopllama.workflows.agent_schema import Agent


class Reads(NamedTuple):
    """The steps that a step may read: those `before` it, and in a loop those that come `later`, which have said nothing
    in its first round."""

    before: Sequence[str]
    later: Sequence[str] = ()


def wrong_reads(agent: Agent, reads: Reads | None, by_name: Mapping[str, Agent]) -> Iterator[tuple[str, str]]:
    """Yield what is wrong with an agent's template and expressions, and, where `reads` is known, with what they read:
    the field and a sentence."""
    steps = _Steps(agent, reads, by_name)
    document = Document(steps, list(by_name), agent.for_each is not None)
    until = agent.repeat.until if agent.repeat else None
    # When the verdict is taken, the step itself has spoken.
    agent_name = str(agent.name)
    after = reads and Reads([*reads.before, agent_name], [name for name in reads.later if name != agent_name])
    steps_said = _Steps(agent, after, by_name)
    types: dict[str, Type] = {}
    for field, text, read in (
        ("when", agent.when, document),
        ("forEach", agent.for_each, document),
        ("repeat.until", until, Document(steps_said, list(by_name), False)),
    ):
        if text is None:
            continue
        try:
            types[field], wrong = follow(expressions.parse(text), read)
        except ValueError as error:
            wrong = [str(error)]
        for message in wrong:
            yield field, message
    item = None if agent.for_each is None else ANYTHING
    if agent.for_each is not None:
        given = types.get("forEach", ANYTHING)
        try:
            item = given.element()
            if given.later and agent.when is None:
                raise Nothing(f"'{agent.for_each}' is null in the loop's first round; name another for that with ||")
        except Nothing as nothing:
            yield "forEach", f"takes a list, but {nothing}"
    if agent.prompt is None:
        return
    try:
        references = list(dict.fromkeys(prompt_template.parse(agent.prompt).references))
    except ValueError as error:
        yield "prompt", str(error)
        return
    for reference in references:
        try:
            _lead(reference, steps, item)
        except Nothing as nothing:
            yield "prompt", f"{{{{ {reference.name} }}}}: {nothing}"


def _lead(reference: prompt_template.Reference, steps: Type, item: Type | None) -> None:
    """Raise `Nothing` where a template's reference leads nowhere."""
    if reference.root == "item" and item is None:
        raise Nothing("is for steps with forEach")
    type_ = (item if reference.root == "item" else None) or ANYTHING
    if reference.step is not None:
        type_ = steps.field(reference.step).field("output")
    for segment in reference.path:
        type_ = type_.part(segment)


class _Steps(Named):
    """`steps` as `agent` reads it: the outputs of the steps that it `reads`, of any where they are not known."""

    named = "steps"

    def __init__(self, agent: Agent, reads: Reads | None, by_name: Mapping[str, Agent]) -> None:
        self._agent, self._reads, self._by_name = agent, reads, by_name

    def field(self, name: str) -> Type:
        if self._reads is None:
            return ANYTHING
        if message := _step(name, self._agent, [*self._reads.before, *self._reads.later], self._by_name):
            raise Nothing(message)
        return _Record(self._by_name[name], name in self._reads.later)


class _Record(Named):
    """`steps.NAME`."""

    def __init__(self, agent: Agent, later: bool) -> None:
        self._agent, self._later = agent, later
        self.named = f"steps.{agent.name}"

    def field(self, name: str) -> Type:
        step, schema = str(self._agent.name), self._agent.output_schema
        if name != "output":
            raise Nothing(f"steps.{step} has only its output; write steps.{step}.output")
        output = Text(step, self._later) if schema is None else Described(step, schema, later=self._later)
        return output if self._agent.for_each is None else Listed(f"steps.{step}.output", output, self._later)


def _step(step: str, agent: Agent, before: Sequence[str], by_name: Mapping[str, Agent]) -> str | None:
    """Return what is wrong with an agent's reading the output of `step`."""
    if step not in by_name:
        return f"there is no step '{step[:60]}'{closest(step, before)}"
    if step in before:
        return None
    if step == agent.name:
        return "a step cannot read its own output"
    return f"{step} is not finished when {agent.name} starts; add it to needs"
