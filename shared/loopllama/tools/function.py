"""Tools that are Lambda functions.

The function is invoked with `{"tool": name, "arguments": {…}, "idempotency_key": text}`; what it returns is the result.
A call that is repeated after a crash has the same key, so a function that changes something can tell.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from loopllama.core import exact_json
from loopllama.core.patterns import late
from loopllama.errors import ToolFailed
from loopllama.llm.types import ToolSpec
from loopllama.tools.definitions import Context, Fields

_REFERENCE = late(r"[A-Za-z0-9_:$.-]{1,200}")
_LIMITS = (1, 2, 3, 5, 10, 15, 20, 30, 45, 60, 90, 120, 180, 240, 300, 450, 600, 900)
"""Read timeouts (s) that clients are made with: botocore binds it to the client, and making one takes time."""


@dataclass(frozen=True, slots=True)
class FunctionTool:
    """`{"type": "lambda", "function": name or ARN, "description", "parameters", "timeout_seconds"?}`."""

    spec: ToolSpec
    function: str
    timeout: float

    @classmethod
    def read(cls, name: str, fields: Fields) -> FunctionTool:
        """From its definition. Raises `ToolInvalid`."""
        function = fields.text("function")
        if not _REFERENCE.fullmatch(function):
            raise fields.wrong("function", f"must be the name or ARN of a Lambda function, not {function!r}")
        spec = ToolSpec(name, fields.text("description"), fields.parameters())
        return cls(spec, function, fields.seconds("timeout_seconds"))

    def run(self, arguments: Mapping[str, Any], context: Context) -> Any:
        """Invoke the function and wait for it. Raises `ToolFailed`."""
        from botocore.exceptions import BotoCoreError, ClientError, ConnectTimeoutError, ReadTimeoutError

        name = self.spec.name
        remaining = context.deadline - time.monotonic()
        limit = max((seconds for seconds in _LIMITS if seconds <= remaining + 0.1), default=0)
        if not limit:
            raise ToolFailed(f"{name}: less than a second is left for the call")
        event = {"tool": name, "arguments": arguments, "idempotency_key": context.idempotency_key}
        # One attempt: a second one could run the function twice.
        client = context.aws.client("lambda", read_seconds=limit, attempts=1)
        try:
            answer = client.invoke(FunctionName=self.function, Payload=exact_json.dumps(event).encode())
            payload = answer["Payload"].read()
        except (ReadTimeoutError, ConnectTimeoutError) as error:
            raise ToolFailed(f"{name} gave no answer within {limit} s; it may still have done its work") from error
        except ClientError as error:
            code = error.response.get("Error", {}).get("Code", "Unknown")
            raise ToolFailed(f"{name} cannot be called now: AWS Lambda says {code}") from error
        except BotoCoreError as error:
            raise ToolFailed(f"{name} cannot be reached: {type(error).__name__}") from error
        try:
            result = exact_json.loads(payload, last_wins=True) if payload else None
        except ValueError as error:
            why = f" that can be taken: {error}" if isinstance(error, exact_json.NotTaken) else ""
            raise ToolFailed(f"{name} gave an answer that is not JSON{why}") from error
        if answer.get("FunctionError"):
            raise ToolFailed(f"{name} failed: {_reason(result)}")
        return result


def _reason(error: Any) -> str:
    """Type and message from a function's error payload; the stack trace is not for the model."""
    if not isinstance(error, dict):
        return exact_json.dumps(error)[:1000]
    parts = [str(error[key]) for key in ("errorType", "errorMessage") if error.get(key)]
    return (": ".join(parts) or "it gave no reason")[:1000]
