"""ministack as a process of its own, and what leads to it: AWS's APIs by `AWS_ENDPOINT_URL`, a stack's HTTP API by its
name at AWS and a proxy. Both speak TLS, which the policies of the buckets ask for."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import httpx
from foreign import by_name
from support.waiting import eventually

REGION = "us-east-1"
ACCOUNT = "123456789012"
CREDENTIALS = {"AWS_ACCESS_KEY_ID": "AKIAFOREIGNFOREIGN01", "AWS_SECRET_ACCESS_KEY": "foreign"}
"""The account's own: ministack takes those of its environment for the root user's."""
DOMAIN = f"execute-api.{REGION}.amazonaws.com"
LOOPBACK = "127.0.0.1,localhost"
CERTIFICATE, LOG = "certificate.pem", "ministack.log"
"""Files in a running ministack's folder."""
PROGRAM = Path(__file__).with_name("patched_ministack.py")


@dataclass
class Emulator:
    """A running ministack."""

    port: int
    folder: Path
    proxy: str

    @property
    def account(self) -> dict[str, str]:
        """What makes this account, and no other, the one that AWS's clients find in their environment."""
        return {
            **CREDENTIALS,
            "AWS_ENDPOINT_URL": f"https://127.0.0.1:{self.port}",
            "AWS_CA_BUNDLE": str(self.folder / CERTIFICATE),
            "AWS_DEFAULT_REGION": REGION,
            "AWS_REGION": REGION,
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    def enter(self) -> None:
        """Make this account, and no other, the one that this process and those that it starts work in."""
        kept = _without_aws(os.environ)
        os.environ.clear()
        os.environ.update(kept | self.account)

    @property
    def by_name(self) -> dict[str, str]:
        """What a program's environment needs beside `account` to reach a stack's HTTP API by its name."""
        own = str(self.folder / CERTIFICATE)
        return {"HTTPS_PROXY": self.proxy, "NO_PROXY": LOOPBACK, "SSL_CERT_FILE": own}

    def last_words(self, lines: int = 60) -> str:
        """The end of what ministack has said: of interest where something failed."""
        return "\n".join((self.folder / LOG).read_text("utf-8", "replace").splitlines()[-lines:])


@contextlib.contextmanager
def running(python: str, **settings: str) -> Iterator[Emulator]:
    """A ministack of the interpreter's, with settings beside or instead of the usual ones. It ends, with all that it
    started, when the block is left or this process ends, however that comes about."""
    folder = Path(tempfile.mkdtemp(prefix="foreign-"))
    process = None
    try:
        by_name.certificate(folder / CERTIFICATE, DOMAIN)
        port = _free_port()
        with by_name.proxy(DOMAIN, port) as proxy:
            with (folder / LOG).open("wb") as log:
                process = subprocess.Popen(
                    [python, str(PROGRAM)],
                    env=_settings(port, folder) | settings,
                    stdin=subprocess.PIPE,  # it ends when this is closed, as it is when this process ends
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )
            emulator = Emulator(port, folder, proxy)
            try:
                eventually(lambda: process.poll() is not None or _answers(emulator), 90, first=0.2)
                assert process.poll() is None, "ministack has ended"
            except AssertionError:
                sys.stderr.write(emulator.last_words() + "\n")
                raise
            yield emulator
    finally:
        if process:
            # The functions' processes are of its group. SIGTERM would leave them, and itself, as long as clients wait.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        shutil.rmtree(folder, ignore_errors=True)


def _without_aws(environment: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in environment.items() if not name.startswith("AWS_")}


def _settings(port: int, folder: Path) -> dict[str, str]:
    """ministack's settings are variables of its environment."""
    return {
        **_without_aws(os.environ),
        **CREDENTIALS,
        "AUTH": "true",
        "GATEWAY_PORT": str(port),
        "BIND_HOST": "127.0.0.1",
        "MINISTACK_HOST": f"{REGION}.amazonaws.com",
        "MINISTACK_REGION": REGION,
        "MINISTACK_ACCOUNT_ID": ACCOUNT,
        "AWS_DEFAULT_REGION": REGION,
        "USE_SSL": "1",
        "MINISTACK_SSL_CERT": str(folder / CERTIFICATE),
        "MINISTACK_SSL_KEY": str(folder / CERTIFICATE),
        "AWS_CA_BUNDLE": str(folder / CERTIFICATE),
        "LAMBDA_EXECUTOR": "local",
        "LOG_LEVEL": "WARNING",
        "NO_PROXY": LOOPBACK,
        "TMPDIR": str(folder),
    }


def _answers(emulator: Emulator) -> bool:
    trusted = ssl.create_default_context(cafile=str(emulator.folder / CERTIFICATE))
    try:
        return httpx.get(f"{emulator.account['AWS_ENDPOINT_URL']}/_ministack/health", verify=trusted).is_success
    except httpx.HTTPError:
        return False


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])
