"""Money: USD as `Decimal`, exact from the door on; what people may write, and how definitions keep it."""

from __future__ import annotations

import re
from decimal import Decimal

from loopllama.core.exact_json import STORABLE, number, storable
from loopllama.core.numbers import written

MOST_USD = 10**6
USD_TEXT = r"^[0-9]{1,7}(\.[0-9]{1,12})?$"
_DECIMALS = 12


def usd(value: object) -> Decimal:
    """Return an amount of a budget that somebody wrote, as a number or in digits. Raise `ValueError`, which says what
    would be right."""
    if isinstance(value, str) and re.fullmatch(USD_TEXT, value):
        value = Decimal(value)
    amount = _number(value)
    if amount is None:
        raise ValueError("must be a number of USD")
    if not amount.is_finite() or not 0 < amount <= MOST_USD:
        raise ValueError(f"must be more than 0 and at most {MOST_USD:,} USD")
    if amount != round(amount, _DECIMALS):
        raise ValueError(f"must have at most {_DECIMALS} decimals")
    return amount


def per_turn(value: object) -> Decimal:
    """Return the most that somebody wants a turn to cost. Raise `ValueError` as `usd` does."""
    amount = _number(value)
    if amount is None or not amount.is_finite() or amount <= 0:
        raise ValueError(f"must be a number of USD a turn, more than 0, not {written(value)}")
    return _storable(amount)


def price(value: object) -> Decimal:
    """Return a price that somebody wrote, in USD per million tokens. Raise `ValueError` as `usd` does."""
    amount = _number(value)
    if amount is None or not amount.is_finite() or not 0 <= amount < MOST_USD:
        raise ValueError(f"must be a number, USD per million tokens, not {written(value)}")
    return _storable(amount)


def text(amount: Decimal) -> str:
    """Return an amount in digits, as definitions keep it: their numbers are read as floats."""
    return number(amount)


def shown(amount: Decimal) -> str:
    """Return an amount of USD as every text for people writes it: `$0.0042`, all digits."""
    return f"${text(amount)}"


def _number(value: object) -> Decimal | None:
    if isinstance(value, float):
        return Decimal(repr(value))  # what was written
    return Decimal(value) if isinstance(value, int | Decimal) and not isinstance(value, bool) else None


def _storable(amount: Decimal) -> Decimal:
    if not storable(amount):
        raise ValueError(f"must have {STORABLE}")
    return amount
