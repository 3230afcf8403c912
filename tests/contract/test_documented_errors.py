"""Providers' errors as they document them, and upstream errors under status 200."""

from __future__ import annotations

import json

import pytest
from support.dialects import Dialect
from support.dialects.bedrock import converse
from support.failures import Make
from support.wire_server import Reply, WireServer

from loopllama.errors import (
    ModelError,
    ModelThrottled,
    ModelUnavailable,
)
from loopllama.llm.types import ModelRequest
from loopllama.providers.bedrock.service import CODES


def test_documented_errors(dialect: Dialect, monkeypatch: pytest.MonkeyPatch, make_call: Make) -> None:
    with WireServer() as server:
        adapter = dialect.adapter(server.url, monkeypatch)
        for status, code, expected in dialect.documented:
            server.script(dialect.error(status, code, "said the provider"))
            with pytest.raises(ModelError) as caught:
                adapter.complete(make_call())
            assert (status, code, type(caught.value)) == (status, code, expected)


def test_the_adapter_names_every_error_of_converse() -> None:
    """botocore's service model is the documentation here; an error that a later version adds shows up."""
    assert {shape.name for shape in converse().error_shapes} <= set(CODES)


def test_every_error_of_converse_by_its_own_status(monkeypatch: pytest.MonkeyPatch) -> None:
    from support.dialects import BedrockDialect

    from loopllama.llm.types import Message

    dialect = BedrockDialect()
    call = ModelRequest(dialect.model, "bedrock-test", "", (Message("user", "hi"),), 5.0)
    with WireServer() as server:
        adapter = dialect.adapter(server.url, monkeypatch)
        for shape in converse().error_shapes:
            server.script(dialect.error(shape.metadata["error"]["httpStatusCode"], shape.name, "said Bedrock"))
            with pytest.raises(ModelError) as caught:
                adapter.complete(call)
            assert type(caught.value) is CODES[shape.name]
            assert shape.name in str(caught.value)


def test_upstream_error_under_status_200(server: WireServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """https://openrouter.ai/docs/api-reference/errors"""
    from support.dialects import OpenAIDialect

    from loopllama.llm.types import Message

    adapter = OpenAIDialect().adapter(server.url, monkeypatch)
    call = ModelRequest("m", "m", "", (Message("user", "hi"),), 5.0)
    for code, expected in ((429, ModelThrottled), (502, ModelUnavailable), (None, ModelUnavailable)):
        server.script(Reply(200, {"error": {"code": code, "message": "upstream failed"}}))
        with pytest.raises(expected):
            adapter.complete(call)
    assert json.loads(server.requests[0].body)["model"] == "m"


def test_upstream_error_under_status_200_in_anthropics_format(
    server: WireServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    from support.dialects import AnthropicDialect

    from loopllama.llm.types import Message

    adapter = AnthropicDialect().adapter(server.url, monkeypatch)
    call = ModelRequest("m", "m", "", (Message("user", "hi"),), 5.0)
    for kind, expected in (
        ("overloaded_error", ModelUnavailable),
        ("rate_limit_error", ModelThrottled),
        ("x", ModelUnavailable),
    ):
        server.script(Reply(200, {"type": "error", "error": {"type": kind, "message": "upstream failed"}}))
        with pytest.raises(expected):
            adapter.complete(call)
