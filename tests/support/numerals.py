"""Every number that JSON's grammar allows, and what Python's `json` takes beside; and a reference, in fractions, of
which of them are taken."""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Callable, Iterator
from decimal import Decimal
from fractions import Fraction
from typing import Any

from hypothesis import strategies as st

MOST_DIGITS = 1_000
_PARTS = re.compile(r"(-?)([0-9]+)(?:\.([0-9]*))?(?:[eE]([-+]?[0-9]+))?")
_LARGEST, _SMALLEST = Fraction(2**1024 - 2**970), Fraction(1, 2**1075)
"""Where a double rounds to infinity and to zero (IEEE 754, binary64, ties to even)."""


def _digits(most: int) -> st.SearchStrategy[str]:
    sizes = st.sampled_from(
        [size for size in (1, 2, 17, 40, 308, 309, 310, 999, 1000, 1001, 4300, 5000) if size <= most]
    )
    return st.builds(
        lambda size, digit, rest: (digit + rest * size)[:size], sizes, st.sampled_from("123456789"), _DIGIT
    )


_DIGIT = st.text("0123456789", min_size=1, max_size=3)
_EXPONENTS = st.sampled_from(
    [
        *("0 1 2 15 38 100 125 300 307 308 309 323 324 325 400 5000 6144 300000000".split()),  # noqa: SIM905
        *("999999999999999999", "1000000000000000000", "9" * 20, "0" * 30 + "5", "9" * 5000),
    ]
)
_GRAMMAR = st.builds(
    "".join,
    st.tuples(
        st.sampled_from(["", "-"]),
        st.just("0") | _digits(5000),
        st.just("") | st.builds(".{}{}".format, st.sampled_from(["", "0", "0" * 330]), _digits(5000)),
        st.just("") | st.builds("{}{}{}".format, st.sampled_from("eE"), st.sampled_from(["", "+", "-"]), _EXPONENTS),
    ),
)
_KNOWN = st.sampled_from(
    [
        *"0 -0 -0.0 0e99999999999999999999 0.1 19.99 1e2 1E400 -1e400 1e-400 1e5000 1e300000000 -1e300000000".split(),  # noqa: SIM905
        *"1e99999999999999999999 1e-99999999999999999999 1.7976931348623157e308 1.8e308 5e-324 2e-324".split(),  # noqa: SIM905
        *("NaN", "Infinity", "-Infinity", "9" * 41, "9" * 400, "9" * 5000),
    ]
)
NUMERALS: st.SearchStrategy[str] = _KNOWN | _GRAMMAR


def taken(text: str) -> Fraction | None:
    """The number that a literal stands for, `None` where it is not taken."""
    parts = _PARTS.fullmatch(text)
    if parts is None:
        return None  # NaN and infinities
    sign, whole, rest, exponent = parts[1], parts[2], parts[3] or "", parts[4] or "0"
    digits = (whole + rest).lstrip("0")
    if not digits:
        return Fraction(0)
    if len(digits) > MOST_DIGITS or len(exponent.lstrip("+-0")) > 5:
        return None
    size = int(digits) * Fraction(10) ** (int(exponent) - len(rest))
    if not _SMALLEST < size < _LARGEST:
        return None
    return -size if sign else size


LONGEST = 2.0
"""Seconds that a number may take anywhere; what they guard against takes minutes, or more memory than there is."""
SCHEMA = {"type": "object", "properties": {"n": {"type": "number"}}, "required": ["n"], "additionalProperties": False}


@contextlib.contextmanager
def soon() -> Iterator[None]:
    began = time.process_time()
    yield
    assert time.process_time() - began < LONGEST


def number(value: Any) -> Fraction:
    """What was read, exactly."""
    assert isinstance(value, int | Decimal)
    assert not isinstance(value, bool)
    return Fraction(value)


def tried(call: Callable[[], Any], kind: type[Exception]) -> tuple[Any, Any]:
    """What a call returns, or the error that it refuses with."""
    try:
        return call(), None
    except kind as error:
        return None, error


def check_door(door: Callable[[str], Any], numeral: str, kind: type[Exception], place: str = "n") -> None:
    """A door that takes `{"n": numeral}` and returns what it made of it."""
    with soon():
        read, error = tried(lambda: door(f'{{"n": {numeral}}}'), kind)
    if error is None:
        assert number(read["n"]) == taken(numeral)
        return
    assert taken(numeral) is None, error
    assert "out of range" in str(error) or "no JSON number" in str(error)
    assert re.search(rf"\b{place}\b", str(error))
    assert len(str(error)) < 600


TABLE = (
    *("0 -0 -0.0 0.0 1 1.0 1e0 10e-1 -1 2 2.0 2.5 0.1 0.30000000000000004 19.99 1e2".split()),  # noqa: SIM905
    *("12345678901234567890 1e18 1e19 9007199254740993 1E-100 1E-101 1E-130 1E-131 5e-324 1e-400".split()),  # noqa: SIM905
    *("1e100 1e101 1E+125 1E+126 1.7976931348623157e308 1.8e308 1e400 1e300000000 NaN Infinity -Infinity".split()),  # noqa: SIM905
    *("1" + "0" * 40, "9" * 38, "9" * 39, "0." + "1" * 38, "0." + "1" * 39, "9" * 400, "9" * 5000),
)
"""One of each kind of number that JSON and its readers know, as literals."""
NO_NUMBERS = ("true", "null", '"1"', '"0.5"', '"NaN"', "[1]", '{"n": 1}')
"""What people write where a number belongs."""
