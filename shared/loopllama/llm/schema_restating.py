"""Schemas restated in the subset that a provider takes (`schema_subsets`).

Whatever follows a schema restated for answers follows the schema it was made of, but for the constraints that had to
be put into words, and for `oneOf`, of which only `anyOf` can be said; an answer is checked against the whole schema
afterwards anyway. Parameters of tools may say less than they did: what a model gives is checked against the tool's own.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from decimal import Decimal
from functools import lru_cache
from typing import Any, NamedTuple

from loopllama.core import exact_json
from loopllama.core.patterns import late
from loopllama.llm import schema_references, schema_unions
from loopllama.llm.schema_subsets import ANNOTATIONS, SUBSETS, Subset

_LOOKS_AROUND = late(r"\(\?(?:[=!]|<[=!])")
_COMBINED = ("anyOf", "oneOf", "allOf", "enum", "const", "not", "if", "then", "else", "$ref")
"""What no provider takes at the root."""
_SCHEMAS = ("items", "additionalProperties", "not", "if", "then", "else", "contains", "propertyNames")
_LISTS = ("anyOf", "oneOf", "allOf", "prefixItems")
_GROUPS = ("properties", "$defs", "definitions")
_MOST_PARTS = 2000
"""Parts that stand where references to them stood: a small schema can refer to much, many times."""
_LEVELS = (3, 1, 0)
"""How often a reference is followed within what it names, as long as no more than `_MOST_PARTS` come of it."""
_GOES_ON = "The same once more: {}."
_UNKNOWN = "What {} names."
"""What stands for a reference that is followed no more, and for one to something outside of the schema."""
_TYPES: tuple[tuple[type, str], ...] = ((bool, "boolean"), (str, "string"), (int, "integer"), (Decimal, "number"))


_KINDS = {"properties": "object", "additionalProperties": "object", "items": "array", "prefixItems": "array"}
"""The type of what a part without one describes."""


class Restated(NamedTuple):
    """A schema as a provider takes it, `None` where it cannot be said, and `why` not."""

    schema: Mapping[str, Any] | None
    why: str = ""


class _Unsayable(Exception):
    """The subset has no way to say it."""


def restated(schema: Mapping[str, Any], subset: str) -> Restated:
    """Return the schema of an answer in a subset, by its name in `SUBSETS`."""
    rules = SUBSETS[subset]
    if subset == "any":
        return Restated(schema)
    try:
        made = _Restating(schema, rules).root()
    except _Unsayable as error:
        return Restated(None, f"the schema cannot be said there: {error}")
    except RecursionError:
        return Restated(None, "the schema cannot be said there: it is nested too deep")
    counts: dict[str, int] = {}
    for what, count in _counted(made):
        counts[what] = counts.get(what, 0) + count
    counts["depth"] = _depth(made)
    over = [
        f"{counts[what]:,} {what}, at most {most:,}" for what, most in rules.most.items() if counts.get(what, 0) > most
    ]
    return Restated(None, f"the schema is too large there: {'; '.join(over)}") if over else Restated(made)


def parameters(schema: Mapping[str, Any], subset: str) -> Mapping[str, Any]:
    """Return the parameters of a tool in a subset; as they are where it cannot say them: the provider may know more.

    What refers to itself is said some levels deep where the provider takes no references; below, its description says
    that it goes on. Of what would be too large so, fewer levels are said.
    """
    return schema if subset == "any" else _parameters(exact_json.dumps(schema), subset)


@lru_cache(maxsize=256)
def _parameters(text: str, subset: str) -> Mapping[str, Any]:
    """Return the same of a schema that is written as JSON: each call of a step has the same tools."""
    schema: Mapping[str, Any] = exact_json.loads(text)
    try:
        whole = schema_unions.one_object(schema)
    except RecursionError:
        return schema  # an `allOf` of itself
    for levels in _LEVELS:
        try:
            return _Restating(whole, SUBSETS[subset], levels).root()
        except (_Unsayable, RecursionError):
            continue
    return schema


def says_less(schema: Mapping[str, Any], subset: str) -> bool:
    """Return whether parameters in a subset are said some levels deep only, as they refer to themselves."""
    return not SUBSETS[subset].recursive and _refers_to_itself(exact_json.dumps(schema))


@lru_cache(maxsize=256)
def _refers_to_itself(text: str) -> bool:
    return schema_references.refers_to_itself(schema_references.without_unused(exact_json.loads(text)))


def holds(schema: Mapping[str, Any], subset: str) -> bool:
    """Return whether a schema stands in the subset as it is."""
    return restated(schema, subset).schema == schema


class _Restating:
    """One schema on its way into one subset."""

    def __init__(self, schema: Mapping[str, Any], subset: Subset, levels: int = 1) -> None:
        self._whole = (
            schema if subset.keywords is None and subset.recursive else schema_references.without_unused(schema)
        )
        self._subset = subset
        self._levels = levels
        self._parts = 0

    def root(self) -> dict[str, Any]:
        """Return the whole schema."""
        schema, subset = self._whole, self._subset
        if schema.get("type") != "object" and not (subset.loose and "properties" in schema):
            raise _Unsayable("its root is no object")
        if not subset.recursive and not subset.loose and schema_references.refers_to_itself(schema):
            raise _Unsayable("it refers to itself")
        combined = {key: schema[key] for key in _COMBINED if key in schema}
        if combined and not subset.loose:
            raise _Unsayable(f"it has {', '.join(combined)} at its root")
        rest = {key: value for key, value in schema.items() if key not in combined}
        made = self._part({**rest, "type": "object"}, ())
        if subset.loose:
            made.setdefault("properties", {})
        if combined:
            _word(made, combined)
        if subset.root is not None:
            made = {key: value for key, value in made.items() if key in subset.root}
        return made

    def _part(self, schema: Any, path: tuple[str, ...]) -> dict[str, Any]:
        """Return a part of the schema. `path` are the references that led to it."""
        self._parts += bool(path)
        if self._parts > _MOST_PARTS:
            raise _Unsayable(f"without references it has more than {_MOST_PARTS:,} parts")
        subset = self._subset
        if schema is True or schema == {}:
            return self._anything("a value may be anything")
        if not isinstance(schema, Mapping):
            return self._nothing()
        schema = _merged(_modern(schema))
        if "$ref" in schema and subset.references != "beside":
            return self._reference(schema, path)
        result: dict[str, Any] = {}
        worded: dict[str, Any] = {}
        for key, value in self._typed(schema).items():
            if key in _GROUPS and isinstance(value, Mapping):
                if key == "properties" or subset.references != "inlined":
                    result[key] = {name: self._part(part, path) for name, part in value.items() if part is not False}
                if not subset.closed and (without := [name for name, part in value.items() if part is False]):
                    worded["without"] = without
            elif self._is_worded(key, value):
                worded[key] = value
            elif key in ANNOTATIONS and subset.keywords is not None:
                continue
            elif not self._may_stand(key, value):
                raise _Unsayable(f"{key} {exact_json.dumps(value)[:60]}" if key == "format" else key)
            elif key in _SCHEMAS and isinstance(value, Mapping if key == "additionalProperties" else Mapping | bool):
                result[key] = self._part(value, path)
            elif key in _LISTS and isinstance(value, list):
                result[key] = [self._part(part, path) for part in value if part is not False] or [self._nothing()]
            elif key in ("patternProperties", "dependentSchemas") and isinstance(value, Mapping):
                result[key] = {name: self._part(part, path) for name, part in value.items() if part is not False}
            else:
                result[key] = value
        self._object(schema, result)
        types = result.get("type")
        if "array" in (types if isinstance(types, list) else [types]) and "items" not in result:
            result["items"] = self._items(schema, path)
        if worded:
            _word(result, worded)
        return _nullable(result) if not subset.type_lists else result

    def _anything(self, what: str) -> dict[str, Any]:
        """Return what stands for any value: where a type must be said, a text is one."""
        if self._subset.keywords is None:
            return {}
        if not self._subset.loose:
            raise _Unsayable(what)
        return {"type": "string"}

    def _nothing(self) -> dict[str, Any]:
        """Return what stands where no value is valid."""
        if not self._subset.loose:
            raise _Unsayable("a value may be nothing")
        return {"not": {}} if self._subset.keywords is None else {"type": "string", "description": "(nothing is valid)"}

    def _items(self, schema: Mapping[str, Any], path: tuple[str, ...]) -> dict[str, Any]:
        """Return what a list may hold that does not say it, or says it place by place."""
        parts = schema.get("prefixItems")
        if not self._subset.loose or not isinstance(parts, list) or not parts:
            return self._anything("a list may hold anything")
        different: list[dict[str, Any]] = []
        for part in parts:
            if part is not False and (made := self._part(part, path)) not in different:
                different.append(made)
        if not different:
            return self._anything("a list may hold anything")
        return different[0] if len(different) == 1 else {"anyOf": different}

    def _is_worded(self, key: str, value: Any) -> bool:
        subset = self._subset
        if key == "pattern" and not subset.look_around and _LOOKS_AROUND.search(str(value)):
            return True
        if key in ANNOTATIONS or subset.keywords is None:
            return False
        if key == "enum" and subset.loose and not all(isinstance(one, str) for one in value):
            return True
        return key in subset.worded - subset.keywords or (subset.loose and not self._may_stand(key, value))

    def _may_stand(self, key: str, value: Any) -> bool:
        subset = self._subset
        if key == "format" and subset.formats is not None:
            return value in subset.formats
        return subset.keywords is None or key in subset.keywords

    def _typed(self, schema: Mapping[str, Any]) -> dict[str, Any]:
        """Return a part with the type that its values have, as some want one everywhere, and `oneOf` as `anyOf`."""
        made = dict(schema)
        if self._subset.keywords is None:
            return made
        if "oneOf" in made and "anyOf" not in made:
            made["anyOf"] = made.pop("oneOf")
        values = [made["const"]] if "const" in made else made.get("enum")
        if "const" in made and not self._subset.const:
            made["enum"] = [made.pop("const")]
        if values is None:
            if not {"type", "anyOf", "$ref"} & made.keys():
                if not self._subset.loose and "properties" not in made:
                    raise _Unsayable("a value may be anything")
                # Gemini: "must be specified when not using one_of, any_of or all_of fields"
                made["type"] = next((kind for key, kind in _KINDS.items() if key in made), "string")
            return made
        types = sorted({_type_of(value) for value in values})
        if "" in types and not self._subset.loose:
            raise _Unsayable("an enum has values that are no text, number, boolean or null")
        if "type" not in made and "" not in types:
            made["type"] = types[0] if len(types) == 1 else types
        return made

    def _object(self, schema: Mapping[str, Any], result: dict[str, Any]) -> None:
        """Put right what objects must say."""
        subset = self._subset
        if not (schema.get("type") == "object" or "properties" in schema):
            return
        names, required = set(result.get("properties") or ()), schema.get("required", ())
        others = schema.get("additionalProperties", not names)
        if subset.keywords is not None and isinstance(required, list) and not set(required) <= names:
            if not subset.loose:
                raise _Unsayable("a required property is not described")
            result["required"] = [name for name in required if name in names]
        if subset.closed:
            if others is not False:
                raise _Unsayable("an object may have any properties")
            result |= {"properties": result.get("properties", {}), "additionalProperties": False}
            if not subset.optional:
                if names != set(required):
                    raise _Unsayable("a property is optional")
                result["required"] = list(required)

    def _reference(self, schema: Mapping[str, Any], path: tuple[str, ...]) -> dict[str, Any]:
        beside = schema.keys() - ANNOTATIONS - {"$ref", "description"}
        target = schema["$ref"]
        if self._subset.references == "alone":
            if beside:
                raise _Unsayable(f"{', '.join(sorted(beside))} beside a $ref")
            return {"$ref": target}
        found = schema_references.found(self._whole, target)
        if self._subset.loose:
            if not isinstance(found, Mapping) or path.count(target) >= self._levels:
                return self._goes_on(schema, found)
        elif target in path or not isinstance(found, Mapping) or beside & found.keys():
            raise _Unsayable(f"$ref {target}")
        return self._part({**found, **{key: value for key, value in schema.items() if key != "$ref"}}, (*path, target))

    def _goes_on(self, schema: Mapping[str, Any], found: Any) -> dict[str, Any]:
        """Return what stands for a reference that is not followed: any value of its type, and a description."""
        kind, why = (found.get("type"), _GOES_ON) if isinstance(found, Mapping) else (None, _UNKNOWN)
        kind = kind if isinstance(kind, str) else "object"
        said = [
            str(part["description"]) for part in (schema, found) if isinstance(part, Mapping) and "description" in part
        ]
        made: dict[str, Any] = {"type": kind, "description": " ".join([*said[:1], why.format(schema["$ref"])])}
        if kind == "array":
            made["items"] = self._anything("")
        return made


def _word(part: dict[str, Any], constraints: Mapping[str, Any]) -> None:
    says = ", ".join(f"{key}: {exact_json.dumps(value)}" for key, value in constraints.items())
    part["description"] = f"{part.get('description', '')} ({says})".strip()


def _modern(schema: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a part as draft 2020-12 writes it: earlier drafts have lists as `items`, and truths as
    `exclusiveMinimum`."""
    made = {key: value for key, value in schema.items() if key != "$schema"}
    if isinstance(made.get("items"), list):
        made["prefixItems"] = made.pop("items")
        if "additionalItems" in made:
            made["items"] = made.pop("additionalItems")
    for exclusive, bound in (("exclusiveMinimum", "minimum"), ("exclusiveMaximum", "maximum")):
        if isinstance(made.get(exclusive), bool) and made.pop(exclusive) and bound in made:
            made[exclusive] = made.pop(bound)
    return made


def _merged(schema: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a part without an `allOf` of one, as pydantic writes it to describe what a `$ref` names."""
    parts = schema.get("allOf")
    if not isinstance(parts, list) or len(parts) != 1 or not isinstance(parts[0], Mapping):
        return schema
    rest = {key: value for key, value in schema.items() if key != "allOf"}
    return schema if rest.keys() & parts[0].keys() - ANNOTATIONS - {"description"} else {**parts[0], **rest}


def _type_of(value: Any) -> str:
    """Return the type of a plain value; empty for an object or a list."""
    if value is None:
        return "null"
    if isinstance(value, float):
        return "number"
    return next((name for kind, name in _TYPES if isinstance(value, kind)), "")


def _nullable(part: dict[str, Any]) -> dict[str, Any]:
    """Return a part whose null is said by `nullable`, for a provider that takes one type only."""
    types = part.get("type")
    if isinstance(types, list):
        several = [name for name in types if name != "null"]
        rest = {key: value for key, value in part.items() if key != "type"}
        if len(several) == 1:
            part = {"type": several[0], **rest}
        else:
            part = {key: rest[key] for key in ("description",) if key in rest}
            rest.pop("description", None)
            part["anyOf"] = [{"type": name, **rest} for name in several]
        if "null" in types:
            part["nullable"] = True
    choices = part.get("anyOf")
    if isinstance(choices, list) and any(one.get("type") == "null" for one in choices):
        left = [one for one in choices if one.get("type") != "null"]
        rest = {key: value for key, value in part.items() if key != "anyOf"}
        part = {**(left[0] if len(left) == 1 else {"anyOf": left}), **rest, "nullable": True}
    return part


def _inner(schema: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield the schemas in a schema, each with the keyword that holds it."""
    for key, value in schema.items():
        parts = value.values() if key in _GROUPS else value if key in ("anyOf", "allOf") else [value]
        if key in (*_GROUPS, "anyOf", "allOf", "items", "additionalProperties"):
            yield from ((key, part) for part in parts if isinstance(part, Mapping))


def _depth(schema: Mapping[str, Any]) -> int:
    """Return how many objects and lists stand in one another."""
    return max((_depth(part) + (key in ("properties", "items")) for key, part in _inner(schema)), default=0)


def _counted(schema: Mapping[str, Any]) -> Iterator[tuple[str, int]]:
    """Yield what providers count in a schema, and how many of it stand at each place."""
    properties, values = schema.get("properties", {}), schema.get("enum", ())
    yield "properties", len(properties)
    yield "optional properties", len(properties.keys() - set(schema.get("required", ())))
    yield "unions", int("anyOf" in schema or isinstance(schema.get("type"), list))
    yield "enum values", len(values)
    if len(values) > 250:
        yield "characters of an enum over 250", sum(len(value) for value in values if isinstance(value, str))
    for _, part in _inner(schema):
        yield from _counted(part)
