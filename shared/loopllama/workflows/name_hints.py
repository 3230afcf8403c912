"""What somebody may have meant by a name that needs quotes: hints for errors, loaded with the first of them.

JMESPath and templates take a field of any name in double quotes, written as a JSON text. People write
`steps.2nd_review.output`, `input.größe`, `input['first name']` and `input.'first name'`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable

from loopllama.core.patterns import late

QUOTED = "A name with other signs than A-Z, a-z, 0-9 and _, or with a digit first, stands in double quotes"
_OWN_TEXT = late(r"\"(?:[^\"\\]|\\.)*\"|'(?:[^'\\]|\\.)*'|`(?:[^`\\]|\\.)*`", re.DOTALL)
"""What stands in quotes of any kind."""
_IN_BRACKETS = late(r"\[\s*(?:'([^'\\]*)'|\"([^\"\\]*)\"|([A-Za-z_]\w*))\s*\]")
_AFTER_A_DOT = late(r"\.\s*'([^'\\]*)'")
_SPACED = late(r"\.([^\W\d]\w*(?: +\w+)+)")
_WORD = late(r"[^\s.,:;|&!<>=()\[\]{}*?\"'`]+")
_PLAIN = late(r"[A-Za-z_][A-Za-z0-9_]*|@")
_NUMERAL = late(r"[-+]?\d+(\.\d+)?([eE][-+]?\d+)?", re.ASCII)
_LONGEST = 200
"""Characters of a name for which a hint is looked for."""
_WORDS = {"and": "&&", "or": "||", "not": "!"}


def quoted(name: str) -> str:
    """Return a name in double quotes."""
    return json.dumps(name, ensure_ascii=False)


def of_expression(text: str, is_right: Callable[[str], bool]) -> str:
    """Return a hint for an expression that cannot be read, beginning with `; `, empty where there is none; `is_right`
    says whether another can be read."""
    if found := re.search(r"(?<![\w.\"'`])(and|or|not)(?![\w\"'`])", _OWN_TEXT.sub("''", text)):
        return f"; write {_WORDS[found[1]]} for {found[1]}"
    if re.search(r"(?<![=!<>])=(?!=)", _OWN_TEXT.sub("''", text)):
        return "; write == for ="
    if (candidate := _with_dots(text)) != text and is_right(candidate):
        return f"; did you mean {candidate}? {QUOTED}"
    names, texts, index = 0, 0, 0
    parts: list[str] = []
    end = 0
    for place, word in _words(candidate):
        before = candidate[:place].rstrip()
        if _PLAIN.fullmatch(word):
            continue
        replacement = quoted(word)
        if before.endswith((".", "&", "[?", "{", ":")) or not before:
            if word.isdigit() and not before.endswith("steps."):
                index += 1
            names += 1
        elif _NUMERAL.fullmatch(word):
            continue
        elif before.endswith(("=", "<", ">")):
            texts, replacement = texts + 1, f"'{word}'"
        else:
            names += 1
        parts += [candidate[end:place], replacement]
        end = place + len(word)
    candidate = "".join([*parts, candidate[end:]])
    if not (names or texts) or not is_right(candidate):
        candidate = _SPACED.sub(lambda found: f".{quoted(found[1])}", text)
        return f"; did you mean {candidate}? {QUOTED}" if candidate != text and is_right(candidate) else ""
    why = QUOTED if names else "Texts stand in single quotes"
    item = "; an item of a list is [0]" if index else ""
    return f"; did you mean {candidate}? {why}{item}"


def of_template(name: str, is_right: Callable[[str], bool]) -> str:
    """Return a hint for the name of a value in a template, as `of_expression` does."""
    if len(name) > _LONGEST:
        return ""
    candidate = _with_dots(re.sub(r"\[\s*(\d+)\s*\]", r".\1", name))
    segments = [
        segment if segment.startswith('"') or _PLAIN.fullmatch(segment) or segment.isdigit() else quoted(segment)
        for segment in map(str.strip, re.findall(r'"(?:[^"\\]|\\.)*"|[^."]+', candidate))
    ]
    candidate = ".".join(segments)
    if segments[:1] not in (["input"], ["item"], ["steps"]) or set("|&()<>={}?*+`") & set(candidate):
        return ""  # that is no name but something to be computed
    return f": did you mean {{{{ {candidate} }}}}?" if candidate != name and is_right(candidate) else ""


def _with_dots(text: str) -> str:
    """Return a text with `a['b']`, `a["b"]`, `a[b]` and `a.'b'` written as `a."b"`."""

    def after_a_dot(found: re.Match[str]) -> str:
        name = next(group for group in found.groups() if group is not None)
        return f".{name}" if _PLAIN.fullmatch(name) else f".{quoted(name)}"

    return _AFTER_A_DOT.sub(after_a_dot, _IN_BRACKETS.sub(after_a_dot, text))


def _words(text: str) -> list[tuple[int, str]]:
    """Return the words outside of quotes, each with its place."""
    blank = _OWN_TEXT.sub(lambda found: " " * len(found[0]), text)
    return [(found.start(), found[0]) for found in _WORD.finditer(blank)]
