"""moto's DynamoDB, asked at its handler: the way there by Flask's routes, moto's own and a second reading of the body
takes a third of a request's time."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from botocore.model import OperationNotFoundError
from moto.core.parse import PROTOCOL_PARSERS
from moto.core.utils import get_service_model
from moto.dynamodb.responses import DynamoHandler

from loopllama_cli.local.handle import ACCOUNT

TARGET = "DynamoDB_20120810."
"""What the header X-Amz-Target begins with."""


Answer = tuple[int, dict[str, str], bytes]
"""Status, headers and body."""


def answer(target: str, headers: Mapping[str, str], body: bytes, region: str) -> Answer | None:
    """Return the answer to a request; `None` for what moto itself is to look at: another service's target, an
    operation that there is not, a body that cannot be read. Requests must come one after another."""
    if not target.startswith(TARGET):
        return None
    handler: Any = DynamoHandler()
    parser_class: Any = PROTOCOL_PARSERS["json"]
    request = {"method": "POST", "values": {}, "headers": headers, "url_path": "/", "url_params": {}, "body": body}
    try:
        model = get_service_model("dynamodb").operation_model(target.removeprefix(TARGET))
        handler.params = parser_class(model, map_type=handler.PROTOCOL_PARSER_MAP_TYPE).parse(request)
    except (OperationNotFoundError, ValueError, TypeError, AttributeError, RecursionError):
        return None
    handler.headers, handler.querystring, handler.response_headers = headers, {}, {}
    handler.region, handler.current_account, handler.access_key = region, ACCOUNT, "local"
    status, given, text = handler.call_action()
    given.pop("status", None)
    return int(status), given, text.encode() if isinstance(text, str) else text
