"""Budgets of their own in the Runs table, and calls that are charged to them."""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from typing import Any

from loopllama.aws import clients, dynamo
from loopllama.budgets import budget
from loopllama.budgets.budget import Budget
from loopllama.catalog.model import Model, Price
from loopllama.llm.types import Message, ModelRequest
from loopllama.runs.reservations import Allowance

PRICE = Price(date(2020, 1, 1), Decimal(3), Decimal(15))
MODEL = Model("m", "test", "m", (PRICE,), max_output=4000)
ENTRY: Any = {"started_at": "2026-11-23T10:00:00.000Z"}
RUN: Any = {"run_id": "run_1", "workflow_id": "w", "delete_at": 1}


_made = iter(range(10**9))


def fresh(**limits: Any) -> Budget:
    """A budget of its own item."""
    run: Any = {**RUN, "run_id": f"run_{next(_made)}", "budget": limits}
    made = budget.of_run("RunsTable", run)
    assert made is not None
    return made


def item_of(one: Budget) -> dict[str, Any]:
    key = dynamo.to_item({"run_id": one.key, "item": budget.ITEM})
    found = clients.client("dynamodb").get_item(TableName="RunsTable", Key=key, ConsistentRead=True)
    return dynamo.from_item(found.get("Item", {}))


def amount(tokens: int, usd: str = "0", steps: int = 0) -> dict[str, Decimal]:
    return {"steps": Decimal(steps), "tokens": Decimal(tokens), "usd": Decimal(usd)}


def step_of(*budgets: Budget, step: str = "STEP#one#0#0", **options: Any) -> Allowance:
    return Allowance(step, lambda day: budgets, **options)


def call(prompt_tokens: int = 100, max_tokens: int | None = None) -> ModelRequest:
    return ModelRequest("m", "m", "", [Message("user", "x" * 3 * prompt_tokens)], 10, max_tokens=max_tokens)


def settled(input_tokens: int, output_tokens: int, usd: str) -> Any:
    tokens = {"input_tokens": input_tokens, "output_tokens": output_tokens}
    return {**ENTRY, "outcome": "ok", **tokens, "cost_usd": Decimal(usd)}
