r"""Regular expressions that others write, run in bounded time: the `pattern` and `patternProperties` of a JSON Schema.

Python's `re` tries one way after the other, so that `^(a+)+$` takes minutes for thirty letters. Here all ways are
followed at once (Thompson, https://swtch.com/~rsc/regexp/regexp1.html): a text's character is looked at once for each
place of the pattern that a way has come to, sets of places that were met before are known, and all of it is counted.
Patterns are read by Python's own parser and mean what they mean there, lookahead and lookbehind included. Only back
references, which nobody bounds, and groups that forget their other ways are not taken.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Iterable
from functools import lru_cache
from re import _casefix as casefix  # type: ignore[attr-defined]
from re import _constants as sre  # type: ignore[attr-defined]  # which Python's own `re` compiles by
from re import _parser as parser  # type: ignore[attr-defined]
from typing import Any, Literal

from loopllama.core.work import Work
from loopllama.errors import InvalidRequest

MAX_LENGTH = 4000
MAX_SIZE = 20_000
"""Places of a pattern once its repetitions are written out: `[a-z]{1,1000}` has two thousand."""
_SHOWN = 80
_STRETCH = 32
"""Characters whose moves are known that are counted together."""
_DEEPEST = 100
"""Groups in groups: each is a call in a call."""

Test = Callable[[str], bool]


class TextPattern:
    """A pattern that is ready to be looked for."""

    def __init__(self, written: str, work: Work) -> None:
        """Read a pattern. Raises `InvalidRequest`, which shows it, where it is none or cannot be run."""
        self._on = f"the pattern {written if len(written) <= _SHOWN else written[:_SHOWN] + '…'!r}"
        if len(written) > MAX_LENGTH:
            raise InvalidRequest(f"{self._on} has {len(written):,} characters; at most {MAX_LENGTH:,} are taken")
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of syntax that means something else in other languages
                parsed = parser.parse(written)
            program = _Program()
            self._start = program.of(parsed, program.add("found"), parsed.state.flags)
        except (re.error, OverflowError, _NotRunError) as error:
            raise InvalidRequest(f"{self._on} cannot be used: {error}") from None
        except RecursionError:
            raise InvalidRequest(f"{self._on} cannot be used: its groups are nested too deeply") from None
        self._nodes = program.nodes
        self._states: _States = {}
        work.spend(20 + 2 * len(self._nodes), self._on)

    def is_in(self, text: str, work: Work) -> bool:
        """Return whether the pattern is anywhere in a text. Raises `InvalidRequest` where that takes too much work."""
        on = f"{self._on} and a text of {len(text):,} characters"
        work.spend(1, on)
        return _Search(self._nodes, text, work, on, self._states).anywhere(self._start)


class _NotRunError(ValueError):
    """A pattern that is read, and not run."""


class _Program:
    """A pattern as places that lead to one another. A place is `(kind, what, following places)`: `test` goes on over a
    character, `at` where the text's edge or a word's is, `look` where another pattern is or is not ahead or behind,
    `any` to each place that follows, and `found` is the end."""

    def __init__(self) -> None:
        self.nodes: list[tuple[str, Any, tuple[int, ...]]] = []
        self._built = 0

    def add(self, kind: str, what: Any = None, *following: int) -> int:
        if len(self.nodes) >= MAX_SIZE:
            raise _NotRunError("it is too large once its repetitions are written out; bound texts by maxLength")
        self.nodes.append((kind, what, following))
        return len(self.nodes) - 1

    def of(self, parsed: Iterable[Any], then: int, flags: int, depth: int = 0) -> int:
        """Add what the parser has read, and return its first place; `then` follows it."""
        self._built += 1
        if self._built > MAX_SIZE:
            raise _NotRunError("it is too large once its repetitions are written out; bound texts by maxLength")
        if depth > _DEEPEST:
            raise _NotRunError(f"its groups are nested deeper than {_DEEPEST}")
        for code, what in reversed(list(parsed)):
            then = self._one(code, what, then, flags, depth + 1)
        return then

    def _one(self, code: Any, what: Any, then: int, flags: int, depth: int) -> int:
        if code in (sre.MAX_REPEAT, sre.MIN_REPEAT):
            least, most, parsed = what
            return self._repeated(least, most, parsed, then, flags, depth)
        if code is sre.SUBPATTERN:
            _, more, fewer, parsed = what
            return self.of(parsed, then, (flags | more) & ~fewer, depth)
        if code is sre.BRANCH:
            return self.add("any", None, *(self.of(branch, then, flags, depth) for branch in what[1]))
        if code is sre.AT:
            return self.add("at", (what, flags), then)
        if code in (sre.ASSERT, sre.ASSERT_NOT):
            direction, parsed = what
            least, most = parsed.getwidth()
            if direction < 0 and least != most:
                raise _NotRunError("what it looks for behind must have one length")
            width = least if direction < 0 else None
            inner = self.of(parsed, self.add("found"), flags, depth)
            return self.add("look", (inner, width, code is sre.ASSERT), then)
        if code in (sre.GROUPREF, sre.GROUPREF_EXISTS):
            raise _NotRunError("it refers back to a group, which takes time without bounds")
        if code in _SINGLE:
            return self.add("test", _test(code, what, flags), then)
        if code is sre.FAILURE:
            return self.add("any")
        raise _NotRunError("it has a group that forgets its other ways; write an ordinary one")

    def _repeated(self, least: int, most: Any, parsed: Any, then: int, flags: int, depth: int) -> int:
        if most is sre.MAXREPEAT:
            start = self.add("any", None, then)
            self.nodes[start] = ("any", None, (self.of(parsed, start, flags, depth), then))
        else:
            start = then
            for _ in range(most - least):
                start = self.add("any", None, self.of(parsed, start, flags, depth), then)
        for _ in range(least):
            start = self.of(parsed, start, flags, depth)
        return start


_SINGLE = (sre.LITERAL, sre.NOT_LITERAL, sre.ANY, sre.IN)


def _test(code: Any, what: Any, flags: int) -> Test:
    """Return whether a character is one of those that a place takes."""
    if code is sre.ANY:
        return (lambda _: True) if flags & re.DOTALL else (lambda character: character != "\n")
    items = [(code, what)] if code in (sre.LITERAL, sre.NOT_LITERAL) else list(what)
    negated = items[0][0] in (sre.NEGATE, sre.NOT_LITERAL)
    if items[0][0] is sre.NEGATE:
        items = items[1:]
    tests = [_item(kind, value, flags) for kind, value in items]
    if flags & re.IGNORECASE:
        cases = _ascii_cases if flags & re.ASCII else _cases
        return lambda character: negated != any(test(case) for test in tests for case in cases(character))
    return lambda character: negated != any(test(character) for test in tests)


_CAPITALS = {"i": "İ", "k": "\u212a", "å": "\u212b", "ß": "ẞ", "θ": "ϴ", "ω": "\u2126"}
"""Capitals of small letters whose own capital is another: Kelvin's, Ångström's and Ohm's signs, and three letters."""


@lru_cache(maxsize=10_000)
def _cases(character: str) -> frozenset[str]:
    """Return the characters that differ in nothing but case, as Python's `re` takes them: two of the Greek s too."""
    lower = "i" if character == "İ" else character.lower()
    lowers = (lower, *map(chr, casefix._EXTRA_CASES.get(ord(lower), ())))
    every = (form for one in lowers for form in (one, one.upper(), one.title(), _CAPITALS.get(one, one)))
    return frozenset(form for form in every if len(form) == 1)


def _ascii_cases(character: str) -> tuple[str, ...]:
    return (character.lower(), character.upper()) if character.isascii() else (character,)


def _item(kind: Any, value: Any, flags: int) -> Test:
    if kind is sre.RANGE:
        low, high = value
        return lambda character: low <= ord(character) <= high
    if kind is sre.CATEGORY:
        name = str(value).removeprefix("CATEGORY_")
        wanted, category = not name.startswith("NOT_"), _CATEGORIES[name.removeprefix("NOT_")]
        ascii_only = bool(flags & re.ASCII)
        if ascii_only and name.endswith("SPACE"):
            return lambda character: wanted == (character in " \t\n\r\f\v")
        return lambda character: wanted == (category(character) and (not ascii_only or character.isascii()))
    return lambda character: ord(character) == value


def _is_word(character: str) -> bool:
    return character.isalnum() or character == "_"


_CATEGORIES: dict[str, Test] = {"DIGIT": str.isdecimal, "SPACE": str.isspace, "WORD": _is_word}


class _State:
    """Places that ways have come to between two characters, and where each character has led from there. `again` are
    those at which more ways begin at each character."""

    __slots__ = ("again", "before", "moves", "places")

    def __init__(self, places: frozenset[int], before: str, again: frozenset[int]) -> None:
        self.places, self.before, self.again = places, before, again
        self.moves: dict[str, _State | Literal["found"]] = {}


_States = dict[tuple[frozenset[int], str, frozenset[int]], _State]
_NOWHERE: frozenset[int] = frozenset()


class _Search:
    """One text, looked through. What has been counted once is remembered, in `states` for other texts too; memory
    follows the work."""

    def __init__(
        self, nodes: list[tuple[str, Any, tuple[int, ...]]], text: str, work: Work, on: str, states: _States
    ) -> None:
        self._nodes, self._text, self._work, self._on = nodes, text, work, on
        self._states = states
        self._seen: dict[tuple[int, int], bool] = {}
        self._has_looked = False

    def anywhere(self, start: int) -> bool:
        """Return whether a way from `start` comes to its end, begun at any character."""
        starts = frozenset((start,))
        return self._is_found(self._state(starts, "", starts), 0)

    def _is_found(self, state: _State, place: int) -> bool:
        """Return whether a way comes to its end that has come to a state at `place`."""
        text, last = self._text, len(self._text) - 1
        for at in range(place, len(text)):
            character = text[at]
            if at % _STRETCH == 0:
                self._work.spend(_STRETCH // 8, self._on)
            # `$` holds before a last line end, so that no other is like it.
            is_like_others = at != last or character != "\n"
            following = state.moves.get(character) if is_like_others else None
            if following is None:
                places = self._over(state.places, at, character)
                following = "found" if places is None else self._after(state, places, character)
                # What is ahead or behind is another at each place.
                if is_like_others and not self._has_looked:
                    state.moves[character] = following
            if following == "found":
                return True
            state = following
            if not state.places:
                return False
        return self._reach(state.places, len(text)) is None

    def _after(self, state: _State, places: frozenset[int], character: str) -> _State:
        return self._state(places | state.again, _kind(character), state.again)

    def _state(self, places: frozenset[int], before: str, again: frozenset[int]) -> _State:
        if (state := self._states.get((places, before, again))) is None:
            state = self._states[places, before, again] = _State(places, before, again)
        return state

    def _at(self, start: int, place: int) -> bool:
        """Return whether a way from `start` comes to its end, begun at `place`."""
        if (start, place) not in self._seen:
            self._work.spend(2, self._on)
            before = _kind(self._text[place - 1]) if place else ""
            self._seen[start, place] = self._is_found(self._state(frozenset((start,)), before, _NOWHERE), place)
        return self._seen[start, place]

    def _over(self, places: frozenset[int], place: int, character: str) -> frozenset[int] | None:
        """Return where ways lead over the character at `place`; `None` where one has ended before it."""
        reached = self._reach(places, place)
        if reached is None:
            return None
        return frozenset(self._nodes[one][2][0] for one in reached if self._nodes[one][1](character))

    def _reach(self, places: Iterable[int], place: int) -> list[int] | None:
        """Return the tests to which ways lead at a place without a character; `None` where one is at its end."""
        pending, met, tests, has_looked = list(places), set(places), [], False
        while pending:
            one = pending.pop()
            kind, what, following = self._nodes[one]
            self._work.spend(1 + len(following), self._on)
            if kind == "found":
                self._has_looked = has_looked
                return None
            if kind == "test":
                tests.append(one)
                continue
            has_looked = has_looked or kind == "look"
            if kind in _CONDITIONS and not _CONDITIONS[kind](self, what, place):
                continue
            for other in following:
                if other not in met:
                    met.add(other)
                    pending.append(other)
        self._has_looked = has_looked
        return tests

    def _is_at(self, what: tuple[Any, int], place: int) -> bool:
        text, (where, flags) = self._text, what
        if where is sre.AT_BEGINNING_STRING or (where is sre.AT_BEGINNING and not flags & re.MULTILINE):
            return place == 0
        if where is sre.AT_END_STRING:
            return place == len(text)
        if where is sre.AT_BEGINNING:
            return place == 0 or text[place - 1] == "\n"
        if where is sre.AT_END:
            line_ends = text[place : place + 1] == "\n"
            return place == len(text) or (line_ends and (bool(flags & re.MULTILINE) or place == len(text) - 1))
        word = [
            0 <= one < len(text) and _is_word(text[one]) and (not flags & re.ASCII or text[one].isascii())
            for one in (place - 1, place)
        ]
        return (word[0] != word[1]) == (where is sre.AT_BOUNDARY)

    def _looks(self, what: tuple[int, int | None, bool], place: int) -> bool:
        inner, width, wanted = what
        if width is None:
            return self._at(inner, place) == wanted
        return (place >= width and self._at(inner, place - width)) == wanted


_CONDITIONS: dict[str, Callable[[_Search, Any, int], bool]] = {"at": _Search._is_at, "look": _Search._looks}


def _kind(character: str) -> str:
    """Return what a later place may ask of the character before it."""
    if character == "\n":
        return "\n"
    return ("word" if character.isascii() else "letter") if _is_word(character) else "other"
