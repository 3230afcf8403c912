"""What a scripted provider answers, and what a run's steps came to."""

from __future__ import annotations

from typing import Any

from loopllama.core import exact_json
from loopllama.errors import ModelRequestRejected
from loopllama.llm.types import ModelResponse
from support.deployment import Killed


def answer(call: Any) -> str:
    return "fine"


def die(*_: Any, **__: Any) -> Any:
    raise Killed


def reject(call: Any) -> str:
    raise ModelRequestRejected("no")


TEXTS = {"type": "object", "properties": {"list": {"type": "array"}, "ok": {"type": "boolean"}}}


def by_system(answers: dict[str, Any]) -> Any:
    """A script that answers by the agent's system prompt."""

    def script(call: Any) -> str | ModelResponse:
        answer = next(answers[key] for key in answers if key in call.system)
        answer = answer(call) if callable(answer) else answer
        return answer if isinstance(answer, str | ModelResponse) else exact_json.dumps(answer)

    return script


def statuses(run: dict[str, Any]) -> dict[str, str]:
    return {step["step"]: step["status"] for step in run["steps"]}
