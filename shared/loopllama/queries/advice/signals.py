"""How routine a step looks: named signals over its definition and its recorded turns. Pure.

None of them says that a cheaper model is as good; together they say where it is worth finding out. Each that speaks
against halves the `weight` by which savings are ordered. The weight is an order and no probability.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from statistics import median
from typing import TYPE_CHECKING, Any

from loopllama.core.names import plural
from loopllama.llm import usage

if TYPE_CHECKING:
    from loopllama.queries.advice.types import Signal, SignalName
    from loopllama.queries.types import AttemptView, StepView
    from loopllama.workflows.types import CrewStep

FEW_FIELDS = 8
SHORT_OUTPUT = 150
"""Tokens: about 100 words."""
SELDOM = 0.01
"""The share of turns up to which a repair or a retry is no sign of anything."""
ENOUGH_REPEATS = 5
"""Turns with an input that was seen before, from which on they say whether the output is stable."""
_MAX_NODES = 10_000


def answers(record: StepView) -> list[AttemptView]:
    """Return the model calls of a turn that gave an answer."""
    return [call for call in record["attempts"] if call["outcome"] == "ok"]


def repairs(step: CrewStep, record: StepView) -> int:
    """Return how often the model was asked again in a turn because its answer did not follow the schema; at least so
    often, where it called tools: several calls of one answer are counted as one each."""
    if not step.get("output_schema"):
        return 0
    return max(0, len(answers(record)) - 1 - len(record["tool_calls"]))


def signals(step: CrewStep, records: Sequence[StepView], tools: Mapping[str, bool | None]) -> list[Signal]:
    """Return the signals of a step. `records` are its turns that made calls; `tools` says of each tool by name whether
    it only reads, `None` where that is not known."""
    turns = len(records)
    lengths = [usage.of_shown(call).output_tokens for record in records for call in answers(record)]
    repaired = sum(1 for record in records if repairs(step, record))
    failed = sum(1 for record in records if any(call["outcome"] not in ("ok", "open") for call in record["attempts"]))
    usual = median(lengths) if lengths else 0
    return [
        *_of_schema(step.get("output_schema")),
        _signal("short_output", usual <= SHORT_OUTPUT if lengths else None, f"{usual:.0f} tokens of output"),
        _signal("no_repairs", repaired <= SELDOM * turns if turns else None, f"{repaired} of {turns} turns repaired"),
        _signal("no_retries", failed <= SELDOM * turns if turns else None, f"{failed} of {turns} turns with a retry"),
        _stable(records),
        _tools(step.get("tools") or (), tools),
    ]


def weight(found: Sequence[Signal], *, without: SignalName | None = None) -> Decimal:
    """Return what the step's savings are multiplied by for their order; `without` leaves a signal out."""
    against = sum(1 for signal in found if signal["holds"] is False and signal["name"] != without)
    return Decimal("0.5") ** Decimal(against)


def words(found: Sequence[Signal], holds: bool) -> list[str]:
    """Return what the signals say that hold, or that speak against."""
    return [signal["says"] for signal in found if signal["holds"] is holds]


def _signal(name: SignalName, holds: bool | None, says: str) -> Signal:
    return {"name": name, "holds": holds, "says": says}


def _of_schema(schema: Mapping[str, Any] | None) -> Iterator[Signal]:
    if not schema:
        # Of a text nobody can say that it has few fields, nor that their values are fixed: it counts twice.
        yield _signal("few_fields", False, "free text")
        yield _signal("enumerations", False, "no fields with fixed values")
        return
    leaves = list(_leaves(schema))
    closed = sum(map(_is_closed, leaves))
    yield _signal("few_fields", len(leaves) <= FEW_FIELDS, plural(len(leaves), "field"))
    yield _signal("enumerations", 2 * closed >= len(leaves), f"{closed} of {len(leaves)} fields with fixed values")


def _leaves(schema: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Yield the parts of a schema that have no parts: its fields."""
    pending, seen = [schema], 0
    while pending and seen < _MAX_NODES:
        node, seen = pending.pop(), seen + 1
        parts: list[Any] = []
        if isinstance(node.get("properties"), Mapping):
            parts += node["properties"].values()
        if isinstance(node.get("items"), Mapping):
            parts.append(node["items"])
        for key in ("anyOf", "oneOf", "allOf"):
            if isinstance(node.get(key), list):
                parts += node[key]
        inner = [part for part in parts if isinstance(part, Mapping)]
        if inner:
            pending += inner
        else:
            yield node


def _is_closed(leaf: Mapping[str, Any]) -> bool:
    type_ = leaf.get("type")
    kinds = {*type_} if isinstance(type_, list) else {type_}
    return "enum" in leaf or "const" in leaf or kinds <= {"boolean", "null"}


def _stable(records: Sequence[StepView]) -> Signal:
    """Whether the same model gave the same output wherever its input was the same."""
    outputs: dict[tuple[str, str], list[str]] = defaultdict(list)
    for record in records:
        if record["status"] == "completed" and record["input"] and record["output"] and record["model"]:
            outputs[record["model"], record["input"]].append(record["output"])
    repeated = sum(len(given) - 1 for given in outputs.values())
    same = sum(len(given) - len(set(given)) for given in outputs.values())
    if repeated < ENOUGH_REPEATS:
        return _signal("stable_output", None, f"inputs that came again: {repeated}")
    return _signal("stable_output", same == repeated, f"{same} of {repeated} equal inputs with the same output")


def _tools(names: Sequence[str], tools: Mapping[str, bool | None]) -> Signal:
    if not names:
        return _signal("harmless_tools", True, "no tools")
    writing = [name for name in names if tools.get(name) is False]
    unknown = [name for name in names if tools.get(name) is None]
    if writing:
        return _signal("harmless_tools", False, f"tools that act: {', '.join(writing)}")
    if unknown:
        return _signal("harmless_tools", None, f"not known whether {', '.join(unknown)} only reads")
    return _signal("harmless_tools", True, "tools that only read")
