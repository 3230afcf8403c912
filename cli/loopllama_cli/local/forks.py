"""How function processes begin: forked from one that has AWS's SDK loaded, or each by itself."""

from __future__ import annotations

import contextlib
import importlib.machinery
import json
import os
import queue
import signal
import socket
import struct
import subprocess
import sys
import threading
from pathlib import Path
from typing import BinaryIO, Protocol

HERE = Path(__file__).parent
FORKS = sys.platform == "linux"
"""On macOS a process whose libraries have loaded the system's frameworks cannot be forked safely."""


class Started(Protocol):
    """A process that was started: what `subprocess.Popen` has, as far as it is used."""

    pid: int

    def poll(self) -> int | None:
        """Return the exit code, negative for a signal, or `None` while it runs."""

    def wait(self) -> int:
        """Wait for its end and return the exit code."""


class _Forked:
    """A process of the fork server's."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self._over = threading.Event()
        self._code = 0

    def end(self, code: int) -> None:
        """Note that it has ended."""
        self._code = code
        self._over.set()

    def poll(self) -> int | None:
        return self._code if self._over.is_set() else None

    def wait(self) -> int:
        self._over.wait()
        return self._code


class ForkServer:
    """Starts function processes. The program that they are forked from starts with the first one and ends with this
    process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._server: subprocess.Popen[bytes] | None = None
        self._closed = False

    def start(self, path: tuple[str, ...], environment: dict[str, str], files: tuple[int, int, int]) -> Started:
        """Start `worker.py` with an environment and its files: standard input, what standard output and error go to,
        RESPONSE_FD. `path` is where the function looks for modules first. Raises `OSError`."""
        with self._lock:
            if self._closed:
                raise OSError("the stack is ending")
            if FORKS and (self._server is None or self._server.poll() is not None):
                self._begin(environment)
            # A function that brings a library along gets its own.
            if not FORKS or _brought(path, self._loaded):
                return _spawn(environment, files)
            asked = json.dumps(environment).encode()
            socket.send_fds(self._there, [struct.pack(">I", len(asked)) + asked], files)
            forked = self._new.get()
        if forked is None:
            raise OSError("the program that functions are forked from has ended")
        return forked

    def close(self) -> None:
        """End the program. Processes that it has started go on."""
        with self._lock:
            self._closed = True
            if self._server is not None:
                with contextlib.suppress(OSError):  # it has ended
                    self._there.shutdown(socket.SHUT_RDWR)
                self._server.wait()

    def _begin(self, environment: dict[str, str]) -> None:
        self._there, other = socket.socketpair()
        with other:
            self._server = subprocess.Popen(  # noqa: S603 - this interpreter, this package
                [sys.executable, "-E", "-P", str(HERE / "fork_server.py"), str(other.fileno())],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                pass_fds=(other.fileno(),),
                # What an interpreter reads when it starts, and nothing that is one function's own.
                env={name: value for name, value in environment.items() if name in ("LANG", "PATH", "TZ")},
                start_new_session=True,
            )
        lines = self._there.makefile("rb")
        self._loaded: list[str] = json.loads(lines.readline() or b'{"loaded": []}')["loaded"]
        self._new: queue.SimpleQueue[_Forked | None] = queue.SimpleQueue()
        threading.Thread(target=_follow, args=(lines, self._new), daemon=True, name="fork-server").start()


def _follow(lines: BinaryIO, new: queue.SimpleQueue[_Forked | None]) -> None:
    """Read what a fork server tells, until it ends: then those of its processes that still run end too, as nobody would
    be told of theirs."""
    running: dict[int, _Forked] = {}
    with lines, contextlib.suppress(OSError):
        for line in lines:
            told = json.loads(line)
            pid = told["pid"]
            if "ended" in told:
                running.pop(pid).end(told["ended"])
            else:
                running[pid] = _Forked(pid)
                new.put(running[pid])
    for pid, forked in running.items():
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(pid, signal.SIGKILL)
        forked.end(-signal.SIGKILL)
    new.put(None)


def _brought(path: tuple[str, ...], names: list[str]) -> bool:
    """Return whether a folder of `path` has a module of one of the names."""
    return any(importlib.machinery.PathFinder.find_spec(name, list(path)) for name in names)


def _spawn(environment: dict[str, str], files: tuple[int, int, int]) -> Started:
    stdin, output, response = files
    return subprocess.Popen(  # noqa: S603 - this interpreter, this package
        # Without the caller's PYTHON* variables, and without this package's folder on the path.
        [sys.executable, "-E", "-P", str(HERE / "worker.py"), str(response)],
        stdin=stdin,
        stdout=output,
        stderr=subprocess.STDOUT,
        pass_fds=(response,),
        env=environment,
        start_new_session=True,
    )
