"""What happened in a run and when, drawn in the terminal on one scale: model calls, tool calls, waits, nothing.

A time in which the run did nothing but wait for people is drawn short: beside the days that an answer may take, the
seconds of the models could not be seen.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import groupby
from typing import TYPE_CHECKING

from rich.text import Text

from loopllama.runs.waits import Stretch
from loopllama_cli.console import output
from loopllama_cli.console.folding import items_of, latencies
from loopllama_cli.console.moments import at_work, idle, offset, stretch_of
from loopllama_cli.console.places import label

if TYPE_CHECKING:
    from loopllama.queries.types import StepView
    from loopllama_cli.console.folding import Folded

_MODEL, _TOOL, _FAILED, _PERSON, _WAIT, _NOTHING, _CUT = "━", "▪", "×", "◌", "╌", "·", "⋯"  # noqa: RUF001
_MEANINGS = {
    _MODEL: "model",
    _TOOL: "tool",
    _FAILED: "failed",
    _PERSON: "waits for a person",
    _WAIT: "waits to be tried again, or for its place",
    _NOTHING: "none of these",
    _CUT: "cut short",
}
_WAITS = {"person": (_PERSON, "yellow"), "retry": (_WAIT, "yellow"), "place": (_WAIT, "yellow")}
_LEAST_CUT, _CUT_TO = 0.2, 0.1
"""A wait of more than so much of the run's work is drawn as so much of it."""


@dataclass(frozen=True, slots=True)
class _Span:
    """A stretch of the timeline: from and to in ms since the run's start, and how it is drawn."""

    start: float
    end: float
    character: str
    style: str


def timeline(
    all_steps: Sequence[StepView | Folded], width: int, colours: Mapping[str, str], until: datetime
) -> list[Text]:
    """Return a line for each step that has begun: what it did when, on one scale; then what the signs mean. `until`
    is how far an unfinished step is drawn."""
    steps = [step for step in all_steps if output.moment(step.get("started_at"))]
    begin = min((moment for step in at_work(steps) if (moment := output.moment(step["started_at"]))), default=None)
    if begin is None:
        return []
    # What failed stands over the rest, however short it was.
    lines = [sorted(_spans(step, begin, colours, until), key=lambda span: span.character == _FAILED) for step in steps]
    end = max((span.end for spans in lines for span in spans), default=0.0)
    if end <= 0:
        return []
    scale = _Scale(end, idle(steps, begin, until))
    names = min(24, max(len(label(step)) for step in steps))
    times = max(9, max(len(_took(step)) for step in steps))
    room = max(10, width - names - 2 - times - 2)
    drawn = [Text(" " * (names + 2)).append_text(scale.axis(room))]
    for step, spans in zip(steps, lines, strict=True):
        row = Text(f"{label(step)[:names]:<{names}}  ")
        row.append_text(_draw(spans, scale, room))
        row.append(f" {_took(step):>{times}}", "dim")
        drawn.append(row)
    seen = {span.character for spans in lines for span in spans} | ({_CUT} if scale.cuts else set())
    meanings = [f"{sign} {meaning}" for sign, meaning in _MEANINGS.items() if sign in seen]
    return [*drawn, Text("   ".join(meanings), "dim")]


def _took(step: StepView | Folded) -> str:
    if step.get("replayed_from"):
        return "kept"
    if step.get("status") == "skipped":
        return "skipped"
    if (spread := latencies(items_of(step))) is not None:
        return output.spread(*spread)
    return output.duration(step.get("latency_ms"))


def _spans(step: StepView | Folded, begin: datetime, colours: Mapping[str, str], until: datetime) -> Iterator[_Span]:
    """Yield what a step did, what is drawn over the rest last."""
    if not list(at_work([step])):
        return
    now = (until - begin) / timedelta(milliseconds=1)
    yield _Span(*stretch_of(step, begin, now), _NOTHING, "dim")
    for wait in step.get("waits") or []:
        ends = offset(wait.get("until"), begin)
        yield _Span(offset(wait["since"], begin) or 0.0, now if ends is None else ends, *_WAITS[wait["reason"]])
    for call in step.get("tool_calls") or []:
        if (start := offset(call.get("started_at"), begin)) is not None and call.get("latency_ms") is not None:
            failed = call.get("outcome") == "failed"
            sign = (_FAILED, "red") if failed else (_TOOL, "white")
            yield _Span(start, start + float(call["latency_ms"] or 0), *sign)
    for attempt in step.get("attempts") or []:
        if (start := offset(attempt.get("started_at"), begin)) is None:
            continue
        is_open = attempt.get("outcome") == "open"
        end = now if is_open else start + float(attempt.get("latency_ms") or 0)
        good = is_open or attempt.get("outcome") == "ok"
        yield _Span(
            start, end, *((_MODEL, colours.get(str(attempt.get("model")), "white")) if good else (_FAILED, "red"))
        )


class _Scale:
    """Where on the timeline, from 0 to 1, a time stands: long waits of the whole run take little of it."""

    def __init__(self, end: float, idle: Sequence[Stretch]) -> None:
        work = max(1.0, end - sum(last - first for first, last in idle))
        self._end = end
        self._kept = work * _CUT_TO
        self.cuts = [stretch for stretch in idle if stretch[1] - stretch[0] > work * _LEAST_CUT]
        self._length = self._drawn(end) or 1.0

    def _drawn(self, at: float) -> float:
        cut = 0.0
        for first, last in self.cuts:
            if at > first:
                share = min(1.0, (at - first) / (last - first))
                cut += share * (last - first - self._kept)
        return at - cut

    def at(self, milliseconds: float) -> float:
        """Return where a time since the run's start stands."""
        return self._drawn(milliseconds) / self._length

    def axis(self, room: int) -> Text:
        """Return four or five round times, over so many columns, and where time is cut short. They count without what
        is cut."""
        whole = self._end - sum(last - first for first, last in self.cuts)
        steps = (unit * 10**power for power in range(12) for unit in (1, 2, 5))
        step = next(step for step in steps if whole / step <= 5)
        cells = [" "] * room
        tick = 0
        while tick <= whole:
            at = int(self.at(self._back(tick)) * room)
            text = "0" if tick == 0 else _tick_text(tick)
            if at + len(text) + 1 <= room and not "".join(cells[max(0, at - 1) : at + len(text) + 1]).strip():
                cells[at : at + len(text) + 1] = list("╷" + text)
            tick += step
        for first, last in self.cuts:
            cells[min(room - 1, int(self.at((first + last) / 2) * room))] = _CUT
        return Text("".join(cells), "dim")

    def _back(self, tick: float) -> float:
        """Return the time since the run's start at which so much of it had gone without what is cut."""
        for first, last in self.cuts:
            if tick > first:
                tick += last - first
        return tick


def _draw(spans: Sequence[_Span], scale: _Scale, room: int) -> Text:
    cells: list[tuple[str, str]] = [(" ", "")] * room
    for span in spans:
        first = min(room - 1, max(0, int(scale.at(span.start) * room)))
        last = min(room, max(first + 1, round(scale.at(span.end) * room)))
        cells[first:last] = [(span.character, span.style)] * (last - first)
    stretches = groupby(cells, key=lambda cell: cell[1])
    return Text.assemble(*(("".join(character for character, _ in stretch), style) for style, stretch in stretches))


def _tick_text(milliseconds: int) -> str:
    return f"{milliseconds} ms" if milliseconds < 1000 else f"{milliseconds / 1000:g} s"
