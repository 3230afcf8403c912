"""moto's DynamoDB without HTTP between it and the client.

A request to moto within one process is signed, written as HTTP, read again and taken apart: more than half of its time,
and most of the time of the tests whose code works on tables. A client that `connect` was called on hands its checked
parameters to moto's handler, and reads the answer as botocore reads any. What HTTP itself does is tried on the local
stack, whose clients and server speak it.
"""

from __future__ import annotations

import threading
from types import SimpleNamespace
from typing import Any

from botocore.parsers import create_parser
from moto.core.parse import PROTOCOL_PARSERS
from moto.core.utils import get_service_model
from moto.dynamodb.responses import DynamoHandler

ACCOUNT = "123456789012"
_parser = create_parser("json")
_one_at_a_time = threading.RLock()


def connect(client: Any) -> None:
    """Let a client of DynamoDB reach moto's state at once, as long as `mock_aws` is in force."""
    region = client.meta.region_name

    def carry_out(model: Any, params: dict[str, Any], **_: Any) -> tuple[Any, dict[str, Any]]:
        status, headers, body = _answered(model.name, params, region)
        response = {"status_code": status, "headers": headers, "body": body, "context": {}}
        parsed = _parser.parse(response, model.output_shape)
        if status >= 300:
            shape = model.service_model.shape_for_error_code(parsed.get("Error", {}).get("Code"))
            parsed |= _parser.parse(response, shape) if shape else {}
        parsed["ResponseMetadata"]["RetryAttempts"] = 0
        return SimpleNamespace(status_code=status, headers=headers), parsed

    client.meta.events.register("before-call.dynamodb", carry_out)


def _answered(operation: str, params: dict[str, Any], region: str) -> tuple[int, dict[str, str], bytes]:
    handler: Any = DynamoHandler()
    handler.headers = {**params["headers"], "X-Amz-Target": f"DynamoDB_20120810.{operation}"}
    handler.querystring, handler.response_headers = {}, {}
    handler.region, handler.current_account, handler.access_key = region, ACCOUNT, "testing"
    model = get_service_model("dynamodb").operation_model(operation)
    parser = PROTOCOL_PARSERS["json"](model, map_type=handler.PROTOCOL_PARSER_MAP_TYPE)
    request: Any = {"method": "POST", "values": {}, "url_path": "/", "url_params": {}}
    handler.params = parser.parse(request | {"headers": handler.headers, "body": params["body"]})
    with _one_at_a_time:
        status, headers, body = handler.call_action()
    return int(status), headers, body.encode() if isinstance(body, str) else body
