"""What answers and events say of usage, for their schemas: made from the one list of figures (`llm.usage`)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, create_model

from loopllama.llm.usage import FIGURES, SUMMED, Figure

Basis = Literal["measured", "estimated", "unknown"]


class Shape(BaseModel):
    """An answer, or a part of one."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True, protected_namespaces=(), defer_build=True)


def _tokens(name: str, figures: tuple[Figure, ...], kind: Any) -> type[Shape]:
    """Return an answer's figures, as a base for the answers that have more."""
    fields: dict[str, Any] = {figure.shown: (kind, Field(description=figure.about)) for figure in figures}
    return create_model(name, __base__=Shape, **fields)


if TYPE_CHECKING:
    SummedTokens = Shape  # no checker knows the bases of classes that are made at run time
    MaybeTokens = Shape
    CallTokens = Shape
else:
    SummedTokens = _tokens("SummedTokens", SUMMED, int)
    MaybeTokens = _tokens("MaybeTokens", SUMMED, int | None)
    CallTokens = _tokens("CallTokens", FIGURES, int | None)


class Totals(SummedTokens):
    """What a step or a run used."""

    cost_usd: float | None
    """USD, exact; null where nothing has a price."""
    cost_basis: Basis | None
    """That of the least certain call."""
    unpriced: bool
    """Something has no price and is not in `cost_usd`."""
    simulated: bool | None
    """The simulated provider answered."""


class UsageSum(SummedTokens):
    steps: int
    """Completed turns of agents; tool calls, retries and waiting are not counted."""
    cost_usd: float | None
    cost_basis: Basis
    unpriced: bool
    simulated: bool
    """Something of it was answered by the simulated provider, and nobody paid for that."""


class UsageGroup(UsageSum):
    workflow: str | None = None
    step: str | None = None
    model: str | None = None
    key: str | None = None
    tag: str | None = None
    day: str | None = None


class Usage(BaseModel):
    model_config = ConfigDict(extra="forbid", populate_by_name=True, defer_build=True)
    from_: str = Field(alias="from")
    to: str
    by: list[str]
    groups: list[UsageGroup]
    total: UsageSum
