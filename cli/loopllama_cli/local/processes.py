"""Function processes: starting them, speaking with them, and the pool of each function."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import re
import signal
import struct
import sys
import threading
import time
import uuid
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from loopllama_cli.local.forks import ForkServer, Started

INIT_SECONDS = 30.0
"""Lambda allows 10 s for loading; a laptop under load gets more."""
MAX_PROCESSES = 16
"""Of one function at a time; further invocations wait for a free one, where Lambda would add more or throttle."""
MAX_LOADING = max(2, os.cpu_count() or 2)
"""Processes of all functions that load at once: more would only slow each other down, and meanwhile a busy one may
become free."""
END_OF_LOG = re.compile(r"\0((?:[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})?)$")
MAX_LOG_LINE = 256 * 1024


@dataclass(frozen=True)
class Spec:
    """What a process of a function is made from. A process whose spec is no longer its function's is replaced."""

    name: str
    arn: str
    handler: str
    directory: str
    path: tuple[str, ...]
    environment: tuple[tuple[str, str], ...]
    timeout: float
    memory_mb: int
    log_group: str


@dataclass(frozen=True)
class Outcome:
    """How an invocation ended: the payload as Lambda answers it, and "Unhandled" if it is an error."""

    payload: bytes
    error: str | None = None
    log: str = ""
    """The last 4 KB of this invocation's log."""

    @staticmethod
    def failed(kind: str, message: str) -> Outcome:
        return Outcome(json.dumps({"errorType": kind, "errorMessage": message}).encode(), "Unhandled")


class _Ended(Exception):
    """The process is gone, or is to go."""


class Process:
    """One execution environment: one process of one function, one invocation at a time.

    `write_log(log_group, log_stream, lines)` is given what the handler prints, as it prints it. `start` is
    `ForkServer.start`.
    """

    def __init__(
        self,
        spec: Spec,
        write_log: Callable[[str, str, list[str]], None],
        start: Callable[[tuple[str, ...], dict[str, str], tuple[int, int, int]], Started],
    ) -> None:
        self.spec = spec
        self.init_ms = 0.0
        self._write_log = write_log
        self.stream = f"{time.strftime('%Y/%m/%d', time.gmtime())}/[$LATEST]{uuid.uuid4().hex}"
        self._frames: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._log_ends: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._tail: deque[str] = deque(maxlen=200)
        ours: list[int] = []
        theirs: list[int] = []
        for reads in (False, True, True):  # its standard input, its log, its answers
            read_end, write_end = os.pipe()
            ours.append(read_end if reads else write_end)
            theirs.append(write_end if reads else read_end)
        environment = {**dict(spec.environment), "AWS_LAMBDA_LOG_STREAM_NAME": self.stream}
        try:
            self._process = start(spec.path, environment, (theirs[0], theirs[1], theirs[2]))
        except BaseException:
            for end in ours:
                os.close(end)
            raise
        finally:
            for end in theirs:
                os.close(end)
        self.pid = self._process.pid
        self._stdin = os.fdopen(ours[0], "wb")
        self._stdout = os.fdopen(ours[1], "rb")
        for target, args in ((self._read_frames, (ours[2],)), (self._read_log, ())):
            threading.Thread(target=target, args=args, daemon=True, name=f"{spec.name}-{self.pid}").start()

    def start(self) -> Outcome | None:
        """Load the handler. An outcome means that it failed and the process is of no use."""
        begun = time.monotonic()
        self.log([f"INIT_START Runtime Version: python:{sys.version_info.major}.{sys.version_info.minor}"])
        config = {"path": self.spec.path, "directory": self.spec.directory, "handler": self.spec.handler}
        try:
            self._send(config, b"")
            kind, payload = self._receive(INIT_SECONDS)
        except TimeoutError:
            self.kill()
            return Outcome.failed("Sandbox.Timedout", f"Init timed out after {INIT_SECONDS:.2f} seconds")
        except _Ended:
            return Outcome.failed("Runtime.ExitError", f"Error: Runtime exited with error: {self._how_it_ended()}")
        if kind == "init_error":
            self.kill()
            return Outcome(payload, "Unhandled")
        self.init_ms = (time.monotonic() - begun) * 1000
        return None

    def invoke(self, event: bytes, request_id: str, trace_id: str, client_context: Any = None) -> Outcome:
        """Run one invocation, at most the function's timeout. The process is dead afterwards if that passed or the
        process ended."""
        self._tail.clear()
        self.log([f"START RequestId: {request_id} Version: $LATEST"])
        begun = time.monotonic()
        header = {
            "request_id": request_id,
            "trace_id": trace_id,
            "function_arn": self.spec.arn,
            "deadline_ms": int((time.time() + self.spec.timeout) * 1000),
            "client_context": client_context,
        }
        try:
            self._send(header, event)
            kind, payload = self._receive(self.spec.timeout)
            outcome = Outcome(payload, "Unhandled" if kind == "error" else None)
        except TimeoutError:
            self.kill()
            message = f"RequestId: {request_id} Error: Task timed out after {self.spec.timeout:.2f} seconds"
            outcome = Outcome.failed("Sandbox.Timedout", message)
        except _Ended:
            message = f"RequestId: {request_id} Error: Runtime exited with error: {self._how_it_ended()}"
            outcome = Outcome.failed("Runtime.ExitError", message)
        milliseconds = (time.monotonic() - begun) * 1000
        self._wait_for_log(request_id)
        lines = [f"END RequestId: {request_id}", self._report(request_id, milliseconds)]
        self.log([json.loads(outcome.payload)["errorMessage"], *lines] if not self.alive else lines)
        self.init_ms = 0.0
        return Outcome(outcome.payload, outcome.error, "\n".join(self._tail)[-4096:])

    def _report(self, request_id: str, milliseconds: float) -> str:
        report = (
            f"REPORT RequestId: {request_id}\tDuration: {milliseconds:.2f} ms\t"
            f"Billed Duration: {int(milliseconds) + 1} ms\tMemory Size: {self.spec.memory_mb} MB\t"
        )
        return report + (f"Init Duration: {self.init_ms:.2f} ms\t" if self.init_ms else "")

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def kill(self) -> None:
        """End the process and whatever it started."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)
        self._process.wait()

    def log(self, lines: list[str]) -> None:
        self._tail.extend(lines)
        self._write_log(self.spec.log_group, self.stream, lines)

    def _how_it_ended(self) -> str:
        code = self._process.wait()
        if code >= 0:
            return f"exit status {code}"
        return "signal: " + {signal.SIGKILL: "killed", signal.SIGTERM: "terminated"}.get(
            signal.Signals(-code), signal.Signals(-code).name
        )

    def _send(self, header: Any, body: bytes) -> None:
        head = json.dumps(header).encode()
        try:
            self._stdin.write(struct.pack(">I", len(head)) + head + struct.pack(">I", len(body)))
            self._stdin.write(body)
            self._stdin.flush()
        except OSError as error:
            raise _Ended from error

    def _receive(self, seconds: float) -> tuple[str, bytes]:
        deadline = time.monotonic() + seconds
        parts = []
        for _ in range(2):
            try:
                part = self._frames.get(timeout=max(0.0, deadline - time.monotonic()))
            except queue.Empty:
                raise TimeoutError from None
            if part is None:
                raise _Ended
            parts.append(part)
        return json.loads(parts[0])["kind"], parts[1]

    def _read_frames(self, fd: int) -> None:
        with os.fdopen(fd, "rb") as stream:
            while len(head := stream.read(4)) == 4:
                self._frames.put(stream.read(struct.unpack(">I", head)[0]))
        self._frames.put(None)

    def _read_log(self) -> None:
        rest = b""
        while chunk := self._stdout.read1(65536):
            *lines, rest = (rest + chunk).split(b"\n")
            if len(rest) > MAX_LOG_LINE:
                lines.append(rest)
                rest = b""
            self._log_lines(lines)
        self._log_lines([rest] if rest else [])
        self._stdout.close()
        self._log_ends.put("")

    def _log_lines(self, raw: list[bytes]) -> None:
        lines, ends = [], []
        for line in raw:
            text = line.decode("utf-8", "replace")
            end = END_OF_LOG.search(text)
            lines.append(text[: end.start()] if end else text)
            if end:
                ends.append(end[1])
        lines = [line for line in lines if line]
        if lines:
            self.log(lines)
        for request_id in ends:
            self._log_ends.put(request_id)

    def _wait_for_log(self, request_id: str) -> None:
        deadline = time.monotonic() + 1.0
        while (remaining := deadline - time.monotonic()) > 0:
            try:
                if self._log_ends.get(timeout=remaining) in (request_id, ""):
                    return
            except queue.Empty:
                return


class Places:
    """What all pools of a stack share: how processes begin, how many load, a condition that tells of changes."""

    def __init__(self) -> None:
        self.forks = ForkServer()
        self.changed = threading.Condition()
        self.loading = 0


class Pool:
    """The processes of one function: idle ones are used first, new ones are started up to `bound`."""

    def __init__(
        self, write_log: Callable[[str, str, list[str]], None], places: Places, bound: int = MAX_PROCESSES
    ) -> None:
        self._write_log = write_log
        self._bound = bound
        self._places = places
        self._changed = places.changed
        self._idle: list[Process] = []
        self._busy: list[Process] = []
        self._starting = 0
        self._closed = False

    def pids(self) -> list[int]:
        with self._changed:
            return [process.pid for process in (*self._busy, *self._idle)]

    def run(self, spec: Spec, event: bytes, request_id: str, trace_id: str, client_context: Any = None) -> Outcome:
        process = self._idle_one(spec)
        if process is None:
            process, failure = self._load(spec)
            if failure:
                self._give_back(process)
                return failure
        try:
            return process.invoke(event, request_id, trace_id, client_context)
        finally:
            self._give_back(process)

    def _load(self, spec: Spec) -> tuple[Process, Outcome | None]:
        """Return a new process in the place that is reserved, and its failure if its handler cannot be loaded."""
        try:
            try:
                process = Process(spec, self._write_log, self._places.forks.start)
            finally:
                with self._changed:
                    self._starting -= 1
                    self._changed.notify_all()
            with self._changed:
                closed = self._closed
                self._busy.append(process)
            if closed:
                process.kill()
            return process, process.start()
        finally:
            with self._changed:
                self._places.loading -= 1
                self._changed.notify_all()

    def _idle_one(self, spec: Spec) -> Process | None:
        """Return a process ready for this spec, or `None`: start one, a place is reserved."""
        with self._changed:
            while True:
                while self._idle:
                    process = self._idle.pop()
                    if process.alive and process.spec == spec:
                        self._busy.append(process)
                        return process
                    process.kill()
                if self._places.loading < MAX_LOADING and len(self._busy) + self._starting < self._bound:
                    self._starting += 1
                    self._places.loading += 1
                    return None
                self._changed.wait()

    def _give_back(self, process: Process) -> None:
        with self._changed:
            self._busy.remove(process)
            if process.alive and not self._closed:
                self._idle.append(process)
            else:
                process.kill()
            self._changed.notify_all()

    def close(self) -> None:
        with self._changed:
            self._closed = True
            for process in (*self._busy, *self._idle):
                process.kill()
            self._idle.clear()
