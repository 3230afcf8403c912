"""Toolboxes: what is defined, who may call what, and what is checked before a tool runs."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from decimal import Decimal
from io import BytesIO

import pytest
from botocore.exceptions import ClientError, EndpointConnectionError, ReadTimeoutError
from support.tool_rows import by_hand, rows

from loopllama.errors import ToolFailed, ToolInvalid, WorkflowInvalid
from loopllama.llm.types import ToolCall
from loopllama.tools import reading
from loopllama.tools.store import checked
from loopllama.tools.toolbox import MAX_ARGUMENT_BYTES, MAX_RESULT_CHARACTERS, Toolbox

ORDER = {
    "type": "lambda",
    "function": "lookup-order",
    "description": "Finds an order.",
    "parameters": {
        "type": "object",
        "properties": {"order_id": {"type": "string", "pattern": "^A-[0-9]+$"}, "amount": {"type": "number"}},
        "required": ["order_id"],
        "additionalProperties": False,
    },
    "timeout_seconds": 20,
}
HTTP = {
    "type": "http",
    "method": "GET",
    "url": "https://api.example.com/v1/orders/{order_id}?expand={expand}",
    "description": "Reads an order.",
    "parameters": {
        "type": "object",
        "properties": {"order_id": {"type": "string"}, "expand": {"type": "string"}},
        "required": ["order_id"],
    },
}


class FakeLambda:
    """Stands for AWS Lambda: `answer` is a payload, or an exception that the call raises."""

    def __init__(self, answer=b"null", function_error=None):
        self.answer, self.function_error = answer, function_error
        self.calls, self.options = [], []

    def client(self, service, **options):
        assert service == "lambda"
        self.options.append(options)
        return self

    def invoke(self, *, FunctionName, Payload):  # noqa: N803  boto3's names
        self.calls.append((FunctionName, json.loads(Payload)))
        if isinstance(self.answer, Exception):
            raise self.answer
        answer = self.answer(json.loads(Payload)) if callable(self.answer) else self.answer
        extra = {"FunctionError": self.function_error} if self.function_error else {}
        return {"StatusCode": 200, "Payload": BytesIO(answer), **extra}


def box(aws, **definitions):
    definitions = definitions or {"lookup_order": ORDER}
    return Toolbox(rows(definitions), list(definitions), aws=aws)


def call(toolbox, arguments, name="lookup_order", timeout=60.0, raw=""):
    return toolbox.call(
        ToolCall("call_1", name, arguments, raw), idempotency_key="run/step/tool_0000_00", timeout=timeout
    )


class TestNames:
    def test_specs_in_the_crews_order(self):
        toolbox = Toolbox(rows({"lookup_order": ORDER}), ["now", "lookup_order", "calculator", "now"])
        assert [spec.name for spec in toolbox.specs] == ["now", "lookup_order", "calculator"]
        assert toolbox.specs[1].parameters == ORDER["parameters"]

    def test_undefined_tools_are_named_with_the_commands_that_help(self):
        with pytest.raises(WorkflowInvalid) as caught:
            Toolbox(rows({"lookup_order": ORDER}), ["lookup_ordr", "lookup_order", "http_get", "now"])
        assert "does not define: 'lookup_ordr', 'http_get'; what it has: `loopllama tools list`" in str(caught.value)
        assert "`loopllama tools push FILE.json`" in str(caught.value)

    def test_no_tools(self):
        assert Toolbox({}, []).specs == ()

    def test_only_the_agents_own_tools_can_be_called(self):
        aws = FakeLambda()
        toolbox = Toolbox(rows({"lookup_order": ORDER}), ["now"], aws=aws)
        with pytest.raises(ToolFailed, match="there is no tool 'lookup_order'; the tools are: now"):
            call(toolbox, {"order_id": "A-1"})
        assert aws.calls == []


class TestArguments:
    @pytest.mark.parametrize(
        ("arguments", "reason"),
        [
            ({}, "'order_id' is a required property"),
            ({"order_id": 7}, r"\$.order_id: 7 is not of type 'string'"),
            ({"order_id": "B-1"}, "does not match"),
            ({"order_id": "A-1", "x": 1}, "'x' was unexpected"),
            ({"order_id": "A-1", "amount": float("nan")}, "cannot be written as JSON"),
            ({"order_id": "A-1\ud800"}, "cannot be written as JSON"),
            ({"order_id": "A-" + "1" * MAX_ARGUMENT_BYTES}, "at most 262,144"),
        ],
    )
    def test_checked_before_the_tool_runs(self, arguments, reason):
        aws = FakeLambda()
        with pytest.raises(ToolFailed, match=reason):
            call(box(aws), arguments)
        assert aws.calls == []

    def test_broken_json(self):
        aws = FakeLambda()
        with pytest.raises(ToolFailed, match=r"not a JSON object: '\{\"order_id\": '"):
            call(box(aws), None, raw='{"order_id": ')
        assert aws.calls == []

    def test_no_time(self):
        with pytest.raises(ToolFailed, match="no time is left"):
            call(box(FakeLambda()), {"order_id": "A-1"}, timeout=0)


class TestFunctions:
    def test_event_and_result(self):
        aws = FakeLambda(b'{"status": "sent", "total": 12.30, "name": "\\u00fc"}')
        result = call(box(aws), {"order_id": "A-1", "amount": Decimal("0.10")})
        assert result == '{"status":"sent","total":12.3,"name":"ü"}'
        event = {
            "tool": "lookup_order",
            "arguments": {"order_id": "A-1", "amount": 0.1},
            "idempotency_key": "run/step/tool_0000_00",
        }
        assert aws.calls == [("lookup-order", event)]

    @pytest.mark.parametrize(
        ("payload", "text"), [(b'"plain text"', "plain text"), (b"null", "null"), (b"", "null"), (b'"a\\ud800"', "a?")]
    )
    def test_other_results(self, payload, text):
        assert call(box(FakeLambda(payload)), {"order_id": "A-1"}) == text

    def test_long_results_are_cut_and_say_so(self):
        long = json.dumps("x" * (MAX_RESULT_CHARACTERS + 5000)).encode()
        result = call(box(FakeLambda(long)), {"order_id": "A-1"})
        assert result.startswith("x" * MAX_RESULT_CHARACTERS + "\n[cut: 205,000 characters")
        assert len(result) < MAX_RESULT_CHARACTERS + 100

    @pytest.mark.parametrize(("timeout", "seconds"), [(600.0, 20), (20.0, 20), (12.0, 10), (2.5, 2), (1.0, 1)])
    def test_time_limit_and_no_second_attempt(self, timeout, seconds):
        aws = FakeLambda()
        call(box(aws), {"order_id": "A-1"}, timeout=timeout)
        assert aws.options == [{"read_seconds": seconds, "attempts": 1}]

    def test_less_than_a_second(self):
        aws = FakeLambda()
        with pytest.raises(ToolFailed, match="less than a second"):
            call(box(aws), {"order_id": "A-1"}, timeout=0.5)
        assert aws.calls == []

    @pytest.mark.parametrize(
        ("answer", "reason"),
        [
            (ReadTimeoutError(endpoint_url="http://x"), "no answer within 20 s"),
            (EndpointConnectionError(endpoint_url="http://x"), "cannot be reached: EndpointConnectionError"),
            (
                ClientError({"Error": {"Code": "TooManyRequestsException", "Message": "m"}}, "Invoke"),
                "AWS Lambda says TooManyRequestsException",
            ),
            (b"not json", "not JSON"),
        ],
    )
    def test_failures(self, answer, reason):
        with pytest.raises(ToolFailed, match=reason):
            call(box(FakeLambda(answer)), {"order_id": "A-1"})

    def test_the_functions_own_error_without_its_stack(self):
        payload = {"errorType": "KeyError", "errorMessage": "no such order", "stackTrace": ["secret path"]}
        aws = FakeLambda(json.dumps(payload).encode(), function_error="Unhandled")
        with pytest.raises(ToolFailed, match=r"lookup_order failed: KeyError: no such order$"):
            call(box(aws), {"order_id": "A-1"})

    def test_calls_side_by_side(self):
        meet = threading.Barrier(4, timeout=10)

        def answer(event):
            meet.wait()  # passes only when all four are running
            return json.dumps(event["arguments"]["order_id"]).encode()

        toolbox, results = box(FakeLambda(answer)), {}

        def one(number):
            results[number] = call(toolbox, {"order_id": f"A-{number}"})

        threads = [threading.Thread(target=one, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert results == {number: f"A-{number}" for number in range(4)}


def changed(definition, **changes):
    return {key: value for key, value in {**definition, **changes}.items() if value is not ...}


class TestDefinitions:
    def test_a_whole_deployment(self):
        definitions = {
            "lookup_order": ORDER,
            "read_order": changed(HTTP, secret={"name": "stack/tools/orders", "prefix": "Bearer "}),
            "make_order": changed(HTTP, method="POST", body="json", headers={"X-Team": "support"}),
            "http_get": {"type": "http_get", "hosts": ["api.example.com", "*.example.org", "example.net:8443"]},
        }
        texts = checked(definitions)
        assert {name: json.loads(text) for name, text in texts.items()} == definitions
        spec = Toolbox(rows(definitions), ["http_get"]).specs[0]
        assert "api.example.com, *.example.org, example.net:8443" in spec.description

    @pytest.mark.parametrize(
        ("definition", "reason"),
        [
            ("lambda", "t must be an object, not str"),
            ({}, "t.type is missing"),
            ({"type": "shell"}, "t.type must be one of lambda, http, http_get"),
            (changed(ORDER, function=...), "t.function is missing"),
            (changed(ORDER, function="a b"), "t.function must be the name or ARN"),
            (changed(ORDER, description=""), "t.description must be a text"),
            (changed(ORDER, parameters=[]), 't.parameters must be a JSON Schema with "type": "object"'),
            (changed(ORDER, parameters={"type": "array"}), "t.parameters must be a JSON Schema"),
            (changed(ORDER, parameters={"type": "object", "required": ["a", 1]}), "t.parameters: no valid JSON Schema"),
            (changed(ORDER, parameters={"type": "object", "$ref": "https://x.example/s"}), "outside the schema"),
            (changed(ORDER, timeout_seconds=0), "t.timeout_seconds must be"),
            (changed(ORDER, timeout_seconds=901), "t.timeout_seconds must be"),
            (changed(ORDER, timeout_seconds=True), "t.timeout_seconds must be"),
            (changed(ORDER, timeout=5), "unknown fields: timeout; known are type, function, description"),
            (changed(HTTP, method="TRACE"), "t.method must be one of GET"),
            (changed(HTTP, url="http://api.example.com/{order_id}?e={expand}"), "must be https"),
            (changed(HTTP, url="https://{order_id}.example.com/?e={expand}"), "path and query only"),
            (changed(HTTP, url="https://api.example.com{order_id}/{expand}"), "path and query only"),
            (changed(HTTP, url="https://api.example.com/{order_id}#{expand}"), "no fragment"),
            (changed(HTTP, url="https://api.example.com/{order_id}?{expand}=1"), "not in the names"),
            (changed(HTTP, url="https://api.example.com/{order_id"), "belongs to no"),
            (changed(HTTP, url="https://u:p@api.example.com/{order_id}"), "user name"),
            (changed(HTTP, url="ftp://api.example.com/{order_id}"), "must start with https"),
            (changed(HTTP, url="/orders/{order_id}"), "must start with https"),
            (changed(HTTP, url="https://api.example.com:0/{order_id}"), "port"),
            (changed(HTTP, url="https://api.example.com/{other}"), "placeholder {other}, which parameters"),
            (changed(HTTP, url="https://api.example.com/{order_id}"), "'expand', which has no place"),
            (changed(HTTP, url="https://api.example.com/{order_id}/{expand}"), "must require 'expand'"),
            (changed(HTTP, body="json"), "a GET has none"),
            (changed(HTTP, body="xml", method="POST"), 'must be "json"'),
            (changed(HTTP, headers={"Host": "other"}), "may not have the header 'Host'"),
            (changed(HTTP, headers={"X": "a\r\nY: b"}), "printable ASCII"),
            (changed(HTTP, headers={"X Y": "a"}), "may not have the header 'X Y'"),
            (changed(HTTP, headers=["a"]), "must be an object of texts"),
            (changed(HTTP, secret="key"), "t.secret must be an object"),
            (changed(HTTP, secret={"header": "X-Key"}), "t.secret.name is missing"),
            (changed(HTTP, secret={"name": "s/tools/a", "header": "Host"}), "may not have the header 'Host'"),
            (changed(HTTP, secret={"name": "s/tools/a", "value": "b"}), "unknown fields: value"),
            *(
                (changed(HTTP, secret={"name": name}), "must begin with <stack>/tools/")
                for name in (
                    *("stack/providers/openai", "openai", "stack/tools/", "a/b/tools/c", "/tools/c"),
                    "arn:aws:secretsmanager:us-east-1:123456789012:secret:stack/providers/openai-AbCdEf",
                    "arn:aws:secretsmanager:us-east-1:123456789012:secret:stack/providers/x:/tools/y",
                )
            ),
            (changed(HTTP, allow_private="yes"), "must be true or false"),
            ({"type": "http_get"}, "t.hosts is missing"),
            ({"type": "http_get", "hosts": []}, "t.hosts must be a list of texts, not empty"),
            ({"type": "http_get", "hosts": ["*"]}, "t.hosts has '\\*'"),
            ({"type": "http_get", "hosts": ["https://example.com"]}, "t.hosts has"),
            ({"type": "http_get", "hosts": ["example.com/path"]}, "a path is not taken"),
            ({"type": "http_get", "hosts": ["a@example.com"]}, "user name"),
            ({"type": "http_get", "hosts": ["ex*mple.com"]}, "is not a host name"),
        ],
    )
    def test_refused(self, definition, reason):
        with pytest.raises(ToolInvalid, match=reason):
            checked({"t": definition})

    @pytest.mark.parametrize("name", ["now", "calculator", "give_answer", "ask_human", "a b", "x" * 65, ""])
    def test_names(self, name):
        with pytest.raises(ToolInvalid):
            checked({name: ORDER})

    def test_the_crews_own_tools_are_checked_at_once(self):
        with pytest.raises(ToolInvalid, match=r"t\.type"):
            Toolbox(rows({"t": {"type": "shell"}, "now2": ORDER}), ["t"])
        Toolbox(rows({"t": {"type": "shell"}, "lookup_order": ORDER}), ["lookup_order"])


def test_a_schema_that_is_none_is_the_deployments_error():
    aws = FakeLambda()
    with pytest.raises(ToolInvalid, match=r"lookup_order\.parameters: no valid JSON Schema"):
        call(box(aws, lookup_order=changed(ORDER, parameters={"type": "object", "minProperties": "x"})), {})
    assert aws.calls == []


def test_importing_loads_no_library():
    late = ("jsonschema", "httpcore", "httpx", "boto3", "botocore", "pydantic", "yaml")
    row = rows({"t": {"type": "lambda", "function": "f", "description": "d"}})
    code = (
        "import sys\nfrom loopllama.tools.toolbox import Toolbox\nfrom loopllama.tools.store import KeptTools\n"
        f"Toolbox({row!r}, ['t', 'now'])\n"
        f"print([m for m in {late!r} if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env={"PYTHONPATH": "shared"}, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


NO_SCHEMA = changed(ORDER, parameters={"type": "object", "properties": {"a": {"type": "nonsense"}}})


class TestRows:
    """What a person may have written into a row."""

    @pytest.mark.parametrize(
        ("row", "reason"),
        [
            (by_hand("t", "{"), "t is no valid JSON: "),
            (by_hand("t", '{"type": "lambda", "timeout_seconds": 1e400}'), "t is no valid JSON: $.timeout_seconds"),
            (by_hand("t", "[]"), "t must be an object, not list"),
            (by_hand("t", {"type": "shell"}), "t.type must be one of lambda"),
            (by_hand("t", NO_SCHEMA), "t.parameters: no valid JSON Schema"),
            (by_hand("t", " " * reading.MAX_DEFINITION_BYTES + "{}"), "t: must have at most 65,536 bytes"),
            (by_hand("a b", ORDER), "the tool name 'a b' must be"),
            ({"tool": "t"}, "t.definition: must be a text (S) that holds JSON"),
            ({"tool": "t", "definition": {"type": "lambda"}}, "t.definition: must be a text (S)"),
            ({"tool": "t", "definition": 7, "checked": 7}, "t.definition: must be a text (S)"),
        ],
    )
    def test_what_is_wrong_is_said_with_the_row_and_the_commands(self, row, reason):
        with pytest.raises(ToolInvalid) as caught:
            Toolbox({row["tool"]: row}, [row["tool"]])
        assert str(caught.value).startswith(reason)
        assert f"row {row['tool']!r} of the Tools table: `loopllama tools show {row['tool']}`" in str(caught.value)
        assert "`loopllama tools push FILE.json`" in str(caught.value)
        assert caught.value.details
        assert [spec.name for spec in Toolbox({row["tool"]: row}, ["now"]).specs] == ["now"]

    def test_what_is_right_is_taken_however_it_was_written(self):
        text = json.dumps(ORDER, indent=4)
        assert Toolbox({"t": by_hand("t", text)}, ["t"]).specs[0].parameters == ORDER["parameters"]

    def test_a_schema_is_checked_before_the_first_call_only_where_a_row_was_edited(self):
        row = rows({"t": NO_SCHEMA})["t"]
        assert Toolbox({"t": row}, ["t"]).specs[0].name == "t"
        edited = {**row, "definition": str(row["definition"]) + " "}
        with pytest.raises(ToolInvalid, match="no valid JSON Schema"):
            Toolbox({"t": edited}, ["t"])  # type: ignore[dict-item]

    def test_a_row_by_a_built_in_name_does_not_count(self):
        assert Toolbox({"now": by_hand("now", ORDER)}, ["now"]).specs[0].parameters != ORDER["parameters"]
