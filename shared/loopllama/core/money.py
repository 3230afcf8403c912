"""Amounts of money that people write, in USD, exactly."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Any

MOST_USD = 10**6


USD_TEXT = r"^[0-9]{1,7}(\.[0-9]{1,12})?$"


_DECIMALS = 12


def usd(value: Any) -> Decimal:
    """An amount of money that somebody wrote, as a number or in digits, exactly. Raises `ValueError`, which says what
    would be right."""
    if isinstance(value, float):
        value = Decimal(repr(value))  # what was written
    if isinstance(value, str) and re.fullmatch(USD_TEXT, value):
        value = Decimal(value)
    if isinstance(value, bool) or not isinstance(value, int | Decimal):
        raise ValueError("must be a number of USD")
    amount = Decimal(value)
    if not amount.is_finite() or not 0 < amount <= MOST_USD:
        raise ValueError(f"must be more than 0 and at most {MOST_USD:,} USD")
    if amount != round(amount, _DECIMALS):
        raise ValueError(f"must have at most {_DECIMALS} decimals")
    return amount
