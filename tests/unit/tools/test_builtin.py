"""The built-in tools: the clock and the calculator."""

from __future__ import annotations

import ast
import json
import operator
from decimal import Context, Decimal, DecimalException
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loopllama.errors import ToolFailed
from loopllama.llm.types import ToolCall
from loopllama.tools.builtin import calculate
from loopllama.tools.toolbox import Toolbox

MOMENT = 1_795_464_900.0  # 2026-11-23T20:15:00Z


def now(**arguments):
    box = Toolbox({}, ["now"], clock=lambda: MOMENT)
    return json.loads(box.call(ToolCall("c", "now", arguments), idempotency_key="k", timeout=5))


class TestNow:
    def test_utc(self):
        assert now() == {"utc": "2026-11-23T20:15:00Z", "weekday": "Monday"}

    def test_time_zone(self):
        assert now(timezone="Asia/Tokyo") == {
            "utc": "2026-11-23T20:15:00Z",
            "timezone": "Asia/Tokyo",
            "local": "2026-11-24T05:15:00+09:00",
            "weekday": "Tuesday",
        }

    @pytest.mark.parametrize(
        "name", ["Mars/Olympus", "../../etc/passwd", "/etc/localtime", "Europe", "a\0b", "x" * 5000]
    )
    def test_unknown_time_zone(self, name):
        with pytest.raises(ToolFailed, match=r"is unknown; give an IANA name"):
            now(timezone=name)


class TestCalculator:
    @pytest.mark.parametrize(
        ("expression", "result"),
        [
            ("1 + 2 * 3", "7"),
            ("0.1 + 0.2", "0.3"),
            ("(1 + 2) * 3", "9"),
            ("2 ** 3 ** 2", "512"),
            ("-2 ** 2", "-4"),
            ("7 // 2", "3"),
            ("-7 // 2", "-4"),
            ("-7 % 3", "2"),
            ("7 % -3", "-2"),
            ("1 / 4", "0.25"),
            ("1 / 3", "0.333333333333333333333333333333"),
            ("2 / 3 * 3", "2"),
            ("sqrt(2) ** 2", "2"),
            ("sqrt(144)", "12"),
            ("round(2.5)", "3"),
            ("round(19.99 * 3 * 1.19, 2)", "71.36"),
            ("round(1.5, 4)", "1.5"),
            ("round(1234, -2)", "1200"),
            ("floor(-1.5) + ceil(1.2) + abs(-3)", "3"),
            ("max(1, 2.5, -3) - min(4, 2)", "0.5"),
            ("100", "100"),
            ("1e3", "1000"),
            ("1.50", "1.5"),
            (".5 + 5.", "5.5"),
            ("-0", "0"),
            ("3 \xd7 4 \xf7 2 \u2212 1", "5"),
            ("1 +\n 2", "3"),
            ("12345678901234567890 * 98765432109876543210", "1219326311370217952237463801111263526900"),
            ("2 ** 0.5", "1.41421356237309504880168872421"),
            ("10 ** 60", "1E+60"),
            ("1 / 10 ** 40", "1E-40"),
        ],
    )
    def test_values(self, expression, result):
        assert calculate(expression) == result

    @pytest.mark.parametrize(
        ("expression", "reason"),
        [
            ("", "1 to 500 characters"),
            ("1+" * 300 + "1", "1 to 500 characters"),
            ("1 / 0", "divides by zero"),
            ("5 % 0", "divides by zero"),
            ("0 / 0", "divides by zero"),
            ("0 // (1 - 1)", "divides by zero"),
            ("0 ** 0", "no value"),
            ("0 ** -1", "zero to a negative power"),
            ("sqrt(-1)", "no value"),
            ("(-8) ** 0.5", "no value"),
            ("9 ** 9 ** 9", "exponents go from"),
            ("9 ** -10001", "exponents go from"),
            ("(10 ** 9999) ** 2", "too large"),
            ("1e999999999999", "too large"),
            ("10 ** 70 // 3", "no value, or needs more than 50 digits"),
            ("1 +", "cannot be read"),
            ("(" * 400, "cannot be read"),
            ("-" * 400 + "1x", "unknown"),
            ("1,234 + 1", "comma"),
            ("round(1,000, 2)", "starts with 0"),
            ("2 (3)", "not arithmetic"),
            ("2 3", "operator is missing before '3'"),
            ("pi * 2", "'pi' is unknown"),
            ("1_000", "'_' is unknown"),
            ("0x10", "'x' is unknown"),
            ("5j", "'j' is unknown"),
            ("1 if 2 else 3", "'if' is unknown"),
            ("abs", "not arithmetic"),
            ("sqrt(1, 2)", "does not take 2 values"),
            ("max()", "does not take 0 values"),
            ("max(*(1, 2))", "not arithmetic"),
            ("round(1, 0.5)", "whole number of digits"),
            ("20% of 50", "'of' is unknown"),
            ("20%", "cannot be read"),
            ("'a' * 9", '"\'", which is not arithmetic'),
            ("__import__('os')", "unknown"),
            ("().__class__", r"'\.', which is not arithmetic"),
            ("1 == 1", "'=', which is not arithmetic"),
            ("[1][0]", r"'\[', which is not arithmetic"),
            ("٣ + 1", "not arithmetic"),
        ],
    )
    def test_refused(self, expression, reason):
        with pytest.raises(ToolFailed, match=reason):
            calculate(expression)

    def test_deep_but_short_expressions(self):
        assert calculate("-" * 400 + "1") == "1"

    @given(st.text(max_size=60) | st.text(alphabet="0123456789.eE+-*/%(), \nabsminroudqtflce", max_size=80))
    def test_anything_has_a_value_or_a_reason(self, expression):
        try:
            text = calculate(expression)
        except ToolFailed:
            return
        assert Decimal(text).is_finite()

    numbers = st.decimals(-(10**9), 10**9, places=4, allow_nan=False) | st.integers(-(10**15), 10**15).map(Decimal)

    @given(numbers, numbers, st.sampled_from(["+", "-", "*", "/", "//", "%"]))
    def test_agrees_with_exact_arithmetic(self, left, right, sign):
        functions = {
            "+": operator.add,
            "-": operator.sub,
            "*": operator.mul,
            "/": operator.truediv,
            "//": operator.floordiv,
            "%": operator.mod,
        }
        expression = f"({left:f}) {sign} ({right:f})"
        if sign in ("/", "//", "%") and not right:
            with pytest.raises(ToolFailed):
                calculate(expression)
            return
        exact = Fraction(functions[sign](Fraction(left), Fraction(right)))
        computed = Fraction(calculate(expression))
        if exact.denominator == 1 or sign != "/":
            assert computed == exact
        else:
            assert abs(computed - exact) <= abs(exact) / 10**29

    trees = st.recursive(
        numbers.map("{:f}".format),
        lambda inner: st.tuples(inner, st.sampled_from("+-*/"), inner).map(lambda parts: f"({' '.join(parts)})"),
        max_leaves=8,
    )

    @given(trees)
    def test_agrees_with_decimal(self, expression):
        context = Context(prec=50)
        functions = {
            ast.Add: context.add,
            ast.Sub: context.subtract,
            ast.Mult: context.multiply,
            ast.Div: context.divide,
        }

        def value(node):
            if isinstance(node, ast.BinOp):
                return functions[type(node.op)](value(node.left), value(node.right))
            if isinstance(node, ast.UnaryOp):
                return -value(node.operand)
            return Decimal(ast.get_source_segment(expression, node) or "")

        try:
            expected = value(ast.parse(expression, mode="eval").body)
        except DecimalException:
            with pytest.raises(ToolFailed):
                calculate(expression)
            return
        assert Decimal(calculate(expression)) in (expected, Context(prec=30).plus(expected))
