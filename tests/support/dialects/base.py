"""What the contract suite asks of a wire format.

That is: answers and errors shaped as the provider documents them, requests read back into one form, and what the
suite's expectations depend on.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import pytest

from loopllama import providers
from loopllama.catalog.model import Model
from loopllama.catalog.providers import KNOWN
from loopllama.errors import ModelError
from loopllama.llm.types import Message, ModelRequest, Provider
from loopllama.providers import credentials
from loopllama.settings import Settings
from support.dialects.history import Rules, Turn
from support.wire_server import Reply, Request

KEY = "sk-contract-0123456789"
Documented = Sequence[tuple[int, str, type[ModelError]]]
"""Errors of a provider's documentation: status, code, and what we make of it."""


@dataclass(frozen=True)
class Figures:
    """Tokens as we count them: the whole prompt, and parts of it."""

    prompt: int = 21
    answer: int = 7
    cached: int = 0
    written: int = 0
    reasoning: int = 0


USUAL = Figures()
"""What an answer counts unless a test says otherwise."""


@dataclass(frozen=True)
class Seen:
    """A request as the provider saw it. Messages are `(role, kind, content)` with kind text, call or result."""

    model: str
    system: str
    messages: list[tuple[str, str, Any]]
    tools: Mapping[str, Any] = field(default_factory=dict)
    forced: str | None = None
    schema: Any = None
    strict: bool | None = None
    max_tokens: int | None = None
    temperature: float | None = None
    cache_points: int = 0


def request_to(dialect: Dialect, **changes: Any) -> ModelRequest:
    """Return a short request to a dialect's model, with `changes`."""
    values: dict[str, Any] = {
        "model": dialect.model,
        "catalog_id": "m",
        "system": "",
        "messages": (Message("user", "Go."),),
        "timeout": 10.0,
        **changes,
    }
    return ModelRequest(**values)


class Dialect(ABC):
    """A provider's wire format. `DIALECTS` in this package lists an object of each class."""

    name: str
    """The provider, as the product knows it."""
    model: str
    own_format: ClassVar[bool] = True
    """Whether the wire format is its own; else it is another dialect's, with differences."""

    # What the suite expects
    counts_writes: ClassVar[bool] = False
    """Whether the usage tells what was written to a cache."""
    counts_reasoning: ClassVar[bool] = False
    cache_points: ClassVar[bool] = False
    """Whether requests say where to cache."""
    has_temperature: ClassVar[bool] = True
    """Whether `model` takes one."""
    strict: ClassVar[bool] = False
    """Whether a schema may be marked strict."""
    recursive_schemas: ClassVar[bool] = True
    """Whether the native mode takes a recursive schema; else the answer tool does."""
    arguments_are_text: ClassVar[bool] = False
    """Whether a tool call's arguments are JSON in a text, so that one that is cut off is broken JSON."""
    asks_for_a_limit: ClassVar[bool] = False
    """Whether a request must say how long the answer may be."""
    takes_the_models_limit: ClassVar[bool] = False
    """Whether the model's longest answer is sent where nobody set a limit."""
    options: ClassVar[Mapping[str, Any]] = {"reasoning_effort": "low", "seed": 7}
    """Parameters that an entry of the catalog may set."""
    merged_options: ClassVar[Sequence[str]] = ()
    """Those that the request holds together with what the call says."""
    usage_field: ClassVar[str] = "usage"
    tier: ClassVar[str] = ""
    """The service tier that its answers name, by our names."""
    counts: ClassVar[Sequence[str]]
    """Names of counts in the usage."""

    # Errors as status, code and message
    too_long: ClassVar[tuple[int, str, str]]
    """For a prompt beyond the context window."""
    throttled: ClassVar[tuple[int, str, str]]
    unauthorized: ClassVar[tuple[int, str, str]]
    unknown_model: ClassVar[tuple[int, str, str]]
    bad_request: ClassVar[tuple[int, str, str]]
    """About the temperature."""
    overloaded: ClassVar[tuple[int, str, str]]
    documented: ClassVar[Documented]

    def adapter(self, url: str, patch: pytest.MonkeyPatch) -> Provider:
        """Return the product's adapter, with the server at `url` for its provider."""
        prefix = KNOWN[self.name].variables[0]
        patch.setenv(f"{prefix}_API_KEY", KEY)
        patch.setenv(f"{prefix}_BASE_URL", url + self.path)
        return adapter_of(self.name)

    path: ClassVar[str] = ""
    """What the base URL has behind the host."""

    @property
    def remedy(self) -> str:
        """What the error about a wrong key says."""
        return f"loopllama providers set {self.name}"

    @abstractmethod
    def answer(
        self, text: str = "", calls: Sequence[Any] = (), stop: str = "end", usage: Figures | None = USUAL
    ) -> Any:
        """Return a body. `calls` are `(id, name, arguments)`; arguments that are text are broken JSON. `stop` is one of
        end, tools, length, refusal."""

    @abstractmethod
    def error(self, status: int, code: str, message: str, headers: Mapping[str, str] | None = None) -> Reply:
        """Return an error's answer."""

    def unreadable(self) -> Mapping[str, Reply]:
        """Return what the provider answers where it cannot read what its own model wrote, by name."""
        return {}

    @abstractmethod
    def seen(self, request: Request) -> Seen:
        """Return what the request says. Fails where the provider would not take it."""

    @abstractmethod
    def has_key(self, request: Request) -> bool:
        """Return whether the request carries `KEY` as the provider wants it."""

    def refusal(self, request: Request) -> Reply | None:
        """Return what the provider answers to a request that it does not take; `None` where it takes it."""
        body = request.json
        said = self.rules.refusal(self.turns(body), body, self.has_tools(body))
        status, code, _ = self.bad_request
        return self.error(status, code, said) if said else None

    def guard(self, request: Request) -> Reply | None:
        """Return what the provider answers to a request that it does not take, or does not take from this caller."""
        return self.refusal(request)

    rules: ClassVar[Rules]
    """What it refuses of tool calls."""

    @abstractmethod
    def turns(self, body: Any) -> list[Turn]:
        """Return the conversation's messages, with their tool calls and results."""

    def has_tools(self, body: Any) -> bool:
        """Return whether the request has tools."""
        return bool(body.get("tools"))


def adapter_of(provider: str) -> Provider:
    """Return a new adapter of a provider, as the environment and the registry are now."""
    credentials._kept.clear()
    providers._adapters.clear()
    return providers.provider_for(Model(f"{provider}:m", provider, "m"), Settings())


def objects(schema: Any, place: str = "()") -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Every schema of an object inside a schema, with its place."""
    if isinstance(schema, Mapping):
        if schema.get("type") == "object":
            yield place, schema
        for key, value in schema.items():
            yield from objects(value, f"{place}.{key}")
    elif isinstance(schema, list):
        for value in schema:
            yield from objects(value, place)


def closed(schema: Any) -> str | None:
    """Where an object is not closed."""
    return next((place for place, one in objects(schema) if one.get("additionalProperties") is not False), None)
