"""Run objects as the API answers them, in as few words as a test of what is shown has; and what is printed of them."""

import io
from datetime import UTC, datetime, timedelta
from decimal import Decimal

from rich.console import Console

BEGIN = datetime(2026, 11, 23, 20, 15, tzinfo=UTC)


def at(ms):
    return (BEGIN + timedelta(milliseconds=ms)).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def step(name, order=0, start=0, latency=1000, cost="0.0042", **changes):
    record = {
        "step": name,
        "order": order,
        "role": name,
        "status": "completed",
        "model": "claude-sonnet-4-6",
        "source": "agent",
        "ignored": [],
        "tokens_in": 1234,
        "tokens_cached": 0,
        "tokens_out": 100,
        "cost_usd": None if cost is None else Decimal(cost),
        "cost_basis": "measured",
        "latency_ms": latency,
        "started_at": at(start),
        "finished_at": at(start + latency),
        "attempts": [],
        "tool_calls": [],
    }
    return record | changes


def run(*steps, **changes):
    record = {
        "id": "run_1",
        "workflow_id": "support_reply",
        "workflow_version": 3,
        "status": "completed",
        "input": "Where is my order?",
        "output": "Here.",
        "created_at": at(0),
        "started_at": at(0),
        "finished_at": at(2000),
        "latency_ms": 2000,
        "steps": list(steps),
    }
    return record | changes


def attempt(outcome="ok", start=0, latency=500, **changes):
    return {
        "model": "claude-sonnet-4-6",
        "outcome": outcome,
        "started_at": at(start),
        "latency_ms": latency,
    } | changes


def printed(function, *arguments, width=100):
    written = io.StringIO()
    console = Console(file=written, width=width, highlight=False, markup=False, emoji=False)
    function(*arguments, console)
    return written.getvalue()


def of_list(name, count, order=0, **changes):
    """A forEach step and its items, one after the other, each a second long; `changes` (number to fields) are of
    items."""
    head = step(name, order, latency=count * 1000, model=None, cost=0, item=None, item_count=count, id=f"{name}#0#0")
    parts = []
    for n in range(1, count + 1):
        fields = {"item": n, "attempts": [attempt(start=(n - 1) * 1000)], **changes.get(f"_{n}", {})}
        parts.append(step(name, order, (n - 1) * 1000, **fields))
    return [head, *parts]
