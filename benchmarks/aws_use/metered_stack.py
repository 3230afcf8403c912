"""The local stack with meters on it: what real runs of the real functions ask of AWS, by function.

The stack runs in this process, so that the meters see what it does; the functions run in processes of their own, as
always. Who calls is told by the SDK's application id, which each function gets.
"""

from __future__ import annotations

import contextlib
import os
import re
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from .meter import Call, Meter

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / name) for name in ("shared", "cli", "tests")]
MINUTE = 10**6
"""Seconds in a minute of the stack's schedules: none comes round while something is measured."""


@dataclass
class Taken:
    """What was asked of AWS in some time."""

    dynamodb: list[Call] = field(default_factory=list)
    others: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    """Calls of the other services: function, service, operation."""
    invocations: Counter[str] = field(default_factory=Counter)
    log_bytes: Counter[str] = field(default_factory=Counter)
    """As CloudWatch Logs counts them: 26 bytes for each line beside its own.
    https://docs.aws.amazon.com/AmazonCloudWatchLogs/latest/APIReference/API_PutLogEvents.html"""

    def of(self, *functions: str) -> list[Call]:
        return [call for call in self.dynamodb if call.function in functions]


class MeteredStack:
    """A running stack (`system`) and what it has taken since the last `take()`."""

    def __init__(self, parameters: dict[str, str]) -> None:
        from loopllama_cli.local import aws_server
        from loopllama_cli.local.functions import Functions
        from loopllama_cli.local.handle import REGION
        from loopllama_cli.local.logs import Logs
        from loopllama_cli.local.stack import Stack

        self._now = Taken()
        self._names: dict[str, str] = {}
        self._caller: dict[str, dict[str, str]] = {}
        self.meter = Meter()
        self._tap(aws_server.Application, "__call__", self._saw_request)
        self._tap(Functions, "_run", lambda function, *_, **__: self._add("invocations", self._name(function)))
        self._tap(Logs, "write", self._saw_lines)
        self.stack = Stack(ROOT, parameters, 0, 0, lambda line: print(line, file=sys.stderr), MINUTE, simulate=False)
        self._name_functions()
        from support.system import System

        handle: Any = SimpleNamespace(
            outputs=self.stack.outputs,
            aws_endpoint_url=self.stack.aws_endpoint_url,
            region=REGION,
            api_url=self.stack.api_url,
            processes=self.stack.processes,
            configure=self.configure,
            credentials=self.stack.credentials,
        )
        self.system = System(handle)

    def take(self) -> Taken:
        """What was taken since the last time."""
        taken, self._now = self._now, Taken()
        taken.dynamodb = self.meter.take()
        return taken

    def processor_seconds(self, function: str) -> float:
        """Processor time that the function's processes have used so far."""
        ticks = os.sysconf("SC_CLK_TCK")
        used = 0
        for pid in self.stack.processes(function):
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            used += int(fields[11]) + int(fields[12])
        return used / ticks

    def memory_mb(self, function: str) -> float:
        """The most that a process of the function has held in memory."""
        peaks = [
            re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
            for pid in self.stack.processes(function)
        ]
        return max((int(peak[1]) / 1024 for peak in peaks if peak), default=0.0)

    def configure(self, function: str, timeout: int | None, variables: dict[str, str]) -> None:
        """As the stack does, the function's name for its caller kept."""
        self.stack.configure(function, timeout, {**variables, **self._caller.get(function, {})})

    def close(self) -> None:
        self.stack.functions.close()

    def _tap(self, owner: Any, name: str, saw: Any) -> None:
        inner = getattr(owner, name)

        def tapped(this: Any, *arguments: Any, **more: Any) -> Any:
            saw(*arguments, **more)
            return inner(this, *arguments, **more)

        setattr(owner, name, tapped)

    def _add(self, counter: str, key: Any, count: int = 1) -> None:
        getattr(self._now, counter)[key] += count

    def _saw_request(self, environ: dict[str, Any], *_: Any) -> None:
        caller = re.search(r"\bapp/(\S+)", environ.get("HTTP_USER_AGENT", ""))
        service = re.search(r"/([0-9]{8})/[^/]+/([^/]+)/aws4_request", environ.get("HTTP_AUTHORIZATION", ""))
        if caller and service and service[2] != "dynamodb":
            operation = environ.get("HTTP_X_AMZ_TARGET", "").rpartition(".")[2] or environ["REQUEST_METHOD"]
            self._add("others", (caller[1], service[2], operation))

    def _saw_lines(self, group: str, _stream: str, lines: list[str]) -> None:
        name = group.rpartition("/")[2].title().replace("_", "")
        self._add("log_bytes", name, sum(len(line.encode()) + 26 for line in lines))

    def _name(self, function: Any) -> str:
        return str(self._names.get(function.function_name, function.function_name))

    def _name_functions(self) -> None:
        from moto.awslambda.models import LambdaFunction

        for logical, resource in self.stack._resources.items():
            if isinstance(resource, LambdaFunction):
                self._names[resource.function_name] = logical
                self._caller[logical] = {"AWS_SDK_UA_APP_ID": logical}
                self.configure(logical, None, {})


@contextlib.contextmanager
def metered_stack(parameters: dict[str, str]) -> Iterator[MeteredStack]:
    """A metered stack while the context lives. One in a process: it changes moto and this process's environment."""
    stack = MeteredStack(parameters)
    from loopllama.aws import clients

    before, clients.client = clients.client, stack.system.client  # type: ignore[assignment]
    try:
        with stack.meter.on():
            yield stack
    finally:
        clients.client = before
        stack.close()
