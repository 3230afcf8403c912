"""The HTTP API: decode, one call, encode."""

from __future__ import annotations

from typing import Any

from aws_lambda_powertools.event_handler import APIGatewayHttpResolver
from aws_lambda_powertools.event_handler.exceptions import NotFoundError

from loopllama import __version__

app = APIGatewayHttpResolver()


@app.get("/healthz")
def healthz() -> dict[str, str]:
    """Whether the API answers, and which version does. Needs no key."""
    return {"status": "ok", "version": __version__}


@app.not_found
def not_found(_: NotFoundError) -> tuple[dict[str, str], int]:
    """Every address that nothing else answers."""
    event = app.current_event
    return {"error": f"There is no {event.http_method} {event.path} here"}, 404


def handler(event: dict[str, Any], context: Any) -> dict[str, Any]:
    """API Gateway's HTTP API event, payload format 2.0, to its answer."""
    return app.resolve(event, context)
