"""The prompt that an agent received, as its step's record holds it: to the character, whatever becomes of the workflow.

Most of a prompt is the run's input and what earlier steps answered, which the run's record holds already. Such a text
is not written again, item by item, with each write of the step, but named:

    {"$parts": ["# Input\\n\\n", {"$of": "RUN"}, "\\n\\n# planner …", {"$of": "STEP#planner#0#0"}], "bytes": n}

`$of` is an item of the same run: its `input` where it is the run's, else its `output`, neither of which changes any
more. A prompt without such texts is a value like any other (`runs/value_store.py`), as is one whose own words are many.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from loopllama.runs.store import RUN
from loopllama.runs.value_store import INLINE_BYTES, PARTS, ValueStore

if TYPE_CHECKING:
    from loopllama.runs.records import Run, StepRecord

LEAST = 100
"""Characters from which on a text is worth naming."""
_NAME_BYTES = 50
"""About what a named text takes in the record."""
_OF = "$of"


def keep(values: ValueStore, run_id: str, name: str, text: str, held: Mapping[str, str]) -> Any:
    """Return what the record holds of the prompt `text`; `held` are the texts that the run's items hold, by item.
    Raises `InvalidRequest` for one that is longer than any value may be."""
    parts = _parts(text, held)
    size = sum(_bytes(part) if isinstance(part, str) else _NAME_BYTES for part in parts)
    if size > INLINE_BYTES or all(isinstance(part, str) for part in parts):
        return values.store(run_id, name, text)
    return {PARTS: parts, "bytes": _bytes(text)}


def items_of(kept: Any) -> Iterator[str]:
    """Yield the items that what `keep` returned names."""
    if isinstance(kept, Mapping) and PARTS in kept:
        yield from (part[_OF] for part in kept[PARTS] if not isinstance(part, str))


def whole(kept: Any, items: Mapping[str, Run | StepRecord]) -> Any:
    """Return what `keep` returned as a value that `ValueStore.load` reads: with the values of `items`, by key, in the
    place of names. `None` where one of them is gone."""
    if not isinstance(kept, Mapping) or PARTS not in kept:
        return kept
    parts = [part if isinstance(part, str) else _value(items.get(part[_OF]) or {}, part[_OF]) for part in kept[PARTS]]
    return None if None in parts else {**kept, PARTS: parts}


def _value(item: Run | StepRecord, key: str) -> Any:
    return item.get("input" if key == RUN else "output")


def _parts(text: str, held: Mapping[str, str]) -> list[str | dict[str, str]]:
    """Return the text cut at the texts that are held: the longest first, for one may quote another."""
    parts: list[str | dict[str, str]] = [text]
    for item, quoted in sorted(held.items(), key=lambda entry: -len(entry[1])):
        if len(quoted) < LEAST:
            break
        cut: list[str | dict[str, str]] = []
        for part in parts:
            if isinstance(part, str):
                for place, piece in enumerate(part.split(quoted)):
                    cut += [{_OF: item}, piece] if place else [piece]
            else:
                cut.append(part)
        parts = cut
    return [part for part in parts if part]


def _bytes(text: str) -> int:
    return len(text.encode("utf-8", "surrogatepass"))
