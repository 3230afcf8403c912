"""What the API answers: `{"data": …}`, or `{"error": one sentence}` with a status; and reading what it is asked."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from aws_lambda_powertools.event_handler import Response
from aws_lambda_powertools.event_handler.exceptions import NotFoundError
from aws_lambda_powertools.event_handler.openapi.exceptions import RequestValidationError
from pydantic.alias_generators import to_camel

from loopllama.api.auth import Unauthorized
from loopllama.api.key_use import TooManyRequests
from loopllama.api.scopes import Forbidden
from loopllama.aws import errors
from loopllama.core import exact_json
from loopllama.errors import (
    AwsUnavailable,
    Conflict,
    InvalidRequest,
    ModelUnknown,
    NotFound,
    RunNotFound,
    WorkflowNotFound,
    WorkflowPaused,
)
from loopllama.telemetry import logs

MAX_BODY_BYTES = 1024 * 1024
JSON = "application/json"


class BodyTooLarge(Exception):
    """The body has more than `MAX_BODY_BYTES`."""


class MethodNotAllowed(Exception):
    """The address knows other methods."""

    def __init__(self, method: str, allowed: Sequence[str]) -> None:
        super().__init__(f"There is no {method} here; {', '.join(allowed)} would do")
        self.allowed = tuple(allowed)


def data(value: Any, status: int = 200, headers: Mapping[str, str] | None = None, **more: Any) -> Response[str]:
    """Return `{"data": value}`, numbers exact, with `more` beside it."""
    return Response(status, JSON, exact_json.dumps({"data": value, **more}), headers=headers)


def problem(error: Exception, request_id: str) -> Response[str]:
    """Return the answer that tells of an error. What we did not foresee is logged under the request's id, and told as
    that only."""
    status, headers = _status(error)
    if isinstance(error, RequestValidationError):
        error = _invalid(error)
    if status == 404:
        body: dict[str, Any] = {"error": "Not found", **_what_else(error)}
    elif isinstance(error, WorkflowPaused):
        body = {"error": "Workflow is paused"}
    elif status == 503:
        logs.logger().warning("an AWS service did not answer", extra={"error": logs.safe_text(error)})
        body = {"error": f"AWS did not answer in time; try again (request {request_id})"}
    elif status == 500:
        logs.logger().error("unforeseen error", extra={"error": logs.safe_text(error)})
        body = {"error": f"This should not have happened; the log has it under request {request_id}"}
    else:
        body = {"error": str(error)}
        if isinstance(error, InvalidRequest) and error.details:
            body["details"] = [{"field": detail["field"], "message": detail["message"]} for detail in error.details]
    return Response(status, JSON, exact_json.dumps(body), headers=headers)


def _what_else(error: Exception) -> dict[str, Any]:
    """Return the `details` of a 404. LoopLlama's v1 has but one text for what is not there, for workflows, runs and
    addresses; of what else there may be, which is not in v1, the message says what there is."""
    if isinstance(error, NotFoundError | WorkflowNotFound | RunNotFound):
        return {}
    field = "model" if isinstance(error, ModelUnknown) else "route"
    return {"details": [{"field": field, "message": str(error)}]}


def _status(error: Exception) -> tuple[int, dict[str, str]]:
    if isinstance(error, Unauthorized):
        return 401, {"WWW-Authenticate": "Bearer"}
    if isinstance(error, Forbidden):
        return 403, {}
    if isinstance(error, TooManyRequests):
        return 429, {"Retry-After": str(error.retry_after)}
    if isinstance(error, MethodNotAllowed):
        return 405, {"Allow": ", ".join(error.allowed)}
    if isinstance(error, BodyTooLarge):
        return 413, {}
    for kind, status in (
        (RequestValidationError, 400),
        (InvalidRequest, 400),
        (NotFoundError, 404),
        (NotFound, 404),
        (Conflict, 409),
    ):
        if isinstance(error, kind):
            return status, {}
    if isinstance(errors.trouble(error), AwsUnavailable):
        return 503, {"Retry-After": "2"}
    return 500, {}


@contextmanager
def fields_as_asked() -> Iterator[None]:
    """Name the fields of a table's store as bodies do: what is refused there says `maxCost`, not `max_cost`."""
    try:
        yield
    except InvalidRequest as error:
        details = [{**detail, "field": to_camel(str(detail["field"]))} for detail in error.details]
        raise InvalidRequest.of_all(details, "" if details else str(error)) from error


def read_body(event: Mapping[str, Any]) -> str | None:
    """Return the event's body as text. Raises `BodyTooLarge`, and `InvalidRequest` where it is no UTF-8."""
    body = event.get("body")
    if not body:
        return None
    try:
        raw = base64.b64decode(body, validate=True) if event.get("isBase64Encoded") else str(body).encode()
        if len(raw) > MAX_BODY_BYTES:
            raise BodyTooLarge(f"The body has {len(raw):,} bytes; at most {MAX_BODY_BYTES:,} are taken")
        return raw.decode("utf-8-sig")
    except (UnicodeError, binascii.Error):
        raise _body("must be JSON in UTF-8") from None


def parse_body(text: str) -> dict[str, Any]:
    """Return a body's JSON object, numbers exact. Raises `InvalidRequest`."""
    try:
        value = exact_json.loads(text)
        if "\\u" in text:
            exact_json.dumps(value, ascii_only=False).encode()
    except UnicodeError:
        raise _body(f"has {exact_json.HALF}") from None
    except exact_json.NotTaken as error:
        raise InvalidRequest.of(error.field or "body", error.message, subject=error.field or "The body") from None
    except ValueError as error:
        place = f" (character {error.pos + 1})" if hasattr(error, "pos") else ""
        raise _body(f"must be JSON{place}") from None
    if not isinstance(value, dict):
        raise _body("must be a JSON object")
    return value


def _body(message: str) -> InvalidRequest:
    return InvalidRequest.of("body", message, subject="The body")


def _invalid(error: RequestValidationError) -> InvalidRequest:
    """Pydantic's errors in the API's words, without what was handed in."""
    details: list[dict[str, object]] = []
    for violation in error.errors()[:50]:
        place, kind = [str(part)[:60] for part in violation["loc"]], violation["type"]
        field = ".".join(place[1:]) or place[0]
        if kind == "missing" and field == "body":
            message = "is missing: send a JSON object"
        elif kind == "missing":
            message = "is missing"
        elif kind == "extra_forbidden":
            message = "is unknown"
        elif kind == "value_error":
            message = str(violation["ctx"]["error"])
        else:
            message = str(violation["msg"])
            for before, after in _WORDS:
                message = message.replace(before, after)
        details.append({"field": field, "message": message})
    details = _united(details)
    first = details[0]
    more = f" (and {len(details) - 1} more)" if len(details) > 1 else ""
    return InvalidRequest.of_all(details, f"{first['field']} {first['message']}{more}.")


def _united(details: Sequence[dict[str, object]]) -> list[dict[str, object]]:
    """With what pydantic says of each kind that a field may be said in one, under the field's own name."""
    messages_by_field: dict[str, list[str]] = {}
    for detail in details:
        field, _, kind = str(detail["field"]).rpartition(".")
        field = field if field and _KIND.fullmatch(kind) else str(detail["field"])
        messages_by_field.setdefault(field, []).append(str(detail["message"]))
    united: list[dict[str, object]] = []
    for field, messages in messages_by_field.items():
        kept = [
            message for message in messages if message != "must be a whole number" or "must be a number" not in messages
        ]
        first, *others = dict.fromkeys(kept)
        united.append(
            {"field": field, "message": " or ".join([first, *(message.removeprefix("must be ") for message in others)])}
        )
    return united


_KIND = re.compile(r"constrained-str|int|decimal|dict\[.*\]")
"""What pydantic adds to a field's place for each kind that it may be."""

_WORDS = (
    ("Input should", "must"),
    ("String should", "must"),
    ("List should", "must"),
    ("Dictionary should", "must"),
    ("Value error, ", ""),
    (" or object to extract fields from", ""),
    ("a valid dictionary", "an object"),
    ("an instance of Decimal", "a number"),
    ("a valid string", "a text"),
    ("valid integer", "whole number"),
    (", unable to parse string as an integer", ""),
)
