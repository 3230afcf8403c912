"""The tool calls of an agent's answers: made side by side, each once, and what people are asked on the way."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Protocol

from loopllama.core import exact_json
from loopllama.errors import ToolFailed
from loopllama.llm import structured_output
from loopllama.llm.types import Message, ToolCall, ToolSpec
from loopllama.runs.attempt_log import StepLedger
from loopllama.tools.definitions import ASK_HUMAN

if TYPE_CHECKING:
    from loopllama.runs.records import HumanAnswer, QuestionKind
    from loopllama.workflows.types import CrewStep

MAX_TOOL_CALLS = 64
"""Tool calls of one answer; those beyond are answered with that."""
MAX_ASKED_CHARACTERS = 200_000
"""Longest arguments that a person is asked to approve, as JSON: an answer of the API holds them whole, as no link."""


class Waiting(Exception):
    """A person must answer before the turn goes on. `key` names the question within the step; `kind` is `input` or
    `approval`, the latter with the tool that waits for it, if one does."""

    def __init__(
        self, key: str, kind: QuestionKind, prompt: str, tool: str | None = None, tool_input: Any = None
    ) -> None:
        super().__init__(prompt)
        self.key = key
        self.kind = kind
        self.prompt = prompt
        self.tool = tool
        self.tool_input = tool_input


class Tools(Protocol):
    """What the turn needs of `tools.toolbox.Toolbox`."""

    @property
    def specs(self) -> Sequence[ToolSpec]:
        """The agent's tools as its model sees them."""
        ...

    def check(self, call: ToolCall) -> None:
        """Raise `ToolFailed` for a call that would be refused before it runs."""
        ...

    def call(self, call: ToolCall, *, idempotency_key: str, timeout: float) -> str:
        """Call a tool; raises `ToolFailed`."""
        ...


class ToolCalls:
    """The calls of one turn. `ends` is when the last of them must have its result, by `time.monotonic()`; `key` goes
    before the place of each call to make its idempotency key; `answers` are what people have answered, by the keys of
    what they were asked."""

    def __init__(
        self,
        step: CrewStep,
        ledger: StepLedger,
        tools: Tools | None,
        ends: float,
        key: str,
        answers: Mapping[str, HumanAnswer],
    ) -> None:
        self._ledger = ledger
        self._tools = tools
        self._ends = ends
        self._key = key
        self._answers = answers
        self._asks = ASK_HUMAN.name in (step.get("tools") or ())
        self._approved_tools = frozenset((step.get("approval") or {}).get("tools") or ())
        self._structured = step.get("output_schema") is not None

    def specs(self) -> list[ToolSpec]:
        """Return the tools as the agent's model sees them."""
        return [*(self._tools.specs if self._tools else ()), *([ASK_HUMAN] if self._asks else ())]

    def make(self, turn: int, asked: Sequence[ToolCall]) -> list[Message]:
        """Make the calls of the answer at place `turn` of the conversation, but for those that are settled; the
        messages that give the results to the model. Raises `Waiting` where a call waits for a person, once the others
        are made, and `LeaseLost`."""
        calls, spare = asked[:MAX_TOOL_CALLS], asked[MAX_TOOL_CALLS:]
        keys = [self._ledger.tool_key(turn, index) for index in range(len(calls))]
        ready: list[tuple[str, ToolCall]] = []
        waiting: Waiting | None = None
        for key, call in zip(keys, calls, strict=True):
            if self._ledger.settled_tool(key) is not None:
                continue
            self._ledger.open_tool(key, call)
            question = self._question(key, call)
            if question is None:
                ready.append((key, call))
            else:
                waiting = waiting or question
        if ready:
            with ThreadPoolExecutor(max_workers=min(8, len(ready))) as pool:
                done = [pool.submit(self._call, key, call) for key, call in ready]
            broken: Exception | None = None
            for (key, _), future in zip(ready, done, strict=True):
                try:
                    result, failed, started = future.result()
                except Exception as error:
                    broken = error  # The others have done their work: that must not be lost, or done again.
                    continue
                self._ledger.settle_tool(key, result, failed, started)
            if broken is not None:
                raise broken
        if waiting is not None:
            raise waiting
        # Each further call of the turn begins with all of this: a place for a cache point.
        results = [(call, self._ledger.settled_tool(key) or "") for key, call in zip(keys, calls, strict=True)]
        results += [(call, f"not called: one answer may ask for {MAX_TOOL_CALLS} calls") for call in spare]
        return [Message("tool", text, tool_call_id=call.id, stable=call is asked[-1]) for call, text in results]

    def _question(self, key: str, call: ToolCall) -> Waiting | None:
        """Return what a person must still answer before this call can be made."""
        if key in self._answers:
            return None
        if self._asks and call.name == ASK_HUMAN.name:
            question = (call.arguments or {}).get("question")
            return Waiting(key, "input", question) if isinstance(question, str) and question else None
        if call.name in self._approved_tools and not self._refused(call):
            return Waiting(key, "approval", f"Approve the call of tool {call.name}", call.name, call.arguments)
        return None

    def _refused(self, call: ToolCall) -> str:
        """Return why a call is refused whatever anybody says of it; empty for one that can be made. Nobody is asked to
        approve what cannot be shown whole, or would not be done."""
        if self._tools is None:
            return "this agent has no tools: answer without them"
        try:
            self._tools.check(call)
            if (length := len(exact_json.kept(call.arguments))) > MAX_ASKED_CHARACTERS:
                raise ToolFailed(
                    f"a person has to approve this call of {call.name}, and its arguments have {length:,} characters "
                    f"of JSON; at most {MAX_ASKED_CHARACTERS:,} are shown to a person. Call it with less"
                )
        except ToolFailed as error:
            return str(error)
        return ""

    def _call(self, key: str, call: ToolCall) -> tuple[str, bool, float]:
        started = time.monotonic()
        timeout = self._ends - started
        answer = self._answers.get(key, {})
        try:
            if self._asks and call.name == ASK_HUMAN.name:
                if "input" not in answer:
                    raise ToolFailed('ask_human takes {"question": a text}')
                return str(answer["input"]), False, started
            if call.name in self._approved_tools and (refused := self._refused(call)):
                raise ToolFailed(refused)
            if call.name in self._approved_tools and not answer.get("approved"):
                note = f": {answer['note']}" if answer.get("note") else ""
                raise ToolFailed(f"a person declined this call of {call.name}{note}. Go on without it.")
            if self._structured and call.name in structured_output.ANSWER_TOOLS:
                raise ToolFailed("not taken as the answer: give it again, alone, now that you see the other results")
            names = [spec.name for spec in self.specs()]
            if self._tools is None or call.name not in names:
                has = f"the tools are: {', '.join(names)}" if names else "this agent has no tools: answer without them"
                raise ToolFailed(f"there is no tool {call.name[:80]!r}; {has}")
            if timeout <= 0:
                raise ToolFailed("the step's time is used up")
            return self._tools.call(call, idempotency_key=f"{self._key}/{key}", timeout=timeout), False, started
        except ToolFailed as error:
            return str(error), True, started
