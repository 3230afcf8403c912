"""What the API answers, for its OpenAPI document, and built only for that (`defer_build`).

Answers are made from records, not from these models; a test holds them against each other.
"""

from __future__ import annotations

from typing import Any, Generic, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

from loopllama.api.usage_models import Shape

T = TypeVar("T")


class Health(Shape):
    status: Literal["ok"]
    version: str


class Data(Shape, Generic[T]):
    data: T


class Detail(Shape):
    field: str
    message: str


class Checked(Shape, Generic[T]):
    data: T
    warnings: list[Detail] = Field(default_factory=list)
    """What the workflow names and this deployment cannot use as it stands, such as a model that nobody knows: what
    happens, and what to do. Left out where there is nothing to say."""


class Page(Shape, Generic[T]):
    data: list[T]
    next_cursor: str | None
    """Hand it back as `cursor` for what follows; null at the end."""


class Error(Shape):
    error: str
    """One sentence that says what to do."""
    details: list[Detail] = Field(default_factory=list)
    """What is wrong where, for errors of validation."""


class Link(Shape):
    url: str
    """A signed link to a value that is too large for the answer; valid for an hour."""


class Agent(BaseModel):
    """One agent in camelCase, name and needs written out. Fields that it does not set are absent."""

    model_config = ConfigDict(
        extra="allow",
        use_attribute_docstrings=True,
        protected_namespaces=(),
        defer_build=True,
        alias_generator=to_camel,
    )
    name: str
    role: str
    system_prompt: str
    model: str = Field(default_factory=str)
    """Absent where the agent names none: then it is the workflow's."""
    needs: list[str]


class Workflow(Shape):
    id: str
    name: str
    description: str | None
    status: Literal["active", "paused"]
    model: str
    """The deployment's default where the workflow names none."""
    model_is_default: bool
    """Whether the workflow names none."""
    crew: list[Agent]
    version: int
    pin: Literal["run"] | None
    budget: dict[str, Any] | None
    """What its runs may use: `max_steps`, `max_tokens`, `max_cost_usd`, `allow_unpriced`, `daily`, where set."""
    created_at: str
    updated_at: str


class Deleted(Shape):
    id: str
    deleted: bool


class Ignored(BaseModel):
    model_config = ConfigDict(extra="forbid", protected_namespaces=(), defer_build=True)
    layer: str
    reason: str
    model: str | None = None


class RouteRow(BaseModel):
    """An override as it is stored. People write rows by hand too, so that any attribute may be there."""

    model_config = ConfigDict(extra="allow", protected_namespaces=(), defer_build=True)
    workflow: str
    step: str


class Route(Shape):
    step: str
    model: str | None
    """What the step uses now."""
    source: (
        Literal["run", "step-override", "agent", "workflow-override", "workflow-default", "deployment-default"] | None
    )
    route_version: int | None
    policy: str | None
    fallbacks: list[str]
    ignored: list[Ignored]
    error: str | None
    """Why no model is left."""
    row: RouteRow | None
    """The step's override."""
    workflow_row: RouteRow | None
    """The override of the whole workflow, `*`."""


class RouteRemoved(Shape):
    workflow: str
    step: str
    removed: bool


class RouteRolledBack(Shape):
    workflow: str
    step: str
    row: RouteRow | None
    """Null where there was no override then, and so there is none now."""


class Difference(BaseModel):
    """What a change changed; null for what was not, or is no more, there."""

    model_config = ConfigDict(extra="forbid", populate_by_name=True, defer_build=True)
    field: str
    from_: Any = Field(alias="from")
    to: Any


class RouteChange(Shape):
    workflow: str
    step: str
    sequence: str
    """Grows with each change of the route."""
    change: Literal["set", "removed", "expired"]
    version: int | None
    """Null where the row's version has not moved: somebody edited it by hand."""
    before: dict[str, Any] | None
    after: dict[str, Any] | None
    differences: list[Difference]
    updated_by: str | None
    """`unknown` for edits by hand; `expired` where DynamoDB's TTL deleted the row."""
    reason: str | None
    at: str
    problems: list[str]
    """Why the row is invalid, where it makes none."""


class Tier(Shape):
    above: int
    """Tokens of the prompt."""
    input: float
    output: float
    cache_read: float | None
    cache_write: float | None
    cache_write_1h: float | None


class TierPrice(Shape):
    """USD per million tokens at a service tier."""

    input: float
    output: float
    cache_read: float | None
    cache_write: float | None
    cache_write_1h: float | None
    tiers: list[Tier]


class Price(Shape):
    """USD per million tokens."""

    effective_from: str | None
    between: list[str] | None
    weekdays: bool
    """Whether these hours count from Monday to Friday only (UTC)."""
    input: float
    output: float
    cache_read: float | None
    cache_write: float | None
    cache_write_1h: float | None
    """Of what is kept in the cache for an hour."""
    tiers: list[Tier]
    service_tiers: dict[str, TierPrice]
    """At `flex`, `priority` and `batch`, where the model has such a price."""


class ModelEntry(BaseModel):
    """An entry of the Models table as it is stored."""

    model_config = ConfigDict(extra="allow", protected_namespaces=(), defer_build=True)
    model: str


class Model(Shape):
    model: str
    aliases: list[str]
    provider: str
    provider_model: str
    price: Price | None
    """Today's; null where there is none."""
    prices: list[Price]
    context_window: int | None
    max_output: int | None
    capabilities: list[str] | None
    efforts: list[str] | None
    """What a name may say of it, as in `gpt-5@low`; null where nobody has listed them."""
    service_tiers: list[str]
    """What a name may say of how it is served, as in `gpt-5@flex`."""
    enabled: bool
    replaced_by: str | None
    options: dict[str, Any]
    same_as: str | None
    """The model that it is, where its own name does not say it."""
    max_concurrent_calls: int | None
    """How many of its calls may be under way at once; null is any number."""
    origin: dict[str, str]
    """Where each field comes from: `bundled`, `table`, `same_as` or `written out`."""
    entry: ModelEntry | None
    """What the Models table holds of it; its `version` is what `expectedVersion` compares."""


class ModelDeleted(Shape):
    model: str
    deleted: bool


class ToolInList(Shape):
    name: str
    type: str | None
    """`lambda`, `http`, `http_get` or `built_in`; null where its definition is invalid."""
    description: str | None
    timeout_seconds: float | None
    """How long a call may take."""
    problem: str | None
    """Why steps that use it fail; null where its definition is valid."""
    version: int | None
    updated_by: str | None
    reason: str | None
    updated_at: str | None


class Tool(ToolInList):
    parameters: dict[str, Any] | None
    """The JSON Schema of its arguments."""


def answers(*shapes: tuple[int, str, type[Any]]) -> dict[int, Any]:
    """Return the `responses` of a route, with the errors that any may answer: (status, what it is, the answer's
    shape)."""
    stated = {
        status: {"description": about, "content": {"application/json": {"model": shape}}}
        for status, about, shape in shapes
    }
    return stated | {
        status: {"description": about, "content": {"application/json": {"model": Error}}}
        for status, about in _ERRORS.items()
        if status not in stated
    }


_ERRORS = {
    400: "What was asked is invalid; `details` say where",
    401: "No API key, or none that counts",
    403: "The API key lacks a scope, or does not reach this workflow; the error has the command that makes one",
    404: "There is no such thing",
    409: "Another state than this needs, or somebody was faster",
    413: "The body is too large",
    429: "Too many requests; `Retry-After` says when to come back",
    500: "A mistake of ours; the log has it",
    503: "AWS did not answer; try again",
}
