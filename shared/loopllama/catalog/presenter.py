"""A model of the catalog as its readers see it, over the API and on the command line."""

from __future__ import annotations

from datetime import date, datetime
from typing import Any

from loopllama.catalog import variants
from loopllama.catalog.model import PRICES, Model, Price
from loopllama.catalog.pricing import price_at


def view(model: Model, at: datetime) -> dict[str, Any]:
    """Return the model's fields; `price` is the one in force at `at`, `None` where there is none."""
    price = price_at(model, at)
    return {
        "model": model.id,
        "provider": model.provider,
        "provider_model": model.provider_model,
        "price": None if price is None else _price(price),
        "prices": [_price(dated_price) for dated_price in model.prices],
        "context_window": model.context_window,
        "max_output": model.max_output,
        "capabilities": None if model.capabilities is None else sorted(model.capabilities),
        "efforts": None if model.efforts is None else list(model.efforts),
        "service_tiers": variants.called_tiers(model),
        "enabled": model.enabled,
        "replaced_by": model.replaced_by,
        "options": dict(model.options or {}),
        "same_as": model.same_as,
        "max_concurrent_calls": model.max_concurrent_calls,
        "origin": dict(model.origin or {}),
    }


def _price(price: Price) -> dict[str, Any]:
    return {
        "effective_from": None if price.effective_from == date.min else price.effective_from.isoformat(),
        "between": [edge.isoformat("minutes") for edge in price.between] if price.between else None,
        "weekdays": price.weekdays,
        **_amounts(price),
        "service_tiers": {tier: _amounts(at_tier) for tier, at_tier in price.service_tiers.items()},
    }


def _amounts(price: Price) -> dict[str, Any]:
    return {
        **{name: getattr(price, name) for name in PRICES},
        "tiers": [{"above": tier.above, **{name: getattr(tier, name) for name in PRICES}} for tier in price.tiers],
    }
