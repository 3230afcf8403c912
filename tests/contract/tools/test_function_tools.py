"""Tools that are Lambda functions: what is sent, what comes back."""

from __future__ import annotations

import json

import pytest
from support.tool_rows import rows
from support.tool_server import KEY, raw_server

from loopllama.aws import clients
from loopllama.errors import ToolFailed
from loopllama.llm.types import ToolCall
from loopllama.tools.toolbox import Toolbox

ORDER = {
    "type": "lambda",
    "function": "lookup-order",
    "description": "Finds an order.",
    "parameters": {"type": "object", "properties": {"order_id": {"type": "string"}}, "required": ["order_id"]},
}
INVOKE = "/2015-03-31/functions/lookup-order/invocations"
"""https://docs.aws.amazon.com/lambda/latest/api/API_Invoke.html"""


class TestFunctions:
    """Lambda tools through boto3 to a server that speaks the Invoke API."""

    @pytest.fixture
    def invoke(self, monkeypatch):
        def call(url, timeout=10.0):
            monkeypatch.setenv("AWS_ENDPOINT_URL_LAMBDA", url)
            clients.client.cache_clear()
            toolbox = Toolbox(rows({"lookup_order": ORDER}), ["lookup_order"])
            tool_call = ToolCall("c", "lookup_order", {"order_id": "A-1"})
            return toolbox.call(tool_call, idempotency_key=KEY, timeout=timeout)

        yield call
        clients.client.cache_clear()

    def test_event_and_answer(self, server, invoke):
        server.answers[INVOKE] = (200, {}, b'{"status": "sent"}')
        assert invoke(server.url) == '{"status":"sent"}'
        event = {"tool": "lookup_order", "arguments": {"order_id": "A-1"}, "idempotency_key": KEY}
        assert json.loads(server.seen[0].body) == event

    def test_the_function_fails(self, server, invoke):
        payload = b'{"errorType": "KeyError", "errorMessage": "no such order"}'
        server.answers[INVOKE] = (200, {"X-Amz-Function-Error": "Unhandled"}, payload)
        with pytest.raises(ToolFailed, match=r"lookup_order failed: KeyError: no such order"):
            invoke(server.url)

    @pytest.mark.parametrize(
        ("status", "code"), [(429, "TooManyRequestsException"), (404, "ResourceNotFoundException")]
    )
    def test_lambda_refuses(self, server, invoke, status, code):
        server.answers[INVOKE] = (status, {"x-amzn-ErrorType": code}, b'{"Message": "m"}')
        with pytest.raises(ToolFailed, match=f"AWS Lambda says {code}"):
            invoke(server.url)
        assert len(server.seen) == 1

    def test_silence_ends_in_time_and_is_not_asked_again(self, invoke):
        asked = []

        def script(connection, stop):
            asked.append(connection)
            stop.wait(20)

        with raw_server(script) as url, pytest.raises(ToolFailed, match=r"no answer within 1 s"):
            invoke(url, timeout=1.5)
        assert len(asked) == 1
