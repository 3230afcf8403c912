"""Models at an effort and a service tier, as their names say it: `gpt-5@low`, `frontier@flex`, `gpt-5@low@flex`. Pure.

Such a name is a model of its own wherever models are named, recorded and counted. Only the words below are read so; any
other `@` belongs to the provider's own id (Vertex AI's `claude-sonnet-4-5@20250929`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

from loopllama.catalog.model import EFFORTS, SERVICE_TIERS, Model
from loopllama.errors import ModelUnknown

CALLED = tuple(tier for tier in SERVICE_TIERS if tier != "batch")
"""Service tiers that a call can ask for. Batches are no calls: their prices are there to compare with."""


class Named(NamedTuple):
    """A model's name taken apart; what it does not say is empty."""

    base: str
    effort: str = ""
    service_tier: str = ""


def parse(name: str) -> Named:
    """Return the parts of a model's name, in whichever order it says effort and tier."""
    named = Named(name)
    while True:
        base, _, word = named.base.rpartition("@")
        if base and word in EFFORTS and not named.effort:
            named = named._replace(base=base, effort=word)
        elif base and word in SERVICE_TIERS and not named.service_tier:
            named = named._replace(base=base, service_tier=word)
        else:
            return named


def of(model: Model, effort: str, service_tier: str) -> Model:
    """Return the model at an effort and a tier; empty is the provider's own choice. Raises `ModelUnknown`, with what
    it has, where it is known not to have them. Of a model whose efforts nobody has listed every one is taken, and of
    one without prices every tier."""
    if effort and model.efforts is not None and effort not in model.efforts:
        raise ModelUnknown(f"{model.id} has no effort {effort!r}: {_has('efforts', model.efforts)}")
    priced = priced_tiers(model)
    if service_tier and (service_tier not in CALLED or (model.prices and service_tier not in priced)):
        why = (
            "is not called in batches" if service_tier == "batch" else f"has no price at service tier {service_tier!r}"
        )
        raise ModelUnknown(f"{model.id} {why}: {_has('service tiers', called_tiers(model))}")
    if not effort and not service_tier:
        return model
    at = replace(model, effort=effort or None, service_tier=service_tier or None)
    return replace(at, id=f"{model.entry}{at.suffix}")


def standard(model: Model) -> Model:
    """Return the model at the same effort and the standard tier."""
    return replace(model, id=model.id.removesuffix(f"@{model.service_tier}"), service_tier=None)


def priced_tiers(model: Model) -> list[str]:
    """Return the service tiers that any of the model's dated prices knows."""
    return [tier for tier in SERVICE_TIERS if any(tier in price.service_tiers for price in model.prices)]


def called_tiers(model: Model) -> list[str]:
    """Return the service tiers that a call of the model can ask for."""
    priced = priced_tiers(model)
    return [tier for tier in CALLED if tier in priced]


def has(model: Model) -> str:
    """Return which efforts and tiers a model has, in words."""
    return f"{_has('efforts', model.efforts or ())}, {_has('service tiers', called_tiers(model))}"


def _has(what: str, words: Sequence[str]) -> str:
    return f"its {what} are {', '.join(words)}" if words else f"it has no {what}"
