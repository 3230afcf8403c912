"""What the local stack listens on, and what its program prints."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from support.waiting import eventually

from .conftest import ROOT, Running


@pytest.mark.skipif(
    not Path("/proc/net/tcp").exists(), reason="/proc tells which ports a process listens on: Linux only"
)
def test_nothing_else_listens_and_only_on_loopback(toy: Running) -> None:
    toy.invoke("ToyName", do="whoami")
    processes = [toy.stack.pid, *toy.stack.processes("Toy")]
    inodes = {str(fd.readlink()) for pid in processes for fd in Path(f"/proc/{pid}/fd").iterdir() if fd.is_symlink()}
    listening = set()
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and f"socket:[{fields[9]}]" in inodes:
                listening.add(fields[1])
    ports = [urlsplit(url).port for url in (toy.stack.api_url, toy.stack.aws_endpoint_url)]
    assert listening == {f"0100007F:{port:04X}" for port in ports}


def test_the_program_prints_what_programs_need_and_other_terminals_find_it(tmp_path: Path) -> None:
    home = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")} | {"HOME": str(tmp_path)}
    home |= {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{home['PATH']}",
        "AWS_SESSION_TOKEN": "of another account",
    }
    program = ["loopllama", "local", "--api-port", "0", "--aws-port", "0"]
    program += ["--tools", "examples/research_brief/tools.json"]
    with subprocess.Popen(
        program, env=home, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as serving:
        try:
            assert serving.stdout is not None
            assert serving.stderr is not None
            ready = json.loads(serving.stdout.readline())
            url, key = ready["aws_endpoint_url"], ready["aws_access_key_id"]
            assert {"api", "api_key", "outputs", "aws_secret_access_key"} <= ready.keys()
            said = ""
            while "unset " not in said:
                said += serving.stderr.readline()
            pasted = said[said.index("\nexport ") :]
            assert ready["aws_secret_access_key"] in pasted
            for how in (f'eval "$(loopllama local --export --local {url})"', pasted):
                script = (
                    f"set -e\n{how}\naws sts get-caller-identity --query Account\nloopllama runs list --local {url}\n"
                    f"loopllama tools list --local {url}"
                )
                ran = subprocess.run(["bash", "-c", script], env=home, capture_output=True, text=True, check=False)
                assert ran.returncode == 0, ran.stderr
                assert "123456789012" in ran.stdout
                assert "http_get" in ran.stdout
            without = subprocess.run(
                ["bash", "-c", f"unset HOME; HOME=/nonexistent loopllama runs list --local {url}"],
                env=home, capture_output=True, text=True, check=False,
            )  # fmt: skip
            assert (without.returncode, "none of yours" in without.stderr) == (5, True)
            assert key not in " ".join(Path(f"/proc/{serving.pid}/cmdline").read_text().split("\0"))
        finally:
            serving.terminate()
            serving.communicate(timeout=30)
    eventually(lambda: not list((tmp_path / ".loopllama").iterdir()))
