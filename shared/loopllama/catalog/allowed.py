"""Which models a deployment allows at all: the template's parameter AllowedModels, which no key and no table changes.

An entry is a catalog id or a bundled alias, which stands for what the bundled catalog says and not for what a row of
the Models table makes of the name; `provider:model`; or `provider:beginning*`. What is compared is what is called: the
provider and the name that it knows the model by. So a name of somebody's own opens no other model, and efforts and
service tiers of an allowed one are allowed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from loopllama.catalog.model import Model, at_region
from loopllama.errors import ModelUnknown

NOT_ALLOWED = "is not among the models that this deployment allows (the template's parameter AllowedModels)"


def not_allowed(entries: Sequence[str]) -> str:
    """Return what is said of a model that is none of them, behind its name."""
    return f"{NOT_ALLOWED}: {', '.join(entries[:20])}{', …' if len(entries) > 20 else ''}"


class AllowedModels:
    """Entries of the parameter; `resolve` is that of the bundled catalog."""

    def __init__(self, entries: Sequence[str], resolve: Callable[[str], Model]) -> None:
        self._entries, self._resolve = entries, resolve
        self._exact: set[str] | None = None
        self._beginnings = tuple(entry[:-1] for entry in entries if entry.endswith("*") and ":" in entry)

    def allows(self, model: Model) -> bool:
        """Return whether a model may be called."""
        if self._exact is None:
            self._exact = {name for entry in self._entries for name in self._named(entry)}
        names = _called(model)
        return not self._exact.isdisjoint(names) or any(name.startswith(self._beginnings) for name in names)

    def _named(self, entry: str) -> tuple[str, ...]:
        if entry.endswith("*"):
            return ()
        try:
            return _called(self._resolve(entry))
        except ModelUnknown:
            return (entry,) if ":" in entry else ()  # of a provider of the deployment's own


def _called(model: Model) -> tuple[str, ...]:
    """Return what is called, as `provider:model`; of Bedrock the inference profile that options name, if any, and also
    without the region that a name may begin with."""
    name = model.provider_model
    if model.provider == "bedrock":  # Converse is told the profile, and prices and limits go by the model
        name = str((model.options or {}).get("inferenceProfile") or name)
    return tuple({f"{model.provider}:{name}", f"{model.provider}:{at_region(name)[1]}"})
