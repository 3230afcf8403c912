"""When the model calls of a run were made, drawn in the terminal on one scale."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import groupby
from typing import TYPE_CHECKING, Any

from rich.text import Text

from loopllama_cli.console import output

if TYPE_CHECKING:
    from loopllama.queries.types import StepView

_BAR, _WAIT, _FAILED = "━", "╌", "×"  # noqa: RUF001


def label(step: StepView) -> str:
    """Return the step's name, with its iteration and item where it has them."""
    name = output.clean(str(step.get("step") or step.get("role") or "?"))
    places = [f"{mark}{int(place)}" for mark, place in (("#", step.get("iteration")), ("·", step.get("item"))) if place]
    return " ".join([name, *places])


@dataclass(frozen=True, slots=True)
class _Span:
    """A stretch of the timeline: from and to in ms since the run's start, and how it is drawn."""

    start: float
    end: float
    character: str
    style: str


def timeline(all_steps: Sequence[StepView], width: int, colours: Mapping[str, str]) -> list[Text]:
    """Return a line for each step that has begun: when its model calls ran, on one scale."""
    steps = [step for step in all_steps if output.moment(step.get("started_at"))]
    moments = [output.moment(step.get("started_at")) for step in steps]
    begin = min((moment for moment in moments if moment), default=None)
    if begin is None:
        return []
    lines = [_spans(step, begin, colours) for step in steps]
    end = max((span.end for spans in lines for span in spans), default=0.0)
    if end <= 0:
        return []
    names = min(24, max(len(label(step)) for step in steps))
    room = max(10, width - names - 2 - 11)
    drawn = [Text(" " * (names + 2)).append_text(_axis(end, room))]
    for step, spans in zip(steps, lines, strict=True):
        row = Text(f"{label(step)[:names]:<{names}}  ")
        row.append_text(_draw(spans, end, room))
        row.append(f" {output.duration(step.get('latency_ms')):>9}", "dim")
        drawn.append(row)
    return drawn


def _spans(step: StepView, begin: datetime, colours: Mapping[str, str]) -> list[_Span]:
    started = _offset(step.get("started_at"), begin) or 0.0
    finished = _offset(step.get("finished_at"), begin)
    if finished is None:
        finished = started + float(step.get("latency_ms") or 0)
    spans = [_Span(started, finished, _WAIT, "dim")]
    for attempt in step.get("attempts") or []:
        start = _offset(attempt.get("started_at"), begin)
        if start is None:
            continue
        end = start + float(attempt.get("latency_ms") or 0)
        if attempt.get("outcome") == "ok":
            spans.append(_Span(start, end, _BAR, colours.get(str(attempt.get("model")), "white")))
        else:
            spans.append(_Span(start, end, _FAILED, "red"))
    if len(spans) == 1:
        spans.append(_Span(started, finished, _BAR, colours.get(str(step.get("model")), "white")))
    return spans


def _offset(time: Any, begin: datetime) -> float | None:
    moment = output.moment(time)
    return None if moment is None else (moment - begin) / timedelta(milliseconds=1)


def _draw(spans: Sequence[_Span], end: float, room: int) -> Text:
    cells: list[tuple[str, str]] = [(" ", "")] * room
    for span in spans:
        first = min(room - 1, max(0, int(span.start / end * room)))
        last = min(room, max(first + 1, round(span.end / end * room)))
        cells[first:last] = [(span.character, span.style)] * (last - first)
    stretches = groupby(cells, key=lambda cell: cell[1])
    return Text.assemble(*(("".join(character for character, _ in stretch), style) for style, stretch in stretches))


def _axis(end: float, room: int) -> Text:
    """Return the scale: four or five round times over the room's columns."""
    steps = (unit * 10**power for power in range(12) for unit in (1, 2, 5))
    step = next(step for step in steps if end / step <= 5)
    cells = [" "] * room
    tick = 0
    while tick <= end:
        at = int(tick / end * room)
        text = "0" if tick == 0 else _tick_text(tick)
        if at + len(text) + 1 <= room:
            cells[at : at + len(text) + 1] = list("╷" + text)
        tick += step
    return Text("".join(cells), "dim")


def _tick_text(milliseconds: int) -> str:
    return f"{milliseconds} ms" if milliseconds < 1000 else f"{milliseconds / 1000:g} s"
