"""llama.cpp's own server with a real model, for `make test-models`."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import time
from pathlib import Path
from typing import Any

import httpx

START_SECONDS = 120.0


class LlamaServer:
    """The server of one model, at the same port whenever it runs. Use as a context manager."""

    def __init__(self, program: Path, model: Path, name: str, *, slots: int = 2) -> None:
        self.name = name
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port: int = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        # Its threads wait for one another, which takes for ever where others use the processors: the product, say.
        threads = max(1, (os.cpu_count() or 1) // 2)
        self._command = [
            *(str(program), "--model", str(model), "--alias", name, "--host", "127.0.0.1", "--port", str(self.port)),
            *("--ctx-size", str(4096 * slots), "--parallel", str(slots), "--threads", str(threads), "--metrics"),
            *("--poll", "0", "--no-webui", "--seed", "7"),
        ]
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it and wait until it answers."""
        self._process = subprocess.Popen(self._command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + START_SECONDS
        while not self._healthy():
            assert self._process.poll() is None, f"llama-server of {self.name} ended: {' '.join(self._command)}"
            assert time.monotonic() < deadline, f"llama-server of {self.name} does not answer"
            time.sleep(0.1)

    def kill(self) -> None:
        """End it at once, whatever it is doing."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def counted(self) -> tuple[int, int]:
        """Return the tokens of prompts that it has read, without those that it knew from a call before, and the tokens
        that it has written, since it was started."""
        text = httpx.get(f"{self.url}/metrics", timeout=10, trust_env=False).text
        read, written = (
            re.search(rf"^llamacpp:{name} ([0-9.e+]+)$", text, re.MULTILINE)
            for name in ("prompt_tokens_total", "tokens_predicted_total")
        )
        assert read is not None, text
        assert written is not None, text
        return round(float(read[1])), round(float(written[1]))

    def busy(self) -> int:
        """Return how many calls it works on."""
        slots: list[dict[str, Any]] = httpx.get(f"{self.url}/slots", timeout=10, trust_env=False).json()
        return sum(bool(slot["is_processing"]) for slot in slots)

    def __enter__(self) -> LlamaServer:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def _healthy(self) -> bool:
        try:
            return httpx.get(f"{self.url}/health", timeout=2, trust_env=False).status_code == 200
        except httpx.HTTPError:
            return False
