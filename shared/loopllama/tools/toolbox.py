"""Tools that agents call. A crew names them, the Tools table defines them, a toolbox holds those of one agent."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from loopllama.aws import clients as default_aws
from loopllama.core import exact_json, json_schema
from loopllama.errors import InvalidRequest, ToolFailed, ToolInvalid, WorkflowInvalid
from loopllama.llm.types import ToolCall, ToolSpec
from loopllama.tools.builtin import BUILT_IN
from loopllama.tools.definitions import Aws, Context, Resolve, Tool
from loopllama.tools.reading import of_row, read

if TYPE_CHECKING:
    from loopllama.tools.types import ToolRow

MAX_ARGUMENT_BYTES = 256 * 1024
"""Longest arguments of a call, as JSON."""
MAX_RESULT_CHARACTERS = 200_000
"""Longest result that is handed to a model."""


class Toolbox:
    """The tools that one agent may call.

    `names` are those of its crew entry, `rows` their definitions (`ToolStore.named`). Raises `WorkflowInvalid` for a
    name that the deployment does not define, and `ToolInvalid` for a row that is invalid. `clock` gives epoch seconds;
    `resolve` finds the addresses of a host for HTTP tools, as the system does by default.
    """

    def __init__(
        self,
        rows: Mapping[str, ToolRow],
        names: Sequence[str],
        *,
        aws: Aws = default_aws,
        clock: Callable[[], float] = time.time,
        resolve: Resolve | None = None,
    ) -> None:
        unknown = [name for name in names if name not in rows and name not in BUILT_IN]
        if unknown:
            raise WorkflowInvalid.of_all(
                [{"field": "tools", "message": f"{name!r} is not defined"} for name in unknown],
                f"tools that this deployment does not define: {', '.join(map(repr, unknown))}; what it has: "
                "`loopllama tools list`. `loopllama tools push FILE.json` defines more",
            )
        self._tools: dict[str, Tool] = {
            name: BUILT_IN[name] if name in BUILT_IN else read(rows[name]) for name in dict.fromkeys(names)
        }
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
        tool = self._checked(call)
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

    def check(self, call: ToolCall) -> None:
        """Raise what `call` would raise before the tool runs."""
        self._checked(call)

    def _checked(self, call: ToolCall) -> Tool:
        tool = self._tools.get(call.name)
        if tool is None:
            names = ", ".join(self._tools) or "none"
            raise ToolFailed(f"there is no tool {call.name[:80]!r}; the tools are: {names}")
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
        return tool


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
        name = tool.spec.name
        raise of_row(name, ToolInvalid.of(f"{name}.parameters", str(error))) from error


def _system_resolve(host: str, port: int) -> Sequence[str]:
    from loopllama.tools.network import resolve

    return resolve(host, port)
