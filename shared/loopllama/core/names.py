"""Names that somebody may have meant."""

from __future__ import annotations

from collections.abc import Iterable


def near(name: str, names: Iterable[object], most: int = 1) -> list[str]:
    """Return at most `most` of the names that are like `name`, the closest first; case, spaces and hyphens do not
    count."""
    import difflib  # a step that goes well needs none of it

    folded = {_folded(str(known)): str(known) for known in names}  # a schema's own may be anything before it is checked
    return [folded[match] for match in difflib.get_close_matches(_folded(name), folded, n=most)]


def meant(name: str, names: Iterable[object]) -> str:
    """Return `; did you mean X?` where a known name is close, else nothing."""
    close = near(name, names)
    return f"; did you mean {close[0]}?" if close else ""


def closest(name: str, names: Iterable[object]) -> str:
    """Return `; did you mean X?` where a known name is close, else the known names."""
    known = [str(known_name) for known_name in names]
    return meant(name, known) or f"; there are: {', '.join(known[:20]) or 'none'}"


def plural(count: int, thing: str) -> str:
    """Return how many of a thing there are, in words: `1 run`, `2 runs`."""
    return f"{count:,} {thing}{'s' * (count != 1)}"


def _folded(name: str) -> str:
    return name.lower().replace(" ", "_").replace("-", "_")
