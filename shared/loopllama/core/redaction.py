"""Taking secrets out of texts that others write."""

from __future__ import annotations

SHORTEST_SECRET = 8
"""Anything shorter is a placeholder, such as keyless servers get ("x", "none"): it would be found in words."""


def without(secret: str, text: str, instead: str = "***") -> str:
    """Return a text with a secret blotted out."""
    return text.replace(secret, instead) if len(secret) >= SHORTEST_SECRET else text
