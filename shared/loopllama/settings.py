"""The deployment's settings, read once from the environment that the template gives a function."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from functools import lru_cache
from typing import Any


@dataclass(frozen=True, slots=True)
class Settings:
    """Names of this deployment's resources and its knobs. A function is given only the names it may use; the others
    are empty."""

    workflows_table: str = ""
    routes_table: str = ""
    route_history_table: str = ""
    models_table: str = ""
    tools_table: str = ""
    runs_table: str = ""
    usage_table: str = ""
    api_keys_table: str = ""
    key_use_table: str = ""
    values_bucket: str = ""
    state_machine_arn: str = ""
    event_bus_name: str = ""

    default_model: str = "balanced"
    route_cache_seconds: float = 5.0
    model_timeout_seconds: float = 120.0
    """What a model call gets while there is another model to try."""
    max_concurrency: int = 40
    """Items of a forEach step that run at once, at most, where the agent does not say fewer."""
    steps_per_invocation: int = 1
    """How many steps of a chain, one behind the other, an invocation of RunStep takes."""
    execution_events: int = 25_000
    """Events of its history at which Step Functions ends an execution; a run that needs more goes on in another."""
    retention_days: int = 30
    usage_row_days: int = 400
    """Days after which rows of usage go; their sums stay."""
    provider_secrets_prefix: str = ""
    """Secrets Manager names of provider credentials are this prefix and the provider's name."""
    allowed_provider_hosts: tuple[str, ...] = ()
    """Host names that a provider's key may be sent to beside the providers' own; `*.example.com` takes subdomains."""
    allowed_model_options: tuple[str, ...] = ()
    """Names of a model's `options` that are taken beside the known ones (`catalog.model_options`)."""
    simulated_providers: tuple[str, ...] = ()
    """Providers that the simulated one stands in for; `*` is all. Empty when deployed, unless a parameter says so."""
    simulated_speed: float = 1.0
    """Factor on the simulated models' tokens per second."""
    allowed_models: tuple[str, ...] = ()
    """The only models that may be called (`catalog.allowed`); empty is all."""
    daily_cost_limit: Decimal = Decimal(0)
    """USD that the model calls of a day (UTC) may cost, all together; 0 is no limit."""
    allowed_origins: tuple[str, ...] = ()
    """Web origins whose pages may call the API (CORS); `*` is any."""
    requests_per_second: float = 50.0
    """What the API takes from one key, in one process; at once twice as many."""
    event_readers_per_key: int = 5
    """Readers of events under one API key that may wait at once."""
    public_docs: bool = True
    """Whether the API's documentation needs no key."""

    @property
    def allowed(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """What the deployer allows of models: which, and the names in their options (`Catalog.allowing`)."""
        return self.allowed_models, self.allowed_model_options

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> Settings:
        """Read the variables that are set; what is missing keeps its default. Raises `ValueError` naming the
        variable that cannot be read."""
        values: dict[str, Any] = {}
        for name, convert in _CONVERT.items():
            text = environment.get(name.upper(), "")
            if text == "":
                continue
            try:
                values[name] = convert(text)
            except ValueError as error:
                raise ValueError(f"environment variable {name.upper()}={text!r}: {error}") from error
        return cls(**values)


def _names(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())


def _amount(text: str) -> Decimal:
    try:
        return Decimal(text)
    except InvalidOperation:
        raise ValueError("is no number") from None


_CONVERT: dict[str, Any] = {
    **dict.fromkeys(
        (
            "workflows_table",
            "routes_table",
            "route_history_table",
            "models_table",
            "tools_table",
            "runs_table",
            "usage_table",
            "api_keys_table",
            "key_use_table",
            "values_bucket",
            "state_machine_arn",
            "event_bus_name",
            "default_model",
            "provider_secrets_prefix",
        ),
        str,
    ),
    "route_cache_seconds": float,
    "model_timeout_seconds": float,
    "max_concurrency": int,
    "steps_per_invocation": int,
    "execution_events": int,
    "retention_days": int,
    "usage_row_days": int,
    "allowed_provider_hosts": _names,
    "allowed_model_options": _names,
    "simulated_providers": _names,
    "simulated_speed": float,
    "allowed_models": _names,
    "daily_cost_limit": _amount,
    "allowed_origins": _names,
    "requests_per_second": float,
    "event_readers_per_key": int,
    "public_docs": lambda text: text == "Enabled",
}


@lru_cache(maxsize=1)
def settings() -> Settings:
    """Return this process's settings."""
    return Settings.from_environment(os.environ)
