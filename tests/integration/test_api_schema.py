"""schemathesis against the OpenAPI document: no server error, and no answer that the document does not tell of."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.api_client import Client
from support.system import PARAMETERS, ROOT, System

from loopllama_cli.local.handle import LocalStack

pytest.importorskip("schemathesis", reason="schemathesis is not installed")

CHECKS = [
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
    "unsupported_method",
    "missing_required_header",
    "ignored_auth",
]
EXAMPLES = 8


@pytest.fixture(scope="module")
def fuzzed() -> Iterator[Client]:
    """A client of a stack of its own: what is made up here is in nobody's way."""
    with LocalStack(ROOT, PARAMETERS, log=lambda line: None) as stack:
        yield Client(System(stack))


@pytest.mark.parametrize("phase", ["fuzzing", "stateful"])
def test_answers_follow_the_document(fuzzed: Client, tmp_path: Path, phase: str) -> None:
    command = [sys.executable, "-c", "from schemathesis.cli import schemathesis; schemathesis()"]
    command += ["run", f"{fuzzed.url}/openapi.json", "-H", f"Authorization: Bearer {fuzzed.key}", "--phases", phase]
    command += ["--checks", ",".join(CHECKS), "--max-examples", str(EXAMPLES), "--seed", "1", "--no-color"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    assert "Tested:" in done.stdout
