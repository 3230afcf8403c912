"""What a call costs. Exact `Decimal` in USD, never rounded."""

from __future__ import annotations

from datetime import UTC, date, datetime
from decimal import Decimal

from loopllama.catalog.model import Model, Price, Tier
from loopllama.llm.types import Usage

_MILLION = Decimal(1_000_000)


def cost(model: Model, usage: Usage, at: date) -> Decimal | None:
    """USD for a call's tokens at the price in force, or `None` for a model without a price on that date.

    Cached reads and writes are parts of `input_tokens` and priced apart; one without a price of its own costs what
    input costs. A tier replaces the prices of the whole call, once its prompt (cached parts included) has more
    tokens than the tier's start: the rule of genai-prices' `TieredPrices` (github.com/pydantic/genai-prices).
    `at` is a date in UTC, or an aware `datetime` where prices depend on the hour; a plain date takes the price
    that names no hours.
    """
    price = price_at(model, at)
    if price is None:
        return None
    rate = _rate(price, usage.input_tokens)
    read, write = usage.cached_tokens, usage.cache_write_tokens
    total = rate.input * (usage.input_tokens - read - write) + rate.output * usage.output_tokens
    if read:
        total += read * (rate.input if rate.cache_read is None else rate.cache_read)
    if write:
        total += write * (rate.input if rate.cache_write is None else rate.cache_write)
    return total / _MILLION


def cache_saving(model: Model, usage: Usage, at: date) -> Decimal | None:
    """USD that the call's cached reads saved, less what its cache writes cost above plain input; negative where
    writes cost more than reads saved. `None` for a model without a price."""
    price = price_at(model, at)
    if price is None:
        return None
    rate = _rate(price, usage.input_tokens)
    saved = Decimal(0)
    if rate.cache_read is not None:
        saved += usage.cached_tokens * (rate.input - rate.cache_read)
    if rate.cache_write is not None:
        saved += usage.cache_write_tokens * (rate.input - rate.cache_write)
    return saved / _MILLION


def price_at(model: Model, at: date) -> Price | None:
    """Return the price in force: of the latest date that has come, the one of this hour, else the one without hours."""
    prices = model.prices
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
            if (start <= clock < end) if start <= end else (clock >= start or clock < end):
                return price
    return None


def _rate(price: Price, prompt_tokens: int) -> Price | Tier:
    for tier in reversed(price.tiers):
        if prompt_tokens > tier.above:
            return tier
    return price
