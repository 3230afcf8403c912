"""Writing rows of the routes table: checked before they are stored, conditional on the whole row that was read."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any

from loopllama import aws, clock
from loopllama.catalog import Model
from loopllama.errors import ModelUnknown, RouteInvalid, VersionConflict
from loopllama.routing.rows import CHOICE, Override, parse_row
from loopllama.routing.table import ModelTable, query
from loopllama.settings import Settings

VALUES = (*CHOICE, "max_tokens", "temperature", "pin", "expires_at")
"""What a caller may set."""
_KNOWN = (*VALUES, "version", "updated_by", "reason", "updated_at")
MAX_REASON = 500
MAX_STEP = 256


class RouteStore:
    """The routes table, for those who turn the dial. `clock` gives epoch seconds."""

    def __init__(self, settings: Settings, dynamodb: Any = None, clock: Callable[[], float] = time.time) -> None:
        self._table = settings.routes_table
        self._clock = clock
        self._given = dynamodb
        self._models = ModelTable(settings.models_table, self._dynamodb, 0.0)

    def _dynamodb(self) -> Any:
        return aws.client("dynamodb") if self._given is None else self._given

    def rows(self, workflow_id: str) -> list[dict[str, Any]]:
        """The workflow's rows as they are stored, by step; numbers are `Decimal`."""
        return sorted(query(self._dynamodb, self._table, workflow_id), key=lambda row: str(row["step"]))

    def get(self, workflow_id: str, step: str) -> dict[str, Any] | None:
        """One row as it is stored."""
        answer = self._dynamodb().get_item(TableName=self._table, Key=_key(workflow_id, step), ConsistentRead=True)
        return aws.from_item(answer["Item"]) if "Item" in answer else None

    def set(
        self,
        workflow_id: str,
        step: str,
        values: Mapping[str, Any],
        *,
        expected_version: int | None = None,
        updated_by: str,
        reason: str,
        expires_in: float | None = None,
        force: bool = False,
    ) -> dict[str, Any]:
        """Replace the row by `values` (a subset of `VALUES`) and return it as it is stored.

        `expected_version` is the version that the caller saw, 0 for no row. `expires_in` is seconds from now.
        `force` allows models without a price. Raises `RouteInvalid` for values that make no sense, unknown,
        disabled and unpriced models, and `VersionConflict` where the row is another than expected or changed
        between reading and writing, by whatever hand.
        """
        now = self._clock()
        if not 0 < len(step) <= MAX_STEP:
            raise _invalid("step", f"must have 1 to {MAX_STEP} characters")
        row = {key: _exact(value) for key, value in values.items() if value is not None}
        if expires_in is not None:
            if expires_in <= 0:
                raise _invalid("expires_in", f"must be more than 0 seconds, not {expires_in}")
            row["expires_at"] = int(now + expires_in)
        self._check(row, now, force)
        before = self._before(workflow_id, step, expected_version)
        row |= _stamp(before, updated_by, reason, now) | {"workflow": workflow_id, "step": step}
        self._write(
            before,
            lambda condition: self._dynamodb().put_item(TableName=self._table, Item=aws.to_item(row), **condition),
        )
        return row

    def unset(
        self, workflow_id: str, step: str, *, expected_version: int | None = None, updated_by: str, reason: str
    ) -> bool:
        """Delete the row; whether there was one. Who and why is written to the row before it goes, so that the
        table's stream has seen it. Raises `VersionConflict` as `set` does."""
        before = self._before(workflow_id, step, expected_version)
        if before is None:
            return False
        last = {"workflow": workflow_id, "step": step} | _stamp(before, updated_by, reason, self._clock())
        self._write(
            before,
            lambda condition: self._dynamodb().put_item(TableName=self._table, Item=aws.to_item(last), **condition),
        )
        self._write(
            last,
            lambda condition: self._dynamodb().delete_item(
                TableName=self._table, Key=_key(workflow_id, step), **condition
            ),
        )
        return True

    def _check(self, row: Mapping[str, Any], now: float, force: bool) -> None:
        unknown = sorted(row.keys() - set(VALUES))
        if unknown:
            raise _invalid(unknown[0], f"is no field of a route; the fields are {', '.join(VALUES)}")
        if not row.keys() - {"expires_at"}:
            raise _invalid("model", "is missing: a route sets at least one of " + ", ".join(VALUES))
        parsed: Override = parse_row(row)
        for field, problem in parsed.problems.items():
            raise _invalid(field, problem)
        if parsed.expires_at is not None and parsed.expires_at <= now:
            raise _invalid("expires_at", "has passed already")
        names = parsed.choice.names() if parsed.choice is not None else []
        catalog, _ = self._models.catalog(names, now)
        for name in names:
            try:
                _usable(catalog.resolve(name), name, force)
            except ModelUnknown as error:
                raise _invalid("model", str(error)) from error

    def _before(self, workflow_id: str, step: str, expected_version: int | None) -> dict[str, Any] | None:
        before = self.get(workflow_id, step)
        version = _version(before)
        if expected_version is not None and expected_version != version:
            raise VersionConflict(
                f"the route of {workflow_id}/{step} is at version {version}, not {expected_version}: "
                "read it again and repeat"
            )
        return before

    def _write(self, before: Mapping[str, Any] | None, write: Callable[[dict[str, Any]], Any]) -> None:
        client = self._dynamodb()
        try:
            write(_unchanged(before))
        except client.exceptions.ConditionalCheckFailedException as error:
            raise VersionConflict("somebody changed the route in between: read it again and repeat") from error


def _usable(model: Model, name: str, force: bool) -> None:
    if not model.enabled:
        instead = f"; use {model.replaced_by}" if model.replaced_by else ""
        raise _invalid("model", f"{name!r} is disabled{instead}")
    if not model.prices and not force:
        raise _invalid("model", f"{name!r} has no price, so its cost would be unknown; add one, or force it")


def _exact(value: Any) -> Any:
    """Floats as the decimal that they are written as, so that DynamoDB can hold them."""
    if isinstance(value, float):
        return Decimal(str(value))
    if isinstance(value, Mapping):
        return {key: _exact(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_exact(inner) for inner in value]
    return value


def _key(workflow_id: str, step: str) -> dict[str, Any]:
    return aws.to_item({"workflow": workflow_id, "step": step})


def _version(row: Mapping[str, Any] | None) -> int:
    """Of a row; 0 for none, and for one written by hand without a version."""
    if row is None:
        return 0
    return parse_row({"version": row.get("version")}).version or 0


def _stamp(before: Mapping[str, Any] | None, updated_by: str, reason: str, now: float) -> dict[str, Any]:
    if len(reason) > MAX_REASON or len(updated_by) > MAX_REASON:
        raise _invalid("reason", f"must have at most {MAX_REASON} characters")
    version = _version(before) + 1
    return {"version": version, "updated_by": updated_by, "reason": reason, "updated_at": clock.now_text(now)}


def _unchanged(before: Mapping[str, Any] | None) -> dict[str, Any]:
    """The condition that the row is still what was read, attribute by attribute."""
    if before is None:
        return {"ConditionExpression": "attribute_not_exists(#w)", "ExpressionAttributeNames": {"#w": "workflow"}}
    names, values, terms = {}, {}, ["attribute_exists(#w)"]
    for index, key in enumerate(_KNOWN):
        names[f"#{index}"] = key
        if key in before and before[key] is None:
            values[":null"] = "NULL"
            terms.append(f"attribute_type(#{index}, :null)")
        elif key in before:
            values[f":{index}"] = before[key]
            terms.append(f"#{index} = :{index}")
        else:
            terms.append(f"attribute_not_exists(#{index})")
    condition: dict[str, Any] = {
        "ConditionExpression": " AND ".join(terms),
        "ExpressionAttributeNames": names | {"#w": "workflow"},
    }
    if values:
        condition["ExpressionAttributeValues"] = aws.to_item(values)
    return condition


def _invalid(field: str, message: str) -> RouteInvalid:
    return RouteInvalid(f"{field}: {message}", [{"field": field, "message": message}])
