"""Tools that agents call. A crew names them, the deployment defines them, a toolbox holds those of one agent."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from loopllama.aws import clients as default_aws
from loopllama.core import exact_json, json_schema
from loopllama.errors import InvalidRequest, ToolFailed, ToolInvalid, WorkflowInvalid
from loopllama.llm.structured_output import ANSWER_TOOLS
from loopllama.llm.types import ToolCall, ToolSpec
from loopllama.settings import Settings
from loopllama.tools.builtin import BUILT_IN
from loopllama.tools.definitions import ASK_HUMAN, Aws, Context, Fields, Resolve, Tool, checked_name

if TYPE_CHECKING:
    from loopllama.workflows.types import CrewStep

MAX_ARGUMENT_BYTES = 256 * 1024
"""Longest arguments of a call, as JSON."""
MAX_RESULT_CHARACTERS = 200_000
"""Longest result that is handed to a model."""

_KINDS = ("lambda", "http", "http_get")
_RESERVED = frozenset((*BUILT_IN, *ANSWER_TOOLS, ASK_HUMAN.name))
"""Names with a meaning of their own."""


def check_definitions(definitions: Mapping[str, Any]) -> list[str]:
    """Return the names of a deployment's tools, built-ins included, once all of its definitions make sense, their
    schemas too. Raises `ToolInvalid` for the first that does not."""
    for name, definition in definitions.items():
        _violations(_read(name, definition), {})
    return sorted({*definitions, *BUILT_IN})


def check_names(crew: Sequence[CrewStep], settings: Settings) -> None:
    """Raise `WorkflowInvalid`, with each place and the closest name, where steps of a definition name tools that the
    deployment does not have."""
    from loopllama.core.names import closest

    known = sorted({*(settings.tools or {}), *BUILT_IN, ASK_HUMAN.name})
    if settings.tools_problem:
        return  # what tools there are cannot be told: `invalid` says so
    details: list[dict[str, object]] = [
        {
            "field": f"crew.{position}.tools.{place}",
            "message": f"this deployment has no tool '{name[:64]}'{closest(name, known)} (the template's parameter "
            "Tools defines more: docs/tools.md)",
        }
        for position, step in enumerate(crew)
        for place, name in enumerate(step.get("tools") or ())
        if name not in known
    ]
    if details:
        raise WorkflowInvalid.of_all(details)


def invalid(crew: Sequence[CrewStep], settings: Settings) -> list[dict[str, object]]:
    """Return the places where steps of a definition name tools that the deployment defines in a way that is invalid, as
    `{"field", "message"}`: such steps fail."""
    details: list[dict[str, object]] = []
    for position, step in enumerate(crew):
        for place, name in enumerate(step.get("tools") or ()):
            if settings.tools_problem and name not in (*BUILT_IN, ASK_HUMAN.name):
                message = f"the template's parameter Tools cannot be read: {settings.tools_problem}"
                details.append({"field": f"crew.{position}.tools.{place}", "message": message})
            if name not in (settings.tools or {}):
                continue
            try:
                _violations(_tool(name, settings.tools or {}), {})
            except ToolInvalid as error:
                message = f"the template's parameter Tools defines it in a way that is invalid: {error}"
                details.append({"field": f"crew.{position}.tools.{place}", "message": message})
    return details


class Toolbox:
    """The tools that one agent may call.

    `names` are those of its crew entry. Raises `WorkflowInvalid` for a name that the deployment does not define, and
    `ToolInvalid` for a definition that is invalid. `clock` gives epoch seconds; `resolve` finds the addresses of
    a host for HTTP tools, as the system does by default.
    """

    def __init__(
        self,
        settings: Settings,
        names: Sequence[str],
        *,
        aws: Aws = default_aws,
        clock: Callable[[], float] = time.time,
        resolve: Resolve | None = None,
    ) -> None:
        defined = settings.tools or {}
        if settings.tools_problem and not BUILT_IN.keys() >= set(names):
            raise ToolInvalid(f"the template's parameter Tools cannot be read: {settings.tools_problem}")
        unknown = [name for name in names if name not in defined and name not in BUILT_IN]
        if unknown:
            raise WorkflowInvalid.of_all(
                [{"field": "tools", "message": f"{name!r} is not defined"} for name in unknown],
                f"tools that this deployment does not define: {', '.join(map(repr, unknown))}; it has "
                f"{', '.join(sorted({*defined, *BUILT_IN}))}. More are defined in the template's parameter Tools",
            )
        self._tools: dict[str, Tool] = {name: _tool(name, defined) for name in dict.fromkeys(names)}
        self._aws = aws
        self._clock = clock
        self._resolve = resolve
        self.specs: tuple[ToolSpec, ...] = tuple(tool.spec for tool in self._tools.values())
        """The tools as a model sees them, in the crew's order."""

    def call(self, call: ToolCall, *, idempotency_key: str, timeout: float) -> str:
        """Call a tool that the model asked for; the text that the model gets. Safe to use from several threads.

        The tool must be the agent's, and the arguments must follow its schema, before it runs. It may take `timeout`
        seconds or its own limit, whichever is less. Objects become JSON text; over 200,000 characters are cut, and
        the text says so. Raises `ToolFailed` with a message for the model, free of secrets, and
        `ToolInvalid` where the tool's own schema is none.
        """
        tool = self._tools.get(call.name)
        if tool is None:
            names = ", ".join(self._tools) or "none"
            raise ToolFailed(f"there is no tool {call.name[:80]!r}; the tools are: {names}")
        self._check(tool, call)
        limit = min(timeout, tool.timeout)
        if limit <= 0:
            raise ToolFailed(f"no time is left for {call.name}")
        context = Context(
            idempotency_key, time.monotonic() + limit, self._clock, self._aws, self._resolve or _system_resolve
        )
        result = tool.run(call.arguments or {}, context)
        text = result if isinstance(result, str) else exact_json.dumps(result, ascii_only=False)
        text = text.encode(errors="replace").decode()  # half a surrogate pair could not be stored or sent
        if len(text) > MAX_RESULT_CHARACTERS + 100:  # room for a tool's own mark of a cut
            text = f"{text[:MAX_RESULT_CHARACTERS]}\n[cut: {len(text):,} characters in all]"
        return text

    def _check(self, tool: Tool, call: ToolCall) -> None:
        if call.arguments is None:
            raise ToolFailed(f"the arguments of {call.name} are not a JSON object: {_why(call.raw)}")
        try:
            text = exact_json.kept(call.arguments)
        except (TypeError, ValueError, RecursionError) as error:
            raise ToolFailed(f"the arguments of {call.name} cannot be written as JSON: {error}") from error
        if len(text) > MAX_ARGUMENT_BYTES:
            raise ToolFailed(
                f"the arguments of {call.name} have {len(text):,} bytes of JSON; "
                f"at most {MAX_ARGUMENT_BYTES:,} are taken"
            )
        violations = _violations(tool, call.arguments)
        if violations:
            raise ToolFailed(f"the arguments of {call.name} do not follow its schema: {'; '.join(violations)}")


def _why(raw: str) -> str:
    """Return why a model's text is not what a tool can be called with."""
    with contextlib.suppress(ValueError):
        try:
            exact_json.loads(raw, last_wins=True)
        except exact_json.NotTaken as error:
            return f"{error}. Call it again without that"
    return f"{raw[:200]!r}. Call it again with an object"


def _violations(tool: Tool, arguments: Any) -> list[str]:
    try:
        return json_schema.violations(tool.spec.parameters, arguments)
    except InvalidRequest as error:
        raise ToolInvalid.of(f"{tool.spec.name}.parameters", str(error)) from error


def _tool(name: str, defined: Mapping[str, Any]) -> Tool:
    return _from_text(name, exact_json.dumps(defined[name])) if name in defined else BUILT_IN[name]


@lru_cache(maxsize=128)
def _from_text(name: str, text: str) -> Tool:
    """Return a definition is read once per process."""
    return _read(name, json.loads(text))


def _read(name: str, definition: object) -> Tool:
    checked_name(name)
    fields = Fields(name, definition)
    if name in _RESERVED:
        raise fields.wrong("", "is the name of a built-in tool; take another one")
    kind = fields.take("type")
    tool: Tool
    if kind == "lambda":
        from loopllama.tools.function import FunctionTool

        tool = FunctionTool.read(name, fields)
    elif kind == "http":
        from loopllama.tools.http import HttpTool

        tool = HttpTool.read(name, fields)
    elif kind == "http_get":
        from loopllama.tools.http import HttpGetTool

        tool = HttpGetTool.read(name, fields)
    else:
        raise fields.wrong("type", f"must be one of {', '.join(_KINDS)}, not {kind!r}")
    fields.done()
    return tool


def _system_resolve(host: str, port: int) -> Sequence[str]:
    from loopllama.tools.network import resolve

    return resolve(host, port)
