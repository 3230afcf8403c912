"""Tools that every deployment has: `now` and `calculator`."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import (
    ROUND_CEILING,
    ROUND_FLOOR,
    ROUND_HALF_UP,
    Decimal,
    DecimalException,
    Inexact,
    InvalidOperation,
    Overflow,
)
from decimal import Context as Arithmetic
from typing import Any

from loopllama.core.patterns import late
from loopllama.errors import ToolFailed
from loopllama.llm.types import ToolSpec
from loopllama.tools.definitions import DEFAULT_SECONDS, Context

MAX_EXPRESSION = 500
"""Characters of an expression."""
MAX_EXPONENT = 10_000
"""Largest exponent of `**`, either sign."""
_DIGITS, _SHOWN = 50, 30
_RANGE = 10_000
"""Results are between 1E-10000 and 1E+10000."""


@dataclass(frozen=True, slots=True)
class BuiltIn:
    """A tool that is a function of ours."""

    spec: ToolSpec
    function: Callable[[Mapping[str, Any], Context], Any]
    timeout: float = DEFAULT_SECONDS

    def run(self, arguments: Mapping[str, Any], context: Context) -> Any:
        """Call it. Raises `ToolFailed`."""
        return self.function(arguments, context)


def _now(arguments: Mapping[str, Any], context: Context) -> dict[str, str]:
    moment = datetime.fromtimestamp(context.clock(), UTC)
    result = {"utc": moment.isoformat(timespec="seconds").replace("+00:00", "Z"), "weekday": f"{moment:%A}"}
    name = arguments.get("timezone")
    if name:
        from zoneinfo import ZoneInfo

        try:
            local = moment.astimezone(ZoneInfo(name))
        except (ValueError, OSError, KeyError) as error:  # not a key, a folder, not found
            raise ToolFailed(f"timezone {name[:80]!r} is unknown; give an IANA name like Europe/Berlin") from error
        result |= {"timezone": name, "local": local.isoformat(timespec="seconds"), "weekday": f"{local:%A}"}
    return result


def calculate(expression: str) -> str:
    """Return the value of an arithmetic expression: numbers, `+ - * / // % **`, parentheses and `abs ceil floor max min
    round sqrt`, computed in decimal with 50 digits; the text has at most 30. `//` and `%` round down, as in Python.

    Raises `ToolFailed` saying what is wrong, and where.
    """
    # Without line ends a position in the tree is one in the text.
    text = " ".join(expression.translate(_SIGNS).split())
    if not text or len(text) > MAX_EXPRESSION:
        raise ToolFailed(f"the expression must have 1 to {MAX_EXPRESSION} characters")
    _check_tokens(text)
    arithmetic = Arithmetic(
        prec=_DIGITS,
        Emax=_RANGE,
        Emin=-_RANGE,
        traps=[InvalidOperation, Overflow],
    )
    try:
        tree = ast.parse(text, mode="eval")
        value = _Evaluator(text, arithmetic).value(tree.body)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise ToolFailed(f"the expression cannot be read: {_reason(error)}") from error
    except Overflow as error:
        raise ToolFailed(f"the result is too large: at most 1E+{_RANGE}") from error
    except DecimalException as error:
        raise ToolFailed("the expression has no value, or needs more than 50 digits") from error
    return _shown(value, rounded=bool(arithmetic.flags[Inexact]))


_SIGNS = {0x2212: "-", 0x2013: "-", 0xD7: "*", 0xF7: "/"}
"""Minus, en dash, times and divided by, as models like to write them."""
_TOKEN = late(r"\s*(?:(\d+\.?\d*(?:[eE][+-]?\d+)?|\.\d+(?:[eE][+-]?\d+)?)|([A-Za-z_]+)|(\*\*|//|[-+*/%(),]))", re.ASCII)
_FUNCTIONS = ("abs", "ceil", "floor", "max", "min", "round", "sqrt")


def _check_tokens(text: str) -> None:
    """Only numbers, known names and operators go to Python's parser, so that it has nothing to warn about."""
    position, after_value = 0, False
    while position < len(text):
        match = _TOKEN.match(text, position)
        if match is None:
            raise ToolFailed(f"the expression has {text[position:].strip()[:1]!r}, which is not arithmetic")
        number, name, operator = match.groups()
        if number is not None and re.match(r"0\d", number):
            raise ToolFailed(f"the number {number[:40]} starts with 0; numbers have no thousands separators")
        if name is not None and name not in _FUNCTIONS:
            raise ToolFailed(f"{name!r} is unknown; there are numbers and {', '.join(_FUNCTIONS)}")
        if after_value and operator is None:
            raise ToolFailed(f"an operator is missing before {match[0].strip()[:40]!r}")
        after_value = operator is None or operator == ")"
        position = match.end()


class _Evaluator:
    def __init__(self, text: str, arithmetic: Arithmetic) -> None:
        self._text = text
        self._arithmetic = arithmetic

    def value(self, node: ast.expr) -> Decimal:
        arithmetic = self._arithmetic
        match node:
            case ast.Constant():
                # From the text, because the parser's float has lost digits.
                return arithmetic.create_decimal(self._text[node.col_offset : node.end_col_offset])
            case ast.UnaryOp(op=ast.USub()):
                return arithmetic.minus(self.value(node.operand))
            case ast.UnaryOp(op=ast.UAdd()):
                return self.value(node.operand)
            case ast.BinOp():
                return self._binary(node.op, self.value(node.left), self.value(node.right))
            case ast.Call(func=ast.Name(id=name), args=arguments, keywords=[]):
                return self._call(name, [self.value(argument) for argument in arguments])
            case ast.Tuple():
                raise ToolFailed("the expression has a comma; write 1234.5 for 1,234.5, and one expression a call")
        raise ToolFailed(
            f"the expression has {self._text[node.col_offset : node.end_col_offset][:40]!r}, which is not arithmetic"
        )

    def _binary(self, operator: ast.operator, left: Decimal, right: Decimal) -> Decimal:
        arithmetic = self._arithmetic
        if not right and isinstance(operator, ast.Div | ast.FloorDiv | ast.Mod):
            raise ToolFailed("the expression divides by zero")
        match operator:
            case ast.Add():
                return arithmetic.add(left, right)
            case ast.Sub():
                return arithmetic.subtract(left, right)
            case ast.Mult():
                return arithmetic.multiply(left, right)
            case ast.Div():
                return arithmetic.divide(left, right)
            case ast.FloorDiv():
                return self._divmod(left, right)[0]
            case ast.Mod():
                return self._divmod(left, right)[1]
            case ast.Pow():
                if abs(right) > MAX_EXPONENT:
                    raise ToolFailed(f"exponents go from -{MAX_EXPONENT:,} to {MAX_EXPONENT:,}")
                if not left and right < 0:
                    raise ToolFailed("the expression raises zero to a negative power")
                return arithmetic.power(left, right)
        raise ToolFailed(f"{type(operator).__name__} is not arithmetic")

    def _divmod(self, left: Decimal, right: Decimal) -> tuple[Decimal, Decimal]:
        # Decimal's own division rounds to zero; people and spreadsheets expect MOD(-7, 2) = 1.
        quotient, rest = self._arithmetic.divmod(left, right)
        if rest and (rest < 0) != (right < 0):
            return self._arithmetic.subtract(quotient, Decimal(1)), self._arithmetic.add(rest, right)
        return quotient, rest

    def _call(self, name: str, values: list[Decimal]) -> Decimal:
        arithmetic = self._arithmetic
        match name, values:
            case "abs", [value]:
                return arithmetic.abs(value)
            case "sqrt", [value]:
                return arithmetic.sqrt(value)
            case "floor", [value]:
                return value.to_integral_value(ROUND_FLOOR)
            case "ceil", [value]:
                return value.to_integral_value(ROUND_CEILING)
            case "round", [value]:
                return value.to_integral_value(ROUND_HALF_UP)
            case "round", [value, digits]:
                if digits != int(digits) or abs(digits) > _DIGITS:
                    raise ToolFailed(f"round takes a whole number of digits, at most {_DIGITS}")
                if -int(value.as_tuple().exponent) <= digits:
                    return value
                return value.quantize(Decimal(1).scaleb(-int(digits)), ROUND_HALF_UP, arithmetic)
            case ("min", [_, *_]):
                return min(values)
            case ("max", [_, *_]):
                return max(values)
        raise ToolFailed(f"{name} does not take {len(values)} values")


def _shown(value: Decimal, *, rounded: bool) -> str:
    """Return the number without needless zeros; a result that was rounded on the way shows 30 digits of its 50."""
    if rounded:
        value = Arithmetic(prec=_SHOWN).plus(value)
    if not value:
        return "0"
    value = value.normalize(Arithmetic(prec=_DIGITS))
    return format(value, "f") if -_SHOWN < value.adjusted() < _DIGITS else str(value)


def _reason(error: BaseException) -> str:
    return str(error.msg) if isinstance(error, SyntaxError) else "it is nested too deep"


BUILT_IN: Mapping[str, BuiltIn] = {
    "now": BuiltIn(
        ToolSpec(
            "now",
            "The current date, time and weekday in UTC, and in a time zone if one is given.",
            {
                "type": "object",
                "properties": {"timezone": {"type": "string", "description": "IANA name, like Europe/Berlin"}},
                "additionalProperties": False,
            },
        ),
        _now,
    ),
    "calculator": BuiltIn(
        ToolSpec(
            "calculator",
            "The exact value of an arithmetic expression: numbers, + - * / // % **, parentheses, and the functions "
            f"{', '.join(_FUNCTIONS)}. No thousands separators, no percent signs, no variables.",
            {
                "type": "object",
                "properties": {"expression": {"type": "string", "description": "like round(19.99 * 3 * 1.19, 2)"}},
                "required": ["expression"],
                "additionalProperties": False,
            },
        ),
        lambda arguments, _: calculate(arguments["expression"]),
    ),
}
