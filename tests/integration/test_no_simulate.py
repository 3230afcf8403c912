"""The local stack without stand-ins: what has no key fails at once and says what to do, and what needs none answers."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support import own_servers
from support.loopback import serving
from typer.testing import CliRunner

from loopllama.core import exact_json
from loopllama_cli.local import LocalStack
from loopllama_cli.main import app

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def stack() -> Iterator[LocalStack]:
    """The product, with a vLLM beside it."""
    with serving(own_servers.VLLM, seen=[]) as url, pytest.MonkeyPatch.context() as patch:
        patch.setenv("VLLM_BASE_URL", f"{url}/v1")
        with LocalStack(ROOT, {"RouteCacheSeconds": "0"}, log=lambda _: None, simulate=False) as running:
            yield running


def loopllama(stack: LocalStack, *arguments: object, code: int = 0) -> Any:
    """Run the program; what it printed as JSON, and its standard error."""
    line = [*map(str, arguments), "--json", "--local", stack.aws_endpoint_url]
    done = CliRunner().invoke(app, line)
    assert done.exit_code == code, (done.stderr, done.stdout, done.exception)
    return exact_json.loads(done.stdout) if done.stdout.strip() else None


@pytest.mark.parametrize(
    ("model", "says"),
    [
        ("openai:gpt-5-mini", "OPENAI_API_KEY|loopllama providers set openai"),
        ("frontier", "no AWS account|export OPENAI_API_KEY=KEY"),
    ],
)
def test_a_run_without_a_key_fails_at_once_and_names_it(stack: LocalStack, model: str, says: str) -> None:
    os.environ["COLUMNS"] = "200"
    loopllama(stack, "workflows", "push", ROOT / "examples" / "support_reply" / "workflow.yaml")
    began = time.monotonic()
    run = loopllama(stack, "run", "support_reply", "--input", "My machine leaks.", "--model", f"*={model}", code=1)
    assert time.monotonic() - began < 30
    assert run["status"] == "failed"
    for text in says.split("|"):
        assert text in run["error"]
    attempts = [attempt for step in run["steps"] for attempt in step.get("attempts", ())]
    assert len(attempts) <= 2  # of two steps that begin side by side


def test_a_server_of_ones_own_needs_no_key_and_is_told_of_by_itself(stack: LocalStack) -> None:
    model = f"vllm:{own_servers.VLLM.model}"
    loopllama(stack, "models", "probe", "vllm")
    loopllama(stack, "workflows", "push", ROOT / "examples" / "support_reply" / "workflow.yaml")
    run = loopllama(stack, "run", "support_reply", "--input", "My machine leaks.", "--model", f"*={model}")
    assert run["status"] == "completed"
    assert {step["model"] for step in run["steps"]} == {model}
    assert not run.get("simulated")
    triage = next(step for step in run["steps"] if step["step"] == "triage")
    assert triage["output"]["category"] == "delivery"  # held to the schema, as the probe said that it can
