"""Sums of usage as they are packed: to the digit, whatever the costs and whichever figures there are."""

from __future__ import annotations

import json
import zlib
from decimal import Decimal, localcontext
from typing import Any

import pytest

from loopllama.llm.usage import SUMMED_NAMES
from loopllama.queries import usage_sums


def usage_row(**fields: Any) -> dict[str, Any]:
    row = {"step": "a", "model": "m", "steps": 1, "input_tokens": 100, "output_tokens": 10, "cached_tokens": 1}
    return {**row, "cost_usd": Decimal("0.00045"), "cost_basis": "measured", **fields}


def test_figures_that_came_after_the_sums_are_none_in_them() -> None:
    sums = usage_sums.Sums(usage_sums.PLAIN)
    row: Any = usage_row()
    sums.add_rows({}, [row])
    packed = sums.pack()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(usage_sums, "_FIGURES", ("steps", "new_tokens", *SUMMED_NAMES))
        again = usage_sums.Sums(("workflow", "model"))
        again.add_packed({"workflow": "desk"}, packed)
    ((combination, told),) = again.told()
    assert combination == ("desk", "m")
    assert [told[name] for name in ("steps", "new_tokens", "input_tokens")] == [1, 0, 100]


def test_costs_of_any_size_are_packed_to_the_digit() -> None:
    costs = [Decimal("9.9E+125"), Decimal("-7.5"), Decimal("1E-130"), Decimal("0.00045"), Decimal(0), None]
    rows: list[Any] = [
        usage_row(key=str(number), cost_usd=cost, cost_basis="unknown") for number, cost in enumerate(costs)
    ]
    sums, again, total = usage_sums.Sums(("key",)), usage_sums.Sums(("key",)), usage_sums.Sums(())
    for some in (rows[:2], rows[2:]):  # costs of smaller units after those of larger ones
        sums.add_rows({}, some)
    again.add_packed({}, sums.pack())
    total.add_packed({}, sums.pack())
    assert [told["cost_usd"] for _, told in again.told()] == costs
    with localcontext(prec=500):
        assert total.total()["cost_usd"] == sum(cost for cost in costs if cost is not None)


def test_what_was_simulated_is_told_and_not_guessed_of_older_sums() -> None:
    sums, again = usage_sums.Sums(("key",)), usage_sums.Sums(("key",))
    rows: list[Any] = [usage_row(key=key, simulated=key == "b" or None) for key in ("a", "b", "b")]
    sums.add_rows({}, rows)
    again.add_packed({}, sums.pack())
    assert {key: told["simulated"] for (key,), told in again.told()} == {"a": False, "b": True}
    assert again.total()["simulated"] is True
    older = usage_sums.Sums(("key",))
    kept = json.loads(zlib.decompress(sums.pack()))
    del kept["simulated"]
    older.add_packed({}, zlib.compress(json.dumps(kept).encode()))
    assert [told["simulated"] for _, told in older.told()] == [False, False]
