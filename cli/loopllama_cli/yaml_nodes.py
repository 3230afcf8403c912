"""YAML text as nodes whose plain words mean what they mean in JSON, and what is wrong with a text, in our words."""

from __future__ import annotations

import re
from typing import Any

import yaml

IN_QUOTES = "; put a text that YAML takes for something else in quotes"
_BREAKS = "\x85\u2028\u2029"
_SPARE = range(0xE000, 0xF8FF)
"""Unicode's private use: characters that stand for others meanwhile."""


class NotYaml(ValueError):
    """A text is no YAML. The message says why; `line` is where (from 1)."""

    def __init__(self, line: int, message: str) -> None:
        super().__init__(message)
        self.line = line


class Loader(yaml.SafeLoader):
    """YAML whose plain words mean what they mean in JSON; anything else is a text."""

    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012 (the attribute is PyYAML's)


for _tag, _pattern, _first in (
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("int", r"[-+]?(0|[1-9][0-9]*)", "-+0123456789"),
    ("float", r"[-+]?((0|[1-9][0-9]*)(\.[0-9]*|(?=[eE]))|\.[0-9]+)([eE][-+]?[0-9]+)?", "-+.0123456789"),
    ("merge", r"<<", "<"),
):
    Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(f"^(?:{_pattern})$"), list(_first))


def compose(text: str) -> yaml.Node | None:
    """Return the root of a YAML text, `None` of an empty one. Raises `NotYaml`, and `RecursionError`.

    YAML 1.1, which PyYAML reads, ends lines at U+0085, U+2028 and U+2029. YAML 1.2 and editors do not, so PyYAML gets
    other characters in their place.
    """
    there = set(text)
    spare = (chr(code) for code in _SPARE if chr(code) not in there)
    meant = {next(spare): character for character in _BREAKS if character in there}
    for other, character in meant.items():
        text = text.replace(character, other)
    try:
        root = yaml.compose(text, Loader=Loader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise NotYaml(mark.line + 1 if mark else 1, _message(error)) from None
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        code = error.character if isinstance(error.character, int) else ord(error.character)
        message = f"it has the character U+{code:04X}, which is for double quotes only, as an escape such as \\x7f"
        raise NotYaml(line, message) from None
    except yaml.YAMLError as error:
        raise NotYaml(1, str(error).splitlines()[0]) from None
    if root is not None and meant:
        _put_back(root, str.maketrans(meant))
    return root


def _put_back(root: yaml.Node, meant: dict[int, str]) -> None:
    """Write into texts the characters that others stand for."""
    pending, done = [root], set[int]()
    while pending:
        node = pending.pop()
        if id(node) in done:
            continue  # an anchor's
        done.add(id(node))
        if isinstance(node, yaml.ScalarNode):
            node.value = node.value.translate(meant)
        elif isinstance(node, yaml.MappingNode):
            pending += [part for pair in node.value for part in pair]
        else:
            pending += node.value


_TEXTS = (
    "mapping values are not allowed",
    "mapping keys are not allowed",
    "sequence entries are not allowed",
    "cannot start any token",
    "but found '<scalar>'",
    "expected the node content",
    "expected a comment or a line break",
    "expected chomping",
    "undefined alias",
)
"""What PyYAML says of texts that begin with one of YAML's own signs, or have one in them."""


def _message(error: yaml.MarkedYAMLError) -> str:
    message = error.problem or error.context or "it cannot be read"
    if "cannot start any token" in message and "\\t" in message:
        return "a tab stands where YAML takes only spaces"
    hint = IN_QUOTES if any(text in message for text in _TEXTS) else ""
    if "unknown escape" in message:
        hint = "; in double quotes write a backslash as \\\\, or use single quotes"
    return (f"{message}, {error.context}" if error.context and error.problem else message) + hint
