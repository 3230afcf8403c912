"""What must hold between the agents of a crew: their names, needs, templates, schemas and policies.

Every check yields `{"field", "message"}`; together they find what is wrong, not just the first of it: up to
`MAX_PROBLEMS`, so that a small file full of mistakes makes neither a long answer nor long work.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from itertools import chain, islice, pairwise
from typing import TYPE_CHECKING, Any

from loopllama.core import json_schema, schema_drafts
from loopllama.core.names import closest
from loopllama.errors import InvalidRequest
from loopllama.policies.registry import FIXED, POLICIES
from loopllama.workflows import expressions, graph
from loopllama.workflows.read_checks import Reads, wrong_reads

if TYPE_CHECKING:
    from loopllama.workflows.agent_schema import Agent
    from loopllama.workflows.types import Back, Node

MAX_SCHEMA_DEPTH = 24
"""DynamoDB nests 32 levels; the definition around an `outputSchema` takes four."""

MAX_PROBLEMS = 50
"""So many problems are told at most."""

Problem = dict[str, object]


def check(crew: Sequence[Agent]) -> list[Problem]:
    """Return the first `MAX_PROBLEMS` problems of a crew whose names and needs are written out."""
    with schema_drafts.bounded("checking the crew's schemas"):
        return list(islice(_problems(crew), MAX_PROBLEMS))


def _problems(crew: Sequence[Agent]) -> Iterator[Problem]:
    of_graph = list(islice(chain(_names(crew), _needs(crew)), MAX_PROBLEMS))
    yield from of_graph
    for position, agent in enumerate(crew):
        yield from _schema(position, agent)
        yield from _policy(position, agent)
    for position, agent in enumerate(crew):
        yield from _companions(position, agent)
    by_name = {str(agent.name): agent for agent in crew}
    steps: list[Node] = [
        {"name": str(agent.name), "needs": agent.needs or [], "repeat": _back(agent)} for agent in crew
    ]
    loops = [] if of_graph else list(islice(_loops(crew, steps), MAX_PROBLEMS))
    yield from loops
    for position, agent in enumerate(crew):
        reads: Reads | None = None
        line: list[str] = []
        if not of_graph:
            before = graph.ancestors(steps, str(agent.name))
            if not loops and (loop := graph.loop_of(steps, str(agent.name))):
                # In a loop a step may read what any step of it said the last time round.
                line = graph.stretch(steps, loop)
            reads = Reads(before, [name for name in line if name not in before])
        found = [_problem(position, *wrong) for wrong in islice(wrong_reads(agent, reads, by_name), MAX_PROBLEMS)]
        if line and reads and agent.when and not any(problem["field"] == f"crew.{position}.when" for problem in found):
            found += _skips(position, agent, line, reads.later)
        yield from found


def _skips(position: int, agent: Agent, line: Sequence[str], later: Sequence[str]) -> Iterator[Problem]:
    """Within a loop a condition would take the step that decides with it; on its first and its last step, one that no
    first round can meet lets it never begin, or never be judged."""
    expression = expressions.parse(str(agent.when))
    if agent.name in line[1:-1]:
        message = (
            f"stands within the loop from {line[0]} to {line[-1]}: where {agent.name} is skipped, so is {line[-1]}, "
            f"and the loop ends without its verdict; put it on {line[0]}, which skips the loop, or let the "
            "prompt say when there is nothing to do"
        )
        yield _problem(position, "when", message)
    elif expression.steps and expression.steps <= set(later) and not _may_hold(expression):
        *others, last = sorted(expression.steps)
        names = f"{', '.join(others)} and {last} have" if others else f"{last} has"
        message = (
            f"is false in the loop's first round, in which {names} said nothing yet, so that {agent.name} is always "
            f"skipped; let it be true then: steps.{last}.output == `null` || …"
        )
        yield _problem(position, "when", message)


def _may_hold(expression: expressions.Expression) -> bool:
    """Return whether a condition may hold where no step that it reads has said anything."""
    if expression.whole or expression.reads_input:
        return True
    try:
        return expression.holds({"input": None, "steps": {name: {"output": None} for name in expression.steps}})
    except InvalidRequest:
        return True  # what it is given may be of another type by then


def _companions(position: int, agent: Agent) -> Iterator[Problem]:
    """Fields that make sense only beside another."""
    if agent.for_each is None:
        for field, value in (("maxConcurrency", agent.max_concurrency), ("maxFailures", agent.max_failures)):
            if value is not None:
                yield _problem(position, field, "is for steps with forEach")
    elif agent.repeat is not None:
        yield _problem(position, "repeat", "cannot stand on a step with forEach; let the step after it send back")
    if agent.approval is not None:
        if not agent.approval.start and not agent.approval.tools:
            yield _problem(position, "approval", "says nothing to approve: give start: true, or tools")
        for tool in agent.approval.tools or ():
            if tool not in (agent.tools or ()):
                yield _problem(
                    position, "approval.tools", f"the agent has no tool '{tool}'{closest(tool, agent.tools or ())}"
                )


def _back(agent: Agent) -> Back | None:
    return {"back_to": agent.repeat.back_to} if agent.repeat else None


def _loops(crew: Sequence[Agent], steps: Sequence[Node]) -> Iterator[Problem]:
    """Yield a loop goes over a line of steps that nothing else enters or leaves in the middle."""
    taken: dict[str, str] = {}
    for position, agent in enumerate(crew):
        if agent.repeat is None:
            continue
        field, back_to = "repeat.backTo", agent.repeat.back_to
        before = [*graph.ancestors(steps, str(agent.name)), str(agent.name)]
        if back_to not in before:
            yield _problem(
                position, field, f"'{back_to}' is no step that {agent.name} follows{closest(back_to, before)}"
            )
            continue
        try:
            line = graph.stretch(steps, steps[position])
        except ValueError as error:
            yield _problem(position, field, f"the steps from {back_to} to {agent.name} must be a line, but {error}")
            continue
        for name in line:
            if name in taken:
                yield _problem(position, field, f"goes over {name}, which {taken[name]} repeats already")
            taken[name] = str(agent.name)
        for name, following in pairwise(line):
            others = [step["name"] for step in graph.dependents(steps, name) if step["name"] != following]
            if others:
                message = f"goes over {name}, which {others[0]} needs as well; let {others[0]} need {agent.name}"
                yield _problem(position, field, message)


def find_cycle(needs: Mapping[str, Sequence[str]]) -> list[str] | None:
    """Return steps that wait for each other in a circle, the first one repeated at the end, in the order in which they
    would run; `None` where there is none. Every need is a key of `needs`."""
    done: set[str] = set()
    for start in needs:
        path: list[str] = []  # the steps being looked into, each needing the one after it
        pending = [start]
        while pending:
            step = pending[-1]
            if step in done:
                pending.pop()
            elif path and path[-1] == step:
                done.add(path.pop())
            else:
                path.append(step)
                for need in needs[step]:
                    if need in path:
                        return [need, *reversed(path[path.index(need) :])]
                    pending.append(need)
    return None


def _problem(position: int, field: str, message: str) -> Problem:
    return {"field": f"crew.{position}.{field}", "message": message}


def _names(crew: Sequence[Agent]) -> Iterator[Problem]:
    first: dict[str, int] = {}
    for position, agent in enumerate(crew):
        name = str(agent.name)
        if name in first:
            yield _problem(position, "name", f"'{name}' is already the name of crew.{first[name]}; choose another")
        first.setdefault(name, position)


def _needs(crew: Sequence[Agent]) -> Iterator[Problem]:
    names = {str(agent.name) for agent in crew}
    sound = True
    for position, agent in enumerate(crew):
        for index, need in enumerate(agent.needs or ()):
            if need not in names:
                sound = False
                others = [str(other.name) for other in crew if other is not agent]
                message = f"there is no step '{need[:60]}'{closest(need, others)}"
                yield _problem(position, f"needs.{index}", message)
    if sound and len(names) == len(crew):
        needs = {str(agent.name): agent.needs or [] for agent in crew}
        if cycle := find_cycle(needs):
            position = [agent.name for agent in crew].index(cycle[0])
            message = f"the steps wait for each other: {' → '.join(cycle)}; take one of these needs away"
            yield _problem(position, "needs", message)


def _schema(position: int, agent: Agent) -> Iterator[Problem]:
    if agent.output_schema is None:
        return
    if problem := next(_unstorable(agent.output_schema, "outputSchema", 1), None):
        yield _problem(position, *problem)
        return
    try:
        json_schema.check(agent.output_schema)
    except InvalidRequest as error:
        yield _problem(position, "outputSchema", str(error))


def _unstorable(value: Any, path: str, depth: int) -> Iterator[tuple[str, str]]:
    """Places in a schema that are no JSON, or that DynamoDB refuses, each with what would be right."""
    if depth > MAX_SCHEMA_DEPTH:
        yield path, f"is nested deeper than {MAX_SCHEMA_DEPTH} levels"
    elif isinstance(value, Mapping):
        for key, item in value.items():
            if isinstance(key, str) and key:
                yield from _unstorable(key, path, depth)
                yield from _unstorable(item, f"{path}.{key[:60]}", depth + 1)
            else:
                yield path, "has a key that is empty or no text; put numbers, true and false in quotes"
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _unstorable(item, f"{path}.{index}", depth + 1)
    elif isinstance(value, str):
        if any("\ud800" <= character <= "\udfff" for character in value):
            yield path, "is no valid text: it holds half of a surrogate pair"
    elif isinstance(value, int | float) and not isinstance(value, bool):
        if value != 0 and not 1e-100 < abs(value) < 1e38:
            yield path, "is a number that cannot be stored; take one between 1E-100 and 1E+38"
    elif isinstance(value, Decimal):
        yield path, "is a number with more digits than are kept; take at most 15"
    elif not isinstance(value, bool) and value is not None:
        yield path, f"is no JSON but a {type(value).__name__}; put it in quotes"


def _policy(position: int, agent: Agent) -> Iterator[Problem]:
    policy, candidates = POLICIES[agent.policy or FIXED.name], agent.candidates
    if not policy.chooses:
        if candidates is not None:
            *others, last = [other_policy.name for other_policy in POLICIES.values() if other_policy.chooses]
            policies = f"policies {', '.join(others)} and {last}" if others else f"policy {last}"
            message = f"are for the {policies}; name a policy, or use model and fallbacks"
            yield _problem(position, "candidates", message)
        elif agent.fallbacks and agent.model is None:
            message = "stand behind the agent's own model; name it, or leave them out"
            yield _problem(position, "fallbacks", message)
        return
    if candidates is None:
        yield _problem(position, "candidates", f"is missing: policy {policy.name} chooses among them")
        return
    weights = [candidate.weight for candidate in candidates]
    if not policy.takes_weights:
        if any(weight is not None for weight in weights):
            yield _problem(position, "candidates", f"policy {policy.name} takes names of models, without weights")
    elif any(weight is None for weight in weights):
        yield _problem(position, "candidates", f"policy {policy.name} takes {{model, weight}} for each")
    elif not any(weights):
        yield _problem(position, "candidates", "at least one weight must be more than 0")
