"""A model of the catalog: what it is, what it costs and can do, and how models are named. Pure data."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date, time
from decimal import Decimal
from typing import Any

from loopllama.catalog.providers import KNOWN
from loopllama.core.patterns import late
from loopllama.llm.types import Identity

PROVIDERS = tuple(KNOWN)
"""Providers by the names used in `provider:model`."""

CAPABILITIES = ("tools", "structured_output", "images", "prompt_cache", "reasoning")
"""`structured_output`: a native mode for a JSON Schema."""

PRICES = ("input", "output", "cache_read", "cache_write", "cache_write_1h")
"""What has a price of its own, in USD per million tokens. `cache_write_1h`: of what is kept an hour, not 5 minutes."""

EFFORTS = ("none", "minimal", "low", "medium", "high", "xhigh", "max")
"""How much a model is to think, least first; which of them a model takes is a fact of the catalog."""

SERVICE_TIERS = ("flex", "priority", "batch")
"""Ways of being served that have prices of their own, beside the standard one."""

GEOGRAPHIES = ("us", "eu", "apac", "jp", "au", "in", "ca", "us-gov", "global")
"""Prefixes of Bedrock's cross-Region inference profiles."""

SIMULATED = " (simulated)"
"""What the name of a model that is simulated ends with, wherever calls are measured."""
MAX_ID = 256
MAX_CALLS = 1_000
"""The largest `max_concurrent_calls`: their places are one item of DynamoDB, of at most 400 KB
(`routing.call_slots`)."""
_NOT_ID = late(r"[\s\x00-\x1f]")
_REGION = late(r"([a-z]{2,4}(?:-[a-z]+)+-\d)/(.+)")
TAKEN_OVER = ("prices", "context_window", "max_output", "capabilities", "efforts", "speed")
"""What an entry has from the model that it is the same as, where it does not say it itself."""


@dataclass(frozen=True, slots=True)
class Tier:
    """Prices of a whole call whose prompt has more than `above` tokens; what is `None` has no price of its own."""

    above: int
    input: Decimal
    output: Decimal
    cache_read: Decimal | None = None
    cache_write: Decimal | None = None
    cache_write_1h: Decimal | None = None


@dataclass(frozen=True, slots=True)
class Price:
    """USD per million tokens, in force from `effective_from` (UTC) until a later price. `between` limits it to hours
    of the day (UTC, start included, end excluded; may pass midnight), with `weekdays` from Monday to Friday only, and
    wins over the same date's price without. `service_tiers` are the prices of the same date at other service tiers than
    the standard one."""

    effective_from: date
    input: Decimal
    output: Decimal
    cache_read: Decimal | None = None
    cache_write: Decimal | None = None
    cache_write_1h: Decimal | None = None
    tiers: tuple[Tier, ...] = ()
    between: tuple[time, time] | None = None
    weekdays: bool = False
    service_tiers: Mapping[str, Price] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Speed:
    """A prior of how fast the model answers, by class of price; what was observed counts more wherever it is known."""

    first_token_ms: int
    tokens_per_second: int


UNKNOWN_SPEED = Speed(700, 70)


@dataclass(frozen=True, slots=True)
class Model:
    """A model of the catalog. `provider_model` is the provider's own id. Limits are tokens; `None` is unknown.

    `capabilities` is `None` where nothing is known about them, which excludes the model from nothing. `prices` is
    ordered by date; empty is unpriced. `options` go into every call of it under the provider's own names. `same_as` is
    the id of the model that this one is, where its own name does not say it, and `stands_for` how that model's provider
    calls it. `max_concurrent_calls`: how many of its calls may be under way at once; `None` is any number. `origin`
    names the source of each field: `bundled`, `table`, `same_as` or `written out`. `efforts` are those that it takes,
    `None` where nobody has listed them. `effort` and `service_tier` are what its name asks for (`variants`).
    """

    id: str
    provider: str
    provider_model: str
    prices: tuple[Price, ...] = ()
    context_window: int | None = None
    max_output: int | None = None
    capabilities: frozenset[str] | None = None
    enabled: bool = True
    replaced_by: str | None = None
    speed: Speed = UNKNOWN_SPEED
    options: Mapping[str, Any] | None = None
    same_as: str | None = None
    stands_for: Identity | None = None
    max_concurrent_calls: int | None = None
    origin: Mapping[str, str] | None = None
    efforts: tuple[str, ...] | None = None
    effort: str | None = None
    service_tier: str | None = None
    barred: bool = False
    """Whether the deployment allows other models only (`catalog.allowed`): disabled, and nothing replaces it."""

    @property
    def suffix(self) -> str:
        """What the id says of effort and tier."""
        return "".join(f"@{word}" for word in (self.effort, self.service_tier) if word)

    @property
    def entry(self) -> str:
        """The id without effort and tier: what the catalog keeps the model under."""
        return self.id.removesuffix(self.suffix)

    def lacks(self, required: Iterable[str]) -> list[str]:
        """Return the required capabilities that the model is known not to have."""
        if self.capabilities is None:
            return []
        return sorted(name for name in required if name not in self.capabilities)


def measured_as(model_id: str, simulated: object) -> str:
    """Return the name under which a model's calls are measured, in metrics and in what routing knows. Simulated calls
    have one of their own, so that they are never a real model's figures; it has a space, so it is nobody's id."""
    return f"{model_id}{SIMULATED}" if simulated else model_id


def is_model_id(value: object) -> bool:
    """Return whether `value` can be the id of a model: text of 1 to 256 characters without white space."""
    return isinstance(value, str) and 0 < len(value) <= MAX_ID and not _NOT_ID.search(value)


def split(model_id: str) -> tuple[str, str] | None:
    """`provider:model` as its two parts, or `None`. An ARN of Bedrock counts as written with `bedrock:`."""
    if model_id.startswith("arn:"):
        return ("bedrock", model_id) if ":bedrock:" in model_id else None
    provider, colon, name = model_id.partition(":")
    return (provider, name) if colon and name and provider in PROVIDERS else None


def at_region(provider_model: str) -> tuple[str | None, str]:
    """Return the region in which Bedrock is to be called, where a model's id begins with one
    (`us-east-1/us.amazon.nova-…`) or is an ARN of one, and the id that Bedrock knows. `None` is the region of who
    calls."""
    if provider_model.startswith("arn:"):
        return ([*provider_model.split(":"), "", "", ""][3] or None, provider_model)
    match = _REGION.fullmatch(provider_model)
    return (match[1], match[2]) if match else (None, provider_model)


def foundation_model(identifier: str) -> str:
    """Return the id of the foundation model behind that of a cross-Region inference profile: `amazon.nova-…` for
    `us.amazon.nova-…`. Anything else is returned as it is."""
    geography, dot, rest = identifier.partition(".")
    return rest if dot and geography in GEOGRAPHIES and "." in rest else identifier
