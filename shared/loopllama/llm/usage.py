"""What model calls use: the one list of its figures, from which rows, totals, answers, events and tables are made.

A figure has one name inside: `Usage`, records, the Usage table and what is observed of steps call it the same. The API,
`--json` and events say LoopLlama's v1 names, and `shown` makes them at that edge.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from loopllama.llm.types import Usage


@dataclass(frozen=True, slots=True)
class Figure:
    """One count of tokens of a model call."""

    name: str
    """The attribute of `Usage` and of records."""
    shown: str
    """Its name in the API, in `--json` and in events."""
    about: str
    title: str = ""
    """The heading of its column in the command line's tables, where it has one: they are not wide."""
    metric: str = ""
    """The metric of a step that counts it; each is billed, so a figure may do without."""
    summed: bool = True
    """Whether steps, runs, events and the bill sum it; otherwise only the call itself says it."""


FIGURES = (
    Figure("input_tokens", "tokens_in", "Tokens of prompts, cached ones included.", "Tokens in", "InputTokens"),
    Figure("output_tokens", "tokens_out", "Tokens of answers, reasoning included.", "Tokens out", "OutputTokens"),
    Figure("cached_tokens", "tokens_cached", "Those of the prompts' tokens that were read from a cache.", "Cached"),
    Figure("cache_write_tokens", "tokens_cache_write", "Those that were written to a cache.", summed=False),
    Figure(
        "cache_write_1h_tokens",
        "tokens_cache_write_1h",
        "Those of the written that are kept an hour, not five minutes.",
        summed=False,
    ),
    Figure("reasoning_tokens", "tokens_reasoning", "Those of the answer that were reasoning.", summed=False),
)
SUMMED = tuple(figure for figure in FIGURES if figure.summed)
TITLED = tuple(figure for figure in SUMMED if figure.title)
SUMMED_NAMES = tuple(figure.name for figure in SUMMED)
TOTALS = (*SUMMED_NAMES, "cost_usd", "cost_basis", "unpriced", "simulated")
"""What records of steps and runs, rows of the Usage table and events say was used and paid."""

_SHOWN = {figure.name: figure.shown for figure in FIGURES}


def shown(record: Mapping[str, Any]) -> dict[str, Any]:
    """Return the record with its figures under the API's names; everything else stays."""
    return {_SHOWN.get(name, name): value for name, value in record.items()}


def record_of(usage: Usage) -> dict[str, int | None]:
    """Return a call's figures as its record says them; one that is not summed is `None` where it is 0."""
    return {figure.name: getattr(usage, figure.name) or (0 if figure.summed else None) for figure in FIGURES}


def of_record(attempt: Mapping[str, Any]) -> Usage:
    """Return the usage that an attempt's record says."""
    counts: dict[str, Any] = {figure.name: int(attempt.get(figure.name) or 0) for figure in FIGURES}
    return Usage(**counts, service_tier=str(attempt.get("service_tier") or ""))


def of_shown(attempt: Mapping[str, Any]) -> Usage:
    """Return the usage that an attempt of a run object says."""
    return of_record(dict(attempt) | {figure.name: attempt.get(figure.shown) for figure in FIGURES})
