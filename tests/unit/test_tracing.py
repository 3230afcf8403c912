"""X-Ray: off it costs nothing, on it carries ids and nothing that people wrote."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import threading
from pathlib import Path

ROOT = Path(__file__).parents[2]
HANDLER = """
import sys
from types import SimpleNamespace
sys.path.insert(0, {shared!r})
from loopllama import tracing

@tracing.lambda_handler
def handler(event, context):
    tracing.annotate({{"model": "small", "route_version": 3}})
    if event.get("fail"):
        raise ValueError("a secret text")
    return {{"output": "a secret text"}}

context = SimpleNamespace(aws_request_id="r", function_name="RunStep")
for fail in (False, True):
    try:
        ids = {{"run_id": "run_1", "step": "triage", "workflow": "w"}}
        handler({{**ids, "input": "a secret text", "fail": fail}}, context)
    except ValueError:
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
