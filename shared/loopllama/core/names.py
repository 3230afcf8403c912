"""Names that somebody may have meant."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def closest(name: str, names: Iterable[str]) -> str:
    """`; did you mean X?` where a known name is close, else the known names."""
    names = [str(one) for one in names]  # a schema's own may be anything before it is checked
    close = difflib.get_close_matches(name.lower().replace(" ", "_").replace("-", "_"), names, n=1)
    return f"; did you mean {close[0]}?" if close else f"; there are: {', '.join(names[:20]) or 'none'}"
