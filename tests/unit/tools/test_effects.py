"""Whether a tool only reads, as far as its definition tells."""

from __future__ import annotations

import json
from typing import Any

import pytest

from loopllama.tools.effects import only_read

HTTP = {"type": "http", "url": "https://example.com/x", "description": "d", "parameters": {"type": "object"}}
LAMBDA = {"type": "lambda", "function": "f", "description": "d", "parameters": {"type": "object"}}


@pytest.mark.parametrize(
    ("definition", "reads"),
    [
        (HTTP, True),
        ({**HTTP, "method": "GET"}, True),
        ({**HTTP, "method": "POST"}, False),
        ({**HTTP, "method": "DELETE"}, False),
        ({"type": "http_get", "hosts": ["example.com"], "description": "d"}, True),
        (LAMBDA, None),
        ({**HTTP, "method": "SING"}, None),
        ("no JSON", None),
    ],
)
def test_what_a_definition_tells(definition: Any, reads: bool | None) -> None:
    text = definition if isinstance(definition, str) else json.dumps(definition)
    assert only_read(["t"], {"t": {"tool": "t", "definition": text}}) == {"t": reads}


def test_tools_that_every_deployment_has_and_one_that_this_has_not() -> None:
    assert only_read(["now", "calculator", "ask_human", "gone"], {}) == {
        "now": True,
        "calculator": True,
        "ask_human": False,
        "gone": None,
    }
