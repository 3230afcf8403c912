"""The one way in which this package changes moto."""

from __future__ import annotations

from typing import Any


def replace(owner: Any, name: str, value: Any) -> Any:
    """Set an attribute of a moto class or module; returns what was there. Raises `AttributeError` where moto no longer
    has it, so that an update that moves a seam is noticed."""
    before = owner.__dict__[name] if name in vars(owner) else getattr(owner, name)
    setattr(owner, name, value)
    return before
