"""The catalog: which models there are, what they cost and what they can do.

The bundled part is `data.json`, generated (`make catalog`); entries of the Models table add to it or replace
it, field by field. What a bundled alias stands for depends on the region, and is looked up here and nowhere else.
Loading reads the JSON only; a model's prices become `Decimal` when the model is first used.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from loopllama.aws import clients
from loopllama.catalog import model_options, variants
from loopllama.catalog.allowed import AllowedModels
from loopllama.catalog.entries import FIELDS, bundled_model, is_machine_key, parse_item
from loopllama.catalog.model import MAX_ID, PROVIDERS, TAKEN_OVER, Model, is_model_id, split
from loopllama.catalog.providers import KNOWN, Known
from loopllama.errors import CatalogInvalid, ModelUnknown
from loopllama.llm.types import Identity

NEEDS_PROVIDER = "a model that is not bundled needs `provider`"
MAX_HOPS = 8
_MOST_ODD = 3
"""Words behind an `@` that are neither effort nor tier: the provider's own, and what somebody got wrong."""
_MOST_KEPT = 500
"""Unknown names of which is kept what they are like: a crew may ask for many, each of them often."""
_DATA = Path(__file__).with_name("data.json")


class Catalog:
    """Models by id. Immutable: `with_entries` makes another. Resolved models are kept, so asking again is a lookup."""

    def __init__(
        self,
        data: Mapping[str, Any],
        entries: Mapping[str, Mapping[str, Any]] | None = None,
        aliases: Mapping[str, Mapping[str, Any]] | None = None,
        problems: tuple[dict[str, str], ...] = (),
        region: str = "",
        allowed: AllowedModels | None = None,
        allowed_options: Collection[str] = (),
    ) -> None:
        self._data = data
        self._allowed, self._allowed_options = allowed, allowed_options
        self._region = region
        self._bundled_aliases: Mapping[str, str] = data["aliases"].get(region) or data["aliases"][""]
        self._bundled: Mapping[str, Mapping[str, Any]] = data["models"]
        self._entries = entries or {}
        self._aliases = aliases or {}
        self._written = {
            f"{fields['provider']}:{fields['provider_model']}": model_id
            for model_id, fields in self._entries.items()
            if "provider" in fields and "provider_model" in fields
        }
        self._resolved: dict[str, Model] = {}
        self._near: dict[str, list[str]] = {}
        self.problems = problems
        """What was skipped of the table's entries: `{"model", "reason"}`."""

    @property
    def source(self) -> str:
        """Where the bundled prices come from, with version and date."""
        return str(self._data["source"])

    def with_entries(self, items: Iterable[Mapping[str, Any]]) -> Catalog:
        """Return this catalog with items of the Models table over the bundled entries. The table wins field by field;
        of the bundled prices those before the table's first date stay. What is invalid is skipped, field by field, of
        `options` name by name, and listed in `problems`; nothing raises."""
        entries: dict[str, dict[str, Any]] = {}
        aliases: dict[str, dict[str, Any]] = {}
        problems: list[dict[str, str]] = []
        for item in items:
            if is_machine_key(item.get("model")):
                continue
            name, fields, reasons = parse_item(item)
            problems.extend({"model": name, "reason": f"`{key}` {reason}"} for key, reason in reasons.items())
            if not fields:
                continue
            if "alias_of" in fields:
                aliases[name] = fields
                continue
            model_id = self.canonical(name)
            if model_id not in self._bundled and split(model_id) is None and "provider" not in fields:
                problems.append({"model": name, "reason": NEEDS_PROVIDER})
                continue
            if "options" in fields:
                provider = fields.get("provider") or self._provider(model_id)
                fields["options"], wrong = model_options.checked(provider, fields["options"], self._allowed_options)
                if wrong:
                    problems.append({"model": name, "reason": f"`options` {wrong}"})
            if name == model_id or model_id not in entries:
                entries[model_id] = fields
        made = Catalog(
            self._data, entries, aliases, tuple(problems), self._region, self._allowed, self._allowed_options
        )
        made.problems += tuple(made._wrong_links())
        return made

    def allowing(self, models: Sequence[str], options: Collection[str] = ()) -> Catalog:
        """Return this catalog as the deployer bounds it: with all models disabled but those that `models` allow
        (`AllowedModels`; empty allows all), and `options` as further names that entries may set in their options."""
        if not models and not options:
            return self
        allowed = AllowedModels(models, bundled(self._region).resolve) if models else None
        return Catalog(self._data, self._entries, self._aliases, self.problems, self._region, allowed, options)

    def _provider(self, model_id: str) -> str:
        if model_id in self._bundled:
            return str(self._bundled[model_id]["provider"])
        return (split(model_id) or ("",))[0]

    def aliases(self) -> dict[str, str]:
        """Alias to what it stands for; the table's over the bundled."""
        bundled = {name: target for name, target in self._bundled_aliases.items() if name not in self._entries}
        return bundled | {name: row["alias_of"] for name, row in self._aliases.items()}

    def models(self) -> Iterator[Model]:
        """Yield every model, by id, without aliases; those that bundled aliases stand for in this region are among
        them."""
        here = map(self.canonical, self._bundled_aliases.values())
        for model_id in sorted({*self._bundled, *here, *self._entries} - self._aliases.keys()):
            yield self.resolve(model_id)

    def canonical(self, model_id: str) -> str:
        """Return the id under which the catalog keeps what `model_id` names: `openai:gpt-5-mini` is `gpt-5-mini`.
        Aliases are not followed."""
        if model_id in self._bundled or model_id in self._entries:
            return model_id
        parts = split(model_id)
        if parts is not None:
            provider, name = parts
            if name in self._bundled and self._bundled[name]["provider"] == provider:
                return name
        if model_id in self._written:
            return self._written[model_id]
        return f"bedrock:{parts[1]}" if parts is not None and parts[0] == "bedrock" else model_id

    def resolve(self, model_id: str) -> Model:
        """Return the model that an id, an alias or `provider:model` stands for.

        `provider:model` of a known provider that the catalog does not list is a model of unknown price and unknown
        capabilities. Raises `ModelUnknown`, with near matches, for anything else, and for aliases in a circle.
        """
        model = self._resolved.get(model_id)
        if model is None:
            model = self._resolve(model_id)
            if self._allowed is not None and not self._allowed.allows(model):
                model = replace(model, enabled=False, replaced_by=None, barred=True)
            if len(self._resolved) < 4096:
                self._resolved[model_id] = model
        return model

    def check_same_as(self, model_id: str) -> None:
        """Raise `CatalogInvalid` where an entry's `same_as` names no model, leads back to the entry, or says an effort
        or a service tier, of which the entry would take over neither."""
        model_id = self.canonical(model_id)
        target = self._entries[model_id]["same_as"]
        if (base := variants.parse(target).base) != target and not self._keeps(target):
            raise CatalogInvalid.of("same_as", f"{target!r} says an effort or a service tier: name {base!r}")
        try:
            self._behind(model_id, ())
        except ModelUnknown as error:
            raise CatalogInvalid.of("same_as", str(error)) from error

    def replacement_circles(self) -> dict[str, str]:
        """Return the entries whose `replaced_by` leads back to them, were all on the way disabled; each with the way,
        as in `a -> b -> a`. A step that meets such a circle has no model left in it."""
        rows = {**self._entries, **self._aliases}
        following = {
            name: self._replacing(str(row["replaced_by"])) for name, row in rows.items() if "replaced_by" in row
        }
        circles: dict[str, str] = {}
        for name in following:
            path = [name]
            while (at := following.get(path[-1], "")) and at not in path:
                path.append(at)
            if at == name:
                circles[name] = " -> ".join((*path, at))
        return circles

    def _replacing(self, name: str) -> str:
        """Return whose entry has the next word where `name` is used instead of something: an alias with a `replaced_by`
        of its own, or the model. Empty where it leads nowhere."""
        for _ in range(MAX_HOPS + 1):
            name = name if self._keeps(name) else variants.parse(name).base
            row = self._aliases.get(name)
            if row is not None and "replaced_by" in row:
                return name
            target = row["alias_of"] if row is not None else self._bundled_aliases.get(name)
            if target is None or (row is None and name in self._entries):
                return self.canonical(name)
            name = target
        return ""

    def _wrong_links(self) -> Iterator[dict[str, str]]:
        for model_id, fields in self._entries.items():
            try:
                if "same_as" in fields:
                    self._behind(model_id, ())
            except ModelUnknown as error:
                yield {"model": model_id, "reason": f"`same_as` is skipped: {error}"}

    def _behind(self, model_id: str, path: tuple[str, ...]) -> Model:
        """Return the model that an entry's `same_as` names. `path` are the entries whose `same_as` led here. Raises
        `ModelUnknown`."""
        path = (*path, model_id)
        target = self._entries[model_id]["same_as"]
        name = self._unaliased(target)[0]
        if (known := self.canonical(name)) in path or len(path) > MAX_HOPS:
            raise ModelUnknown(f"same_as goes round in a circle: {' -> '.join((*path, known))}")
        model = self._model(known, path)
        if model is None:
            raise ModelUnknown(self._unknown(target, name))
        return model

    def _resolve(self, model_id: str) -> Model:
        if not is_model_id(model_id):
            raise ModelUnknown(f"{str(model_id)[:80]!r} is no model id: it must be text of 1 to {MAX_ID} characters")
        name, disabled_by, effort, tier = self._unaliased(model_id)
        self._check_suffix(model_id, name)
        model = self._model(self.canonical(name))
        if model is None:
            raise ModelUnknown(self._unknown(model_id, name))
        if disabled_by is not None:
            model = replace(model, enabled=False, replaced_by=disabled_by.get("replaced_by"))
        return variants.of(model, effort, tier)

    def _unaliased(self, model_id: str) -> tuple[str, Mapping[str, Any] | None, str, str]:
        """Return what an id leads to through aliases, the row of the first of them that is disabled, and the effort and
        the service tier that the names on the way ask for."""
        name, path, disabled_by = model_id, [model_id], None
        effort = tier = ""
        while True:
            if not self._keeps(name):
                name, of_name, at_tier = variants.parse(name)
                # What a name says wins over what its alias says.
                effort, tier = effort or of_name, tier or at_tier
            row = self._aliases.get(name)
            if row is None:
                target = None if name in self._entries else self._bundled_aliases.get(name)
            else:
                target = row["alias_of"]
                if disabled_by is None and row.get("enabled") is False:
                    disabled_by = row
            if target is None:
                return name, disabled_by, effort, tier
            path.append(target)
            if target in path[:-1] or len(path) > MAX_HOPS:
                raise ModelUnknown(f"alias {model_id!r} goes round in a circle: {' -> '.join(path)}")
            name = target

    def _keeps(self, name: str) -> bool:
        """Return whether something is kept under the very name, be there an `@` in it."""
        return any(name in kept for kept in (self._aliases, self._entries, self._bundled, self._bundled_aliases))

    def _check_suffix(self, model_id: str, name: str) -> None:
        """Raise `ModelUnknown` where `model_id` names a known model with an effort or tier that is none, or with two;
        `name` is what is left of it."""
        base, at, word = name.rpartition("@")
        # Each one more is looked up in turn: a name of nothing but them would keep a process busy.
        if not at or not base or name.count("@") > _MOST_ODD or self._keeps(name) or name in self._written:
            return
        try:
            model = self.resolve(base)
        except ModelUnknown:
            return
        if (model.origin or {}).get("id") != "written out":
            twice = variants.parse(name).base != name
            what = (
                "says more than one effort or service tier" if twice else f"says {word!r}, which {model.entry} has not"
            )
            raise ModelUnknown(f"{model_id!r} {what}: {variants.has(self.resolve(model.entry))}")

    def _model(self, model_id: str, path: tuple[str, ...] = ()) -> Model | None:
        fields = self._entries.get(model_id)
        base = _bundled_model(model_id) if self._data is _data() else _read(self._data, model_id)
        if fields is None:
            return base
        if base is None:
            base = self._named(model_id, str(fields["provider"]), str(fields.get("provider_model", model_id)))
        known = {key: value for key, value in fields.items() if key in FIELDS}
        if "prices" in known:
            first = known["prices"][0].effective_from
            known["prices"] = tuple(p for p in base.prices if p.effective_from < first) + known["prices"]
        made = replace(base, **known, origin=dict(base.origin or {}) | dict.fromkeys(known, "table"))
        return self._filled(made, known, path) if "same_as" in known else made

    def _filled(self, model: Model, fields: Mapping[str, Any], path: tuple[str, ...]) -> Model:
        """Return the model with what it has from the one that it is the same as. A `same_as` that leads nowhere is as
        if it were not there."""
        try:
            other = self._behind(model.id, path)
        except ModelUnknown:
            if path:
                raise  # it is the entry at the beginning of the path that goes round
            return replace(model, same_as=None)
        taken = [name for name in TAKEN_OVER if name not in fields]
        return replace(
            model,
            **{name: getattr(other, name) for name in taken},
            stands_for=other.stands_for or Identity(other.provider, other.provider_model),
            origin={**(model.origin or {}), **dict.fromkeys(taken, "same_as")},
        )

    def _named(self, model_id: str, provider: str, provider_model: str) -> Model:
        """Return what is bundled of a provider's model, for an entry that has a name of its own for it: the same model
        with other `options`, say."""
        by_role = KNOWN.get(provider, Known()).by_role  # whose models stand in the catalog with the provider's name
        bundled_as = f"{provider}:{provider_model}" if by_role else provider_model
        if by_role or self._bundled.get(bundled_as, {}).get("provider") == provider:
            known = _read(self._data, bundled_as)
            if known is not None:
                return replace(known, id=model_id, provider_model=provider_model)
        return Model(model_id, provider, provider_model, origin={})

    def near(self, name: str) -> list[str]:
        """Return at most three ids and aliases that somebody may have meant by `name`: aliases first, then the closest;
        `provider:model` is looked for by its model too, and by a provider that is spelled like it."""
        from loopllama.core.names import near as like

        if name in self._near:
            return self._near[name]
        ids = [*self._bundled, *self._bundled_aliases, *self._entries, *self._aliases]
        parts = split(name)
        near: list[str] = []
        for text in dict.fromkeys((name, *(parts[1:] if parts else ()))):
            near += like(text, ids, most=3)
            near += [known for known in ids if text and text.lower() in known.lower()][:3]
        provider, colon, model = name.partition(":")
        if colon and provider not in PROVIDERS:
            near = [*(f"{known}:{model}" for known in like(provider, PROVIDERS)), *near]
        found = [known for known in dict.fromkeys(near) if known != name]
        aliases = {*self._bundled_aliases, *self._aliases}
        if len(self._near) >= _MOST_KEPT:
            self._near.clear()
        self._near[name] = sorted(found, key=lambda known: known not in aliases)[:3]
        return self._near[name]

    def _unknown(self, model_id: str, name: str) -> str:
        near = self.near(name)
        through = "" if name in (model_id, variants.parse(model_id).base) else f" (alias {model_id!r})"
        hint = f"; did you mean {', '.join(near)}?" if near else "."
        return (
            f"no model {name!r}{through}{hint} A model is an id of the catalog, an alias, or provider:model with one "
            f"of the providers {', '.join(PROVIDERS)}."
        )


def bundled(region: str = "") -> Catalog:
    """Return the bundled catalog, with its aliases as they stand in a region, by default the one that this process
    works in."""
    return _bundled_in(region or clients.region())


def regions() -> frozenset[str]:
    """Return the regions of which the catalog knows that they have Bedrock."""
    return frozenset(_data()["aliases"]) - {""}


def answered_in(region: str) -> list[str]:
    """Return the ids of Amazon's models that Bedrock answers in a region alone, the best first; often none."""
    return list(_data()["in_region"].get(region, ()))


@lru_cache(maxsize=8)
def _bundled_in(region: str) -> Catalog:
    return Catalog(_data(), region=region)


@lru_cache(maxsize=1)
def _data() -> dict[str, Any]:
    data: dict[str, Any] = json.loads(_DATA.read_bytes())
    return data


@lru_cache(maxsize=4096)
def _bundled_model(model_id: str) -> Model | None:
    return _read(_data(), model_id)


def _read(data: Mapping[str, Any], model_id: str) -> Model | None:
    return bundled_model(data["models"], model_id)
