"""Whose prices a call is charged by, where the provider says that another model has answered than the one asked.

The name in an answer may be a snapshot of the model that was asked (`gpt-5-mini-2025-08-07`), the model behind a
deployment's name (Azure), or what a router has chosen (`openrouter/auto`, a Bedrock prompt router). The rule:

1. A snapshot costs what the model costs that was asked, unless the catalog lists it with prices of its own.
2. Any other name is looked for among the models of the same provider, in the catalog and the Models table, and its
   prices count; a bundled price gives way to one that the Models table has for the model that was asked.
3. Where nobody knows its price, the price of the model that was asked stays: as an estimate where it is the bundled
   one. A price of the Models table was given for that name, whoever answers: for a deployment at Azure, or a server of
   one's own, whose names are what somebody has chosen.

A model that has another name here (`stands_for`) was asked by either. The service tier stays the one that was asked,
where the answer does not say it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from loopllama.catalog import pricing
from loopllama.catalog.catalog import bundled
from loopllama.catalog.entries import PRICED_APART
from loopllama.catalog.model import Model, foundation_model
from loopllama.catalog.providers import KNOWN, OWN
from loopllama.core.patterns import late

_SNAPSHOT = late(r"[-@](?:latest|preview|20\d\d-?\d\d-?\d\d|\d\d-20\d\d|\d\d-\d\d|\d{3,4})$")
"""What snapshots of one model differ by: OpenAI's and Anthropic's dates, Mistral's months, Google's numbers."""


def priced_as(model: Model, name: str, find: Callable[[str, str], Model | None]) -> tuple[Model, bool]:
    """Return the model by whose prices a call of `model` is charged that the provider says `name` has answered, and
    whether they are certain. `find` returns a priced model of a provider by the provider's name for it."""
    names = [model.provider_model, *([model.stands_for.model] if model.stands_for else [])]
    same = _family(name) in map(_family, names)
    if same and not (listed := _listed(model.provider, name)):
        return model, name not in PRICED_APART
    if same and listed == model.entry:
        return model, True
    other = find(model.provider, name)
    given = pricing.given(model)
    if other is not None and (pricing.given(other) or not given):
        return replace(other, service_tier=model.service_tier), True
    return model, same or given


def _listed(provider: str, name: str) -> str | None:
    """Return the id under which the catalog has exactly this name, where it may have one. Models that a role may call
    stand there with their provider's name, others without."""
    listed = bundled().canonical(f"{provider}:{name}")
    return listed if listed == name or KNOWN.get(provider, OWN).by_role else None


def _family(name: str) -> list[str]:
    """Return the words of a model's name without its vendor, geography and snapshot. Their order is not the same at
    every vendor: OpenRouter has `claude-sonnet-4.5` and `claude-4.5-sonnet-20250929` for one model."""
    short = foundation_model(name.lower().rpartition("/")[2])
    while (bare := _SNAPSHOT.sub("", short)) != short:
        short = bare
    return sorted(short.split("-"))
