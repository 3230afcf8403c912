"""Records of the Runs table's stream, as Lambda hands them over, from plain items."""

from __future__ import annotations

import itertools
from decimal import Decimal
from typing import Any

from loopllama.aws import dynamo
from loopllama.llm.usage import SUMMED_NAMES

_numbers = itertools.count(1)
TOTALS = {
    **dict.fromkeys(SUMMED_NAMES, 0),
    "input_tokens": 100,
    "output_tokens": 10,
    "cost_usd": Decimal("0.00045"),
    "cost_basis": "measured",
    "unpriced": False,
    "simulated": False,
}
SECRET = "the prompt or answer that no event may show"


def record(old: dict[str, Any] | None, new: dict[str, Any] | None) -> dict[str, Any]:
    """The record of a change of an item of the Runs table; `None` where it was not, or is no longer."""
    return dynamo_record(("run_id", "item"), old, new)


def dynamo_record(keys: tuple[str, ...], old: dict[str, Any] | None, new: dict[str, Any] | None) -> dict[str, Any]:
    """The record of a change of an item of any table, by the names of its key."""
    known: dict[str, Any] = new or old or {}
    change: dict[str, Any] = {
        "Keys": dynamo.to_item({name: known[name] for name in keys}),
        "SequenceNumber": f"{next(_numbers):021}",
        "ApproximateCreationDateTime": 1_795_500_000.0,
        "StreamViewType": "NEW_AND_OLD_IMAGES",
    }
    if old is not None:
        change["OldImage"] = dynamo.to_item(old)
    if new is not None:
        change["NewImage"] = dynamo.to_item(new)
    kind = "INSERT" if old is None else "REMOVE" if new is None else "MODIFY"
    return {"eventID": change["SequenceNumber"], "eventName": kind, "eventSource": "aws:dynamodb", "dynamodb": change}


def moment(second: int) -> str:
    """A time of the test's day."""
    return f"2026-11-23T20:{second // 60:02}:{second % 60:02}.000Z"


def run_item(run_id: str, status: str, **more: Any) -> dict[str, Any]:
    """A `RUN` item."""
    return {
        "run_id": run_id,
        "item": "RUN",
        "workflow_id": "support",
        "workflow_version": 3,
        "status": status,
        "input": SECRET,
        "total_steps": 2,
        "pending": {},
        "tags": {"customer": "42"},
        "delete_at": 1_800_000_000,
        **more,
    }


def step_item(run_id: str, name: str, status: str, **more: Any) -> dict[str, Any]:
    """A step's item."""
    return {
        "run_id": run_id,
        "item": f"STEP#{name}#{more.get('iteration', 0)}#{more.get('item_index', 0)}",
        "step": name,
        "order": 0,
        "role": "Writer",
        "status": status,
        "started_at": moment(1),
        "output": SECRET,
        "attempt_0001": {"model": "test:base", "outcome": "ok", "answer": {"text": SECRET}},
        "delete_at": 1_800_000_000,
        **more,
    }
