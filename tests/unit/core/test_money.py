"""Money: one type, `Decimal`, and one home that says what is taken, at every door."""

from __future__ import annotations

import re
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from loopllama.budgets.budget import check
from loopllama.catalog.entries import parse_prices
from loopllama.core import money
from loopllama.routing.overrides import parse_choice
from loopllama.workflows.schema import Workflow

ROOT = Path(__file__).parents[3]


def _definition(value: Any) -> Any:
    workflow = Workflow.model_validate({"name": "w", "budget": {"maxCostUsd": value}})
    return workflow.to_definition()["budget"]["max_cost_usd"]


DOORS: dict[str, tuple[Callable[[Any], Decimal], Callable[[Any], Any]]] = {
    "a run's budget": (money.usd, lambda value: (check({"maxCostUsd": value}) or {})["max_cost_usd"]),
    "a workflow's budget": (money.usd, lambda value: Decimal(_definition(value))),
    "a route": (money.per_turn, lambda value: parse_choice({"model": "m", "max_cost": value}).max_cost),  # type: ignore[union-attr]
    "a price": (money.price, lambda value: parse_prices([{"input": value, "output": 1}])[0].input),
}
VALUES = [
    *(0, 1, 0.1, -1, 10**6, 10**7, True, "0.25", "much", "1e3", "", None, [1]),
    *(Decimal("0.1"), Decimal("1e-12"), Decimal("1e-13"), Decimal("1e-200"), Decimal("0." + 40 * "3")),
    *(float("nan"), float("inf"), Decimal("NaN"), Decimal("Infinity")),
]


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("value", VALUES, ids=str)
def test_every_door_takes_what_money_takes(door: str, value: Any) -> None:
    read, through = DOORS[door]
    if value is None and door != "a price":
        return  # nothing was said
    try:
        expected = read(value)
    except ValueError as refused:
        # pydantic's own type errors are no `ValueError`s of ours; both say what would be right.
        with pytest.raises(Exception, match=re.escape(str(refused))):
            through(value)
        return
    amount = through(value)
    assert (amount, type(amount)) == (expected, Decimal)


def test_what_each_takes() -> None:
    assert money.usd("0.10") == money.usd(0.1) == Decimal("0.1")
    assert money.price(0) == 0
    assert money.text(Decimal("1e-7")) == "0.0000001"
    assert Decimal(money.text(Decimal("10.000000000001"))) == Decimal("10.000000000001")


def test_nobody_else_says_what_money_is() -> None:
    """A type or a check of its own would take other amounts than the next door."""
    homes = {"shared/loopllama/core/money.py", "shared/loopllama/core/input_model.py"}
    pattern = re.compile(r"^(Money|Usd|Price)\b.*= (Annotated|int|Decimal)|def _?(money|usd)\(", re.MULTILINE)
    found = [
        path.relative_to(ROOT).as_posix()
        for path in sorted((ROOT / "shared").rglob("*.py"))
        if pattern.search(path.read_text())
    ]
    assert set(found) == homes
