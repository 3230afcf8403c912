"""DynamoDB: its items' conversion, conditional writes of one item, and calls on many at once."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from decimal import Decimal
from functools import lru_cache
from typing import Any

from loopllama.errors import AwsUnavailable

BATCH_TRIES = 5
"""Calls in a row that may leave everything unprocessed."""


def to_item(values: Mapping[str, Any]) -> dict[str, Any]:
    """Plain values to DynamoDB's attribute values. Keys whose value is `None` are left out; numbers are `int` or
    `Decimal`, never `float`. Raises `TypeError`.

    Written out here, as `from_item` is, because boto3's own conversion takes a quarter of a warm step's time
    (benchmarks/bench_step.py). Source of the format:
    https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_AttributeValue.html
    """
    return {
        key: {"S": value} if type(value) is str else _to_attribute(value)  # most are text; a call less for each
        for key, value in values.items()
        if value is not None
    }


def from_item(item: Mapping[str, Any]) -> dict[str, Any]:
    """DynamoDB's attribute values to plain ones; numbers become `Decimal`."""
    return {key: value["S"] if "S" in value else _from_attribute(value) for key, value in item.items()}


def _to_attribute(value: Any) -> dict[str, Any]:
    kind = type(value)
    if kind is str:
        return {"S": value}
    if kind is bool:
        return {"BOOL": value}
    if kind is int:
        return {"N": str(value)}
    if kind is Decimal:
        text = str(value)
        # DynamoDB trims zeros at both ends before it counts, and writes 1E+40 out: a row with one must go back.
        if not value.is_finite() or (
            len(text) > 38 and len("".join(map(str, value.as_tuple().digits)).strip("0")) > 38
        ):
            raise TypeError(f"DynamoDB keeps numbers of at most 38 digits, not {text}")
        return {"N": text}
    if value is None:
        return {"NULL": True}
    if kind is dict or isinstance(value, Mapping):  # an abstract class's answer costs ten times as much
        return {
            "M": {key: {"S": inner} if type(inner) is str else _to_attribute(inner) for key, inner in value.items()}
        }
    if isinstance(value, list | tuple):
        return {"L": [_to_attribute(inner) for inner in value]}
    if isinstance(value, set | frozenset) and value and all(isinstance(inner, str) for inner in value):
        return {"SS": sorted(value)}
    if isinstance(value, set | frozenset) and value and all(isinstance(inner, int | Decimal) for inner in value):
        return {"NS": sorted(str(inner) for inner in value)}
    if isinstance(value, set | frozenset) and value and all(isinstance(inner, bytes) for inner in value):
        return {"BS": sorted(value)}
    if isinstance(value, bytes):  # somebody's row may hold anything, and what is read must go back as it was
        return {"B": value}
    if isinstance(value, str | int):  # an enumeration's member, say
        return _to_attribute(str(value) if isinstance(value, str) else int(value))
    raise TypeError(f"{kind.__name__} has no form in DynamoDB; take int or Decimal for numbers")


def _from_attribute(attribute: Mapping[str, Any]) -> Any:
    ((kind, value),) = attribute.items()
    if kind == "S" or kind == "BOOL":
        return value
    if kind == "N":
        return Decimal(value)
    if kind == "M":
        return from_item(value)
    if kind == "L":
        return [_from_attribute(inner) for inner in value]
    if kind == "NULL":
        return None
    if kind == "NS":
        return {Decimal(inner) for inner in value}
    return set(value) if kind in ("SS", "BS") else value


def _expression(attributes: Sequence[str], names: dict[str, str]) -> str:
    """Return a projection of attributes; `names` receives an alias for each, because many are reserved words."""
    for place, attribute in enumerate(attributes):
        names[f"#p{place}"] = attribute
    return ", ".join(f"#p{place}" for place in range(len(attributes)))


def update(
    dynamodb: Any,
    table: str,
    key: Mapping[str, Any],
    values: Mapping[Any, Any],
    *,
    initial: Mapping[str, Any] | None = None,
    add: Mapping[str, Any] | None = None,
    remove: Sequence[str | tuple[str, ...]] = (),
    condition: str,
    names: Mapping[str, str] | None = None,
    parameters: Mapping[str, Any] | None = None,
    returning: Sequence[str] | None = None,
) -> tuple[bool, dict[str, Any]]:
    """Set attributes of an item, and remove some, if `condition` holds. An attribute is a name, or a tuple of names
    that lead into a map. `initial` attributes are set where they are not there yet; `add` counts attributes up.

    Returns whether it did, and the item: as it is now (only its attributes `returning`, where that is said), or as it
    stood in the way (`{}` where there is none). A value of `None` is not written.
    """
    written = {path: value for path, value in values.items() if value is not None}
    initial = {path: value for path, value in (initial or {}).items() if value is not None}
    add = add or {}
    expression, words, aliases = _update_expression(tuple(written), tuple(remove), tuple(initial), tuple(add))
    all_values = (*written.values(), *initial.values(), *add.values())
    request = {
        "TableName": table,
        "Key": to_item(key),
        "UpdateExpression": expression,
        "ReturnValues": "NONE" if returning == () else "ALL_NEW",
        **_condition(
            condition,
            {**aliases, **(names or {})},
            {**dict(zip(words, all_values, strict=True)), **(parameters or {})},
        ),
    }
    done, item = _conditional(dynamodb, dynamodb.update_item, request)
    if done and returning is not None:
        item = {name: item[name] for name in returning if name in item}
    return done, from_item(item)


def put(
    dynamodb: Any,
    table: str,
    values: Mapping[str, Any],
    *,
    condition: str,
    names: Mapping[str, str] | None = None,
    parameters: Mapping[str, Any] | None = None,
) -> tuple[bool, dict[str, Any]]:
    """Put an item if `condition` holds for the one that is there. Returns whether it did, and the item that stood in
    the way (`{}` where there is none)."""
    request = {"TableName": table, "Item": to_item(values), **_condition(condition, names, parameters)}
    done, item = _conditional(dynamodb, dynamodb.put_item, request)
    return done, from_item(item)


def put_new(dynamodb: Any, table: str, values: Mapping[str, Any], key: str) -> bool:
    """Put an item unless one of its key exists; whether it was put. `key` names one of the key's attributes."""
    return put(dynamodb, table, values, condition="attribute_not_exists(#key)", names={"#key": key})[0]


def delete(
    dynamodb: Any,
    table: str,
    key: Mapping[str, Any],
    *,
    condition: str,
    names: Mapping[str, str] | None = None,
    parameters: Mapping[str, Any] | None = None,
) -> bool:
    """Delete an item if `condition` holds; whether it did."""
    request = {"TableName": table, "Key": to_item(key), **_condition(condition, names, parameters)}
    return _conditional(dynamodb, dynamodb.delete_item, request)[0]


def as_read(item: Mapping[str, Any], attributes: Sequence[str]) -> tuple[list[str], dict[str, str], dict[str, Any]]:
    """Return the conditions that attributes are as they were read, with their names and parameters."""
    conditions, names, parameters = [], {}, {}
    for place, attribute in enumerate(attributes):
        names[f"#k{place}"] = attribute
        if attribute not in item:
            conditions.append(f"attribute_not_exists(#k{place})")
            continue
        value = item[attribute]
        # A NULL, which somebody wrote by hand, equals nothing that a condition could name.
        conditions.append(f"attribute_type(#k{place}, :k{place})" if value is None else f"#k{place} = :k{place}")
        parameters[f":k{place}"] = "NULL" if value is None else value
    return conditions, names, parameters


def _condition(condition: str, names: Mapping[str, str] | None, parameters: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return the part of a request that says when it may write. DynamoDB refuses names and values that are empty."""
    request: dict[str, Any] = {
        "ConditionExpression": condition,
        "ReturnValuesOnConditionCheckFailure": "ALL_OLD",
    }
    if names:
        request["ExpressionAttributeNames"] = dict(names)
    if parameters:
        request["ExpressionAttributeValues"] = to_item(parameters)
    return request


def _conditional(
    dynamodb: Any, write: Callable[..., Mapping[str, Any]], request: Mapping[str, Any]
) -> tuple[bool, Mapping[str, Any]]:
    """Write; whether the condition held, and the attributes that came back: those that were asked for, or those of the
    item that stood in the way. Raises every other error of the SDK."""
    try:
        return True, (write(**request) or {}).get("Attributes", {})
    except dynamodb.exceptions.ConditionalCheckFailedException as refused:
        return False, refused.response.get("Item", {})


@lru_cache(maxsize=256)  # steps write the same attributes again and again
def _update_expression(
    paths: tuple[str | tuple[str, ...], ...],
    remove: tuple[str | tuple[str, ...], ...],
    initial: tuple[str, ...],
    add: tuple[str, ...],
) -> tuple[str, tuple[str, ...], Mapping[str, str]]:
    """Return an update expression, its words for the values in the order of `paths`, `initial` and `add`, and what its
    words for attributes stand for: aliases, because many names are reserved words."""
    names: dict[str, str] = {}

    def alias(path: str | tuple[str, ...], prefix: str) -> str:
        parts = (path,) if isinstance(path, str) else path
        words = [f"{prefix}_{depth}" for depth in range(len(parts))]
        names.update(zip(words, parts, strict=True))
        return ".".join(words)

    sets = [f"{alias(path, f'#s{place}')} = :s{place}" for place, path in enumerate(paths)]
    for place, path in enumerate(initial):
        name = alias(path, f"#i{place}")
        sets.append(f"{name} = if_not_exists({name}, :i{place})")
    removes = [alias(path, f"#r{place}") for place, path in enumerate(remove)]
    adds = [f"{alias(path, f'#a{place}')} :a{place}" for place, path in enumerate(add)]
    clauses = (("SET", sets), ("REMOVE", removes), ("ADD", adds))
    words = [
        f":{kind}{place}" for kind, paths_ in (("s", paths), ("i", initial), ("a", add)) for place in range(len(paths_))
    ]
    return " ".join(f"{verb} {', '.join(parts)}" for verb, parts in clauses if parts), tuple(words), names


def batch_put(dynamodb: Any, table: str, rows: Sequence[Mapping[str, Any]]) -> None:
    """Put items, whatever stands there."""
    for start in range(0, len(rows), 25):  # BatchWriteItem takes 25
        asked: Any = {table: [{"PutRequest": {"Item": to_item(row)}} for row in rows[start : start + 25]]}
        _batches(lambda pending: dynamodb.batch_write_item(RequestItems=pending).get("UnprocessedItems"), asked)


def batch_delete(dynamodb: Any, table: str, keys: Sequence[Mapping[str, Any]]) -> None:
    """Delete items by their keys; those that are not there are none."""
    for start in range(0, len(keys), 25):
        asked: Any = {table: [{"DeleteRequest": {"Key": to_item(key)}} for key in keys[start : start + 25]]}
        _batches(lambda pending: dynamodb.batch_write_item(RequestItems=pending).get("UnprocessedItems"), asked)


def batch_get(
    dynamodb: Any, table: str, keys: Sequence[Mapping[str, Any]], *, by: str, attributes: Sequence[str] = ()
) -> dict[str, dict[str, Any]]:
    """Items, or only some of their attributes, by their keys, read consistently, as a mapping from attribute `by`;
    missing items are left out."""
    items: dict[str, dict[str, Any]] = {}
    more: dict[str, Any] = {"ConsistentRead": True}
    if attributes:
        names: dict[str, str] = {}
        more |= {"ProjectionExpression": _expression(attributes, names), "ExpressionAttributeNames": names}
    for start in range(0, len(keys), 100):  # BatchGetItem takes 100 keys
        asked: Any = {table: {"Keys": [to_item(key) for key in keys[start : start + 100]], **more}}

        def read(pending: Any) -> Any:
            answer = dynamodb.batch_get_item(RequestItems=pending)
            for item in answer["Responses"].get(table, ()):
                plain = from_item(item)
                items[plain[by]] = plain
            return answer.get("UnprocessedKeys")

        _batches(read, asked)
    return items


def _batches(call: Callable[[Any], Any], asked: Any) -> None:
    """Call with what was asked, then with what came back unprocessed: an answer holds 16 MB, and a busy partition
    leaves keys for later, which the SDK does not ask again. Raises `AwsUnavailable` where a call achieves nothing
    `BATCH_TRIES` times in a row."""
    idle = 0
    while pending := call(asked):
        idle = idle + 1 if _count(pending) == _count(asked) else 0  # in whatever order they come back
        if idle == BATCH_TRIES:
            raise AwsUnavailable(f"DynamoDB left what was asked of {', '.join(pending)} unprocessed {idle} times")
        if idle:
            time.sleep(random.uniform(0, 0.05 * 2**idle))  # noqa: S311 - full jitter, no secret
        asked = pending


def _count(requests: Mapping[str, Any]) -> int:
    return sum(len(request["Keys"] if isinstance(request, Mapping) else request) for request in requests.values())


def query(dynamodb: Any, table: str, condition: str, parameters: Mapping[str, Any], **how: Any) -> list[dict[str, Any]]:
    """Return all items of a key condition, or the first `limit`; `how` is as `each` takes it."""
    return list(each(dynamodb, table, condition, parameters, **how))


def each(
    dynamodb: Any,
    table: str,
    condition: str,
    parameters: Mapping[str, Any],
    *,
    names: Mapping[str, str] | None = None,
    attributes: Sequence[str] = (),
    index: str | None = None,
    limit: int | None = None,
    consistent: bool = False,
    newest_first: bool = False,
) -> Iterator[dict[str, Any]]:
    """Yield the items of a key condition, or the first `limit`, one page of them in memory at a time; in the order of
    their keys, or against it."""
    all_names = dict(names or {})
    request: dict[str, Any] = {
        "TableName": table,
        "KeyConditionExpression": condition,
        "ExpressionAttributeValues": to_item(parameters),
    }
    if attributes:
        request["ProjectionExpression"] = _expression(attributes, all_names)
    if all_names:
        request["ExpressionAttributeNames"] = all_names
    if index:
        request["IndexName"] = index
    if consistent:
        request["ConsistentRead"] = True
    if newest_first:
        request["ScanIndexForward"] = False
    count = 0
    while True:
        if limit is not None:
            request["Limit"] = limit - count
        page = dynamodb.query(**request)
        count += len(page["Items"])
        yield from (from_item(item) for item in page["Items"])
        if "LastEvaluatedKey" not in page or (limit is not None and count >= limit):
            return
        request["ExclusiveStartKey"] = page["LastEvaluatedKey"]
