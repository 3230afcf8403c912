"""`Idempotency-Key`: the same key and request give the same answer for a day, and act once.

A run's id follows from the key, so runs need nothing more. For everything else a small item in the Runs table, which
has a TTL, holds the request's hash and the answer.
"""

from __future__ import annotations

import contextlib
import hashlib
import time
import uuid
from collections.abc import Callable
from typing import Any

from aws_lambda_powertools.event_handler import Response

from loopllama.api.auth import Caller
from loopllama.api.dependencies import Services
from loopllama.api.responses import JSON
from loopllama.aws import dynamo, errors
from loopllama.core import clock, exact_json
from loopllama.errors import Conflict
from loopllama.telemetry import logs

KEPT_SECONDS = 86_400
_ITEM = "ANSWER"
_LEASE_MS = 30_000
"""Longer than an invocation of the API's function."""
_PATIENCE_SECONDS = 10.0


def run_key(caller: Caller, key: str | None) -> str | None:
    """Return the key that a run's id follows from: each API key has its own."""
    return f"api/{caller.id}/{key}" if key else None


def once(
    services: Services, caller: Caller, key: str | None, request: Any, act: Callable[[], Response[str]]
) -> Response[str]:
    """Return the answer of `act`, or what it was when the same key came before. `request` is what the key stands for.

    What fails may be tried again with the same key. Raises `Conflict` where the key stands for another request, or
    the first one is not answered yet.
    """
    if not key:
        return act()
    owner = "answer_" + hashlib.sha256(f"{caller.id}/{key}".encode()).hexdigest()[:32]
    request_hash = hashlib.sha256(exact_json.dumps(request).encode()).hexdigest()
    patience, me = time.monotonic() + _PATIENCE_SECONDS, uuid.uuid4().hex
    try:
        while True:
            opened, item = _open(services, owner, request_hash, me)
            if opened:
                break
            if item.get("request_hash") != request_hash:
                raise Conflict("The idempotency key was used for another request.")
            if "answer" in item:
                return Response(int(item["status"]), JSON, services.values.load(item["answer"]))
            if time.monotonic() > patience:
                raise Conflict("A request with this idempotency key is still being worked on; try again.")
            time.sleep(0.1)
        answer = act()
    except Exception:
        _close(services, owner, me)
        raise
    try:
        stored = services.values.store(owner, "answer", answer.body)
        dynamo.update(
            services.runs.dynamodb,
            services.runs.table,
            _key(owner),
            {"answer": stored, "status": answer.status_code},
            condition="request_hash = :hash",
            parameters={":hash": request_hash},
        )
    except Exception as error:
        if (trouble := errors.trouble(error)) is None:
            raise
        # What was asked for is done: whoever asked hears of it, and only who asks again does not.
        logs.logger().warning("an answer was not kept", extra={"error": str(trouble)})
    return answer


def _key(owner: str) -> dict[str, str]:
    return {"run_id": owner, "item": _ITEM}


def _close(services: Services, owner: str, me: str) -> None:
    """Take the item away again if it is this request's, also where the answer to putting it was lost."""
    with contextlib.suppress(Exception):
        dynamo.delete(
            services.runs.dynamodb,
            services.runs.table,
            _key(owner),
            condition="opened_by = :me",
            parameters={":me": me},
        )


def _open(services: Services, owner: str, request_hash: str, me: str) -> tuple[bool, dict[str, Any]]:
    """Put the item unless it is there; whether it was put, and the one in the way. One whose day is over, or whose
    process has died, is in nobody's way, nor is this request's own, put again because the answer was lost."""
    now = clock.now_ms()
    item = {
        **_key(owner),
        "request_hash": request_hash,
        "opened_by": me,
        "lease_until": now + _LEASE_MS,
        "delete_at": now // 1000 + KEPT_SECONDS,
    }
    done, before = dynamo.put(
        services.runs.dynamodb,
        services.runs.table,
        item,
        condition="attribute_not_exists(run_id) OR delete_at < :seconds"
        " OR (attribute_not_exists(answer) AND lease_until < :now AND request_hash = :hash)"
        " OR opened_by = :me",
        parameters={":seconds": now // 1000, ":now": now, ":hash": request_hash, ":me": me},
    )
    return done, item if done else before
