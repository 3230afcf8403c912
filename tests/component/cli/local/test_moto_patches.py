"""What the local stack does quicker than moto gives the same."""

from __future__ import annotations

import importlib.util
import json
import sys
from collections import defaultdict
from collections.abc import Callable
from copy import deepcopy
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from moto.core.parse import JSONParser
from moto.core.serialize import JSONSerializer, ResponseSerializer, XFormedAttributePicker
from moto.core.utils import get_service_model
from moto.dynamodb.exceptions import ItemSizeTooLarge, MockValidationException
from moto.dynamodb.models import dynamo_type, utilities
from moto.dynamodb.models.dynamo_type import DynamoType, Item
from moto.dynamodb.models.table import Table
from moto.dynamodb.parsing import expressions
from moto.dynamodb.parsing.ast_nodes import DepthFirstTraverser, Node  # type: ignore[attr-defined]
from moto.dynamodb.parsing.validators import (
    ActionCountValidator,
    OverlappingPathsValidator,
    UpdateExpressionValidator,
)
from moto.events.models import EventPattern

from loopllama_cli.local.moto_patches import expressions as update_expressions
from loopllama_cli.local.moto_patches import items
from loopllama_cli.local.moto_patches.dynamodb import attribute_value, quicken
from loopllama_cli.local.stack import matches

SCALARS = st.one_of(
    st.builds(lambda text: {"S": text}, st.text(max_size=8)),
    st.builds(lambda number: {"N": str(number)}, st.integers()),
    st.builds(lambda is_true: {"BOOL": is_true}, st.booleans()),
    st.just({"NULL": True}),
    st.builds(lambda texts: {"SS": texts}, st.lists(st.text(min_size=1, max_size=3), min_size=1, max_size=3)),
    st.builds(lambda numbers: {"NS": list(map(str, numbers))}, st.lists(st.integers(), min_size=1, max_size=3)),
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.builds(lambda parts: {"L": parts}, st.lists(inner, max_size=3)),
        st.builds(lambda parts: {"M": parts}, st.dictionaries(st.text(min_size=1, max_size=4), inner, max_size=3)),
    ),
    max_leaves=8,
)


class Motos(JSONSerializer):
    """moto's own, whether this process has the seams or not."""

    _serialize_type_structure = ResponseSerializer._serialize_type_structure


@given(VALUES)
def test_a_plain_value_leaves_as_motos_own_serializer_writes_it(value: dict[str, Any]) -> None:
    operation = get_service_model("dynamodb").operation_model("GetItem")
    serializer = Motos(operation_model=operation, value_picker=XFormedAttributePicker())
    written = json.loads(serializer.serialize({"Item": {"attribute": value}})["body"])
    assert attribute_value(value) == written["Item"]["attribute"]


class MotosParser(JSONParser):
    """With moto's own way with structures, as it is written there."""

    def _parse_structure(self, shape: Any, value: Any) -> Any:
        names = {member.serialization.get("name", name): name for name, member in shape.members.items()}
        return {
            names[name]: self._parse_shape(shape.members[names[name]], inner)
            for name, inner in value.items()
            if inner is not None and name in names
        }


@given(VALUES)
def test_a_plain_value_comes_as_motos_own_parser_reads_it(value: dict[str, Any]) -> None:
    shape = get_service_model("dynamodb").shape_for("AttributeValue")
    assert attribute_value(value) == MotosParser(None)._parse_shape(shape, value)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "value", [{"B": b"x"}, {"BS": [b"x"]}, {"S": 1}, {"S": "a", "N": "1"}, {}, {"L": [{"B": "x"}]}, {"SS": [1]}, "S"]
)
def test_what_is_not_plain_is_left_to_moto(value: Any) -> None:
    with pytest.raises(ValueError, match="no plain"):
        attribute_value(value)


@pytest.fixture(scope="module")
def motos() -> Any:
    """moto's module of values once more, as it is written there."""
    spec = importlib.util.spec_from_file_location("moto.dynamodb.models.motos_own", dynamo_type.__file__)
    assert spec
    assert spec.loader
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    yield module
    del sys.modules[spec.name]


BINARIES = st.sampled_from([{"B": "eA=="}, {"B": b"x"}, {"BS": ["eA==", "eQ=="]}])
ANY_VALUES = st.one_of(VALUES, BINARIES, st.builds(lambda value: {"M": {"b": value, "l": {"L": [value]}}}, BINARIES))


@given(value=ANY_VALUES)
def test_a_value_is_copied_measured_and_written_as_in_motos_own_way(motos: Any, value: dict[str, Any]) -> None:
    own, ours = motos.DynamoType(value), DynamoType(value)
    assert items.size(ours) == own.size()
    assert items.regular_json(ours) == own.to_regular_json()
    assert items.cast(ours) == own.cast_value
    copy = items.copied(ours)
    assert items.regular_json(copy) == own.to_regular_json()
    for part in copy.value.values() if copy.type == "M" else copy.value if copy.type == "L" else ():
        assert not any(part is other for other in (ours.value.values() if copy.type == "M" else ours.value))


@given(attributes=st.dictionaries(st.text(max_size=3), ANY_VALUES, max_size=3))
def test_an_answer_is_made_as_in_motos_own_way(attributes: dict[str, Any]) -> None:
    item = _quick_item(DynamoType({"S": "x"}), None, attributes)
    for result in ({"Items": [item]}, {"Item": item.attrs}, {"Count": 1, "At": datetime.now(UTC), "Item": None}):
        assert _plain(result) == utilities.dynamo_to_dict(result)


def _plain(value: Any) -> Any:
    return items.plain_of(value, _plain, utilities.dynamo_to_dict)


@given(
    keys=st.lists(st.tuples(st.text(max_size=2), st.integers()), unique=True, max_size=8),
    kinds=st.sampled_from([("S", "N"), ("N", "S")]),
)
def test_items_are_in_the_order_of_their_keys(keys: list[tuple[str, int]], kinds: tuple[str, str]) -> None:
    rows: dict[Any, dict[Any, Item]] = defaultdict(dict)
    for key in keys:
        first, second = (DynamoType({kind: str(key["SN".index(kind)])}) for kind in kinds)
        rows[first][second] = _quick_item(first, second, {"h": first, "r": second, "i": second})
    table = SimpleNamespace(items=rows, range_key_attr="r", _generate_attr_to_sort_by=lambda *names: ["i", "h"])
    made = [item for row in rows.values() for item in row.values()]
    assert items.all_items(cast("Table", table)) == sorted(made, key=lambda item: (item.hash_key, item.range_key))
    by_index = sorted(made, key=lambda item: (item.attrs["i"], item.attrs["h"]))
    assert items.sorted_items(cast("Table", table), ["i", "h"], [None], made) == by_index


@pytest.mark.parametrize("over", [0, 1])
def test_an_item_is_as_large_as_moto_lets_it_be(motos: Any, over: int) -> None:
    attributes = {"id": {"S": "x"}, "text": {"S": "é" * 100_000}, "rest": {"S": "r" * (204_989 + over)}}
    results: list[Any] = []
    for kind, wrong in ((motos.Item, motos.ItemSizeTooLarge), (_quick_item, ItemSizeTooLarge)):
        try:
            results.append(kind(motos.DynamoType({"S": "x"}), None, attributes).size())
        except wrong:
            results.append("too large")
    assert results == (["too large"] * 2 if over else [items.MAX_ITEM_BYTES] * 2)


def _quick_item(*arguments: Any) -> Item:
    made: Any = Item.__new__(Item)
    items.make(made, *arguments)
    return made


NAMES = st.sampled_from(["a", "b", "c"])
LEAVES = st.one_of(st.sampled_from(["x", "y", 1]), st.just({}), st.lists(st.sampled_from(["x", "y"]), max_size=2))
RECORDS = st.recursive(LEAVES, lambda inner: st.dictionaries(NAMES, inner, max_size=3), max_leaves=6)
CONDITIONS = st.lists(
    st.sampled_from(["x", 1, {"exists": True}, {"exists": False}, {"anything-but": ["x"]}, {"prefix": "y"}]),
    min_size=1,
    max_size=2,
)
PATTERNS = st.recursive(
    CONDITIONS,
    lambda inner: st.one_of(
        st.dictionaries(NAMES, inner, max_size=3),
        st.builds(lambda one, other: {"$or": [{"a": one}, {"b": other}]}, inner, inner),
    ),
    max_leaves=5,
)


@settings(max_examples=400)
@given(st.dictionaries(NAMES, PATTERNS, max_size=3), st.dictionaries(NAMES, RECORDS, max_size=3))
def test_a_filter_takes_the_records_that_it_takes_whole(pattern: dict[str, Any], record: dict[str, Any]) -> None:
    assert matches(json.dumps(pattern), record) == EventPattern(None, pattern).matches_event(cast("Any", record))


def motos_traverse(traverser: Any, node: Any, child_id: int = -1) -> Any:
    """moto's own, as it is written there."""
    if isinstance(node, Node):
        parent = node.parent
        for place, child in enumerate(node.children or ()):
            traverser.pre_processing_of_child(node, place)
            motos_traverse(traverser, child, place)
        if isinstance(node, traverser.nodes_to_be_processed()):
            node = traverser.process(node)
            node.parent = parent
            if parent:
                parent.children[child_id] = node
    return node


def shape(node: Any) -> Any:
    """A node, what hangs on it, and that all of it knows its place."""
    if not isinstance(node, Node):
        return node.to_json() if isinstance(node, DynamoType) else node
    assert all(child.parent is node for child in node.children or () if isinstance(child, Node))
    return type(node).__name__, [shape(child) for child in node.children or ()]


PATHS = st.sampled_from(["a", "b", "#n", "#m", "a.b", "a.b.c", "#n.b", "b[0]"])
CLAUSES = st.one_of(
    st.builds(
        lambda paths: "SET " + ", ".join(f"{path} = :v" for path in paths), st.lists(PATHS, min_size=1, max_size=4)
    ),
    st.builds(lambda paths: "REMOVE " + ", ".join(paths), st.lists(PATHS, min_size=1, max_size=3)),
    st.builds(lambda path: f"ADD {path} :v", PATHS),
)
SUMS = st.builds(
    lambda path, more: f"SET {path} = {more}",
    PATHS,
    st.sampled_from(
        ["c + :v", ":v - c", "if_not_exists(a, :v)", "if_not_exists(d, :v) + :v", "list_append(l, :l)", "d", "a.b"]
    ),
)


def refusal(check: Callable[[], Any]) -> str:
    """The kind of error that a check raises; empty if none."""
    try:
        check()
    except MockValidationException as error:
        return type(error).__name__
    return ""


@settings(max_examples=200)
@given(st.lists(CLAUSES, min_size=1, max_size=3))
def test_an_update_is_refused_whole_for_what_a_part_of_it_is_refused(clauses: list[str]) -> None:
    quicken()
    expression: Any = vars(expressions)["UpdateExpressionParser"].make(" ".join(clauses))
    for validator in (ActionCountValidator(), OverlappingPathsValidator({"#n": "n", "#m": "m"})):
        parts = refusal(lambda: DepthFirstTraverser.traverse(validator, deepcopy(expression)))  # noqa: B023 - called here
        assert refusal(lambda: validator.traverse(deepcopy(expression))) == parts  # noqa: B023


@settings(max_examples=200)
@given(st.lists(st.one_of(CLAUSES, SUMS), min_size=1, max_size=3))
def test_an_update_comes_to_what_it_comes_to_in_motos_own_way(clauses: list[str]) -> None:
    quicken()
    expression: Any = vars(expressions)["UpdateExpressionParser"].make(" ".join(clauses))
    stored = {"k": {"S": "x"}, "a": {"M": {"b": {"M": {"c": {"N": "1"}}}}}, "b": {"L": [{"N": "1"}]}, "c": {"N": "4"}}

    def validated(traverse: Any, copied: Any) -> Any:
        keys = [{"AttributeName": "k", "KeyType": "HASH"}]
        table = Table(  # type: ignore[abstract]
            "t", "123456789012", "us-east-1", keys, [{"AttributeName": "k", "AttributeType": "S"}]
        )
        item = Item(DynamoType({"S": "x"}), None, {**stored, "l": {"L": [{"S": "x"}]}})
        values = {":v": {"N": "2"}, ":l": {"L": [{"S": "y"}]}}
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(DepthFirstTraverser, "traverse_node_recursively", traverse)
            patch.setattr(Node, "__deepcopy__", copied, raising=False)
            try:
                validator = UpdateExpressionValidator(expression, {"#n": "n", "#m": "m"}, values, item, table)  # type: ignore[arg-type]
                return shape(validator.validate())
            except MockValidationException as error:
                return type(error).__name__, error.message

    def motos_copy(node: Any, memo: dict[int, Any]) -> Any:
        made = memo[id(node)] = object.__new__(type(node))
        made.__dict__.update(deepcopy(node.__dict__, memo))
        return made

    assert validated(update_expressions.traverse, update_expressions.copy_node) == validated(motos_traverse, motos_copy)
