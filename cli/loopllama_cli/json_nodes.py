"""JSON text as the nodes that PyYAML makes of YAML, so that a `.json` file is read by the same code, with its lines.

Read as YAML, JSON is not what it says: YAML takes U+0085, U+2028 and U+2029 for line breaks, refuses DEL and others
within texts, keys of more than 1,024 characters and tabs, and makes a text of `NaN`.
"""

from __future__ import annotations

import json
import re
from typing import Any

import yaml

from loopllama.core import exact_json

_TAG = "tag:yaml.org,2002:"
_SPACE = re.compile(r"[ \t\r\n]*")
_WORD = re.compile(r"[^ \t\r\n,\]}]+")
_TEXTS = json.JSONDecoder()
_WORDS = {"true": "bool", "false": "bool", "null": "null"}


def compose(text: str) -> yaml.Node:
    """Return the root of a JSON text. A key that is there twice stays, twice. Raises `json.JSONDecodeError`, and
    `exact_json.NotTaken` for what is nested too deeply."""
    exact_json.loads_around(text)  # from here on it is known to be JSON
    return _Composer(text).value()


class _Composer:
    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._line = 0
        self._counted = 0

    def value(self) -> yaml.Node:
        """Return the node of the value that comes next."""
        self._skip()
        mark, first = self._mark(), self._text[self._at]
        if first == '"':
            text, self._at = _TEXTS.raw_decode(self._text, self._at)
            return _scalar("str", text, mark)
        if first in "{[":
            self._at += 1
            items: list[Any] = []
            while self._skip() not in "}]":
                if self._text[self._at] == ",":
                    self._at += 1
                items.append(self._pair() if first == "{" else self.value())
            self._at += 1
            if first == "{":
                return yaml.MappingNode(f"{_TAG}map", items, mark, mark)
            return yaml.SequenceNode(f"{_TAG}seq", items, mark, mark)
        word = _WORD.match(self._text, self._at)
        if word is None:
            raise json.JSONDecodeError("Expecting value", self._text, self._at)
        self._at = word.end()
        kind = _WORDS.get(word[0], "float" if set(word[0]) & set(".eE") else "int")
        return _scalar(kind, word[0], mark)

    def _pair(self) -> tuple[yaml.Node, yaml.Node]:
        key = self.value()
        self._skip()
        self._at += 1  # the colon
        return key, self.value()

    def _skip(self) -> str:
        """Go to what comes after white space; returns its first character."""
        space = _SPACE.match(self._text, self._at)
        self._at = space.end() if space else self._at
        return self._text[self._at]

    def _mark(self) -> yaml.Mark:
        self._line += self._text.count("\n", self._counted, self._at)
        self._counted = self._at
        return yaml.Mark("", self._at, self._line, 0, None, 0)


def _scalar(kind: str, text: str, mark: yaml.Mark) -> yaml.ScalarNode:
    return yaml.ScalarNode(_TAG + kind, text, mark, mark)
