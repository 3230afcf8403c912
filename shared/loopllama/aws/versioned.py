"""Optimistic locking of rows that people edit by hand: their version, and the condition that one is unchanged."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

from loopllama.aws import dynamo

STAMP = ("version", "updated_by", "reason", "updated_at")


MOST_VERSIONS = 10**9


def version_of(row: Mapping[str, Any] | None) -> int:
    """A row's version; 0 for no row, and where somebody wrote by hand what one cannot count on from."""
    version = (row or {}).get("version")
    if isinstance(version, bool) or not isinstance(version, (int, Decimal)) or not 1 <= version < MOST_VERSIONS:
        return 0
    return 0 if version % 1 else int(version)


def unchanged(before: Mapping[str, Any] | None, key: str, known: Sequence[str]) -> dict[str, Any]:
    """The condition that an item is still what was read, attribute by attribute of the `known` ones; `key` is its
    partition key. For botocore's calls."""
    if before is None:
        return {"ConditionExpression": "attribute_not_exists(#key)", "ExpressionAttributeNames": {"#key": key}}
    names, values, terms = {}, {}, ["attribute_exists(#key)"]
    for index, name in enumerate(known):
        names[f"#{index}"] = name
        if name in before and before[name] is None:
            values[":null"] = "NULL"
            terms.append(f"attribute_type(#{index}, :null)")
        elif name in before:
            values[f":{index}"] = before[name]
            terms.append(f"#{index} = :{index}")
        else:
            terms.append(f"attribute_not_exists(#{index})")
    condition: dict[str, Any] = {
        "ConditionExpression": " AND ".join(terms),
        "ExpressionAttributeNames": names | {"#key": key},
    }
    if values:
        condition["ExpressionAttributeValues"] = dynamo.to_item(values)
    return condition
