"""The simulated model at once, and a ticket for it to read."""

from __future__ import annotations

import json
from typing import Any

import jsonschema

from loopllama.catalog.model import Speed
from loopllama.llm.types import Message, ModelRequest
from loopllama.providers.simulated.adapter import Simulated

TICKET = """# Input

Hi, I was charged twice for order A-1042 on 2026-11-03. The amount was $49.99 each time. Please refund one of them as
soon as possible. I also cannot log in since yesterday. My email is jo.doe@example.com.

Regards,
Jo Doe

# Classifier (classify)

{"category":"billing","urgency":3,"tags":["refund","login"],"escalate":false}
"""
AT_ONCE = Simulated(Speed(700, 70), 0)


def call(text: str = TICKET, system: str = "You draft a reply about refunds.", **changes: Any) -> ModelRequest:
    values: dict[str, Any] = {"model": "m", "catalog_id": "m", "timeout": 5.0, **changes}
    return ModelRequest(system=system, messages=values.pop("messages", (Message("user", text),)), **values)


def filled(schema: dict[str, Any], text: str = TICKET, system: str = "") -> Any:
    answer = AT_ONCE.complete(call(text, system, output_schema=schema))
    value = json.loads(answer.text)
    jsonschema.Draft202012Validator(schema).validate(value)
    return value


def field(schema: dict[str, Any], name: str = "x", text: str = TICKET, system: str = "") -> Any:
    return filled({"type": "object", "properties": {name: schema}, "required": [name]}, text, system)[name]
