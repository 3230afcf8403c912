"""AWS's own Lambda emulator, from the wheel of aws-sam-cli: runs a built function with the Python that Lambda has."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import platform
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from template.project import ROOT

MACHINES = {"x86_64": ("x86_64", "x86_64"), "aarch64": ("aarch64", "arm64"), "arm64": ("aarch64", "arm64")}
"""This machine's name to the wheels' and the emulator's."""
RUNTIME = ("awslambdaric", "simplejson", "snapshot-restore-py")
"""What calls the function, and what that needs."""
MOVING = ("boto3", "botocore", "dateutil", "jmespath", "s3transfer", "six", "urllib3")
"""What else Lambda's Python brings along, in versions that AWS changes by itself: the layer must have its own."""
OFFLINE = re.compile(r"NewConnectionError|NameResolutionError|ConnectTimeout|ProxyError|No matching distribution")


def find_python() -> str:
    """Python 3.13, as Lambda has it: from PATH or pyenv's versions. Skips the test where there is none."""
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    for candidate in (shutil.which("python3.13"), *map(str, sorted(pyenv.glob("versions/3.13*/bin/python")))):
        if candidate and subprocess.run([candidate, "-c", ""], capture_output=True, check=False).returncode == 0:
            return candidate
    pytest.skip("BUILT FUNCTIONS NOT TESTED: no Python 3.13 on PATH or in pyenv's versions")


def find_emulator() -> str:
    """The emulator for this machine. Skips the test where there is none."""
    spec = importlib.util.find_spec("samcli")
    if platform.system() != "Linux" or platform.machine() not in MACHINES or not (spec and spec.origin):
        pytest.skip("BUILT FUNCTIONS NOT TESTED: Lambda's emulator runs on Linux, x86_64 or arm64, with aws-sam-cli")
    name = f"aws-lambda-rie-{MACHINES[platform.machine()][1]}"
    return str(Path(spec.origin).parent / "local" / "rapid" / name)


def build(folder: Path) -> tuple[Path, Path]:
    """Build the layer as `sam build` does, and put what Lambda's Python brings beside it; their folders. Of what moves
    there are stand-ins that fail when they are imported."""
    layer, runtime = folder / "layer", folder / "runtime"
    shutil.copytree(ROOT / "shared", folder / "shared", ignore=shutil.ignore_patterns("__pycache__"))
    fetched = _run(
        ["make", "build-SharedLayer", f"ARTIFACTS_DIR={layer}", f"PYTHON={sys.executable}"], folder / "shared"
    )
    packages = re.split(r"^(?=\w)", (ROOT / "requirements/dev.txt").read_text(), flags=re.MULTILINE)
    wanted = folder / "runtime.txt"
    wanted.write_text("".join(one for one in packages if one.split("==")[0] in RUNTIME))
    machine = MACHINES[platform.machine()][0]
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--only-binary=:all:"]
    options = ["--implementation", "cp", "--python-version", "3.13", "--target", str(runtime)]
    platforms = [f"--platform={one}_{machine}" for one in ("manylinux_2_28", "manylinux_2_17", "manylinux2014")]
    fetched += _run([*pip, *options, *platforms, "-r", str(wanted)], folder)
    assert (layer / "python/loopllama/__init__.py").is_file(), fetched
    for name in MOVING:
        (runtime / f"{name}.py").write_text(f"raise AssertionError('{name} is taken from the runtime')\n")
    return layer / "python", runtime


def build_function(name: str, folder: Path) -> Path:
    """A function's folder as `sam build` makes it."""
    built = folder / name
    source = ROOT / "functions" / name
    _run(["make", "--makefile", str(source.parent / "Makefile"), f"build-{name}", f"ARTIFACTS_DIR={built}"], source)
    return built


def _run(command: list[str], folder: Path) -> str:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300, check=False)
    if done.returncode and OFFLINE.search(done.stderr):
        pytest.skip(f"BUILT FUNCTIONS NOT TESTED: their packages cannot be fetched: {done.stderr.strip()[-300:]}")
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


class Function:
    """A function that the emulator runs."""

    def __init__(self, port: int, log: Path) -> None:
        self._url = f"http://127.0.0.1:{port}/2015-03-31/functions/function/invocations"
        self.log = log

    def invoke(self, event: dict[str, Any]) -> dict[str, Any]:
        """Its answer; of an error, `errorType` and `errorMessage`."""
        until = time.monotonic() + 30
        while True:
            try:
                with urllib.request.urlopen(self._url, json.dumps(event).encode(), timeout=30) as answer:  # noqa: S310
                    answered: dict[str, Any] = json.loads(answer.read())
                    return answered
            except (urllib.error.URLError, ConnectionError):  # Not listening yet.
                if time.monotonic() > until:
                    raise AssertionError(self.log.read_text()) from None
                time.sleep(0.02)


@contextlib.contextmanager
def running(
    emulator: str, python: str, function: Path, path: list[Path], environment: dict[str, str]
) -> Iterator[Function]:
    """The function in the emulator, with this environment only, and Lambda's search path: the function, its layer,
    then what the runtime brings (https://docs.aws.amazon.com/lambda/latest/dg/python-package.html)."""
    port, api = _free_port(), _free_port()
    log = function.with_suffix(".log")
    command = [
        emulator,
        f"--runtime-interface-emulator-address=127.0.0.1:{port}",
        f"--runtime-api-address=127.0.0.1:{api}",
    ]
    with log.open("w") as output:
        process = subprocess.Popen(
            [*command, python, "-m", "awslambdaric", "app.handler"],
            cwd=function,
            env={
                "PATH": os.environ["PATH"],
                "PYTHONPATH": os.pathsep.join(map(str, (function, *path))),
                "LAMBDA_TASK_ROOT": str(function),
                "AWS_LAMBDA_FUNCTION_NAME": function.name,
                "AWS_LAMBDA_FUNCTION_TIMEOUT": "60",
                **{name: value for name, value in os.environ.items() if name.startswith("AWS_")},
                **environment,
            },
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        yield Function(port, log)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port
