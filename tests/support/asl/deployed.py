"""The state machine that is deployed, for the interpreter."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

from support.asl.definition import substituted

_FILE = Path(__file__).parents[3] / "state_machines/run_workflow.asl.json"
_FUNCTIONS = ("StartRun", "RunStep", "AdvanceRun")


@cache
def state_machine() -> dict[str, Any]:
    """Return its definition; functions go by their logical ids."""
    arns = {f"{name}Arn": name for name in _FUNCTIONS}
    return substituted(_FILE.read_text("utf-8"), {"Partition": "aws", **arns})
