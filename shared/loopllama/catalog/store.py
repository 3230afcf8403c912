"""Writing entries of the Models table: checked, stamped with who and why, conditional on the item that was read.

An entry adds to the bundled catalog or replaces parts of it, field by field (`catalog.Catalog.with_entries`); prices
are dated and appended. What every write changed is in the history (`routing.change_log.model_route`).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

from loopllama.aws import clients, dynamo
from loopllama.aws.versioned import Rows, version_of
from loopllama.catalog import variants
from loopllama.catalog.catalog import NEEDS_PROVIDER, Catalog, bundled
from loopllama.catalog.entries import EXPIRES, VALUES, is_machine_key, parse_item
from loopllama.catalog.model import PRICES, Model, Price, Tier, is_model_id
from loopllama.catalog.pricing import price_at
from loopllama.core import clock
from loopllama.errors import CatalogInvalid, ModelUnknown, VersionConflict
from loopllama.settings import Settings

_KNOWN = (*VALUES, "version", "updated_by", "reason", "updated_at")
MAX_REASON = 500


class CatalogStore:
    """The Models table, for those who write it. `clock` gives epoch seconds."""

    def __init__(self, settings: Settings, dynamodb: Any = None, clock: Callable[[], float] = time.time) -> None:
        self._table = settings.models_table
        self._allowed = settings.allowed
        self._given = dynamodb
        self._clock = clock

    def _dynamodb(self) -> Any:
        return clients.client("dynamodb") if self._given is None else self._given

    def items(self) -> list[dict[str, Any]]:
        """Return every entry as it is stored, by id; what functions note about models is left out."""
        pages = self._dynamodb().get_paginator("scan").paginate(TableName=self._table, ConsistentRead=True)
        entries = [dynamo.from_item(item) for page in pages for item in page["Items"]]
        return sorted((item for item in entries if not is_machine_key(item["model"])), key=lambda item: item["model"])

    def catalog(self) -> Catalog:
        """Return the bundled catalog with every entry of the table."""
        return self.with_entries(self.items())

    def with_entries(self, items: Iterable[Mapping[str, Any]]) -> Catalog:
        """Return the bundled catalog with entries of the table, as the deployer bounds it."""
        return bundled().allowing(*self._allowed).with_entries(items)

    def get(self, model_id: str) -> dict[str, Any] | None:
        """Return an entry as it is stored, `None` where there is none."""
        key = dynamo.to_item({"model": model_id})
        answer = self._dynamodb().get_item(TableName=self._table, Key=key, ConsistentRead=True)
        return dynamo.from_item(answer["Item"]) if "Item" in answer else None

    def own_id(self, model: str) -> str:
        """Return the id under which the catalog keeps a model, so that its entry counts however steps write it. An
        alias stays one: disabling it moves those who use it, not those who name the model."""
        catalog = self.catalog()
        return model if model in catalog.aliases() else catalog.canonical(model)

    def write(
        self,
        model_id: str,
        changes: Mapping[str, Any],
        *,
        expected_version: int | None = None,
        updated_by: str,
        reason: str,
    ) -> tuple[dict[str, Any] | None, dict[str, Any]]:
        """Change fields of an entry, or make one; `None` takes a field out, so that the bundled value counts again.

        Returns the entry before and after. `expected_version` is the version that the caller saw, 0 for no entry.
        Raises `CatalogInvalid`, with every reason, for changes that are invalid, an alias or a replacement that leads
        nowhere, a price that would rewrite one in force, and a new model without a provider; `VersionConflict` where
        the entry is another than expected or somebody changed it in between. What was invalid in the entry before,
        and is not changed, stays as it is.
        """
        before = self._before(model_id, expected_version)
        kept = {name: value for name, value in (before or {}).items() if name not in changes and name != EXPIRES}
        item = {**kept, **{name: value for name, value in changes.items() if value is not None}, "model": model_id}
        self._check(item, changes, before or {})
        if len(reason) > MAX_REASON or len(updated_by) > MAX_REASON:
            raise CatalogInvalid.of("reason", f"must have at most {MAX_REASON} characters")
        item |= {
            "version": version_of(before) + 1,
            "updated_by": updated_by,
            "reason": reason,
            "updated_at": clock.now_text(self._clock()),
        }
        self._rows().put(item, before, repr(model_id))
        return before, item

    def add_price(
        self, model_id: str, price: Mapping[str, Any], *, updated_by: str, reason: str
    ) -> tuple[dict[str, Any] | None, dict[str, Any]]:
        """Append a dated price, in force from its `effective_from` (ISO date) on; earlier ones stay. A price of the
        same date is replaced while that date has not come. Raises as `write` does."""
        prices = (self.get(model_id) or {}).get("prices")
        kept = [dated for dated in prices if isinstance(dated, Mapping)] if isinstance(prices, list) else []
        kept = [dated for dated in kept if dated.get("effective_from") != price["effective_from"]]
        return self.write(model_id, {"prices": [*kept, dict(price)]}, updated_by=updated_by, reason=reason)

    def with_tier(self, model_id: str, day: date, tier: str, amounts: tuple[Decimal | None, ...]) -> dict[str, Any]:
        """Return the price of a day, as the table holds it, with one at a service tier; `amounts` are in the order of
        `PRICES`. What costs the model from that day on otherwise is the standard price that is in force then. Raises
        `CatalogInvalid` where there is none."""
        price = price_at(self.catalog().resolve(model_id), day)
        if price is None:
            raise CatalogInvalid.of("prices", f"{model_id!r} has no standard price from {day} on; give it that first")
        dated = stored(price)
        dated["service_tiers"] = {**dated.get("service_tiers", {}), tier: _named(amounts)}
        return {"effective_from": day.isoformat(), **dated}

    def remove(self, model_id: str, *, expected_version: int | None = None, updated_by: str, reason: str) -> bool:
        """Delete an entry, and return whether there was one. Who and why is written to it first, so that the stream has
        seen it. Raises as `write` does."""
        before = self._before(model_id, expected_version)
        if before is None:
            return False
        changes = dict.fromkeys(set(before) & set(VALUES))
        _, last = self.write(
            model_id, changes, expected_version=version_of(before), updated_by=updated_by, reason=reason
        )
        self._rows().delete({"model": model_id}, last, repr(model_id))
        return True

    def _rows(self) -> Rows:
        return Rows(self._dynamodb(), self._table, "model", _KNOWN)

    def _before(self, model_id: str, expected_version: int | None) -> dict[str, Any] | None:
        before = self.get(model_id)
        if expected_version is not None and expected_version != version_of(before):
            raise VersionConflict(
                f"the entry of {model_id!r} is at version {version_of(before)}, not {expected_version}: "
                "read it again and repeat"
            )
        return before

    def _check(self, item: Mapping[str, Any], changes: Mapping[str, Any], before: Mapping[str, Any]) -> None:
        unknown = sorted(changes.keys() - set(VALUES))
        if unknown:
            raise CatalogInvalid.of(unknown[0], f"is no field of a model; the fields are {', '.join(VALUES)}")
        model_id = str(item["model"])
        if not is_model_id(model_id) or is_machine_key(model_id):
            raise CatalogInvalid.of("model", f"{model_id[:80]!r} can be no id: 1 to 256 characters without white space")
        named = variants.parse(model_id)
        if not before and named.base != model_id:
            raise CatalogInvalid.of(
                "model",
                f"{model_id!r} says an effort or a service tier; an entry holds at all of them: name {named.base!r}",
            )
        _, fields, reasons = parse_item(item)
        wrong = {name: reason for name, reason in reasons.items() if name in changes}
        if wrong:
            raise CatalogInvalid.of_all([{"field": name, "message": reason} for name, reason in wrong.items()])
        if "prices" in changes and "prices" in fields:
            self._keeps(parse_item(before)[1].get("prices", ()), fields["prices"])
        others = [other for other in self.items() if other["model"] != model_id]
        catalog = self.with_entries([*others, item])
        if "options" in changes:
            _check_options(catalog, model_id)
        if {"model": model_id, "reason": NEEDS_PROVIDER} in catalog.problems:
            raise CatalogInvalid.of("provider", f"is missing: {NEEDS_PROVIDER}")
        if "alias_of" in fields and "alias_of" in changes:
            _resolved(catalog, model_id, "alias_of")
        if "same_as" in fields and "same_as" in changes:
            catalog.check_same_as(model_id)
        if "replaced_by" in fields and changes.keys() & {"replaced_by", "enabled"}:
            other = _resolved(catalog, fields["replaced_by"], "replaced_by")
            if model_id in (other.entry, variants.parse(fields["replaced_by"]).base):
                raise CatalogInvalid.of("replaced_by", "is the model itself; name another one")
            if fields.get("enabled") is False and not other.enabled and other.replaced_by is None:
                raise CatalogInvalid.of("replaced_by", f"{fields['replaced_by']!r} is disabled itself")
        _check_circles(catalog, model_id, [*others, *([before] if before else [])], changes)

    def _keeps(self, old: Iterable[Price], new: Iterable[Price]) -> None:
        """Prices in force stay: what has been charged is not rewritten. A tier that had no price may get one."""
        given = {price.effective_from: price for price in new}
        today = datetime.fromtimestamp(self._clock(), UTC).date()
        for price in old:
            if price.effective_from <= today and not _extends(given.get(price.effective_from), price):
                since = "from ever" if price.effective_from == date.min else f"from {price.effective_from} on"
                raise CatalogInvalid.of(
                    "prices", f"there is a price {since} already; keep it, and give a new one a later date"
                )


def _check_options(catalog: Catalog, model_id: str) -> None:
    """Raise `CatalogInvalid` where the catalog has skipped some of an entry's options."""
    for problem in catalog.problems:
        field, _, reason = problem["reason"].partition(" ")
        if (problem["model"], field) == (model_id, "`options`"):
            raise CatalogInvalid.of("options", reason)


def _check_circles(
    catalog: Catalog, model_id: str, before: Iterable[Mapping[str, Any]], changes: Mapping[str, Any]
) -> None:
    """Raise `CatalogInvalid` where the changes make a circle of models that replace one another. One that somebody made
    in the table by hand stays: it is no reason to refuse another change, the kill switch least of all."""
    if not (circles := catalog.replacement_circles()):
        return
    known = bundled().with_entries(before).replacement_circles()
    # The way from the entry that is written says most.
    order = sorted(circles, key=lambda name: name != model_id)
    if way := next((circles[name] for name in order if name not in known), None):
        field = next((name for name in ("replaced_by", "alias_of") if name in changes), "model")
        message = "name another one, or take `replaced_by` out of one of them first"
        raise CatalogInvalid.of(field, f"makes a circle of models that replace one another: {way}; {message}")


def _extends(new: Price | None, old: Price) -> bool:
    """Return whether a price is the old one, but for service tiers that had none."""
    if new is None or not old.service_tiers.items() <= new.service_tiers.items():
        return False
    return replace(old, service_tiers=new.service_tiers) == new


def _resolved(catalog: Catalog, name: str, field: str) -> Model:
    try:
        return catalog.resolve(name)
    except ModelUnknown as error:
        raise CatalogInvalid.of(field, str(error)) from error


def price_of(
    since: date,
    given: Decimal,
    taken: Decimal,
    cache_read: Decimal | None = None,
    cache_write: Decimal | None = None,
    cache_write_1h: Decimal | None = None,
) -> dict[str, Any]:
    """Return a dated price as the table holds it; USD per million tokens."""
    return {"effective_from": since.isoformat(), **_named((given, taken, cache_read, cache_write, cache_write_1h))}


def _named(amounts: Iterable[Decimal | None]) -> dict[str, Any]:
    return {name: amount for name, amount in zip(PRICES, amounts, strict=True) if amount is not None}


def stored(price: Price) -> dict[str, Any]:
    """Return a price's amounts as the table holds them, without date."""

    def amounts(rates: Price | Tier) -> dict[str, Any]:
        return _named(getattr(rates, name) for name in PRICES)

    kept = amounts(price)
    if price.tiers:
        kept["tiers"] = [{"above": tier.above, **amounts(tier)} for tier in price.tiers]
    if price.service_tiers:
        kept["service_tiers"] = {tier: stored(own) for tier, own in price.service_tiers.items()}
    return kept
