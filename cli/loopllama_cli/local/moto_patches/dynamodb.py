"""What the local stack changes in moto's DynamoDB: streams, cancelled transactions, and what takes its time."""

from __future__ import annotations

import contextlib
import copy
import inspect
import threading
import uuid
from collections import defaultdict
from functools import cache, lru_cache
from typing import Any

from moto.core import responses
from moto.core.parse import BaseJSONParser
from moto.core.serialize import BaseJSONSerializer
from moto.dynamodb.models import DynamoDBBackend
from moto.dynamodb.models.dynamo_type import DynamoType
from moto.dynamodb.models.table import StreamRecord, StreamShard, Table
from moto.dynamodb.parsing import expressions, validators
from moto.utilities import aws_headers

from loopllama_cli.local.moto_patches import expressions as update_expressions
from loopllama_cli.local.moto_patches import items
from loopllama_cli.local.moto_patches.patching import replace
from loopllama_cli.local.streams import Streams


class _Transaction(threading.local):
    """The transaction that this thread is writing, if it is: keys by table, and the stream records it would make."""

    keys: dict[str, list[list[DynamoType]]] | None = None
    records: list[tuple[Any, dict[str, Any]]] | None = None


def install(streams: Streams) -> None:
    transaction = _Transaction()
    _streams(streams, transaction)
    _transactions(streams, transaction)
    _queries()
    quicken()


def _streams(streams: Streams, transaction: _Transaction) -> None:
    def add(shard: StreamShard, old: Any, new: Any) -> None:
        # moto invokes the function inside the write, and with every record again until one invocation succeeds.
        if old is not None and new is not None and old.to_json() == new.to_json():
            return  # a write that changes nothing leaves no record
        kind = "INSERT" if old is None else "REMOVE" if new is None else "MODIFY"
        view = (shard.table.stream_specification or {})["StreamViewType"]
        record = StreamRecord(shard.table, view, kind, old, new, len(shard.items) + shard.starting_sequence_number)
        record.record["awsRegion"] = shard.table.region_name
        shard.items.append(record)
        for mapping in shard.table.lambda_event_source_mappings.values():
            if transaction.records is None:
                streams.add(mapping, record.to_json())
            else:
                transaction.records.append((mapping, record.to_json()))

    replace(StreamShard, "add", add)


def _transactions(streams: Streams, transaction: _Transaction) -> None:
    """moto copies whole tables so that it can cancel, slower with every item stored; and what a cancelled transaction
    wrote before it failed is in the stream."""

    def transact_write_items(backend: DynamoDBBackend, items: list[dict[str, Any]]) -> None:
        transaction.records, transaction.keys = [], {}
        for operation in [operation for item in items for operation in item.values()]:
            table = backend.tables.get(operation.get("TableName"))
            if table is not None:
                source = operation.get("Key") or operation.get("Item", {})
                names = [name for name in (table.hash_key_attr, table.range_key_attr) if name in source]
                transaction.keys.setdefault(table.name, []).append([DynamoType(source[name]) for name in names])
        try:
            write(backend, items)
            records = transaction.records
        finally:
            transaction.records = transaction.keys = None
        for mapping, record in records:
            streams.add(mapping, record)

    write = replace(DynamoDBBackend, "transact_write_items", transact_write_items)

    def deepcopy(table: Table, memo: dict[int, Any]) -> Table:
        duplicate = copy.copy(table)
        keys = (transaction.keys or {}).get(table.name)
        if keys is None:  # a backup
            memo[id(table)] = duplicate
            duplicate.__dict__.update(copy.deepcopy(table.__dict__, memo))
            return duplicate
        if table.stream_shard is not None:
            duplicate.stream_shard = copy.copy(table.stream_shard)
            duplicate.stream_shard.items = list(table.stream_shard.items)
            duplicate.stream_shard.table = duplicate
        duplicate.items = _partitions(
            {key: dict(value) if table.range_key_attr else value for key, value in table.items.items()}
        )
        for key in keys:
            if len(key) == 2 and key[1] in table.items.get(key[0], {}):
                duplicate.items[key[0]][key[1]] = copy.deepcopy(table.items[key[0]][key[1]])
            elif len(key) == 1 and key[0] in table.items:
                duplicate.items[key[0]] = copy.deepcopy(table.items[key[0]])
        return duplicate

    table_class: Any = Table
    table_class.__deepcopy__ = deepcopy


def _queries() -> None:
    """moto sorts and scans the whole table for each Query: hand it the partition alone."""

    def query_partition(table: Table, hash_key: Any, *args: Any, **kwargs: Any) -> Any:
        part = copy.copy(table)
        if signature.bind(table, hash_key, *args, **kwargs).arguments.get("index_name"):
            wanted = dict(kwargs["hash_key_conditions"])
            if table.range_key_attr:
                matching = {
                    key: {name: item for name, item in value.items() if _has(item, wanted)}
                    for key, value in table.items.items()
                }
            else:
                matching = {key: item for key, item in table.items.items() if _has(item, wanted)}
            part.items = _partitions({key: value for key, value in matching.items() if value})
        else:
            part.items = _partitions({hash_key: table.items[hash_key]} if hash_key in table.items else {})
        return query(part, hash_key, *args, **kwargs)

    query = replace(Table, "query", query_partition)
    signature = inspect.signature(query)


@cache
def quicken() -> None:
    """Do once, or not at all, what each request spends most of its time on. Nothing else changes: tests of stores on
    moto alone have it too."""
    # Each update's text is parsed twice. Validators work on a copy of what they are given.
    parser: Any = vars(expressions)["UpdateExpressionParser"]
    replace(parser, "make", staticmethod(lru_cache(maxsize=1024)(parser.make)))

    # Each part of an expression is one too, and moto checks all of them alone: quadratic in attributes. What is wrong
    # with a part is wrong with the whole.
    for validator, check in (
        (validators.ActionCountValidator, "verify_action_counts"),
        (validators.OverlappingPathsValidator, "check_for_overlapping_paths"),
    ):
        replace(validator, "traverse", vars(validator)[check])
    update_expressions.quicken()
    items.quicken()
    # Each answer's id is drawn letter by letter, 52 times.
    replace(aws_headers, "gen_amzn_requestid_long", request_id)
    # The names of a service's operations are looked up among all members of its class.
    replace(responses, "method_names_from_class", cache(vars(responses)["method_names_from_class"]))

    def serialize(serializer: Any, serialized: Any, value: Any, shape: Any, key: str) -> None:
        # moto looks for ten possible members, under several spellings each, in each attribute's value.
        if shape.name == "AttributeValue":
            try:
                serialized[serializer.get_serialized_name(shape, key)] = attribute_value(value)
            except ValueError:
                pass
            else:
                return
        structure(serializer, serialized, value, shape, key)

    structure = replace(BaseJSONSerializer, "_serialize_type_structure", serialize)

    def parse(parser: Any, shape: Any, value: Any) -> Any:
        # Nor does it look for them in what comes.
        if shape.name == "AttributeValue":
            with contextlib.suppress(ValueError):
                return attribute_value(value)
        return parsed(parser, shape, value)

    parsed = replace(BaseJSONParser, "_parse_structure", parse)


def request_id(headers: dict[str, Any] | None = None) -> str:
    """Return an id for an answer, and note it among the answer's headers."""
    made = uuid.uuid4().hex
    if headers is not None:
        headers["x-amzn-requestid"] = made
    return made


def attribute_value(value: Any) -> dict[str, Any]:
    """Return an attribute's value as it is on the wire and within moto, where it is plain JSON. Raises `ValueError`
    where it is not."""
    if type(value) is not dict or len(value) != 1:
        raise ValueError("no plain value")
    ((kind, inner),) = value.items()
    if kind == "M":
        return {kind: {name: attribute_value(part) for name, part in inner.items()}}
    if kind == "L":
        return {kind: [attribute_value(part) for part in inner]}
    plain = (
        type(inner) is bool
        if kind in ("BOOL", "NULL")
        else type(inner) is str
        if kind in ("S", "N")
        else kind in ("SS", "NS") and all(type(part) is str for part in inner)
    )
    if not plain:
        raise ValueError(f"no plain {kind}")
    return {kind: inner}


def _partitions(items: dict[Any, Any]) -> Any:
    """`Table.items` as moto has it."""
    return defaultdict(dict, items)


def _has(item: Any, wanted: dict[str, Any]) -> bool:
    return all(
        (attribute := item.attrs.get(name)) is not None and attribute.value == value.value
        for name, value in wanted.items()
    )
