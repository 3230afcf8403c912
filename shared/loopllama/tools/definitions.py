"""What the kinds of tools share: reading a definition, and what a call is given."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from loopllama.errors import ToolInvalid
from loopllama.llm.types import ToolSpec

DEFAULT_SECONDS = 30.0
MAX_SECONDS = 900.0
"""A Lambda function's longest time, which bounds every tool."""

_MISSING = object()


ASK_HUMAN = ToolSpec(
    "ask_human",
    "Ask a person a question that only they can answer. The work stops until they do, so ask for all you need at once.",
    {
        "type": "object",
        "properties": {"question": {"type": "string", "description": "The whole question, understandable by itself."}},
        "required": ["question"],
        "additionalProperties": False,
    },
)
"""What an agent whose work may wait for people calls; the agent's loop answers it, not the toolbox."""


class Aws(Protocol):
    """Where clients come from: the module `aws.clients`."""

    def client(self, service: str, *, read_seconds: int = 60, attempts: int = 4) -> Any:
        """Return a boto3 client."""
        ...


Resolve = Callable[[str, int], Sequence[str]]
"""Host name and port to IP addresses. Raises `OSError`."""


@dataclass(frozen=True, slots=True)
class Context:
    """What one call is given beside its arguments. `deadline` is on `time.monotonic()`, `clock` gives epoch seconds."""

    idempotency_key: str
    deadline: float
    clock: Callable[[], float]
    aws: Aws
    resolve: Resolve


class Tool(Protocol):
    """A tool that can be called. `run` gets arguments that follow `spec.parameters` and returns text or JSON for the
    model; it raises `ToolFailed`."""

    @property
    def spec(self) -> ToolSpec:
        """The tool as a model sees it."""
        ...

    @property
    def timeout(self) -> float:
        """Seconds that a call may take."""
        ...

    def run(self, arguments: Mapping[str, Any], context: Context) -> Any:
        """Call it."""
        ...


class Fields:
    """The fields of one definition, each read once; `done` refuses what was not read. Raises `ToolInvalid`."""

    def __init__(self, where: str, fields: object) -> None:
        self.where = where
        if not isinstance(fields, Mapping):
            raise self.wrong("", f"must be an object, not {type(fields).__name__}")
        self._fields = dict(fields)
        self._known: list[str] = []

    def wrong(self, field: str, message: str) -> ToolInvalid:
        path = f"{self.where}.{field}" if field else self.where
        return ToolInvalid.of(path, message, sentence=f"{path} {message}")

    def take(self, field: str, default: Any = _MISSING) -> Any:
        self._known.append(field)
        value = self._fields.pop(field, default)
        if value is _MISSING:
            raise self.wrong(field, "is missing")
        return value

    def text(self, field: str, default: Any = _MISSING, *, longest: int = 2048) -> str:
        value = self.take(field, default)
        if not isinstance(value, str) or len(value) > longest or (value == "" and default != ""):
            raise self.wrong(field, f"must be a text of 1 to {longest:,} characters")
        return value

    def boolean(self, field: str) -> bool:
        value = self.take(field, False)
        if not isinstance(value, bool):
            raise self.wrong(field, "must be true or false")
        return value

    def seconds(self, field: str) -> float:
        value = self.take(field, DEFAULT_SECONDS)
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= MAX_SECONDS:
            raise self.wrong(field, f"must be a number of seconds over 0 and up to {MAX_SECONDS:g}")
        return float(value)

    def texts(self, field: str) -> list[str]:
        value = self.take(field)
        if not isinstance(value, list) or not value or not all(isinstance(text, str) for text in value):
            raise self.wrong(field, "must be a list of texts, not empty")
        return value

    def inner(self, field: str) -> Fields | None:
        value = self.take(field, None)
        return None if value is None else Fields(f"{self.where}.{field}", value)

    def parameters(self) -> dict[str, Any]:
        """Return the JSON Schema of the arguments: an object's. All of the schema is checked where it is used."""
        value = self.take("parameters", {"type": "object", "properties": {}})
        if not isinstance(value, dict) or value.get("type") != "object":
            raise self.wrong("parameters", 'must be a JSON Schema with "type": "object"')
        if not isinstance(value.get("properties", {}), dict) or not isinstance(value.get("required", []), list):
            raise self.wrong("parameters", "must have an object of properties and a list of required names")
        return value

    def done(self) -> None:
        if self._fields:
            names = ", ".join(sorted(map(str, self._fields)))
            raise self.wrong("", f"has unknown fields: {names}; known are {', '.join(self._known)}")


def is_name(name: object) -> bool:
    """Return whether a tool may have this name: all providers take it."""
    return isinstance(name, str) and re.fullmatch(r"[A-Za-z0-9_-]{1,64}", name) is not None


def check_name(name: object) -> None:
    """Raise `ToolInvalid` for what no tool may be named."""
    if not is_name(name):
        message = "must be 1 to 64 letters, digits, _ and -"
        raise ToolInvalid.of(str(name), message, sentence=f"the tool name {name!r} {message}")
