"""What the simulated model understands of a text: its sentences, the words they share with a question, and the values
that stand in it. Pure, and the same for the same text."""

from __future__ import annotations

import json
import math
import re
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Iterator
from functools import cached_property
from typing import Any

from loopllama.core import exact_json
from loopllama.core.patterns import late

MAX_CHARACTERS = 200_000
"""What is read of a text; the tokens of the rest are counted, but it is not searched for an answer."""

_WORD = late(r"[^\W_]+", re.UNICODE)
_CAMEL = late(r"(?<=[a-z0-9])(?=[A-Z])")
_STOP_WORDS = (
    "a about all also an and any are as at be been but by can could did do does for from had has have he her here him "
    "his how i if in into is it its just me more must my no not of on one or our out she should so some such than that "
    "the their them then there these they this to up us was we were what when where which who will with would you your "
    "answer answers give given text reply write agent agents role step only"
)
_STOP = frozenset(_STOP_WORDS.split())
_SENTENCE_END = late(r"(?<=[.!?])[\"')\]]*\s+(?=[\"'(\[]?[^\Wa-z])")
_PIECE = late(r"\S.{0,799}(?!\S)|\S.{0,799}", re.DOTALL)
"""Of text without a stop, such as a table or a log: no answer should quote it whole."""
_HEADING = late(r"#{1,6}\s|</?[\w-]+>$|[-=*_]{3,}$|```|diff --git |index [0-9a-f]{7}|(?:---|\+\+\+|@@) ")
_BULLET = late(r"^(?:[-*•]|\d{1,2}[.)])\s+")
_NUMBERED = late(r"^(\d{1,3})[.)]\s+(?=\S)", re.MULTILINE)
_LABELLED = late(r"[*_]{0,2}([^\W\d_][\w /-]{0,40}?)[*_]{0,2}\s*:[*_]{0,2}\s+(\S.*)")
_FULL_LINE = 60
_MAX_OBJECTS = 200


def words(text: str) -> list[str]:
    """Return the telling words of a text or a field's name, lower-case, their endings taken off."""
    telling = (word.lower() for word in _WORD.findall(_CAMEL.sub(" ", text)))
    return [_stem(word) for word in telling if word not in _STOP and (len(word) > 1 or word.isdigit())]


def _stem(word: str) -> str:
    for ending in ("ingly", "ings", "ing", "edly", "ies", "ed", "es", "ly", "s"):
        if word.endswith(ending) and len(word) - len(ending) >= 3:
            return word[: -len(ending)] + ("y" if ending == "ies" else "")
    return word


def number(text: str) -> int | float:
    """Return the number that stands in a text. Raises `ValueError` for one that an answer could not say again."""
    value = exact_json.number_of(text)
    return value if isinstance(value, int) else float(value)


class Reading:
    """A text, read once."""

    def __init__(self, text: str) -> None:
        self.text = text[:MAX_CHARACTERS]

    @cached_property
    def objects(self) -> list[dict[str, Any]]:
        """The JSON objects in the text, outermost ones, in order."""
        decoder = json.JSONDecoder(parse_float=number, parse_int=number, parse_constant=number)
        values: list[dict[str, Any]] = []
        at = self.text.find("{")
        for _ in range(_MAX_OBJECTS):
            if at < 0:
                break
            try:
                value, end = decoder.raw_decode(self.text, at)
            except (ValueError, RecursionError):
                end = at + 1
            else:
                if isinstance(value, dict):
                    values.append(value)
            at = self.text.find("{", end)
        return values

    @cached_property
    def facts(self) -> list[tuple[frozenset[str], Any]]:
        """What the text says outright, later ones first: `name: value` lines and the fields of its JSON objects, each
        with the words of its name."""
        stated: list[tuple[frozenset[str], Any]] = []
        for value in self.objects:
            stated += ((frozenset(words(name)), content) for name, content in _fields(value))
        for line in self.text.splitlines():
            match = _LABELLED.match(_BULLET.sub("", line.strip(), count=1))
            if match:
                stated.append((frozenset(words(match[1])), match[2].strip()))
        return stated[::-1]

    @cached_property
    def sentences(self) -> list[str]:
        """Its sentences in order, without headings and repetitions; of JSON objects, the texts in them."""
        seen: set[str] = set()
        sentences = []
        for sentence in self._all_sentences():
            key = " ".join(_WORD.findall(sentence.lower()))
            if key and key not in seen:
                seen.add(key)
                sentences.append(sentence)
        # A name beneath a letter is no sentence, unless there is nothing else.
        return [sentence for sentence in sentences if sentence[-1] in ".!?" or sentence.count(" ") > 1] or sentences

    def _all_sentences(self) -> Iterator[str]:
        for line in _unwrapped(self.text.splitlines()):
            if line.startswith(("{", "[")):
                try:
                    texts = [text for text in _texts(json.loads(line)) if " " in text] or [line]
                except (ValueError, RecursionError):
                    texts = [line]
            elif _HEADING.match(line):
                continue
            else:
                texts = [_BULLET.sub("", line, count=1)]
            for text in texts:
                yield from (piece.strip() for part in _SENTENCE_END.split(text) for piece in _PIECE.findall(part))

    @cached_property
    def numbered(self) -> list[str]:
        """The entries of the text's numbered list, each up to the blank line or the entry behind it; none unless the
        numbers count from 1."""
        starts = list(_NUMBERED.finditer(self.text))
        if not starts or [int(start[1]) for start in starts] != list(range(1, len(starts) + 1)):
            return []
        ends = [*(start.start() for start in starts[1:]), len(self.text)]
        entries = (self.text[start.end() : end] for start, end in zip(starts, ends, strict=True))
        return [" ".join(entry.partition("\n\n")[0].split()) for entry in entries]

    @cached_property
    def counts(self) -> Counter[str]:
        """How often each telling word stands in the sentences."""
        return Counter(word for sentence in self.sentences for word in words(sentence))

    def relevant(self, question: Iterable[str], most: int) -> list[str]:
        """Return at most `most` sentences, in the text's order: those that share most with the question's words, and of
        the others those that share most with the rest of the text."""
        asked = set(question)

        def weight(place: int) -> tuple[float, int]:
            sentence_words = set(words(self.sentences[place]))
            if not sentence_words:
                return (0.0, -place)
            common = sum(min(self.counts[word], 5) - 1 for word in sentence_words)
            return ((4 * len(sentence_words & asked) + common) / (len(sentence_words) + 6), -place)

        best = sorted(range(len(self.sentences)), key=weight, reverse=True)[:most]
        return [self.sentences[place] for place in sorted(best)]

    def share(self, question: Iterable[str]) -> float:
        """Return the share of the question's words that stand in the text, 0 to 1."""
        asked = set(question)
        return sum(1 for word in asked if word in self.counts) / len(asked) if asked else 0.0

    def near(self, matches: Iterable[re.Match[str]], name: Iterable[str]) -> list[re.Match[str]]:
        """Return matches in the text, those first that stand nearest behind or before a word of the name."""
        asked = set(name)
        named = [m.span() for m in _WORD.finditer(self.text) if _stem(m[0].lower()) in asked] if asked else []

        def distance(match: re.Match[str]) -> tuple[float, int]:
            # A value rather follows its name ("order 4711") than precedes it.
            at = bisect_right(named, (match.start(), math.inf))
            behind = max(0, match.start() - named[at - 1][1]) if at else math.inf
            before = 3 * (named[at][0] - match.end()) + 1 if at < len(named) else math.inf
            return (min(behind, before), match.start())

        return sorted(matches, key=distance)


def _unwrapped(lines: Iterable[str]) -> Iterator[str]:
    """Lines with those joined that are one paragraph, wrapped: a full line that ends without a stop goes on in the
    next."""
    paragraph = ""
    for line in (line.strip() for line in lines):
        stands_alone = (
            not line or _HEADING.match(line) or _BULLET.match(line) or _LABELLED.match(line) or line[0] in "{[+"
        )
        if paragraph and not stands_alone and len(paragraph) >= _FULL_LINE and paragraph[-1] not in ".!?:":
            paragraph = f"{paragraph} {line}"
            continue
        if paragraph:
            yield paragraph
        paragraph = line
    if paragraph:
        yield paragraph


def _fields(value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        for name, content in value.items():
            yield name, content
            yield from _fields(content)
    elif isinstance(value, list):
        for content in value:
            yield from _fields(content)


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for content in value.values():
            yield from _texts(content)
    elif isinstance(value, list):
        for content in value:
            yield from _texts(content)
