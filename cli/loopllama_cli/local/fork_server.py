"""The program that functions' processes are forked from, with AWS's SDK loaded.

To load it takes most of the time that a new process needs, and Lambda has it in place too.

Started as `python -E -P fork_server.py FD` by `forks.ForkServer`; FD is a socket. A request on it is a 4-byte
big-endian length, as many bytes of JSON (the process's whole environment), and with them three files: standard input,
what standard output and error go to, RESPONSE_FD. What it tells are lines of JSON, in the order in which things happen:
first {"loaded"}, the names of the libraries that those who are forked have already; {"pid"} of a new process; {"pid",
"ended"} once it has ended, with its exit code, which is negative for a signal.

The process goes on as `worker.main`. Nothing of the project's code is loaded before that. The end of the socket ends
this program.
"""

from __future__ import annotations

import gc
import importlib.util
import json
import os
import select
import signal
import socket
import struct
import sys
import time
from pathlib import Path
from typing import Any

import botocore.session  # noqa: F401 - loaded for those that are forked

FILES = 3


def _worker() -> Any:
    """Load `worker.py`, under no name that a function's own module could have."""
    spec = importlib.util.spec_from_file_location("<worker>", Path(__file__).with_name("worker.py"))
    module = importlib.util.module_from_spec(spec)  # type: ignore[arg-type]
    spec.loader.exec_module(module)  # type: ignore[union-attr]
    return module


def _request(there: socket.socket) -> tuple[dict[str, str], list[int]] | None:
    """Read a request: an environment and files; `None` at the end."""
    read, files, _, _ = socket.recv_fds(there, 4, FILES)
    while read and len(read) < 4:
        read += there.recv(4 - len(read))
    if not read:
        return None
    left, body = struct.unpack(">I", read)[0], b""
    while left > len(body):
        body += there.recv(left - len(body))
    return json.loads(body), files


def _become(environment: dict[str, str], files: list[int]) -> int:
    """Make this process, which was forked, the one that was asked for. Returns its RESPONSE_FD."""
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    stdin, output, response = files
    for file, place in ((stdin, 0), (output, 1), (output, 2)):
        os.dup2(file, place)
    os.close(stdin)
    os.close(output)
    sys.stdout = os.fdopen(1, "w", encoding="utf-8", closefd=False)
    sys.stderr = os.fdopen(2, "w", encoding="utf-8", closefd=False)
    os.environ.clear()
    os.environ |= environment
    time.tzset()
    return response


def serve(there: socket.socket) -> int:
    """Fork processes until the socket ends. Returns in each of them, with its RESPONSE_FD."""
    _tell(there, {"loaded": sorted({name.partition(".")[0] for name in sys.modules} - sys.stdlib_module_names)})
    wakes, woken = socket.socketpair()
    for one in (wakes, woken):
        one.setblocking(False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(woken.fileno())
    while True:
        ready, _, _ = select.select([there, wakes], [], [])
        if wakes in ready:
            wakes.recv(4096)
            _tell_of_the_ended(there)
        if there not in ready:
            continue
        asked = _request(there)
        if asked is None:
            os._exit(0)
        environment, files = asked
        pid = os.fork()
        if not pid:
            for one in (there, wakes, woken):
                one.close()
            return _become(environment, files)
        for file in files:
            os.close(file)
        os.setpgid(pid, pid)  # to be killed with all that it starts
        _tell(there, {"pid": pid})


def _tell_of_the_ended(there: socket.socket) -> None:
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if not pid:
            return
        _tell(there, {"pid": pid, "ended": os.waitstatus_to_exitcode(status)})


def _tell(there: socket.socket, message: dict[str, Any]) -> None:
    try:
        there.sendall(json.dumps(message).encode() + b"\n")
    except OSError:
        os._exit(0)


if __name__ == "__main__":
    worker = _worker()
    gc.freeze()
    worker.main(serve(socket.socket(fileno=int(sys.argv[1]))))
