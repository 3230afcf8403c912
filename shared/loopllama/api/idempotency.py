"""`Idempotency-Key`: the same key and request give the same answer for a day, and act once.

A small item in the Runs table, which has a TTL, holds the request's hash and the answer. It also names this use of the
key, from which a run's id follows: so a request that died after it had started its run finds that run again, and the
same key means another run when its day is over.
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
from loopllama.errors import AwsRefused, AwsUnavailable, Conflict, LoopLlamaError
from loopllama.telemetry import logs

KEPT_SECONDS = 86_400
_ITEM = "ANSWER"
_LEASE_MS = 30_000
"""Longer than an invocation of the API's function."""
_PATIENCE_SECONDS = 10.0


def once(
    services: Services, caller: Caller, key: str | None, request: Any, act: Callable[[str | None], Response[str]]
) -> Response[str]:
    """Return the answer of `act`, or what it was when the same key came before. `request` is what the key stands for.

    `act` takes a key of its own, `None` where the caller gave none: the same for as long as this key stands for the
    request, whoever acts again because the first one died, and another one afterwards. A run's id follows from it.

    What is refused may be tried again with the same key, also as another request. Raises `Conflict` where the key
    stands for another request, or the first one is not answered yet.
    """
    if not key:
        return act(None)
    owner = "answer_" + hashlib.sha256(f"{caller.id}/{key}".encode()).hexdigest()[:32]
    request_hash = hashlib.sha256(exact_json.dumps(request).encode()).hexdigest()
    patience, me = time.monotonic() + _PATIENCE_SECONDS, uuid.uuid4().hex
    while True:
        try:
            opened, item = _open(services, owner, request_hash, me)
        except Exception:
            _let_go(services, owner, me, is_free=True)  # it may be there though its answer was lost; nothing was done
            raise
        if opened:
            break
        if item.get("request_hash") != request_hash:
            raise Conflict("The idempotency key was used for another request.")
        if "answer" in item:
            return Response(int(item["status"]), JSON, services.values.load(item["answer"]))
        if int(item["lease_until"]) < clock.now_ms() and _take_over(services, owner, item, me):
            break
        if time.monotonic() > patience:
            raise Conflict("A request with this idempotency key is still being worked on; try again.")
        time.sleep(0.1)
    try:
        answer = act(f"{owner}/{item.get('use', '')}")
    except Exception as error:
        _let_go(services, owner, me, is_free=_is_refusal(error))
        raise
    try:
        stored = services.values.store(owner, "answer", answer.body)
        dynamo.update(
            services.runs.dynamodb,
            services.runs.table,
            _key(owner),
            {"answer": stored, "status": answer.status_code},
            condition="opened_by = :me",
            parameters={":me": me},
        )
    except Exception as error:
        if (trouble := errors.trouble(error)) is None:
            raise
        # What was asked for is done: whoever asked hears of it, and only who asks again does not.
        logs.logger().warning("an answer was not kept", extra={"error": str(trouble)})
    return answer


def _key(owner: str) -> dict[str, str]:
    return {"run_id": owner, "item": _ITEM}


def _is_refusal(error: Exception) -> bool:
    """Return whether an error says that nothing was done. Of trouble with AWS, and of what nobody foresaw, it is not
    known."""
    return isinstance(error, LoopLlamaError) and not isinstance(error, AwsUnavailable | AwsRefused)


def _open(services: Services, owner: str, request_hash: str, me: str) -> tuple[bool, dict[str, Any]]:
    """Put the item unless it is there; whether it is this request's, and the one that is there. One whose day is over
    is in nobody's way."""
    now = clock.now_ms()
    item = {
        **_key(owner),
        "request_hash": request_hash,
        "use": me,
        "opened_by": me,
        "lease_until": now + _LEASE_MS,
        "delete_at": now // 1000 + KEPT_SECONDS,
    }
    done, before = dynamo.put(
        services.runs.dynamodb,
        services.runs.table,
        item,
        condition="attribute_not_exists(run_id) OR delete_at < :seconds",
        parameters={":seconds": now // 1000},
    )
    # It may be this request's own, put once more by the SDK because the answer was lost.
    return (True, item) if done else (before.get("opened_by") == me, before)


def _take_over(services: Services, owner: str, item: dict[str, Any], me: str) -> bool:
    """Act in the place of a request that died before it was answered, under the same use of the key; `False` where
    another one was faster."""
    done, _ = dynamo.update(
        services.runs.dynamodb,
        services.runs.table,
        _key(owner),
        {"opened_by": me, "lease_until": clock.now_ms() + _LEASE_MS},
        condition="opened_by = :before AND lease_until = :until AND attribute_not_exists(answer)",
        parameters={":before": item["opened_by"], ":until": item["lease_until"]},
    )
    return done


def _let_go(services: Services, owner: str, me: str, *, is_free: bool) -> None:
    """Let go of the item if it is this request's: the key is free for any request, or the same one can be made again
    at once."""
    dynamodb, table, condition = services.runs.dynamodb, services.runs.table, "opened_by = :me"
    with contextlib.suppress(Exception):
        if is_free:
            dynamo.delete(dynamodb, table, _key(owner), condition=condition, parameters={":me": me})
        else:
            values = {"lease_until": 0}
            dynamo.update(dynamodb, table, _key(owner), values, condition=condition, parameters={":me": me})
