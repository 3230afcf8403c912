"""Waiting for what has no event to wait for."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

Found = TypeVar("Found")


def eventually(
    look: Callable[[], Found | None], seconds: float = 20, first: float = 0.02, longest: float = 0.5
) -> Found:
    """Return what `look` finds, as soon as that is true. Fails after `seconds`, with what was found last.

    It looks after `first` seconds, then each time that a tenth more of the time has passed, at most `longest` apart:
    what is asked is busy with the very thing that is waited for.
    """
    begun = time.monotonic()
    while not (found := look()):
        waited = time.monotonic() - begun
        assert waited < seconds, f"nothing after {seconds} s, only {found!r}: {look}"
        time.sleep(min(max(first, waited / 10), longest))
    return found
