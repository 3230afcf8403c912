"""Errors of what somebody handed in: built in one place, so that sentence and details say the same everywhere."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from loopllama import errors
from loopllama.errors import InvalidRequest, RouteInvalid

ROOT = Path(__file__).parents[2]
KINDS = {name for name, kind in vars(errors).items() if isinstance(kind, type) and issubclass(kind, InvalidRequest)}


def test_an_error_of_one_field() -> None:
    error = RouteInvalid.of("model", "is missing")
    assert type(error) is RouteInvalid
    assert str(error) == "model: is missing"
    assert error.details == [{"field": "model", "message": "is missing"}]
    assert str(InvalidRequest.of("body", "must be JSON", subject="The body")) == "The body must be JSON."
    said = InvalidRequest.of("pin", "run, or left out", sentence="pin must be run, or left out")
    assert (str(said), said.details) == (
        "pin must be run, or left out",
        [{"field": "pin", "message": "run, or left out"}],
    )


def test_an_error_of_several_fields_tells_the_first() -> None:
    details: list[dict[str, object]] = [{"field": "a", "message": "is {odd}"}, {"field": "b", "message": "is even"}]
    assert (str(InvalidRequest.of_all(details)), InvalidRequest.of_all(details).details) == ("a: is {odd}", details)
    assert str(InvalidRequest.of_all([], "nothing is right")) == "nothing is right"


@pytest.mark.parametrize("package", ["shared", "cli", "functions"])
def test_nobody_builds_details_by_hand(package: str) -> None:
    by_hand = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for path in sorted((ROOT / package).rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id in KINDS
        and len(node.args) > 1
        # What another error said may be said again.
        and "details" not in ast.unparse(node.args[1])
    ]
    assert not by_hand, "use InvalidRequest.of(field, message), or of_all(details)"
