"""A skipped step says why."""

from __future__ import annotations

from typing import Any

from support.deployment import Deployment

from loopllama.core import exact_json

SCHEMA = {"type": "object", "properties": {"urgency": {"type": "string"}, "lines": {"type": "array"}}}


def test_a_skipped_step_says_what_its_condition_found(live: Deployment) -> None:
    live.provider.script = lambda _: exact_json.dumps({"urgency": "low", "lines": list(range(90))})
    crew: list[dict[str, Any]] = [
        {"name": "triage", "outputSchema": SCHEMA},
        {
            "name": "call",
            "when": "steps.triage.output.urgency == 'high' || length(steps.triage.output.lines) > `99` || input.vip",
        },
        {"name": "log", "needs": ["call"]},
        {"name": "reply", "needs": ["triage"]},
    ]
    run_id = live.accept(live.push(crew), {"vip": False})
    live.play(run_id)
    because = {step["step"]: step["skipped_because"] for step in live.read(run_id)["steps"]}
    condition, *found = because["call"].split("; ")
    assert condition == f"`when` is false: {crew[1]['when']}"
    assert found[0] == 'steps.triage.output.urgency is "low"'
    assert found[1].startswith("steps.triage.output.lines is [0,1,2")
    assert found[1].endswith("…")
    assert found[2:] == ["input.vip is false"]
    assert because["log"] == "all that it needs was skipped: call"
    assert because["triage"] is because["reply"] is None
