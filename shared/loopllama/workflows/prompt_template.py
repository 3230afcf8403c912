r"""The `{{ }}` templates of an agent's `prompt`: names of values, and nothing else (no logic, no calls).

{{ input }}                                  the run's input
{{ input.customer.name }}  {{ input.0 }}     a field of it, an item of a list (from 0)
{{ steps.extract.output }}                   what an earlier step answered
{{ steps.extract.output.order_id }}          a field of it
{{ input."first name" }}                     a field of any name, written as a JSON text: "a.b", "say \"hi\""
{{ "{{" }}                                   two braces as they are: a quoted text stands for itself
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from loopllama.core import exact_json
from loopllama.core.patterns import late
from loopllama.errors import InvalidRequest

MAX_CHARACTERS = 16 * 1024 * 1024
"""Of a prompt that is filled in: several times what any model reads, and little enough for the function's memory. A
template of 8,000 characters can name an input of 1 MB seven hundred times."""
_QUOTED = late(r'\{\{\s*"([^"]*)"\s*\}\}')
_SEGMENT = late(r"[\w-]+")
_NAME = r'(?:"(?:[^"\\]|\\.)*"|[^\s."{}]+)'
_PATH = late(rf"\s*({_NAME}(?:\.{_NAME})*)\s*\}}\}}", re.DOTALL)
_PART = late(_NAME, re.DOTALL)
_FORMS = (
    "write {{ input }}, {{ input.FIELD }}, {{ steps.STEP.output }}, {{ steps.STEP.output.FIELD }} or {{ item }}, and a "
    'FIELD with other signs than letters, digits, _ and - in double quotes, as in {{ input."first name" }}'
)
_LITERAL = 'for two braces as they are write {{ "{{" }}'


@dataclass(frozen=True, slots=True)
class Reference:
    """A value that a template names: the run's input, the output of `step`, or a forEach step's item; `path` leads to
    a field inside."""

    root: Literal["input", "steps", "item"]
    step: str | None
    path: tuple[str, ...]

    @property
    def name(self) -> str:
        """As it is written between the braces."""
        head = [self.root] if self.step is None else ["steps", self.step, "output"]
        return ".".join(
            [*head, *(part if _is_plain(part) else json.dumps(part, ensure_ascii=False) for part in self.path)]
        )


@dataclass(frozen=True, slots=True)
class Template:
    """A parsed template: its texts and references in order."""

    parts: tuple[str | Reference, ...]

    @property
    def references(self) -> list[Reference]:
        """Every reference, in order, repeated ones too."""
        return [part for part in self.parts if isinstance(part, Reference)]

    def render(self, run_input: Any, outputs: Mapping[str, Any], item: Any = None) -> str:
        """Return the text with each reference replaced: texts as they are, everything else as JSON.

        `outputs` maps the names of finished steps to their outputs; a step that was skipped, or that a loop has not
        come to yet, has the output `None`, and a reference to it, or to a field of it, is replaced by nothing. Raises
        `InvalidRequest` naming the reference that leads nowhere and the fields that there are, and for a text of more
        than `MAX_CHARACTERS`.
        """
        texts: list[str] = []
        room = MAX_CHARACTERS
        for part in self.parts:
            texts.append(part if isinstance(part, str) else text_of(_find(part, run_input, outputs, item)))
            room -= len(texts[-1])
            if room < 0:
                raise InvalidRequest(f"the prompt is longer than {MAX_CHARACTERS:,} characters once it is filled in")
        return "".join(texts)


def parse(text: str) -> Template:
    """Read a template. Raises `ValueError` with the place (line and column, from 1) and what would be right."""
    return Template(tuple(_parts(text)))


def _parts(text: str) -> Iterator[str | Reference]:
    position = 0
    while (start := text.find("{{", position)) >= 0:
        if start > position:
            yield text[position:start]
        if quoted := _QUOTED.match(text, start):
            yield quoted[1]
            position = quoted.end()
            continue
        if path := _PATH.match(text, start + 2):
            yield _reference(path[1], _place(text, start))
            position = path.end()
            continue
        end = text.find("}}", start + 2)
        if end < 0:
            raise ValueError(f"{_place(text, start)}: '{{{{' without '}}}}'; {_LITERAL}")
        raise _no_name(text[start + 2 : end].strip(), _place(text, start))
    if position < len(text):
        yield text[position:]


def _reference(name: str, place: str) -> Reference:
    shown = _shown(name)
    segments = _PART.findall(name)
    if not all(segment.startswith('"') or _is_plain(segment) for segment in segments):
        raise _no_name(name, place)
    try:
        parts = [json.loads(segment, strict=False) if segment.startswith('"') else segment for segment in segments]
    except ValueError:
        message = 'has an escape that JSON has not: write a backslash as \\\\ and a double quote as \\"'
        raise ValueError(f"{place}: '{shown}' {message}") from None
    match parts:
        case ["input", *path]:
            return Reference("input", None, tuple(path))
        case ["item", *path]:
            return Reference("item", None, tuple(path))
        case ["steps", step, "output", *path]:
            return Reference("steps", step, tuple(path))
        case ["steps", step, *_]:
            raise ValueError(f"{place}: '{shown}' names no output; write {{{{ steps.{step}.output }}}}")
        case _:
            raise ValueError(f"{place}: '{shown}' is unknown; {_FORMS}")


def _no_name(name: str, place: str) -> ValueError:
    from loopllama.workflows import name_hints

    hint = name_hints.of_template(name, lambda other: _PATH.fullmatch(other + "}}") is not None)
    return ValueError(f"{place}: '{_shown(name)}' is no name of a value{hint or f'; {_FORMS};'} {_LITERAL}")


def _shown(name: str) -> str:
    return name if len(name) <= 60 else name[:57] + "..."


def _is_plain(name: str) -> bool:
    """Return whether a field's name needs no quotes: letters of any language, digits, `_` and `-`."""
    if _SEGMENT.fullmatch(name):
        return True
    import unicodedata  # seldom needed, and RunStep reads templates as it starts

    # Letters of many scripts are followed by marks; they are no letters by themselves.
    letters = "".join(sign for sign in name if unicodedata.category(sign)[0] != "M" and sign not in "\u200c\u200d")
    return bool(_SEGMENT.fullmatch(letters))


def _place(text: str, offset: int) -> str:
    return f"line {text.count(chr(10), 0, offset) + 1}, column {offset - text.rfind(chr(10), 0, offset)}"


def _find(reference: Reference, run_input: Any, outputs: Mapping[str, Any], item: Any) -> Any:
    value = item if reference.root == "item" else run_input
    if reference.step is not None:
        if reference.step not in outputs:
            raise InvalidRequest(
                f"{{{{ {reference.name} }}}}: step {reference.step} has no output; there are outputs of: "
                f"{_some(outputs)}"
            )
        value = outputs[reference.step]
        if value is None:
            return ""
    for depth, segment in enumerate(reference.path):
        if isinstance(value, Mapping) and segment in value:
            value = value[segment]
        elif _is_list(value) and segment.isascii() and segment.isdigit() and _index(segment) < len(value):
            value = value[_index(segment)]
        else:
            owner = Reference(reference.root, reference.step, reference.path[:depth]).name
            raise InvalidRequest(f"{{{{ {reference.name} }}}}: {owner} {_lack(value, segment)}")
    return value


def _lack(value: Any, segment: str) -> str:
    """Return why `segment` is not in `value`, without showing any content."""
    if isinstance(value, Mapping):
        return f"has no field '{segment}'; it has: {_some(value)}"
    if _is_list(value):
        return f"is a list of {len(value)}; its items are 0 to {len(value) - 1}" if value else "is an empty list"
    if value is None:
        return "is null, which has no fields"
    kind = "a text" if isinstance(value, str) else "true or false" if isinstance(value, bool) else "a number"
    return f"is {kind}, which has no fields; only a JSON object has"


def _some(names: Mapping[str, Any]) -> str:
    listed = [str(name)[:60] for name in names]
    return ", ".join(listed[:20]) + (f" and {len(listed) - 20} more" if len(listed) > 20 else "") if listed else "none"


def _is_list(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str | bytes)


def _index(segment: str) -> int:
    # A list has never so many items; int() refuses thousands of digits with an error of its own.
    return int(segment) if len(segment) < 10 else 10**9


def text_of(value: Any) -> str:
    """Return a value as a prompt shows it: a text as it is, everything else as JSON, numbers with the record's
    digits."""
    # A model reads "é" better, and cheaper, than "\u00e9".
    return value if isinstance(value, str) else exact_json.dumps(value, ascii_only=False, spaced=True)
