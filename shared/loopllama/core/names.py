"""Names that somebody may have meant."""

from __future__ import annotations

import difflib
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
    if len(name) > _LONGEST:
        return []
    # A schema's own may be anything before it is checked.
    texts = (text for text in map(str, islice(names, _MOST)) if len(text) <= _LONGEST)
    folded = {_folded(text): text for text in texts}
    return [folded[match] for match in difflib.get_close_matches(_folded(name), folded, n=most)]


def closest(name: str, names: Iterable[object]) -> str:
    """Return `; did you mean X?` where a known name is close, else the known names."""
    known = list(names)
    if close := near(name, known):
        return f"; did you mean {close[0]}?"
    return f"; there are: {', '.join(str(known_name)[:_LISTED] for known_name in known[:20]) or 'none'}"


def _folded(name: str) -> str:
    return name.lower().replace(" ", "_").replace("-", "_")
