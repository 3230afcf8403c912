"""X-Ray: off it costs nothing, on it carries ids and nothing that people wrote."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import MagicMock

import pytest
from support.deployment import deployment

from loopllama.errors import InternalError, ModelRequestRejected, RunFailed
from loopllama.telemetry import handler as telemetry_handler
from loopllama.telemetry import logs, xray

ROOT = Path(__file__).parents[3]
HANDLER = """
import sys
from types import SimpleNamespace
sys.path.insert(0, {shared!r})
from loopllama.telemetry import handler as wrapper, xray
from loopllama.errors import InternalError

@wrapper.lambda_handler
def handler(event, context):
    xray.annotate({{"model": "small", "route_version": 3}})
    if event.get("fail"):
        raise ValueError("a secret text")
    return {{"output": "a secret text"}}

context = SimpleNamespace(aws_request_id="r", function_name="RunStep")
for fail in (False, True):
    try:
        ids = {{"run_id": "run_1", "step": "triage", "workflow": "w"}}
        handler({{**ids, "input": "a secret text", "fail": fail}}, context)
    except InternalError:
        pass
print("aws_xray_sdk" in sys.modules)
"""


def play(**environment: str) -> str:
    code = HANDLER.format(shared=str(ROOT / "shared"))
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    return done.stdout.strip().splitlines()[-1]


def test_off_the_sdk_is_never_loaded() -> None:
    assert play(POWERTOOLS_TRACE_DISABLED="true") == "False"
    assert play() == "False"


def test_on_a_segment_carries_ids_only() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as daemon:
        daemon.bind(("127.0.0.1", 0))
        daemon.settimeout(20)
        sent: list[str] = []
        receiver = threading.Thread(target=lambda: [sent.append(daemon.recv(65536).decode()) for _ in range(2)])
        receiver.start()
        loaded = play(
            POWERTOOLS_TRACE_DISABLED="false",
            POWERTOOLS_SERVICE_NAME="loopllama",
            LAMBDA_TASK_ROOT="/var/task",
            AWS_XRAY_DAEMON_ADDRESS=f"127.0.0.1:{daemon.getsockname()[1]}",
            _X_AMZN_TRACE_ID="Root=1-5759e988-bd862e3fe1be46a994272793;Parent=53995c3f42cd8ad8;Sampled=1",
        )
        receiver.join(20)
    assert loaded == "True"
    assert len(sent) == 2
    segment = json.loads(sent[0].split("\n", 1)[1])
    ids = {"run_id": "run_1", "workflow": "w", "step": "triage", "model": "small", "route_version": "3"}
    assert ids.items() <= segment["annotations"].items()
    assert "secret" not in "".join(sent)


class Annotations(list[tuple[str, str]]):
    """In the place of powertools' Tracer."""

    def put_annotation(self, name: str, value: Any) -> None:
        self.append((name, value))

    def capture_lambda_handler(self, handler: Any, *, capture_response: bool) -> Any:
        assert capture_response is False
        return handler


def test_whole_runs_annotate_ids_only(monkeypatch: pytest.MonkeyPatch) -> None:
    noted = Annotations()
    monkeypatch.setattr(xray, "tracer", lambda: noted)
    monkeypatch.setattr(logs, "logger", MagicMock)  # the real one would keep this test's standard output
    with deployment(monkeypatch) as made:
        context = SimpleNamespace(aws_request_id="r")

        def function(work: Any) -> Any:
            handler = telemetry_handler.lambda_handler(lambda event, _: work(event))
            return lambda event: handler(event, context)

        made.functions = {name: function(work) for name, work in made.functions.items()}

        def reject(call: Any) -> str:
            raise ModelRequestRejected("a secret text")

        made.provider.script = lambda call: "a secret text"
        workflow = made.push([{"name": "a", "prompt": "a secret text {{ input }}"}], description="a secret text")
        good, bad = (made.accept(workflow, "a secret text") for _ in range(2))
        made.play(good)
        made.provider.script = reject
        with pytest.raises(RunFailed):
            made.play(bad)
        with pytest.raises(InternalError) as raised:
            made.functions["AdvanceRun"]({"round": "a secret text"})
    assert "secret" not in str(raised.value)
    assert {name for name, _ in noted} == {"run_id", "workflow", "step", "model", "source", "status", "error"}
    known = {good, bad, workflow, "a", "test:base", "workflow", "workflow-default", "completed", "failed"}
    assert {value for _, value in noted} <= known | {"LineLeft", "RunFailed", "KeyError"}
