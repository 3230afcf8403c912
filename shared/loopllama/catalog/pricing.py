"""What a call costs. Exact `Decimal` in USD, never rounded."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, date, datetime
from decimal import Decimal

from loopllama.catalog.model import Model, Price, Tier
from loopllama.llm.types import STANDARD, Usage

_MILLION = Decimal(1_000_000)


def cost(model: Model, usage: Usage, at: date) -> Decimal | None:
    """USD for a call's tokens at the price in force, or `None` for a model without a price on that date.

    Cached reads and writes are parts of `input_tokens` and priced apart; one without a price of its own costs what
    input costs, and an hour's write without one what a write of five minutes costs. A tier replaces the prices of the
    whole call, once its prompt (cached parts included) has more tokens than the tier's start: the rule of
    genai-prices' `TieredPrices` (github.com/pydantic/genai-prices).

    The service tier that answered decides, where the provider names it; else the one that the model's name asks for.
    What a tier without a price of its own answered is priced as the standard one (`known`).

    A provider's surcharge for a place (`Usage.price_factor`) comes on top of its list prices. A price that somebody has
    given in the Models table is what the call costs there, surcharge included.

    `at` is a date in UTC, or an aware `datetime` where prices depend on the hour; a plain date takes the price
    that names no hours.
    """
    price = _served(model, usage, at)
    if price is None:
        return None
    rate = _rate(price, usage.input_tokens)
    read, write, hour = usage.cached_tokens, usage.cache_write_tokens, usage.cache_write_1h_tokens
    total = rate.input * (usage.input_tokens - read - write) + rate.output * usage.output_tokens
    if read:
        total += read * (rate.input if rate.cache_read is None else rate.cache_read)
    if write:
        total += (write - hour) * _written(rate) + hour * _written_for_an_hour(rate)
    return total / _MILLION * _factor(model, usage)


def cache_saving(model: Model, usage: Usage, at: date) -> Decimal | None:
    """USD that the call's cached reads saved, less what its cache writes cost above plain input; negative where
    writes cost more than reads saved. `None` for a model without a price."""
    price = _served(model, usage, at)
    if price is None:
        return None
    rate = _rate(price, usage.input_tokens)
    write, hour = usage.cache_write_tokens, usage.cache_write_1h_tokens
    saved = (write - hour) * (rate.input - _written(rate)) + hour * (rate.input - _written_for_an_hour(rate))
    if rate.cache_read is not None:
        saved += usage.cached_tokens * (rate.input - rate.cache_read)
    return saved / _MILLION * _factor(model, usage)


def known(model: Model, usage: Usage, at: date) -> bool:
    """Return whether the catalog has a price for the service tier that answered (that was asked, where the answer does
    not say it), so that the cost is no estimate. What an entry's `options` ask for by themselves is what its prices are
    of."""
    answered = usage.service_tier or model.service_tier or ""
    price = _dated(model.prices, at)
    if answered in ("", STANDARD) or price is None or answered in price.service_tiers:
        return True
    options = model.options or {}
    asked = options.get("serviceTier")
    return answered in (options.get("service_tier"), asked.get("type") if isinstance(asked, Mapping) else None)


def price_at(model: Model, at: date) -> Price | None:
    """Return the price in force, at the model's service tier: of the latest date that has come, the one of this hour,
    else the one without hours. Without a price for its tier it is the standard one."""
    return _at_tier(model, model.service_tier or STANDARD, at)


def given(model: Model) -> bool:
    """Return whether somebody has given the model its price in the Models table."""
    return (model.origin or {}).get("prices") == "table"


def _factor(model: Model, usage: Usage) -> Decimal:
    return Decimal(1) if given(model) else usage.price_factor


def _served(model: Model, usage: Usage, at: date) -> Price | None:
    """Return the price in force at the tier that answered."""
    return _at_tier(model, usage.service_tier or model.service_tier or STANDARD, at)


def _at_tier(model: Model, tier: str, at: date) -> Price | None:
    price = _dated(model.prices, at)
    return price.service_tiers.get(tier, price) if price else None


def _dated(prices: tuple[Price, ...], at: date) -> Price | None:
    if not prices:
        return None
    moment = at if isinstance(at, datetime) else None
    if moment is not None:
        moment = moment.astimezone(UTC) if moment.tzinfo else moment
        at = moment.date()
    for price in reversed(prices):
        if price.effective_from > at:
            continue
        if price.between is None:
            return price
        if moment is not None:
            start, end = price.between
            clock = moment.time()
            if price.weekdays and moment.weekday() > 4:
                continue
            if (start <= clock < end) if start <= end else (clock >= start or clock < end):
                return price
    return None


def _rate(price: Price, prompt_tokens: int) -> Price | Tier:
    for tier in reversed(price.tiers):
        if prompt_tokens > tier.above:
            return tier
    return price


def _written(rate: Price | Tier) -> Decimal:
    return rate.input if rate.cache_write is None else rate.cache_write


def _written_for_an_hour(rate: Price | Tier) -> Decimal:
    return _written(rate) if rate.cache_write_1h is None else rate.cache_write_1h
