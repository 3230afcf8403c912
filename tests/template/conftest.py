"""Fixtures of the template's tests."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from support.deployment import Deployment, deployment
from template.recording import Recorder, as_function, watching

from loopllama.core import clock
from loopllama.engine.start import start_run


@pytest.fixture
def recorder(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Deployment, Recorder]]:
    notes = Recorder()
    with deployment(monkeypatch) as made, watching(monkeypatch, notes):
        now_text = clock.now_text
        # So that `wait` moves the times in records too.
        monkeypatch.setattr(clock, "now_text", lambda at=None: now_text(clock.now_ms() / 1000 if at is None else at))

        def start(run_id: str, request: dict[str, Any] | None = None) -> dict[str, Any]:
            execution = f"{made.settings.state_machine_arn.replace(':stateMachine:', ':execution:')}:none-{run_id}"
            if request is None:
                request = {"run_id": run_id}
                execution = made.runs.run(run_id).get("execution_arn") or execution
            return start_run(made.settings, {"request": request, "execution_arn": execution, "execution_name": run_id})

        played = {"AcceptRun": made.accept, "StartRun": start, "RunStep": made.step, "AdvanceRun": made.advance}
        for function, method in played.items():
            monkeypatch.setattr(made, method.__name__, as_function(notes, function, method))
        yield made, notes
