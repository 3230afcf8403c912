"""Rows of the routes table and what is told of them (docs/design.md, Data). Types only: import them under
`TYPE_CHECKING`, where they cost a function's start nothing."""

from __future__ import annotations

from typing import Any, Literal, NotRequired, TypedDict

from loopllama.runs.records import Ignored, Source


class Stamp(TypedDict, total=False):
    """Who changed a row, when and why: of the routes and the Models table."""

    version: Any
    updated_by: Any
    reason: Any
    updated_at: Any


class RouteRow(Stamp, total=False):
    """A row of the routes table. People write rows by hand, so every attribute may hold anything: `overrides.parse_row`
    reads it."""

    workflow: str
    step: str
    model: Any
    policy: Any
    candidates: Any
    fallbacks: Any
    max_cost: Any
    max_latency: Any
    max_tokens: Any
    temperature: Any
    pin: Any
    expires_at: Any


class Explained(TypedDict):
    """What a step uses now (`Router.explain`)."""

    step: str
    model: str | None
    source: Source | None
    route_version: NotRequired[int | None]
    policy: NotRequired[str]
    fallbacks: NotRequired[list[str]]
    ignored: NotRequired[list[Ignored]]
    error: NotRequired[str]


MovedStep = TypedDict(
    "MovedStep", {"workflow": str, "step": str, "source": Source | None, "from": list[str], "to": list[str]}
)
"""A step that a change of the catalog gives another model (`impact.moved`)."""


class Change(Stamp, total=False):
    """An entry of the RouteHistory table: one change of a route, of a catalog entry or of a tool."""

    route: str
    sequence: str
    change: Literal["set", "removed", "expired"]
    before: RouteRow | None
    after: RouteRow | None
    at: str
    problems: list[str] | None


Difference = TypedDict("Difference", {"field": str, "from": Any, "to": Any})
"""An attribute that differs between two rows."""


class ShownChange(TypedDict):
    """A change as its readers see it: of `workflow` and `step`, of a `model`, or of a `tool`."""

    workflow: NotRequired[str]
    step: NotRequired[str]
    model: NotRequired[str]
    tool: NotRequired[str]
    sequence: str
    change: Literal["set", "removed", "expired"]
    version: int | None
    before: Any
    after: Any
    differences: list[Difference]
    updated_by: str | None
    reason: str | None
    at: str
    problems: list[str]
