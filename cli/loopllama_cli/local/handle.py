"""A handle on a local stack that runs as a process of its own."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from loopllama_cli.local.credentials import Credentials, forget

START_SECONDS = 120.0
MAX_EVENTS = 25_000
"""Of an execution's history: https://docs.aws.amazon.com/step-functions/latest/dg/service-quotas.html"""
MAX_FUNCTIONS = 1_000
"""That run at once; a new account runs 10: https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html"""
REGION = "us-east-1"
ACCOUNT = "123456789012"
"""The account of everything in moto."""


class LocalStackError(Exception):
    """The stack did not start, or is gone; the message says why."""


def aws_environment(endpoint: str, credentials: Credentials) -> dict[str, str]:
    """Return what a program needs to reach a local stack with boto3 or the AWS CLI."""
    return {
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_ACCESS_KEY_ID": credentials.aws_access_key_id,
        "AWS_SECRET_ACCESS_KEY": credentials.aws_secret_access_key,
        "AWS_SESSION_TOKEN": "",  # there is none, and one of another account would be sent
        "AWS_REGION": REGION,
        "AWS_DEFAULT_REGION": REGION,
    }


def _to_stderr(line: str) -> None:
    sys.stderr.write(line + "\n")


class LocalStack:
    """The project at `project` (a folder with template.yaml), running on this machine.

    `parameters` are the template's; ports of 0 are any free ones; `log` takes each line that the stack reports;
    `minute` is how long a minute of a schedule takes, in seconds; `simulate` lets the simulated provider stand in for
    providers without a key, unless the parameter `SimulatedProviders` says otherwise; an execution ends at
    `execution_events` of its history (StartRun's variable EXECUTION_EVENTS says so to the functions);
    `concurrency` functions run at once; `tool_functions` are Lambda functions beside the template's, name to folder
    and handler. Use as a context manager, or `start()` and `stop()`.
    The stack and everything that it started ends with this process, however that ends.
    """

    def __init__(
        self,
        project: Path | str,
        parameters: Mapping[str, str] | None = None,
        api_port: int = 0,
        aws_port: int = 0,
        log: Callable[[str], None] = _to_stderr,
        minute: float = 60.0,
        simulate: bool = True,
        execution_events: int = MAX_EVENTS,
        concurrency: int = MAX_FUNCTIONS,
        tool_functions: Mapping[str, Sequence[str]] | None = None,
    ) -> None:
        self._config = {
            "project": str(Path(project).resolve()),
            "parameters": dict(parameters or {}),
            "api_port": api_port,
            "aws_port": aws_port,
            "minute": minute,
            "simulate": simulate,
            "execution_events": execution_events,
            "concurrency": concurrency,
            "tool_functions": {name: list(parts) for name, parts in (tool_functions or {}).items()},
        }
        self._log = log
        self._process: subprocess.Popen[str] | None = None
        self._lock = threading.Lock()
        self._lines: list[str] = []
        self.region = REGION
        self.outputs: dict[str, str] = {}
        self.aws_endpoint_url = ""
        self.api_url = ""
        self.credentials = Credentials("", "")

    def start(self) -> LocalStack:
        """Start the stack and wait until it is ready. Raises `LocalStackError`."""
        self._process = subprocess.Popen(
            [sys.executable, "-m", "loopllama_cli.local"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
            start_new_session=True,
        )
        with contextlib.suppress(BrokenPipeError):  # it has ended, and its log says why
            assert self._process.stdin  # noqa: S101 - a pipe, as asked for
            self._process.stdin.write(json.dumps(self._config) + "\n")
            self._process.stdin.flush()
        reader = threading.Thread(target=self._read_log, args=(self._process,), daemon=True)
        reader.start()
        timer = threading.Timer(START_SECONDS, self._process.kill)
        timer.start()
        try:
            message = self._answer()
        except LocalStackError:
            reader.join(timeout=5)
            self.stop()
            raise LocalStackError("the local stack did not start:\n" + "\n".join(self._lines[-20:])) from None
        finally:
            timer.cancel()
        if "failed" in message:
            self.stop()
            raise LocalStackError(message["failed"])
        self.outputs = message["ready"]["outputs"]
        self.api_url = message["ready"]["api"]
        self.aws_endpoint_url = message["ready"]["aws_endpoint_url"]
        self.credentials = Credentials(**message["ready"]["credentials"])
        return self

    def stop(self) -> None:
        """End the stack and its functions. Does nothing if it is not running."""
        process, self._process = self._process, None
        if process is None:
            return
        process.terminate()
        try:
            process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        forget(self.aws_endpoint_url, self.credentials)  # it may have been killed
        for stream in (process.stdin, process.stdout):
            with contextlib.suppress(BrokenPipeError):
                if stream:
                    stream.close()

    def environment(self) -> dict[str, str]:
        """Return the variables with which boto3 and the AWS CLI reach the stack."""
        return aws_environment(self.aws_endpoint_url, self.credentials)

    def processes(self, function: str) -> list[int]:
        """Process ids of a function (logical id, name or ARN), busy and idle. Raises `LocalStackError`."""
        return list(self._ask({"processes": function}))

    def configure(self, function: str, timeout: int | None, variables: Mapping[str, str]) -> None:
        """Let a function (logical id, name or ARN) run with another timeout (s) and further variables than the template
        gives it; `None` and no variables put that back. Only who started the stack can: over AWS's APIs it is refused.
        Raises `LocalStackError`."""
        self._ask({"configure": [function, timeout, dict(variables)]})

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int | None:
        """The stack's own process id; `None` while it is not running."""
        return self._process.pid if self._process else None

    def __enter__(self) -> LocalStack:
        return self.start()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stop()

    def _ask(self, question: dict[str, Any]) -> Any:
        with self._lock:
            if self._process is None or self._process.stdin is None:
                raise LocalStackError("the local stack is not running")
            try:
                self._process.stdin.write(json.dumps(question) + "\n")
                self._process.stdin.flush()
            except BrokenPipeError as error:
                raise LocalStackError("the local stack ended") from error
            return self._answer()["answer"]

    def _answer(self) -> dict[str, Any]:
        if self._process is None or self._process.stdout is None:
            raise LocalStackError("the local stack is not running")
        line = self._process.stdout.readline()
        if not line:
            raise LocalStackError("the local stack ended")
        return dict(json.loads(line))

    def _read_log(self, process: subprocess.Popen[str]) -> None:
        if process.stderr is None:
            return
        with process.stderr as stream:
            for line in stream:
                self._lines = [*self._lines[-199:], line.rstrip()]
                self._log(line.rstrip())
