"""Reading entries of the catalog: the bundled ones, which are as `make catalog` wrote them, and the items of the Models
table, which people write, so that every field may hold anything."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import date, time
from decimal import Decimal
from typing import Any

from loopllama.catalog import model_options
from loopllama.catalog.model import (
    CAPABILITIES,
    EFFORTS,
    MAX_CALLS,
    PRICES,
    SERVICE_TIERS,
    Model,
    Price,
    Speed,
    Tier,
    at_region,
    is_model_id,
    split,
)
from loopllama.catalog.providers import KNOWN
from loopllama.core import money
from loopllama.core.numbers import written
from loopllama.core.patterns import late

MAX_PRICES = 100
MAX_TIERS = 10
_PROVIDER = late(r"[a-z0-9][a-z0-9_-]{0,39}")
_DATED = late(r"-20\d\d(-?)(?:0[1-9]|1[0-2])\1(?:0[1-9]|[12]\d|3[01])$")
PRICED_APART = frozenset({"gpt-4o-2024-05-13"})
"""Snapshots that cost more than what their name without the date stands for today
(https://platform.openai.com/docs/pricing, legacy models)."""
_TRUTHS = dict.fromkeys(("true", "1", "yes", "on"), True) | dict.fromkeys(("false", "0", "no", "off"), False)
_DAY = late(r"\d{4}-\d{2}-\d{2}")
MACHINE = ("health#", "observed#")
"""Items of the Models table that are no entries begin so: what was seen of models, written by functions."""

EXPIRES = "delete_at"
"""Attribute (epoch s) of the items `observed#`. The filter of the table's stream keeps out of the history what has it,
so no entry may have it."""


def is_machine_key(name: object) -> bool:
    """Return whether a key of the Models table is that of an item which is no entry of the catalog."""
    return isinstance(name, str) and name.startswith(MACHINE)


def bundled_model(models: Mapping[str, Mapping[str, Any]], model_id: str) -> Model | None:
    """Return the bundled model of that id, or one of unknown price for `provider:model`, or `None`."""
    entry = models.get(model_id)
    provider_model = None
    if entry is None:
        parts = split(model_id)
        if parts is None:
            return None
        provider, provider_model = parts
        if KNOWN[provider].by_role:
            entry = _same_price(models, provider, provider_model)
        else:
            entry = _without_date(models, provider, provider_model)
        if entry is None:
            return Model(model_id, provider, provider_model, origin={"id": "written out"})
    speed = entry["speed"]
    return Model(
        id=model_id,
        provider=entry["provider"],
        provider_model=provider_model or entry["provider_model"],
        prices=tuple(_bundled_price(price) for price in entry["prices"]),
        context_window=entry.get("context_window"),
        max_output=entry.get("max_output"),
        capabilities=frozenset(entry["capabilities"]),
        efforts=tuple(entry["efforts"]) if "efforts" in entry else None,
        speed=Speed(*speed),
        origin=dict.fromkeys(FIELDS & entry.keys(), "bundled"),
    )


def _without_date(
    models: Mapping[str, Mapping[str, Any]], provider: str, provider_model: str
) -> Mapping[str, Any] | None:
    """Return the bundled entry of which a dated snapshot (`gpt-5-mini-2025-08-07`, `claude-haiku-4-5-20251001`) is
    one."""
    name = _DATED.sub("", provider_model)
    entry = models.get(name) if name != provider_model and provider_model not in PRICED_APART else None
    return entry if entry is not None and entry["provider"] == provider else None


def _same_price(
    models: Mapping[str, Mapping[str, Any]], provider: str, provider_model: str
) -> Mapping[str, Any] | None:
    """Return the bundled entry that an ARN of a profile or foundation model, another geography's profile
    (`eu.anthropic.…` for `us.anthropic.…`), or a model in another region (`us-east-1/…`), is priced by."""
    _, provider_model = at_region(provider_model)
    tail = provider_model.rpartition("/")[2] if provider_model.startswith("arn:") else provider_model
    entry = models.get(f"{provider}:{tail}")
    if entry is not None:
        return entry
    geography, dot, name = tail.partition(".")
    for prefix, rest in ((geography, name), ("", tail)) if dot else ():
        entry = models.get(f"{provider}:us.{rest}")
        if entry is not None and prefix in entry.get("geographies", ()):
            return entry
    return None


def _bundled_price(raw: Mapping[str, Any]) -> Price:
    def amounts(source: Mapping[str, Any]) -> dict[str, Any]:
        return {key: Decimal(source[key]) for key in PRICES if source.get(key) is not None}

    between = raw.get("between")
    since = date.fromisoformat(raw["effective_from"]) if "effective_from" in raw else date.min
    return Price(
        effective_from=since,
        tiers=tuple(Tier(tier["above"], **amounts(tier)) for tier in raw.get("tiers", ())),
        between=None if between is None else (time.fromisoformat(between[0]), time.fromisoformat(between[1])),
        weekdays=raw.get("weekdays", False),
        service_tiers={
            tier: replace(_bundled_price(price), effective_from=since)
            for tier, price in raw.get("service_tiers", {}).items()
        },
        **amounts(raw),
    )


def parse_item(item: Mapping[str, Any]) -> tuple[str, dict[str, Any], dict[str, str]]:
    """`(name, fields, reasons)`: the fields that make sense, as `Model` has them plus `alias_of`, and of each that
    does not, what would be right. Attributes that mean nothing here are skipped in silence."""
    name = item.get("model")
    if not is_model_id(name):
        return str(name)[:80], {}, {"model": f"must be text of 1 to 256 characters, not {written(name)}"}
    assert isinstance(name, str)  # noqa: S101 - is_model_id says so
    if item.get(EXPIRES) is not None:
        return name, {}, {EXPIRES: "belongs to what functions note; take it out, or the entry is skipped and deleted"}
    fields: dict[str, Any] = {}
    reasons: dict[str, str] = {}
    for key, read in _READ.items():
        if item.get(key) is None:
            continue
        try:
            fields[key] = read(item[key])
        except (ValueError, ArithmeticError) as error:
            reasons[key] = str(error)
    return name, fields, reasons


def parse_prices(value: object) -> tuple[Price, ...]:
    """Dated prices in the table's shape, ordered by date. Raises `ValueError` naming what is wrong."""
    if not isinstance(value, list) or not 0 < len(value) <= MAX_PRICES:
        raise ValueError(f"must be a list of 1 to {MAX_PRICES} prices")
    prices = sorted((_price(entry) for entry in value), key=lambda price: price.effective_from)
    if len({price.effective_from for price in prices}) < len(prices):
        raise ValueError("has two prices of the same date")
    return tuple(prices)


def _price(entry: object) -> Price:
    if not isinstance(entry, Mapping):
        raise ValueError("must hold maps with effective_from, input and output")
    since, by_tier = _date(entry.get("effective_from")), entry.get("service_tiers") or {}
    if not isinstance(by_tier, Mapping) or not by_tier.keys() <= set(SERVICE_TIERS):
        raise ValueError(f"`service_tiers` must be a map from {', '.join(SERVICE_TIERS)} to prices")
    if not all(isinstance(price, Mapping) for price in by_tier.values()):
        raise ValueError("`service_tiers` must hold maps with input and output")
    return Price(
        effective_from=since,
        tiers=_tiers(entry),
        service_tiers={
            tier: Price(since, tiers=_tiers(price), **_prices(price)) for tier, price in sorted(by_tier.items())
        },
        **_prices(entry),
    )


def _tiers(entry: Mapping[str, Any]) -> tuple[Tier, ...]:
    tiers = entry.get("tiers") or []
    if not isinstance(tiers, list) or len(tiers) > MAX_TIERS:
        raise ValueError(f"`tiers` must be a list of at most {MAX_TIERS}")
    return tuple(sorted((_tier(tier) for tier in tiers), key=lambda tier: tier.above))


def _tier(entry: object) -> Tier:
    if not isinstance(entry, Mapping):
        raise ValueError("`tiers` must hold maps with above, input and output")
    return Tier(above=_count(entry.get("above")), **_prices(entry))


def _prices(entry: Mapping[str, Any]) -> dict[str, Any]:
    values = {key: entry.get(key) for key in PRICES}
    for key, value in values.items():
        if value is None and key not in ("input", "output"):
            continue
        try:
            values[key] = money.price(value)
        except ValueError as error:
            raise ValueError(f"{key} {error}") from None
    return values


def _date(value: object) -> date:
    if value is None:
        return date.min
    if not isinstance(value, str) or not _DAY.fullmatch(value):
        raise ValueError(f"effective_from must be a date such as 2026-11-23, not {written(value)}")
    return date.fromisoformat(value)


def _count(value: object) -> int:
    return _whole(value, 10**10 - 1, "a whole number of tokens")


def _calls(value: object) -> int:
    return _whole(value, MAX_CALLS, f"a whole number of calls from 1 to {MAX_CALLS:,}")


def _whole(value: object, most: int, what: str) -> int:
    number = isinstance(value, int | Decimal) and not isinstance(value, bool) and Decimal(value).is_finite()
    # Size before wholeness: who looks for a fraction in 1E+100 gets an error of Decimal's.
    if number and 0 < value <= most and value == int(value):  # type: ignore[operator, call-overload]
        return int(value)  # type: ignore[call-overload, no-any-return]
    raise ValueError(f"must be {what}, not {written(value)}")


def _name(value: object) -> str:
    if not is_model_id(value):
        raise ValueError(f"must be the id of a model, not {written(value)}")
    return str(value)


def _provider(value: object) -> str:
    # Servers of one's own have names of their own (`corp-llm`), so any name that can be one is taken.
    if not isinstance(value, str) or not _PROVIDER.fullmatch(value):
        raise ValueError(f"must be a provider's name such as openai, not {written(value)}")
    return value


def _enabled(value: object) -> bool:
    # The kill switch has to act even where somebody typed it as text or a number in the DynamoDB console.
    if isinstance(value, str | int | Decimal) and (word := str(value).strip().lower()) in _TRUTHS:
        return _TRUTHS[word]
    if not isinstance(value, bool):
        raise ValueError(f"must be true or false, not {written(value)}")
    return value


def _capabilities(value: object) -> frozenset[str]:
    if not isinstance(value, (list, set, frozenset)) or not all(name in CAPABILITIES for name in value):
        raise ValueError(f"must be a list of {', '.join(CAPABILITIES)}, not {written(value)}")
    return frozenset(value)


def _efforts(value: object) -> tuple[str, ...]:
    if not isinstance(value, (list, set, frozenset)) or not all(name in EFFORTS for name in value):
        raise ValueError(f"must be a list of {', '.join(EFFORTS)}, not {written(value)}")
    return tuple(effort for effort in EFFORTS if effort in value)


_READ: Mapping[str, Callable[[Any], Any]] = {
    "alias_of": _name,
    "provider": _provider,
    "provider_model": _name,
    "prices": parse_prices,
    "context_window": _count,
    "max_output": _count,
    "capabilities": _capabilities,
    "efforts": _efforts,
    "enabled": _enabled,
    "replaced_by": _name,
    "options": model_options.read,
    "same_as": _name,
    "max_concurrent_calls": _calls,
}
VALUES = tuple(_READ)
"""What an entry may say."""
FIELDS = frozenset(VALUES) - {"alias_of"} | {"speed"}
"""Those that are a model's own, and its bundled speed."""
