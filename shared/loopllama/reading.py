"""Runs as the API and the command line show them: the run object with its steps, made from the record."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Mapping
from typing import Any

from . import accounts, aws, clock, jsontext
from .definitions import DefinitionStore
from .errors import InvalidRequest, RunNotFound
from .runs import FINAL, RUN, RunStore
from .settings import Settings
from .values import ValueStore

MAX_PAGE = 100
_RUN = ("workflow_id", "workflow_version", "status", "models", "pin", "tags", "total_steps", "budget", "pending")
_TIMES = ("created_at", "started_at", "finished_at")
_STEP = ("role", "model", "source", "route_version", "started_at", "finished_at", "latency_ms", "routing_ms")
_ATTEMPT = (
    *("model", "provider", "turn", "outcome", "error", "tokens_in", "tokens_out", "tokens_cached"),
    *("tokens_cache_write", "tokens_reasoning", "cost_usd", "cost_basis", "latency_ms", "started_at", "simulated"),
)
_TOOL_CALL = ("name", "outcome", "latency_ms", "started_at")


class RunReader:
    """Reads runs from the Runs table."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._store = RunStore(settings)
        self._values = ValueStore(settings)
        self._definitions = DefinitionStore(settings)

    def get(self, run_id: str, show: Callable[[Any], Any] | None = None) -> dict[str, Any]:
        """The run object with its steps, also those that have not started. Totals are summed from the attempts.

        `show` turns a stored value into what the caller wants of it; by default the whole value, large ones fetched.
        Raises `RunNotFound`.
        """
        show = show or self._values.load
        items = aws.query(
            self._store.dynamodb, self._settings.runs_table, "run_id = :run", {":run": run_id}, consistent=True
        )
        run = next((item for item in items if item["item"] == RUN), None)
        if run is None:
            raise RunNotFound(f"there is no run {run_id!r}")
        records = sorted((item for item in items if "order" in item), key=lambda item: (item["order"], item["item"]))
        steps = [self._step(record, show) for record in records]
        begun = {record["step"] for record in records}
        steps += [_waiting(order, step) for order, step in enumerate(self._crew(run)) if step["name"] not in begun]
        sums = accounts.totals(step for step in steps if step["attempts"])
        return {
            **self._summary(run),
            "input": show(run.get("input")),
            "output": show(run.get("output")),
            **sums,
            "steps": sorted(steps, key=lambda step: step["order"]),
        }

    def list(
        self, workflow_id: str | None = None, limit: int = 20, cursor: str | None = None
    ) -> tuple[list[dict[str, Any]], str | None]:
        """A workflow's runs, newest first, without inputs, outputs and steps; and the cursor of the next page.

        Without a workflow: the newest runs of the most recently updated workflows, and no cursor.
        """
        if workflow_id is None:
            workflows, _ = self._definitions.list(MAX_PAGE)
            found = [run for one in workflows for run in self.list(one["workflow_id"], limit)[0]]
            return sorted(found, key=lambda run: str(run["created_at"]), reverse=True)[:limit], None
        request: dict[str, Any] = {
            "TableName": self._settings.runs_table,
            "IndexName": "by_workflow",
            "KeyConditionExpression": "workflow_id = :workflow",
            "ExpressionAttributeValues": aws.to_item({":workflow": workflow_id}),
            "ScanIndexForward": False,
            "Limit": max(1, min(limit, MAX_PAGE)),
        }
        if cursor:
            request["ExclusiveStartKey"] = _read_cursor(cursor)
        page = self._store.dynamodb.query(**request)
        last = page.get("LastEvaluatedKey")
        return [self._summary(aws.from_item(item)) for item in page["Items"]], _cursor(last) if last else None

    def _summary(self, run: Mapping[str, Any]) -> dict[str, Any]:
        names = (*_RUN, *_TIMES, "tokens_in", "tokens_out", "tokens_cached", "cost_usd", "cost_basis", "simulated")
        finished = run.get("finished_at")
        latency = clock.ms_between(run["started_at"], finished) if finished and run.get("started_at") else None
        error = run.get("error")
        return {
            "id": run["run_id"],
            **{name: _plain(run.get(name)) for name in names},
            "unpriced": bool(run.get("unpriced")),
            "latency_ms": latency,
            "error": _sentence(error) if error else None,
        }

    def _step(self, record: Mapping[str, Any], show: Callable[[Any], Any]) -> dict[str, Any]:
        attempts = accounts.attempts_of(record)
        ended = record["status"] != "running"
        error = record.get("error")
        return {
            "id": record["item"],
            "step": record["step"],
            "order": int(record["order"]),
            "status": record["status"],
            **{name: _plain(record.get(name)) for name in _STEP},
            "ignored": record.get("ignored") or [],
            "input": record.get("input"),
            "output": show(record.get("output")),
            "error": f"{error['type']}: {error['message']}" if error else None,
            **accounts.totals(attempts.values()),
            "attempts": [_attempt(attempt, ended) for attempt in attempts.values()],
            "tool_calls": [
                {
                    **{name: _plain(call.get(name)) for name in _TOOL_CALL},
                    "arguments": show(call.get("arguments")),
                    "result": show(call.get("result")),
                }
                for call in accounts.tool_calls_of(record).values()
            ],
        }

    def _crew(self, run: Mapping[str, Any]) -> list[dict[str, Any]]:
        crew: list[dict[str, Any]] = self._definitions.get(run["workflow_id"], int(run["workflow_version"]))[
            "definition"
        ]["crew"]
        return crew


def is_final(run: Mapping[str, Any]) -> bool:
    """Whether a run object's status will not change by itself."""
    return run["status"] in FINAL


def _attempt(attempt: Mapping[str, Any], step_ended: bool) -> dict[str, Any]:
    shown = {name: _plain(attempt.get(name)) for name in _ATTEMPT}
    if attempt["outcome"] == "open" and step_ended:
        # Its process died; nobody knows whether the provider served and billed the call.
        shown["outcome"] = "lost"
    return shown


def _waiting(order: int, step: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "id": None,
        "step": step["name"],
        "order": order,
        "status": "queued",
        **dict.fromkeys(_STEP),
        "role": step["role"],
        "ignored": [],
        "input": None,
        "output": None,
        "error": None,
        **accounts.totals(()),
        "cost_usd": None,
        "attempts": [],
        "tool_calls": [],
    }


def _plain(value: Any) -> Any:
    """Counts as `int`; DynamoDB gives every number as `Decimal`, and money stays that."""
    from decimal import Decimal

    if isinstance(value, Decimal) and value == value.to_integral_value():
        return int(value)
    return value


def _sentence(error: Mapping[str, Any]) -> str:
    where = f"step {error['step']!r}: " if error.get("step") else ""
    return f"{where}{error['type']}: {error['message']}"


def _cursor(key: Mapping[str, Any]) -> str:
    return base64.urlsafe_b64encode(jsontext.dumps(key).encode()).decode().rstrip("=")


def _read_cursor(cursor: str) -> dict[str, Any]:
    try:
        key = jsontext.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
    except (ValueError, binascii.Error) as error:
        raise InvalidRequest("the cursor is not one that a list answered with", []) from error
    if not isinstance(key, dict):
        raise InvalidRequest("the cursor is not one that a list answered with", [])
    return key
