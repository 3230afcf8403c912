"""AWS clients, made once per process and service, and the conversion of DynamoDB items."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any


@lru_cache(maxsize=None)
def client(service: str) -> Any:
    """The low-level client of a service, by botocore's name for it. Region, credentials and endpoint come from the
    environment."""
    import boto3
    from botocore.config import Config

    return boto3.client(
        service, config=Config(retries={"mode": "standard", "total_max_attempts": 4}, tcp_keepalive=True)
    )


@lru_cache(maxsize=1)
def _converters() -> tuple[Any, Any]:
    from boto3.dynamodb.types import TypeDeserializer, TypeSerializer

    return TypeSerializer(), TypeDeserializer()


def to_item(values: Mapping[str, Any]) -> dict[str, Any]:
    """Plain values to DynamoDB's attribute values. Keys whose value is `None` are left out; numbers are `int` or
    `Decimal`, never `float`."""
    serializer, _ = _converters()
    return {key: serializer.serialize(value) for key, value in values.items() if value is not None}


def from_item(item: Mapping[str, Any]) -> dict[str, Any]:
    """DynamoDB's attribute values to plain ones; numbers become `Decimal`."""
    _, deserializer = _converters()
    return {key: deserializer.deserialize(value) for key, value in item.items()}
