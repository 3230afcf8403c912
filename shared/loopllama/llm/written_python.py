"""Tool calls that a model wrote as Python: `[search(q="x"), now()]`.

LFM2 writes them between `<|tool_call_start|>` and `<|tool_call_end|>` (github.com/vllm-project/vllm, pull request
39243), Llama 4 bare or between `<|python_start|>` and `<|python_end|>`, OLMo 3 a line each in `<function_calls>`, Gemma
3 in a fence called `tool_code`, others in one called `python`. Nothing is run: only calls whose arguments are plain
values are read; those without a name are the tool's parameters in their order.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from loopllama.core import exact_json

if TYPE_CHECKING:
    import ast

_LONGEST = 20_000
"""Characters; what is longer takes long to read."""
_NAMES = {"true": True, "false": False, "null": None}


def calls(text: str, order_of: Callable[[str], Sequence[str]]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the names and arguments of the calls that a text is; of a text that is anything else, nothing. `order_of`
    gives the names of a tool's parameters, which arguments without a name are given in order."""
    if "(" not in text or len(text) > _LONGEST:
        return
    import ast

    try:
        body = ast.parse(text.strip(), mode="exec").body
        found = [_call(one, text.strip(), order_of) for line in body for one in _expressions(line)]
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return
    yield from found


def _expressions(line: ast.stmt) -> list[Any]:
    import ast

    if not isinstance(line, ast.Expr):
        raise ValueError("no expression")
    return line.value.elts if isinstance(line.value, ast.List | ast.Tuple) else [line.value]


def _call(node: Any, text: str, order_of: Callable[[str], Sequence[str]]) -> tuple[str, dict[str, Any]]:
    import ast

    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print" and node.args:
        node = node.args[0]  # Gemma 3 writes what it wants to see
    if not isinstance(node, ast.Call) or any(word.arg is None for word in node.keywords):
        raise ValueError("no call")
    name = ast.unparse(node.func).removesuffix(".call")  # Llama 3 writes its own tools so
    order = order_of(name)
    if len(node.args) > len(order):
        raise ValueError("more arguments than the tool has parameters")
    given = [*zip(order, node.args, strict=False), *((str(word.arg), word.value) for word in node.keywords)]
    if len(dict(given)) != len(given):
        raise ValueError("an argument is given twice")
    return name, {parameter: _value(one, text) for parameter, one in given}


def literal(text: str) -> Any:
    """Return the list or the object that a text is as Python writes it, `None` where it is none."""
    if not 0 < len(text) <= _LONGEST:
        return None
    import ast

    try:
        return _value(ast.parse(text.strip(), mode="eval").body, text.strip())
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None


def _value(node: Any, text: str) -> Any:
    import ast

    if isinstance(node, ast.Constant) and (node.value is None or isinstance(node.value, bool | str)):
        return node.value
    if isinstance(node, ast.Name) and node.id in _NAMES:
        return _NAMES[node.id]
    if isinstance(node, ast.List | ast.Tuple):
        return [_value(one, text) for one in node.elts]
    if isinstance(node, ast.Dict):
        keys = [_value(key, text) for key in node.keys]
        if not all(isinstance(key, str) for key in keys):
            raise ValueError("a key is no text")
        return dict(zip(keys, (_value(value, text) for value in node.values), strict=True))
    # A number, which Python would round: its digits are read as JSON.
    return exact_json.loads(ast.get_source_segment(text, node) or "")
