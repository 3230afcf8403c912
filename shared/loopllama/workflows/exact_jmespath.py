"""JMESPath over exact numbers: the library's language with `int` and `Decimal` in the place of binary floats.

The library knows only `int` and `float` as numbers, compares `[1]` with `[true]` by Python's rules, and lets Python's
own errors out where types do not match. Here numbers are compared and added exactly, a literal in backquotes is the
number that it is written as, and what a function does not take is a `JMESPathError` that shows no content. And a
computation ends: `[@, @] | [@, @] | …` doubles at each of its hundred steps, so what is visited and made is counted.
https://jmespath.org/specification.html
"""

# mypy: disable-error-code="attr-defined, misc, no-any-return"
# The library's stubs leave out the methods that a subclass replaces.

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from decimal import MAX_EMAX, MIN_EMIN, ROUND_CEILING, ROUND_FLOOR, Context, Decimal, localcontext
from typing import Any, ClassVar

from jmespath import exceptions, functions, lexer, parser, visitor
from jmespath.functions import signature

from loopllama.core import exact_json
from loopllama.core.patterns import late
from loopllama.core.work import Work, size

MOST_WORK = 1_000_000
"""Units of `Work` for one computation: a second, and a condition over each of some 50,000 items."""
_SUM = Context(prec=10_000, Emax=MAX_EMAX, Emin=MIN_EMIN)
"""Holds every digit of a sum of numbers that a record keeps, and an end to the memory that others can ask for."""
_QUOTIENT_DIGITS = 38
"""Of a mean, beyond those of the sum: a list of fewer than 2**38 numbers has its mean exactly where it ends at all."""
_NUMBER = late(r"-?(0|[1-9]\d*)(\.\d+)?([eE][+-]?\d+)?", re.ASCII)
_WHITE_SPACE = " \t\r\n"
_KINDS = {bool: "boolean", str: "string", list: "array", dict: "object", type(None): "null"}
_ANY = ("number", *_KINDS.values())


def compile(text: str) -> Any:  # noqa: A001 - the library's word
    """Return the syntax tree of an expression. Raises `JMESPathError`, and `RecursionError` for one nested too
    deeply."""
    return _Parser().parse(text).parsed


def search(tree: Any, value: Any, what: str = "computing an expression") -> Any:
    """Return what the expression finds in `value`, which `exact_json.loads` made. Raises `JMESPathError`, and
    `InvalidRequest`, which says `what`, where that takes too much work."""
    work = Work(MOST_WORK, what)
    found = _Interpreter(work).visit(tree, value)
    work.weigh(found, "the size of its value")
    return found


def equal(left: Any, right: Any, work: Work | None = None) -> bool:
    """Return whether two values are the same JSON: 1 is 1.0 and never true, at any depth."""
    if work is not None:
        work.spend(1, "a comparison")
    if isinstance(left, bool) or isinstance(right, bool):
        return left is right
    if isinstance(left, list) and isinstance(right, list):
        return len(left) == len(right) and all(equal(*pair, work) for pair in zip(left, right, strict=True))
    if isinstance(left, dict) and isinstance(right, dict):
        return left.keys() == right.keys() and all(equal(value, right[key], work) for key, value in left.items())
    return bool(left == right)


def kind_of(value: Any) -> str:
    """Return the JMESPath type of a value."""
    if isinstance(value, visitor._Expression):
        return "expref"
    return _KINDS.get(type(value), "number")


class _Lexer(lexer.Lexer):
    """Reads the numbers of literals exactly."""

    def _consume_until(self, delimiter: str) -> str:
        self._lexeme = super()._consume_until(delimiter)
        return self._lexeme

    def _consume_literal(self) -> dict[str, Any]:
        token: dict[str, Any] = super()._consume_literal()
        if not isinstance(token["value"], str):  # texts may lack their quotes, which is no JSON
            text = self._lexeme.replace("\\`", "`")
            try:
                token["value"] = exact_json.loads(text)
            except (ValueError, ArithmeticError):
                raise exceptions.LexerError(token["start"], text, f"Bad token {text}") from None
        return token


class _Parser(parser.Parser):
    """The library's parser with the lexer above. Its cache is its own: botocore compiles expressions too."""

    _CACHE: ClassVar[dict[str, Any]] = {}

    def _parse(self, expression: str) -> Any:
        self._tokens = list(_Lexer().tokenize(expression))
        self._index = 0
        tree = self._expression(binding_power=0)
        if self._current_token() != "eof":
            self._raise_parse_error_for_token(self._lookahead_token(0), "unexpected token")
        return parser.ParsedResult(expression, tree)


class _Interpreter(visitor.TreeInterpreter):
    def __init__(self, work: Work) -> None:
        super().__init__(visitor.Options(custom_functions=_Functions(work)))
        self._work = work

    def visit(self, node: Any, *args: Any, **kwargs: Any) -> Any:
        kind = node["type"]
        self._work.spend(2, kind)
        found = super().visit(node, *args, **kwargs)
        if kind in _MAKING:
            self._work.spend(size(found), kind)
        return found

    def visit_comparator(self, node: Any, value: Any) -> bool | None:
        left, right = (self.visit(child, value) for child in node["children"])
        if node["value"] in self._EQUALITY_OPS:
            return equal(left, right, self._work) == (node["value"] == "eq")
        if kind_of(left) != kind_of(right) or kind_of(left) not in ("number", "string"):
            return None
        holds: bool = self.COMPARATOR_FUNC[node["value"]](left, right)
        return holds

    def visit_slice(self, node: Any, value: Any) -> Any:
        if node["children"][2] == 0:
            raise exceptions.JMESPathError("the step of a slice cannot be 0")
        return super().visit_slice(node, value)

    def visit_not_expression(self, node: Any, value: Any) -> bool:
        return bool(self._is_false(self.visit(node["children"][0], value)))


_MAKING = frozenset(("flatten", "slice", "projection", "filter_projection", "value_projection", "function_expression"))
"""Kinds of nodes whose value is a new list, object or text."""


class _Functions(functions.Functions):
    def __init__(self, work: Work) -> None:
        self._work = work

    def call_function(self, function_name: str, resolved_args: Iterable[Any]) -> Any:
        on, given = f"{function_name}()", list(resolved_args)
        for value in given:
            self._work.spend(size(value), on)
            if isinstance(value, list):
                # Texts between the others, where they are joined, count with each.
                between = size(given[0]) if function_name == "join" else 0
                self._work.spend(sum(size(element) + between for element in value), on)
        return super().call_function(function_name, given)

    def _type_check(self, actual: Sequence[Any], signature: Sequence[Mapping[str, Any]], function_name: str) -> None:
        """Check every argument, also those that stand for a variadic one, which the library leaves out; `&a` is a value
        only where it is asked for."""
        for place, value in enumerate(actual):
            types = signature[min(place, len(signature) - 1)]["types"]
            self._type_check_single(value, types or _ANY, function_name)

    def _type_check_single(self, current: Any, types: Sequence[str], function_name: str) -> None:
        if not any(_is_a(current, type_) for type_ in types):
            raise _mismatch(function_name, current, types)

    def _create_key_func(self, expref: Any, allowed_types: Sequence[str], function_name: str) -> Callable[[Any], Any]:
        first: list[str] = []

        def key(element: Any) -> Any:
            sort_key = expref.visit(expref.expression, element)
            if kind_of(sort_key) not in (first or allowed_types):
                raise _mismatch(function_name, sort_key, first or allowed_types)
            first[:] = [kind_of(sort_key)]
            return sort_key

        return key

    @signature({"types": ["array"]}, {"types": ["expref"]})
    def _func_sort_by(self, array: list[Any], expref: Any) -> list[Any]:
        return sorted(array, key=self._create_key_func(expref, ["number", "string"], "sort_by"))

    @signature({"types": ["number"]})
    def _func_abs(self, arg: Any) -> Any:
        return arg.copy_abs() if isinstance(arg, Decimal) else abs(arg)

    @signature({"types": ["number"]})
    def _func_ceil(self, arg: Any) -> Any:
        return arg if isinstance(arg, int) else Decimal(arg).to_integral_value(ROUND_CEILING)

    @signature({"types": ["number"]})
    def _func_floor(self, arg: Any) -> Any:
        return arg if isinstance(arg, int) else Decimal(arg).to_integral_value(ROUND_FLOOR)

    @signature({"types": ["array-number"]})
    def _func_sum(self, arg: list[Any]) -> Any:
        with localcontext(_SUM):
            return sum(arg)

    @signature({"types": ["array-number"]})
    def _func_avg(self, arg: list[Any]) -> Any:
        if not arg:
            return None
        total = Decimal(self._func_sum(arg))
        with localcontext(_SUM) as context:
            context.prec = len(total.as_tuple().digits) + _QUOTIENT_DIGITS
            return total / len(arg)

    @signature({"types": ["array", "string"]}, {"types": []})
    def _func_contains(self, subject: Any, search: Any) -> bool:
        if isinstance(subject, str):
            return isinstance(search, str) and search in subject
        return any(equal(element, search, self._work) for element in subject)

    @signature({"types": []})
    def _func_to_string(self, arg: Any) -> str:
        if isinstance(arg, str):
            return arg
        self._work.weigh(arg, "to_string()")
        return exact_json.dumps(arg, ascii_only=False)

    @signature({"types": []})
    def _func_to_number(self, arg: Any) -> Any:
        # Models end their answers with a line end: white space around a JSON text is no part of its value (RFC 8259).
        if isinstance(arg, str) and _NUMBER.fullmatch(arg.strip(_WHITE_SPACE)):
            try:
                return exact_json.loads(arg)
            except (ValueError, ArithmeticError):
                return None
        return arg if kind_of(arg) == "number" else None

    @signature({"types": []})
    def _func_type(self, arg: Any) -> str:
        return kind_of(arg)


SIGNATURES: dict[str, Sequence[Mapping[str, Any]]] = {
    name: function["signature"] for name, function in _Functions.FUNCTION_TABLE.items()
}
"""What each function takes: the `types` of each argument, none where it may be anything; the last may be `variadic`."""


def _is_a(value: Any, kind: str) -> bool:
    kind, _, inner = kind.partition("-")
    return kind_of(value) == kind and (not inner or all(kind_of(element) == inner for element in value))


def _mismatch(function: str, value: Any, types: Sequence[str]) -> exceptions.JMESPathError:
    kind = kind_of(value)
    wanted = " or ".join(type_.replace("array-", "array of ") + "s" * ("-" in type_) for type_ in types)
    of = sorted({kind_of(element) for element in value}) if kind == "array" else []
    return exceptions.JMESPathError(
        f"{function}() takes {wanted}, not {kind}" + (f" of {' and '.join(f'{kind_}s' for kind_ in of)}" if of else "")
    )
