"""A run's tag as one text: `name=value`.

A name that has a `=`, or begins with a double quote, stands in double quotes, as a JSON text: the tags `a=b`: `c` and
`a`: `b=c` are `"a=b"=c` and `a=b=c`. So no two tags have one text.
"""

from __future__ import annotations

import json


def text_of(name: str, value: str) -> str:
    """Return a tag's text."""
    return f"{name_text(name)}={value}"


def name_text(name: str) -> str:
    """Return a tag's name as its text begins."""
    return json.dumps(name, ensure_ascii=False) if "=" in name or name.startswith('"') else name


def split(text: str) -> tuple[str, str]:
    """Return the name and the value of a tag's text; without a value, `""`."""
    if text.startswith('"'):
        try:
            name, end = json.JSONDecoder().raw_decode(text)
            if text[end : end + 1] in ("", "="):
                return name, text[end + 1 :]
        except ValueError:
            pass
    name, _, value = text.partition("=")
    return name, value
