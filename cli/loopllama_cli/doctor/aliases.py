"""The best models that can be called now, for the aliases: Claude's before Amazon's, as the catalog has them.

An alias wants a class of price (the family of Claude follows from it: Opus, Sonnet, Haiku), the newest generation
first. Claude on Bedrock is called through inference profiles only, and Bedrock itself says which of them this region
has.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, NamedTuple

from loopllama.aws import errors
from loopllama.catalog.catalog import Catalog
from loopllama.catalog.model import Model, foundation_model
from loopllama.catalog.pricing import price_at
from loopllama.errors import ModelError, ModelUnknown
from loopllama_cli.doctor.access import Access, profiles
from loopllama_cli.doctor.findings import Check
from loopllama_cli.doctor.quotas import Limits
from loopllama_cli.doctor.region import ALIASES
from loopllama_cli.target import next_command

_PRICES = {"frontier": (20, 1_000), "balanced": (6, 20), "small": (0, 6)}
"""Alias to what a million tokens of the answer may cost (USD, from and below), as the catalog's classes of speed are
parted."""
_OF_A_FAMILY, _MOST = 2, 4
_CLAUDE = re.compile(r"anthropic\.claude-([a-z]+)-(\d{1,2}(?:-\d{1,2})?)(?![\d])")


class Offer(NamedTuple):
    """What was found of an alias, and the model that it may be pointed at; `model` is empty where there is no better
    one than it stands for."""

    alias: str
    check: Check
    model: str = ""


def examine_aliases(catalog: Catalog, rows: Iterable[Mapping[str, Any]], access: Access, limits: Limits) -> list[Offer]:
    """Return for each alias the best model that this account can call here. `rows` are those of the Models table: an
    alias that has one was chosen, and stays. Where one may not look, one warning."""
    chosen = {str(row["model"]) for row in rows}
    try:
        here = profiles()
        return [_offer(alias, catalog, chosen, here, access, limits) for alias in ALIASES]
    except Exception as error:
        if not isinstance(error, ModelError) and errors.trouble(error) is None:
            raise
        todo = "allow bedrock:ListInferenceProfiles and bedrock:GetFoundationModelAvailability for who you are"
        return [Offer("", Check("aliases", "warn", f"what else can be called cannot be seen: {error}", todo))]


def candidates(alias: str, catalog: Catalog) -> list[str]:
    """Return the foundation models of Claude that an alias wants, the best first: of each family of its class the two
    newest."""
    least, below = _PRICES[alias]
    newest: dict[str, list[tuple[tuple[int, ...], Decimal, str]]] = {}
    costs: dict[str, Decimal] = {}
    for model in catalog.models():
        price = price_at(model, datetime.now(UTC).date()) if model.provider == "bedrock" else None
        if price is not None and model.enabled:
            base = foundation_model(model.provider_model)
            costs[base] = min(price.output, costs.get(base, price.output))
    for base, cost in costs.items():
        match = _CLAUDE.match(base)
        if match and least <= cost < below:
            version = tuple(int(part) for part in match[2].split("-"))
            newest.setdefault(match[1], []).append((version, -cost, base))
    best = [one for listed in newest.values() for one in sorted(listed, reverse=True)[:_OF_A_FAMILY]]
    return [base for _, _, base in sorted(best, reverse=True)[:_MOST]]


def _offer(
    alias: str, catalog: Catalog, chosen: set[str], here: Mapping[str, list[str]], access: Access, limits: Limits
) -> Offer:
    subject = f"alias {alias}"
    try:
        now = catalog.resolve(alias)
    except ModelUnknown as error:
        return Offer(alias, Check(subject, "warn", str(error), next_command("models remove", alias)))
    if alias in chosen:
        return Offer(alias, Check(subject, "ok", f"stands for {now.id}, by the Models table"))
    wanted = [f"bedrock:{here[base][0]}" for base in candidates(alias, catalog) if base in here]
    others = [catalog.resolve(other).id for other in ALIASES]
    lacking: list[tuple[Model, str, str]] = []
    for name in dict.fromkeys([*wanted, now.id, *others]):
        model = catalog.resolve(name)
        if model.provider != "bedrock" or model.lacks(now.capabilities or ()):
            continue
        wrong, todo = access.missing(model.provider_model)
        if not wrong and limits.exhausted(model.provider_model):
            wrong, todo = ["it has a quota of 0"], ""
        if wrong:
            lacking.append((model, "; ".join(wrong), todo))
            continue
        return _usable(alias, now, model, lacking)
    _, wrong_now, todo = next((one for one in lacking if one[0].id == now.id), (now, "it cannot be called", ""))
    return Offer(alias, Check(subject, "warn", f"stands for {now.id}, which cannot be called: {wrong_now}", todo))


def _usable(alias: str, now: Model, best: Model, lacking: list[tuple[Model, str, str]]) -> Offer:
    """Return what is said where `best` is the first that can be called, and those of `lacking` cannot."""
    subject = f"alias {alias}"
    better = [one for one in lacking if one[0].id != now.id][:1]
    lacks = "".join(f"; {model.id} is better, and cannot be called: {wrong}" for model, wrong, _ in better)
    commands = list(_lines(better))
    if best.id == now.id:
        return Offer(alias, Check(subject, "ok", f"stands for {_priced(now)}{lacks}", "\n".join(commands)))
    broken = next((wrong for model, wrong, _ in lacking if model.id == now.id), "")
    found = f"stands for {_priced(now)}" + (f", which cannot be called: {broken}" if broken else "")
    todo = "\n".join([next_command("models alias", alias, best.id), *commands])
    check = Check(subject, "warn" if broken else "ok", f"{found}; {_priced(best)} can be called now{lacks}", todo)
    return Offer(alias, check, best.id)


def _lines(better: list[tuple[Model, str, str]]) -> Iterator[str]:
    for model, _, todo in better:
        yield from (f"for {model.id}: {line}" for line in todo.splitlines() if not line.startswith("or "))


def _priced(model: Model) -> str:
    price = price_at(model, datetime.now(UTC).date())
    if price is None:
        return model.id
    return f"{model.id} (${price.input:f} and ${price.output:f} a million tokens of prompt and answer)"
