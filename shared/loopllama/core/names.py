"""Names that somebody may have meant."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice

_LONGEST = 100
"""Characters of a name that is compared: the time grows with the product of both lengths."""
_MOST = 2000
"""Names that are compared, each with a hundredth of a millisecond."""
_LISTED = 60
"""Characters of a name that is listed."""


def near(name: str, names: Iterable[object], most: int = 1) -> list[str]:
    """Return at most `most` of the names that are like `name`, the closest first; case, spaces and hyphens do not
    count. Very long names are like none."""
    import difflib  # a step that goes well needs none of it

    if len(name) > _LONGEST:
        return []
    # A schema's own may be anything before it is checked.
    texts = (text for text in map(str, islice(names, _MOST)) if len(text) <= _LONGEST)
    folded = {_folded(text): text for text in texts}
    return [folded[match] for match in difflib.get_close_matches(_folded(name), folded, n=most)]


def meant(name: str, names: Iterable[object]) -> str:
    """Return `; did you mean X?` where a known name is close, else nothing."""
    close = near(name, names)
    return f"; did you mean {close[0]}?" if close else ""


def closest(name: str, names: Iterable[object]) -> str:
    """Return `; did you mean X?` where a known name is close, else the known names."""
    known = list(names)
    listed = ", ".join(str(known_name)[:_LISTED] for known_name in known[:20])
    return meant(name, known) or f"; there are: {listed or 'none'}"


def plural(count: int, thing: str) -> str:
    """Return how many of a thing there are, in words: `1 run`, `2 runs`."""
    return f"{count:,} {thing}{'s' * (count != 1)}"


def _folded(name: str) -> str:
    return name.lower().replace(" ", "_").replace("-", "_")
