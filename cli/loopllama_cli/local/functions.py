"""Lambda: invoking the template's functions, synchronously and asynchronously."""

from __future__ import annotations

import base64
import json
import os
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import unquote

from loopllama_cli.local.processes import Outcome, Places, Pool, Spec

# https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html
MAX_SYNC_BYTES = 6 * 1024 * 1024
MAX_ASYNC_BYTES = 256 * 1024
ASYNC_RETRIES = 2
ASYNC_RETRY_SECONDS = (0.5, 1.0)
"""Lambda waits one minute, then two."""


class InvokeRefused(Exception):
    """The invocation was not started. `code` and `status` are those of Lambda's API."""

    def __init__(self, code: str, status: int, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.status = status

    @classmethod
    def no_room(cls) -> InvokeRefused:
        """Return what Lambda says where as many functions run as may."""
        return cls("TooManyRequestsException", 429, "Rate Exceeded.")

    @property
    def is_throttle(self) -> bool:
        """Whether it says that as many functions run as may."""
        return self.status == 429


@dataclass(frozen=True)
class _Given:
    """What the template gives a function: what runs, whatever AWS's APIs are told of it later."""

    handler: str
    directory: str
    layers: tuple[str, ...]
    variables: Mapping[str, str]
    timeout: int | None = None
    """Another than the template's, in seconds."""
    more_variables: Mapping[str, str] = field(default_factory=dict)


class Functions:
    """All functions of the stack. Those are the template's: once the list is closed, no other code is run.

    `find(name or ARN)` gives moto's function, or raises; `write_log` takes log lines, `send(queue_arn, body,
    attributes)` puts a message into a queue, `warn` takes one line for the person at the terminal, and `environment`
    is what every function gets beside its own variables. `concurrency` of them run at once; what finds no room is
    refused, and waits where it is asynchronous.
    """

    def __init__(
        self,
        find: Callable[[str], Any],
        write_log: Callable[[str, str, list[str]], None],
        send: Callable[[str, str, dict[str, str]], None],
        warn: Callable[[str], None],
        environment: dict[str, str],
        concurrency: int,
    ) -> None:
        self._find = find
        self._write_log = write_log
        self._send = send
        self._warn = warn
        self._environment = environment
        self.concurrency = concurrency
        self._room = threading.BoundedSemaphore(concurrency)
        self._closed = False
        self._given: dict[str, _Given] = {}
        self.list_closed = False
        self._pools: dict[str, Pool] = {}
        self._places = Places()
        self._lock = threading.Lock()
        self._later = ThreadPoolExecutor(max_workers=32, thread_name_prefix="async-invoke")

    def close_list(self, functions: Iterable[Any]) -> None:
        """Take these functions of moto's, which the template has made, for all that there are."""
        self.list_closed = True
        for function in functions:
            local = function.template_properties["Local"]
            variables = {name: _text(value) for name, value in function.environment_vars.items()}
            given = _Given(function.handler, local["Directory"], tuple(local["Layers"]), variables)
            self._given[function.function_name] = given

    def configure(self, name: str, timeout: int | None, variables: Mapping[str, str]) -> None:
        """Let a function run with another timeout (s) and further variables. Raises `InvokeRefused`."""
        function = self._find(name)
        given = self._of_template(function)
        self._given[function.function_name] = replace(given, timeout=timeout, more_variables=variables)

    def invoke(self, name: str, event: bytes, trace_id: str = "", client_context: Any = None) -> Outcome:
        """Run the function and wait for it. Raises `InvokeRefused`."""
        function = self._find(name)
        _check(event, MAX_SYNC_BYTES, "InvokeFunction")
        if not self._room.acquire(blocking=False):
            raise InvokeRefused.no_room()
        try:
            return self._run(function, event, str(uuid.uuid4()), trace_id, client_context)
        finally:
            self._room.release()

    def invoke_later(self, name: str, event: bytes, trace_id: str = "") -> None:
        """Queue an asynchronous invocation, with its retries and its dead-letter queue. Raises `InvokeRefused`."""
        function = self._find(name)
        _check(event, MAX_ASYNC_BYTES, "InvokeFunction")
        self._later.submit(self._run_async, function, event, trace_id)

    def pids(self, name: str) -> list[int]:
        function = self._find(name)
        pool = self._pools.get(function.function_name)
        return pool.pids() if pool else []

    def close(self) -> None:
        """End every process: the stack is ending."""
        self._closed = True
        self._later.shutdown(wait=False, cancel_futures=True)
        with self._lock:
            for pool in self._pools.values():
                pool.close()
        self._places.forks.close()

    def _run(self, function: Any, event: bytes, request_id: str, trace_id: str, client_context: Any = None) -> Outcome:
        trace_id = trace_id or f"Root=1-{int(time.time()):08x}-{uuid.uuid4().hex[:24]};Sampled=0"
        outcome = self._pool(function).run(self._spec(function), event, request_id, trace_id, client_context)
        if len(outcome.payload) > MAX_SYNC_BYTES:
            outcome = Outcome.failed(
                "Function.ResponseSizeTooLarge",
                f"Response payload size exceeded maximum allowed payload size ({MAX_SYNC_BYTES} bytes).",
            )
        if outcome.error and not self._closed:
            error = json.loads(outcome.payload)
            self._warn(f"{function.function_name}: {error['errorType']}: {error['errorMessage']}"[:2000])
        return outcome

    def _run_async(self, function: Any, event: bytes, trace_id: str) -> None:
        request_id = str(uuid.uuid4())
        config = function.template_properties.get("EventInvokeConfig", {})
        retries = int(config.get("MaximumRetryAttempts", ASYNC_RETRIES))
        for attempt in range(retries + 1):
            if attempt:
                time.sleep(ASYNC_RETRY_SECONDS[attempt - 1])
            # To be throttled is no failure, and uses no retry: for six hours, which nobody waits for here.
            # https://docs.aws.amazon.com/lambda/latest/dg/invocation-async-error-handling.html
            with self._room:
                outcome = self._run(function, event, request_id, trace_id)
            if not outcome.error:
                break
        destinations = config.get("DestinationConfig", {})
        destination = destinations.get("OnFailure" if outcome.error else "OnSuccess", {}).get("Destination")
        if destination:
            self._send(destination, _destination_record(function, event, request_id, outcome, retries + 1), {})
        queue = function.template_properties.get("DeadLetterConfig", {}).get("TargetArn")
        if outcome.error and queue:
            message = json.loads(outcome.payload)["errorMessage"][:1024]
            attributes = {"RequestID": request_id, "ErrorCode": "200", "ErrorMessage": message}
            self._send(queue, event.decode(), attributes)

    def _pool(self, function: Any) -> Pool:
        with self._lock:
            if function.function_name not in self._pools:
                self._pools[function.function_name] = Pool(self._write_log, self._places)
            return self._pools[function.function_name]

    def _spec(self, function: Any) -> Spec:
        given = self._of_template(function)
        group = function.template_properties.get("LoggingConfig", {}).get("LogGroup") or function.logs_group_name
        reserved = {
            # https://docs.aws.amazon.com/lambda/latest/dg/configuration-envvars.html
            "_HANDLER": given.handler,
            "AWS_LAMBDA_FUNCTION_NAME": function.function_name,
            "AWS_LAMBDA_FUNCTION_VERSION": "$LATEST",
            "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": str(function.memory_size),
            "AWS_LAMBDA_INITIALIZATION_TYPE": "on-demand",
            "AWS_LAMBDA_LOG_GROUP_NAME": group,
            "AWS_EXECUTION_ENV": f"AWS_Lambda_python{sys.version_info.major}.{sys.version_info.minor}",
            "LAMBDA_TASK_ROOT": given.directory,
            "LANG": "en_US.UTF-8",
            "PATH": os.defpath,
            "TZ": ":UTC",
        }
        variables = {**given.variables, **given.more_variables}
        return Spec(
            name=function.function_name,
            arn=function.function_arn,
            handler=given.handler,
            directory=given.directory,
            path=(given.directory, *given.layers),
            environment=tuple(sorted({**variables, **self._environment, **reserved}.items())),
            timeout=float(given.timeout or function.timeout),
            memory_mb=int(function.memory_size),
            log_group=group,
        )

    def _of_template(self, function: Any) -> _Given:
        given = self._given.get(function.function_name)
        if given is None:
            message = f"{function.function_name} is no function of the template; the local stack runs only those"
            raise InvokeRefused("ResourceNotFoundException", 404, message)
        return given


def _check(event: bytes, limit: int, operation: str) -> None:
    if len(event) > limit:
        message = f"Request must be smaller than {limit} bytes for the {operation} operation"
        raise InvokeRefused("RequestTooLargeException", 413, message)
    try:
        json.loads(event)
    except (ValueError, RecursionError) as error:
        message = f"Could not parse request body into json: {error}"
        raise InvokeRefused("InvalidRequestContentException", 400, message) from error


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _destination_record(function: Any, event: bytes, request_id: str, outcome: Outcome, attempts: int) -> str:
    """https://docs.aws.amazon.com/lambda/latest/dg/invocation-async-retain-records.html"""
    record: dict[str, Any] = {
        "version": "1.0",
        "timestamp": time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime()),
        "requestContext": {
            "requestId": request_id,
            "functionArn": f"{function.function_arn}:$LATEST",
            "condition": "RetriesExhausted" if outcome.error else "Success",
            "approximateInvokeCount": attempts if outcome.error else 1,
        },
        "requestPayload": json.loads(event),
        "responseContext": {"statusCode": 200, "executedVersion": "$LATEST"},
        "responsePayload": json.loads(outcome.payload),
    }
    if outcome.error:
        record["responseContext"]["functionError"] = outcome.error
    return json.dumps(record)


def invoke_api(functions: Functions, request: Any) -> tuple[int, dict[str, str], bytes]:
    """Lambda's Invoke operation: moto's request to status, headers and body. moto takes the status from a header."""
    name = unquote(request.path.rsplit("/", 2)[-2])
    headers = {key.lower(): value for key, value in request.headers.items()}
    kind = headers.get("x-amz-invocation-type", "RequestResponse")
    body = request.body
    event = (body.encode() if isinstance(body, str) else body) or b"{}"
    trace_id = headers.get("x-amzn-trace-id", "")
    if kind == "DryRun":
        return 204, {"status": "204"}, b""
    if kind == "Event":
        functions.invoke_later(name, event, trace_id)
        return 202, {"status": "202"}, b""
    context = headers.get("x-amz-client-context")
    client_context = json.loads(base64.b64decode(context)) if context else None
    outcome = functions.invoke(name, event, trace_id, client_context)
    answer = {"Content-Type": "application/json", "x-amz-executed-version": "$LATEST"}
    if outcome.error:
        answer["x-amz-function-error"] = outcome.error
    if headers.get("x-amz-log-type") == "Tail":
        answer["x-amz-log-result"] = base64.b64encode(outcome.log.encode()).decode()
    return 200, answer, outcome.payload
