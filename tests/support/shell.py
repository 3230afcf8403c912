"""A bash whose `loopllama` and `aws` are the real programs (`sam` only reads its command line). They are forked from a
process that has them loaded: a page of documentation runs some thirty commands, and loading each takes as long as
everything else that it does.

`python -m support.shell SOCKET` is that process. A command's shim sends its arguments, folder, environment and the
three standard files over the socket and waits for the exit code.
"""

from __future__ import annotations

import importlib
import json
import os
import pkgutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

_SHIM = """\
#!{python} -SE
import json, os, socket, sys
there = socket.socket(socket.AF_UNIX)
there.connect({path!r})
asked = json.dumps([{name!r}, sys.argv[1:], os.getcwd(), dict(os.environ)]).encode()
socket.send_fds(there, [len(asked).to_bytes(4, "big") + asked], [0, 1, 2])
code = there.recv(1)
sys.exit(code[0] if code else 1)
"""


class Programs:
    """The process that the programs are forked from. Use it as a context manager; `folder` has the shims."""

    def __enter__(self) -> Programs:
        self._place = tempfile.TemporaryDirectory()
        self.folder = Path(self._place.name)
        path = str(self.folder / "programs")
        for name in ("loopllama", "aws", "sam"):
            (self.folder / name).write_text(_SHIM.format(python=sys.executable, path=path, name=name))
            (self.folder / name).chmod(0o755)
        root = Path(__file__).parents[2]
        loaded = {**os.environ, "PYTHONPATH": os.pathsep.join(str(root / part) for part in ("shared", "cli", "tests"))}
        self._process = subprocess.Popen([sys.executable, "-m", "support.shell", path], env=loaded)
        while not Path(path).exists():
            if self._process.poll() is not None:
                raise RuntimeError("the process with the programs ended")
            time.sleep(0.02)
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
        self._place.cleanup()


class Shell:
    """One bash session: what a block defines, the next one knows. Use it as a context manager."""

    def __init__(self, programs: Programs, environment: dict[str, str], folder: Path) -> None:
        self._environment = {**environment, "PATH": f"{programs.folder}{os.pathsep}{environment['PATH']}"}
        self._folder = folder

    def __enter__(self) -> Shell:
        self._script = tempfile.NamedTemporaryFile("w", suffix=".sh")
        self._bash = subprocess.Popen(
            ["bash", "--norc"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            text=True, cwd=self._folder, env=self._environment,
        )  # fmt: skip
        return self

    def __exit__(self, *_: object) -> None:
        self._bash.kill()
        self._bash.communicate()
        self._script.close()

    def run(self, block: str) -> str:
        """Run a block; returns what it printed, messages included. Raises `AssertionError` where a command of it
        fails."""
        assert self._bash.stdin is not None
        assert self._bash.stdout is not None
        # In the session itself, so that variables stay; errexit would end it, so the trap tells of what fails.
        Path(self._script.name).write_text(f"trap 'echo \"failed: $BASH_COMMAND\"' ERR\n{block}\ntrap - ERR\n")
        self._bash.stdin.write(f"set -E; . {self._script.name} < /dev/null; echo; echo '<end>'\n")
        self._bash.stdin.flush()
        lines = []
        for line in self._bash.stdout:
            if line == "<end>\n":
                break
            lines.append(line)
        said = "".join(lines)
        assert lines, f"the session ended in\n{block}"
        assert "failed: " not in said, f"{block}\n\n{said}"
        return said


def _serve(path: str) -> None:
    import awscli.clidriver

    import loopllama
    import loopllama_cli.main

    for name in ("build", "delete", "deploy"):
        importlib.import_module(f"samcli.commands.{name}")
    for module in pkgutil.walk_packages(loopllama.__path__, "loopllama."):
        importlib.import_module(module.name)
    programs: dict[str, Callable[[], object]] = {
        "loopllama": lambda: loopllama_cli.main.app(prog_name="loopllama"),
        "aws": awscli.clidriver.main,
        "sam": _sam,
    }
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(path)
    listening.listen()
    while True:
        caller, _ = listening.accept()
        if os.fork() == 0:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            os._exit(_become(caller, programs))
        caller.close()


def _become(caller: socket.socket, programs: dict[str, Callable[[], object]]) -> int:
    data, files, _, _ = socket.recv_fds(caller, 1 << 20, 3)
    length = int.from_bytes(data[:4], "big")
    while len(data) < length + 4:
        data += caller.recv(1 << 20)
    name, arguments, folder, environment = json.loads(data[4:])
    for number, file in enumerate(files):
        os.dup2(file, number)
    sys.stdin, sys.stdout, sys.stderr = (os.fdopen(number, mode) for number, mode in enumerate("rww"))
    os.chdir(folder)
    where = os.environ["AWS_DATA_PATH"]  # set by awscli when it is imported
    os.environ.clear()
    os.environ.update({**environment, "AWS_DATA_PATH": where})
    sys.argv = [name, *arguments]
    code = 0
    try:
        result = programs[name]()
        code = result if isinstance(result, int) else 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(bool(end.code))
    except BaseException:
        import traceback

        traceback.print_exc()
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    caller.sendall(bytes([code & 255]))
    return code


def _sam() -> None:
    """Read a command as the SAM CLI does, and its parameters as the template has them, without doing it."""
    from samcli.cli.main import cli
    from samtranslator.yaml_helper import yaml_parse

    name, *arguments = sys.argv[1:]
    if name == "deploy" and "--guided" not in arguments:
        arguments += ["--stack-name", "as-saved-by-guided"]
    root = Path(__file__).parents[2]
    os.chdir(root)
    command = cli.get_command(cli.make_context("sam", [name]), name)
    if command is None:
        raise SystemExit(f"sam knows no {name}")
    given = command.make_context(name, arguments).params.get("parameter_overrides") or {}
    if unknown := given.keys() - yaml_parse((root / "template.yaml").read_text())["Parameters"].keys():
        raise SystemExit(f"the template has no parameter {', '.join(sorted(unknown))}")


if __name__ == "__main__":
    _serve(sys.argv[1])
