"""moto's DynamoDB without HTTP between it and the client.

A request to moto within one process is signed, written as HTTP, read again and taken apart: more than half of its time,
and most of the time of the tests whose code works on tables. A client that `connect` was called on hands its checked
parameters to moto's handler, and reads the answer as botocore reads any. What HTTP itself does is tried on the local
stack, whose clients and server speak it.
"""

from __future__ import annotations

import contextlib
import threading
from types import SimpleNamespace
from typing import Any

from botocore.parsers import JSONParser

from loopllama_cli.local.moto_patches import direct
from loopllama_cli.local.moto_patches.dynamodb import attribute_value


class _Parser(JSONParser):
    """botocore's, but that it takes an attribute's value as it is where it is plain JSON: botocore looks for ten
    members in each."""

    def _handle_structure(self, shape: Any, value: Any) -> Any:
        if shape.name == "AttributeValue":
            with contextlib.suppress(ValueError):
                return attribute_value(value)
        return super()._handle_structure(shape, value)


_parser = _Parser()
_one_at_a_time = threading.RLock()


def connect(client: Any) -> None:
    """Let a client of DynamoDB reach moto's state at once, as long as `mock_aws` is in force."""
    region = client.meta.region_name

    def carry_out(model: Any, params: dict[str, Any], **_: Any) -> tuple[Any, dict[str, Any]] | None:
        target, body = f"{direct.TARGET}{model.name}", params["body"]
        with _one_at_a_time:
            answer = direct.answer(target, {**params["headers"], "X-Amz-Target": target}, body, region)
        if answer is None:
            return None
        status, headers, body = answer
        response = {"status_code": status, "headers": headers, "body": body, "context": {}}
        parsed = _parser.parse(response, model.output_shape)
        if status >= 300:
            shape = model.service_model.shape_for_error_code(parsed.get("Error", {}).get("Code"))
            parsed |= _parser.parse(response, shape) if shape else {}
        parsed["ResponseMetadata"]["RetryAttempts"] = 0
        return SimpleNamespace(status_code=status, headers=headers), parsed

    client.meta.events.register("before-call.dynamodb", carry_out)
