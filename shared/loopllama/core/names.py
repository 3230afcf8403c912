"""Names that somebody may have meant."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def near(name: str, names: Iterable[object], most: int = 1) -> list[str]:
    """Return at most `most` of the names that are like `name`, the closest first; case, spaces and hyphens do not
    count."""
    folded = {_folded(str(known)): str(known) for known in names}  # a schema's own may be anything before it is checked
    return [folded[match] for match in difflib.get_close_matches(_folded(name), folded, n=most)]


def closest(name: str, names: Iterable[object]) -> str:
    """Return `; did you mean X?` where a known name is close, else the known names."""
    known = [str(known_name) for known_name in names]
    close = near(name, known)
    return f"; did you mean {close[0]}?" if close else f"; there are: {', '.join(known[:20]) or 'none'}"


def _folded(name: str) -> str:
    return name.lower().replace(" ", "_").replace("-", "_")
