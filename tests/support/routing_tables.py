"""The routes and models tables in moto, with counted calls and a clock, for the tests of routing."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from typing import Any

from loopllama.aws import dynamo
from loopllama.routing.decision import Route, RouteRequest
from loopllama.settings import Settings
from support.moto_account import account, create_tables

CONFIG = Settings(routes_table="routes", models_table="models", default_model="small", route_cache_seconds=5)
TABLES = {"routes": ("workflow", "step"), "models": ("model",), "history": ("route", "sequence")}


class Clock:
    """Epoch seconds that stand still."""

    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


class Counting:
    """A DynamoDB client that counts its calls, and makes one at a time: moto checks a condition and writes in two
    steps, so that of two threads both might win."""

    def __init__(self, client: Any) -> None:
        self._client = client
        self._lock = threading.RLock()
        self.calls: Counter[str] = Counter()
        self.exceptions = client.exceptions

    def get_paginator(self, name: str) -> Any:
        """Not counted."""
        return self._client.get_paginator(name)

    def __getattr__(self, name: str) -> Any:
        def call(**arguments: Any) -> Any:
            with self._lock:
                self.calls[name] += 1
                return getattr(self._client, name)(**arguments)

        return call

    def taken(self) -> dict[str, int]:
        """The calls since this was asked last."""
        calls, self.calls = dict(self.calls), Counter()
        return calls


def tables(monkeypatch: Any) -> Iterator[Counting]:
    """A client for the tables, which live as long as the generator."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    with account(monkeypatch) as client:
        create_tables(
            {
                name: {
                    "AttributeDefinitions": [{"AttributeName": key, "AttributeType": "S"} for key in keys],
                    "KeySchema": [
                        {"AttributeName": key, "KeyType": kind}
                        for key, kind in zip(keys, ("HASH", "RANGE"), strict=False)
                    ],
                }
                for name, keys in TABLES.items()
            }
        )
        yield Counting(client("dynamodb", region="us-east-1"))


def put(dynamodb: Counting, table: str, **values: Any) -> None:
    """Put an item as if by hand."""
    dynamodb.put_item(TableName=table, Item=dynamo.to_item(values))
    dynamodb.taken()


def request(
    step: str = "writer",
    workflow: str = "w",
    *,
    run_models: dict[str, str] | None = None,
    prompt_tokens: int = 0,
    model: str | None = None,
    run_id: str = "r",
    pinned: Any = None,
    **fields: Any,
) -> RouteRequest:
    """A request for a step; `model` and the other fields are the agent's."""
    agent: Any = {"name": step, "role": step} | ({"model": model} if model else {}) | fields
    return RouteRequest(workflow, None, agent, run_models or {}, frozenset(), prompt_tokens, run_id, pinned)


def attempt_order(decided: Route) -> list[str]:
    """The ids of a route's models."""
    return [model.id for model in decided.attempt_order]
