"""The program inside a function's process: loads the handler once and runs one invocation after another.

Started by `forks.ForkServer`, forked or as `python -E -P worker.py RESPONSE_FD`; knows nothing of the rest of this
package. Each message, either way, is a 4-byte big-endian length and as many bytes; a JSON header is followed by a body:

    standard input   {"path", "directory", "handler"}, then for each invocation {"request_id", ...} and the event
    RESPONSE_FD      {"kind": "ready"} or {"kind": "init_error"} and an error, then {"kind": "result" | "error"} and
                     the payload

Standard output and error are the handler's alone: they are its log. After an invocation they carry the request's
id behind a NUL, which tells the reader that this invocation's log is complete.

The end of standard input ends the process, so that none outlives the stack that started it.
"""

from __future__ import annotations

import importlib
import json
import logging
import os
import queue
import struct
import sys
import threading
import time
import traceback
from decimal import Decimal
from typing import Any, BinaryIO


class Context:
    """What Lambda hands to a Python handler beside the event
    (https://docs.aws.amazon.com/lambda/latest/dg/python-context.html)."""

    identity = None

    def __init__(self, header: dict[str, Any]) -> None:
        self.aws_request_id: str = header["request_id"]
        self.invoked_function_arn: str = header["function_arn"]
        self.client_context = header.get("client_context")
        self.function_name = os.environ["AWS_LAMBDA_FUNCTION_NAME"]
        self.function_version = os.environ["AWS_LAMBDA_FUNCTION_VERSION"]
        self.memory_limit_in_mb = os.environ["AWS_LAMBDA_FUNCTION_MEMORY_SIZE"]
        self.log_group_name = os.environ["AWS_LAMBDA_LOG_GROUP_NAME"]
        self.log_stream_name = os.environ["AWS_LAMBDA_LOG_STREAM_NAME"]
        self._deadline_ms: int = header["deadline_ms"]

    def get_remaining_time_in_millis(self) -> int:
        return max(0, self._deadline_ms - int(time.time() * 1000))


class _Formatter(logging.Formatter):
    """The format that Lambda's Python runtime gives to the root logger."""

    request_id = ""

    def format(self, record: logging.LogRecord) -> str:
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        text = f"[{record.levelname}]\t{stamp}.{int(record.msecs):03d}Z\t{self.request_id}\t{record.getMessage()}"
        return f"{text}\n{self.formatException(record.exc_info)}" if record.exc_info else text


def _read(stream: BinaryIO) -> bytes:
    head = stream.read(4)
    body = stream.read(struct.unpack(">I", head)[0]) if len(head) == 4 else b""
    if not body and head != b"\0\0\0\0":
        raise EOFError
    return body


def _receive(stream: BinaryIO, requests: queue.SimpleQueue[tuple[dict[str, Any], bytes]]) -> None:
    try:
        while True:
            header = json.loads(_read(stream))
            requests.put((header, _read(stream)))
    except EOFError:
        os._exit(0)


def _plain(value: Any) -> float:
    if isinstance(value, Decimal):
        return float(value)
    raise TypeError(f"Object of type {type(value).__name__} is not JSON serializable")


def _error(kind: str, message: str, request_id: str, error: BaseException | None = None) -> bytes:
    """Return an error in the form of Lambda's answer, written to the log too."""
    stack = error.__traceback__ if error else None
    while stack and stack.tb_frame.f_code.co_filename == __file__:
        stack = stack.tb_next
    frames = traceback.format_list(traceback.extract_tb(stack)) if stack else []
    trace = "Traceback (most recent call last):\n" + "".join(frames) if frames else ""
    sys.stdout.write(f"[ERROR] {kind}: {message}\n{trace}")
    answer = {"errorMessage": message, "errorType": kind, "requestId": request_id, "stackTrace": frames}
    return json.dumps(answer).encode()


def _load(handler: str) -> Any:
    """Import `module.function`. Raises `_InitError` with the answer that Lambda would give."""
    module_name, _, name = handler.rpartition(".")
    try:
        module = importlib.import_module(module_name.replace("/", "."))
    except ImportError as error:
        message = f"Unable to import module '{module_name}': {error}"
        raise _InitError(_error("Runtime.ImportModuleError", message, "", error)) from error
    except SyntaxError as error:
        message = f"Syntax error in module '{module_name}': {error}"
        raise _InitError(_error("Runtime.UserCodeSyntaxError", message, "", error)) from error
    except Exception as error:
        raise _InitError(_error(type(error).__name__, str(error), "", error)) from error
    function = getattr(module, name, None)
    if function is None:
        message = f"Handler '{name}' missing on module '{module_name}'"
        raise _InitError(_error("Runtime.HandlerNotFound", message, ""))
    return function


class _InitError(Exception):
    """`args[0]` is the payload."""


def _invoke(handler: Any, header: dict[str, Any], event: bytes) -> tuple[str, bytes]:
    request_id = header["request_id"]
    os.environ["_X_AMZN_TRACE_ID"] = header["trace_id"]
    _Formatter.request_id = request_id
    try:
        result = handler(json.loads(event), Context(header))
    except Exception as error:
        return "error", _error(type(error).__name__, str(error), request_id, error)
    try:
        return "result", json.dumps(result, default=_plain).encode()
    except (TypeError, ValueError, RecursionError) as error:
        return "error", _error("Runtime.MarshalError", f"Unable to marshal response: {error}", request_id)


def main(response_fd: int) -> None:
    os.set_inheritable(response_fd, False)
    stdin = os.fdopen(os.dup(0), "rb")
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    sys.stdout.reconfigure(line_buffering=True, errors="replace")  # type: ignore[union-attr]
    sys.stderr.reconfigure(line_buffering=True, errors="replace")  # type: ignore[union-attr]
    console = logging.StreamHandler(sys.stdout)
    console.setFormatter(_Formatter())
    logging.getLogger().addHandler(console)

    requests: queue.SimpleQueue[tuple[dict[str, Any], bytes]] = queue.SimpleQueue()
    threading.Thread(target=_receive, args=(stdin, requests), daemon=True).start()

    def send(kind: str, body: bytes) -> None:
        header = json.dumps({"kind": kind}).encode()
        message = struct.pack(">I", len(header)) + header + struct.pack(">I", len(body)) + body
        view = memoryview(message)
        while view:
            view = view[os.write(response_fd, view) :]

    config, _ = requests.get()
    sys.path[:0] = config["path"]
    os.chdir(config["directory"])
    try:
        handler = _load(config["handler"])
    except _InitError as error:
        _flush("")
        send("init_error", error.args[0])
        return
    send("ready", b"")
    while True:
        header, event = requests.get()
        kind, payload = _invoke(handler, header, event)
        _flush(header["request_id"])
        send(kind, payload)


def _flush(request_id: str) -> None:
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            continue  # the handler closed it
    try:
        os.write(1, b"\0" + request_id.encode() + b"\n")
    except OSError:
        return


if __name__ == "__main__":
    main(int(sys.argv[1]))
