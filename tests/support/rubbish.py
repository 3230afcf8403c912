"""Values that nobody expects, and good documents with some of them put in: for fuzzing what others hand in."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from typing import Any

from hypothesis import strategies as st

from support.numerals import NUMERALS

ODD: st.SearchStrategy[Any] = st.sampled_from(
    [
        None,
        True,
        False,
        0,
        -1,
        2**63,
        10**40,
        1e400,
        -1e308,
        0.5,
        "",
        " ",
        "NaN",
        "\x00",
        "é" * 300,
        [],
        [[]],
        {},
        [None],
    ]
)
ANYTHING: st.SearchStrategy[Any] = st.recursive(
    ODD | st.text(max_size=20) | st.integers() | st.floats(allow_nan=False),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


def places(value: Any, way: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The way to every value within a document, its root left out."""
    inner: Any = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, one in inner:
        yield (*way, key)
        yield from places(one, (*way, key))


@st.composite
def with_numeral(draw: st.DrawFn, document: Any, numerals: st.SearchStrategy[str] = NUMERALS) -> str:
    """The document as JSON with a number of any form in the place of one of its values."""
    *way, last = draw(st.sampled_from(list(places(document))))
    made = copy.deepcopy(document)
    holder = made
    for key in way:
        holder = holder[key]
    holder[last] = "@numeral@"
    return json.dumps(made).replace('"@numeral@"', draw(numerals))


@st.composite
def spoilt(draw: st.DrawFn, document: Any, most: int = 3) -> Any:
    """The document with one to `most` of its values replaced or taken out."""
    made = copy.deepcopy(document)
    for _ in range(draw(st.integers(1, most))):
        ways = list(places(made))
        if not ways:
            break
        *way, last = draw(st.sampled_from(ways))
        holder = made
        for key in way:
            holder = holder[key]
        if isinstance(holder, dict) and draw(st.booleans()):
            del holder[last]
        else:
            holder[last] = draw(ANYTHING)
    return made
