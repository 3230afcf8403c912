"""Values for a JSON Schema, found in a text: how the simulated model gives structured answers and fills in the
arguments of tools."""

from __future__ import annotations

import contextlib
import math
import re
from collections.abc import Callable, Mapping
from fractions import Fraction
from typing import Any

from loopllama.core.patterns import late
from loopllama.providers.simulated.reading import Reading, number, words
from loopllama.providers.simulated.text_kinds import CURRENCY, DATE, FORMATS, KINDS, MONTHS, NAME, cut, follows

STATED, GUESSED, INVENTED = 2, 1, 0
"""How well a value is founded: it stands in the text; it is the text's most fitting sentence or a judgement on it; or
the text has nothing of the kind and the value only follows the schema."""

Found = tuple[Any, int]

_MAX_DEPTH = 12
_NESTED = 4
"""Beyond this depth a schema that refers to itself is brought to its end: null, no item, no optional property."""
_SEARCHED = 20_000
_NUMBER = late(r"(?<![\w.,#-])[-+]?(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?(?![\d-]|[.,]\d|[A-Za-z_]{4})")
_NEGATIONS = frozenset("no not never without none cannot neither nor".split())  # noqa: SIM905


class Filler:
    """Fills in schemas of one document from one text. `instruction` is what the model was told to do."""

    def __init__(self, reading: Reading, instruction: str, root: Mapping[str, Any]) -> None:
        self._reading = reading
        self._instruction = instruction
        self._root = root

    def fill(self, schema: Any, name: str = "", depth: int = 0) -> Found:
        """Return a value that follows the schema, and how well it is founded. Follows: type, enum, const, properties,
        required, items, anyOf, oneOf, allOf, `$ref` within the document, bounds, lengths, formats; `pattern` only
        where something in the text matches it."""
        if not isinstance(schema, Mapping):
            return self._text({}, name)
        schema = self._resolved(schema)
        if "const" in schema:
            return schema["const"], GUESSED
        if schema.get("enum"):
            return self._label(schema["enum"], f"{name} {schema.get('description', '')}", name)
        for key in ("anyOf", "oneOf"):
            if schema.get(key):
                rest = {k: v for k, v in schema.items() if k != key}
                return self._branch([self._merged(rest, branch) for branch in schema[key]], name, depth)
        kind = schema.get("type")
        if isinstance(kind, list):
            return self._branch([{**schema, "type": type_} for type_ in kind], name, depth)
        if kind == "object" or (kind is None and "properties" in schema):
            return self._object(schema, depth)
        if kind == "array" or (kind is None and "items" in schema):
            return self._array(schema, name, depth)
        if kind in ("integer", "number"):
            return self._number(schema, name, kind == "integer")
        if kind == "boolean":
            return self._boolean(name)
        if kind == "null":
            return None, INVENTED
        return self._text(schema, name)

    # Schemas made of schemas

    def _resolved(self, schema: Mapping[str, Any]) -> Mapping[str, Any]:
        for _ in range(_MAX_DEPTH):
            reference = schema.get("$ref")
            if isinstance(reference, str):
                schema = {**self._target(reference), **{k: v for k, v in schema.items() if k != "$ref"}}
            elif isinstance(schema.get("allOf"), list):
                merged: Mapping[str, Any] = {k: v for k, v in schema.items() if k != "allOf"}
                for part in schema["allOf"]:
                    merged = self._merged(merged, self._resolved(part) if isinstance(part, Mapping) else {})
                schema = merged
            else:
                break
        return schema

    def _target(self, reference: str) -> Mapping[str, Any]:
        target: Any = self._root
        for part in reference.lstrip("#").strip("/").split("/") if reference not in ("#", "#/") else ():
            part = part.replace("~1", "/").replace("~0", "~")
            target = target.get(part) if isinstance(target, Mapping) else None
        return target if isinstance(target, Mapping) else {}

    @staticmethod
    def _merged(schema: Mapping[str, Any], other: Any) -> Mapping[str, Any]:
        if not isinstance(other, Mapping):
            return schema
        merged = {**schema, **other}
        if "properties" in schema and "properties" in other:
            merged["properties"] = {**schema["properties"], **other["properties"]}
        if "required" in schema and "required" in other:
            merged["required"] = [*schema["required"], *other["required"]]
        return merged

    def _branch(self, branches: list[Mapping[str, Any]], name: str, depth: int) -> Found:
        """Return the best founded branch; null where the text has nothing and null will do."""
        if depth > _NESTED and any(self._resolved(branch).get("type") == "null" for branch in branches):
            return None, INVENTED
        best: Found | None = None
        for branch in branches:
            filled = self.fill(branch, name, depth + 1)
            if best is None or filled[1] > best[1] or (filled[1] == best[1] == INVENTED and filled[0] is None):
                best = filled
        return best or (None, INVENTED)

    def _object(self, schema: Mapping[str, Any], depth: int) -> Found:
        properties: Mapping[str, Any] = schema.get("properties") or {}
        required = list(dict.fromkeys([*(schema.get("required") or ())]))
        if depth > _MAX_DEPTH:
            properties = {
                name: part for name, part in properties.items() if name in required and depth < 2 * _MAX_DEPTH
            }
        result: dict[str, Any] = {}
        founded = [INVENTED]
        for name in [*properties, *(name for name in required if name not in properties)]:
            value, how = self.fill(properties.get(name, {}), name, depth + 1)
            if name in required or how > INVENTED:
                result[name] = value
                founded.append(how)
        return result, max(founded)

    def _array(self, schema: Mapping[str, Any], name: str, depth: int) -> Found:
        least, most = int(schema.get("minItems") or 0), int(schema.get("maxItems", 10))
        items = self._resolved(schema["items"]) if isinstance(schema.get("items"), Mapping) else {}
        hint = f"{name} {schema.get('description', '')}"
        values = self._items(items, name, hint, depth, max(least, min(most, 3)))[:most] if depth <= _NESTED else []
        founded = STATED if values else INVENTED
        while len(values) < least:
            values.append(self.fill(items, name, depth + 1)[0] if depth < _MAX_DEPTH else None)
        return values, founded

    def _items(self, items: Mapping[str, Any], name: str, hint: str, depth: int, few: int) -> list[Any]:
        """Return the items that the text has for a list of this name; of such as every sentence would yield, a few.
        Entries that the text itself numbers are the items of a list of objects."""
        kind = items.get("type", "string" if not items else None)
        if kind == "string" or items.get("enum"):
            stated = self._fact(name, lambda value: isinstance(value, list) and bool(value)) or []
            stated = [sentence for sentence in stated if isinstance(sentence, str) and follows(sentence, items)]
            if items.get("enum"):
                scored = [label for label, score in self._scores(items["enum"], name) if score > 0]
                return [sentence for sentence in stated if sentence in items["enum"]] or scored
            pattern = self._kind(items, name.removesuffix("s"))
            if pattern is not None:
                texts = list(dict.fromkeys(self._read(m) for m in pattern.finditer(self._reading.text[:_SEARCHED])))
            else:
                texts = self._reading.relevant(words(hint), few)
            return stated or [text for text in (cut(text, items) for text in texts) if follows(text, items)]
        if kind in ("integer", "number"):
            return [number for number in self._numbers(name, kind == "integer") if _within(number, items)]
        return [
            Filler(Reading(text), self._instruction, self._root).fill(items, name, depth + 1)[0]
            for text in self._reading.numbered or self._reading.relevant(words(hint), few)
        ]

    # Plain values

    def _fact(self, name: str, fits: Callable[[Any], bool]) -> Any:
        """Return the value that the text gives outright to something of this name."""
        asked = frozenset(words(name))
        return next((value for named, value in self._reading.facts if asked and named == asked and fits(value)), None)

    def _line(self, name: str) -> str:
        """Return the text that stands behind this name in a line of its own; empty where there is none."""
        return str(self._fact(name, lambda value: isinstance(value, str)) or "")

    def _scores(self, labels: list[Any], hint: str) -> list[tuple[Any, float]]:
        """Return how much of the text speaks for each label: its own words, and those that the field's description or
        the instruction puts behind it (`billing: invoices, charges`)."""
        explained = f"{hint}\n{self._instruction}"
        scores = []
        for label in labels:
            text = str(label)
            score = 2.0 * sum(self._reading.counts[word] for word in set(words(text)))
            others = "|".join(re.escape(str(other)) for other in labels if other != label)
            match = re.search(rf"\b{re.escape(text)}\b\W{{1,4}}(.{{0,160}})", explained, re.IGNORECASE | re.DOTALL)
            if match and others:
                gloss = re.split(rf"\b(?:{others})\b|\n", match[1], maxsplit=1, flags=re.IGNORECASE)[0]
                score += sum(1 for word in set(words(gloss)) if word in self._reading.counts)
            scores.append((label, score))
        return scores

    def _label(self, labels: list[Any], hint: str, name: str) -> Found:
        stated = self._fact(name, lambda value: value in labels)
        if stated is not None:
            return stated, STATED
        label, score = max(self._scores(labels, hint), key=lambda pair: pair[1])
        return label, STATED if score > 0 else INVENTED

    def _numbers(self, name: str, whole: bool) -> list[float | int]:
        matches = list(_NUMBER.finditer(self._line(name)))
        matches += self._reading.near(_NUMBER.finditer(self._reading.text[:_SEARCHED]), words(name))
        values: list[float | int] = []
        for match in matches:
            with contextlib.suppress(ValueError):
                values.append(number(match[0].replace(",", "")))
        return [value for value in values if not whole or isinstance(value, int)]

    def _number(self, schema: Mapping[str, Any], name: str, whole: bool) -> Found:
        def fits(value: Any) -> bool:
            number = isinstance(value, int) or (isinstance(value, float) and not whole)
            return number and not isinstance(value, bool) and _within(value, schema)

        stated = self._fact(name, fits)
        if stated is not None:
            return stated, STATED
        for value in self._numbers(name, whole):
            if fits(value):
                return value, STATED
        return _fallback(schema, whole, self._reading.share(words(f"{name} {self._instruction}")))

    def _boolean(self, name: str) -> Found:
        stated = self._fact(
            name, lambda value: isinstance(value, bool) or str(value).lower() in ("yes", "no", "true", "false")
        )
        if stated is not None:
            return str(stated).lower() in ("yes", "true"), STATED
        asked = set(words(name)) - set(words("is has needs requires contains was"))
        for sentence in self._reading.sentences:
            if asked & set(words(sentence)):
                denied = _NEGATIONS & set(sentence.lower().split()) or "n't" in sentence
                return not denied, STATED
        return False, GUESSED if self._reading.sentences else INVENTED

    def _text(self, schema: Mapping[str, Any], name: str) -> Found:
        stated = self._fact(name, lambda value: isinstance(value, str) and follows(cut(value, schema), schema))
        if stated is not None:
            return cut(stated, schema), STATED
        pattern = self._kind(schema, name)
        if pattern is not None:
            matches = list(pattern.finditer(self._line(name)))
            for match in matches + self._reading.near(pattern.finditer(self._reading.text[:_SEARCHED]), words(name)):
                value = cut(self._read(match), schema)
                if follows(value, schema):
                    return value, STATED
        if schema.get("format") in FORMATS:
            return FORMATS[schema["format"]][1], INVENTED
        sentences = self._reading.relevant(words(f"{name} {schema.get('description', '')} {self._instruction}"), 2)
        if pattern is not None and "format" not in schema and not schema.get("pattern"):
            sentences = sentences[:1]
        text = cut(" ".join(sentences), schema)
        founded = GUESSED if text and pattern is None else INVENTED
        if "default" in schema and isinstance(schema["default"], str) and founded == INVENTED:
            return schema["default"], INVENTED
        return text.ljust(int(schema.get("minLength") or 0), "."), founded

    def _kind(self, schema: Mapping[str, Any], name: str) -> re.Pattern[str] | None:
        """Return what a value looks like, told by the schema's pattern or format or by the field's name."""
        if isinstance(schema.get("pattern"), str):
            inner = schema["pattern"].removeprefix("^").removesuffix("$")
            try:
                return re.compile(rf"(?<!\w)(?:{inner})(?!\w)")
            except re.error:
                return None
        if schema.get("format") in FORMATS:
            return FORMATS[schema["format"]][0]
        asked = set(words(name))
        return next((pattern for names, pattern in KINDS if asked & names), None)

    @staticmethod
    def _read(match: re.Match[str]) -> str:
        """Return what a match stands for: dates are written as ISO 8601 has them, currencies by their codes."""
        if match.re.pattern == DATE.pattern:
            parts = match.groupdict()
            if parts["iso"]:
                return str(parts["iso"])
            month = str(parts["m"] or parts["M"]).lower()
            if month in MONTHS:
                return f"{parts['y'] or parts['Y']}-{MONTHS.index(month) + 1:02}-{int(parts['d'] or parts['D']):02}"
        text = match[1] if match.re.pattern == NAME.pattern else match[0]
        return CURRENCY.get(text, text)


def _within(value: float, schema: Mapping[str, Any]) -> bool:
    step = schema.get("multipleOf")
    return (
        float(schema.get("minimum", -math.inf)) <= value <= float(schema.get("maximum", math.inf))
        and float(schema.get("exclusiveMinimum", -math.inf)) < value < float(schema.get("exclusiveMaximum", math.inf))
        and (not step or _exact(value) % _exact(step) == 0)
    )


def _exact(value: Any) -> Fraction:
    """Return a number as it is written, which schemas are checked by."""
    return Fraction(str(value))


def _nearest(value: float, step: Any, beside: int = 0) -> float:
    """Return the multiple of `step` next to a value, or one beside that."""
    multiple = (round(_exact(value) / _exact(step)) + beside) * _exact(step)
    return int(multiple) if multiple.denominator == 1 else float(multiple)


def _fallback(schema: Mapping[str, Any], whole: bool, share: float) -> Found:
    """Return a number for a text that has none: between two bounds (a score, a confidence) at the place that the text's
    share of the instruction's words says, else the number next to zero that fits."""
    low, high, step = (
        schema.get("minimum", schema.get("exclusiveMinimum")),
        schema.get("maximum", schema.get("exclusiveMaximum")),
        schema.get("multipleOf"),
    )
    if step and whole:
        step = _exact(step).numerator  # the least whole multiple
    if low is not None and high is not None:
        value: float = float(low) + (float(high) - float(low)) * share
        value = _nearest(value, step) if step else round(value) if whole else round(value, 2)
        if _within(value, schema) and not (whole and value % 1):
            return value, GUESSED
    candidates: list[float] = [
        0,
        *(round(float(bound)) + shift for bound in (low, high) if bound is not None for shift in (0, 1, -1)),
    ]
    candidates += [float(bound) for bound in (low, high) if bound is not None and not whole]
    if step:
        candidates += [
            _nearest(bound, step, beside) for bound in (low, high) if bound is not None for beside in (0, 1, -1)
        ]
    for candidate in candidates:
        if _within(candidate, schema) and not (whole and candidate % 1):
            return int(candidate) if whole else candidate, INVENTED
    if low is not None and high is not None and not whole:
        return (float(low) + float(high)) / 2, INVENTED
    return 0, INVENTED
