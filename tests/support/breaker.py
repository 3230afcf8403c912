"""The circuit breaker's item in memory, and processes that share it."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

from loopllama.aws import dynamo
from loopllama.errors import ModelTimeout
from loopllama.routing.circuit_breaker import CLOSED, PROBE_MS, CircuitBreaker
from loopllama.routing.model_health import ModelHealth

START = 1_800_000_000.0
HUNG = ModelTimeout("no whole answer")


class Refused(Exception):
    """The condition did not hold."""

    def __init__(self, item: dict[str, Any]) -> None:
        super().__init__()
        self.response = {"Item": item}


class Table:
    """The one item, as DynamoDB keeps it: `aws.update`'s expressions, and nothing else."""

    class exceptions:  # noqa: N801 - botocore's name
        ConditionalCheckFailedException = Refused

    def __init__(self) -> None:
        self.item: dict[str, Any] = {}
        self.writes = 0

    def read(self) -> dict[str, Any]:
        return dynamo.from_item(copy.deepcopy(self.item))

    def update_item(self, **request: Any) -> dict[str, Any]:
        names, values = request["ExpressionAttributeNames"], request.get("ExpressionAttributeValues", {})
        self.writes += 1
        for part in request["ConditionExpression"].split(" AND "):
            if part.startswith("attribute_not_exists("):
                held = names[part[21:-1]] not in self.item
            elif part.startswith("attribute_type("):
                name, value = part[15:-1].split(", ")
                held = values[value]["S"] in self.item.get(names[name], {})
            else:
                name, value = part.split(" = ")
                held = self.item.get(names[name]) == values[value]
            if not held:
                raise Refused(copy.deepcopy(self.item))
        sets, _, removes = request["UpdateExpression"].partition("REMOVE ")
        for part in filter(None, sets.removeprefix("SET ").strip().split(", ")):
            name, value = part.split(" = ")
            self.item[names[name]] = values[value]
        for part in filter(None, removes.split(", ")):
            self.item.pop(names[part], None)
        return {"Attributes": {"model": {"S": "health#"}, **copy.deepcopy(self.item)}}


class Process:
    """A process with the product's `CircuitBreaker`: what it has read counts for `cache` seconds."""

    def __init__(self, table: Table, clock: Callable[[], float], cache: float, probe: int = PROBE_MS) -> None:
        self._table, self._clock, self._cache = table, clock, cache
        self._item: dict[str, Any] = {}
        self._until = 0.0
        health = ModelHealth("models", lambda: table, lambda: self._item, self._keep)
        self.circuit_breaker = CircuitBreaker(health, clock, probe)

    def _keep(self, item: Any) -> None:
        self._item = dict(item)

    def uses(self, model: str) -> bool:
        """Whether a step here uses the model, which has a fallback: the router's decision."""
        now = int(self._clock() * 1000)
        if self._clock() >= self._until:
            self._item, self._until = self._table.read(), self._clock() + self._cache
        state = self.circuit_breaker.states(write=True).get(model, CLOSED)
        return not state.is_open(now) and (not state.due(now) or self.circuit_breaker.claim_probe(model))
