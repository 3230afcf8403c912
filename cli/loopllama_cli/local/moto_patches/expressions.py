"""What the local stack changes in how moto goes through the text of an update: half of an update's time, and the same
result."""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import cache
from typing import Any

from moto.dynamodb.parsing import ast_nodes

from loopllama_cli.local.moto_patches.patching import replace

_Traverser: Any = vars(ast_nodes)["DepthFirstTraverser"]
_Node: Any = vars(ast_nodes)["Node"]


def quicken() -> None:
    """Ask what is to be done with a node once for each class of nodes, and copy nodes without `copy`'s general way."""
    replace(_Traverser, "traverse_node_recursively", traverse)
    _Node.__deepcopy__ = copy_node


def traverse(traverser: Any, node: Any, child_id: int = -1) -> Any:
    """Do as moto's `traverse_node_recursively` does."""
    kind: Any = type(node)
    if not _is_node(kind):
        return node
    parent = node.parent
    its: Any = type(traverser)
    prepares = _prepares(its)
    for place, child in enumerate(node.children or ()):
        if prepares:
            traverser.pre_processing_of_child(node, place)
        traverse(traverser, child, place)
    process = _process(traverser, kind)
    if process is not None:
        node = process(traverser, node)
        node.parent = parent
        if parent:
            parent.children[child_id] = node
    return node


def copy_node(node: Any, memo: dict[int, Any]) -> Any:
    """Copy a node and what hangs on it."""
    copied = memo[id(node)] = object.__new__(type(node))
    for name, value in vars(node).items():
        copied.__dict__[name] = [_copy(part, memo) for part in value] if type(value) is list else _copy(value, memo)
    return copied


def _copy(value: Any, memo: dict[int, Any]) -> Any:
    kind: Any = type(value)
    if kind in _PLAIN:
        return value
    if id(value) in memo:
        return memo[id(value)]
    return copy_node(value, memo) if _is_node(kind) else copy.deepcopy(value, memo)


_PLAIN = (str, int, bool, type(None))
_processes: dict[tuple[type, type], Callable[[Any, Any], Any] | None] = {}


@cache
def _is_node(kind: type) -> bool:
    return issubclass(kind, _Node)


@cache
def _prepares(traverser: type) -> bool:
    return getattr(traverser, "pre_processing_of_child") is not _Traverser.pre_processing_of_child  # noqa: B009


def _process(traverser: Any, kind: type) -> Callable[[Any, Any], Any] | None:
    """Return what a traverser of this class does with nodes of a class; `None` where it does nothing."""
    key = (type(traverser), kind)
    if key not in _processes:
        steps = traverser._processing_map().items()
        _processes[key] = next((step.__func__ for wanted, step in steps if issubclass(kind, wanted)), None)
    return _processes[key]
