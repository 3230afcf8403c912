"""The state machine that is deployed, and the one before it, for the interpreter."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

from support.asl.definition import substituted

_ROOT = Path(__file__).parents[3]
_FILE = _ROOT / "state_machines/run_workflow.asl.json"
_PREVIOUS = _ROOT / "tests/published/run_workflow-1.asl.json"
_FUNCTIONS = ("StartRun", "RunStep", "AdvanceRun")


@cache
def state_machine() -> dict[str, Any]:
    """Return its definition; functions go by their logical ids."""
    return _read(_FILE)


def previous_state_machine() -> dict[str, Any]:
    """Return the definition of contract 1, which executions keep that began with it."""
    return _read(_PREVIOUS)


def _read(file: Path) -> dict[str, Any]:
    arns = {f"{name}Arn": name for name in _FUNCTIONS}
    return substituted(file.read_text("utf-8"), {"Partition": "aws", **arns})
