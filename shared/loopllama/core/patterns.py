"""Regular expressions that are compiled when they are first used: most are for answers and errors that seldom come, and
together they were a tenth of RunStep's start-up."""

from __future__ import annotations

import re
from typing import Any, AnyStr, cast


class _Late:
    def __init__(self, text: Any, flags: int) -> None:
        self._written = text, flags

    def __getattr__(self, name: str) -> Any:
        value = getattr(re.compile(*self._written), name)
        setattr(self, name, value)
        return value


def late(text: AnyStr, flags: int = 0) -> re.Pattern[AnyStr]:
    """Return a pattern whose methods are those of a compiled one. The functions of `re` do not take it in a compiled
    one's place, and a match's `re` is another. Its first use raises `re.error` where `text` is no pattern."""
    return cast("re.Pattern[AnyStr]", _Late(text, flags))
