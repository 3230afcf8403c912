"""Steps that are asked for much with few words: they fail once, soon, and say what it was."""

from __future__ import annotations

import time
from typing import Any

import pytest
from support.deployment import Deployment

from loopllama.errors import RunFailed

DOUBLING = {
    "type": "object",
    "$defs": {
        "d0": {"type": "object"},
        **{f"d{level + 1}": {"allOf": [{"$ref": f"#/$defs/d{level}"}] * 2} for level in range(40)},
    },
    "$ref": "#/$defs/d40",
}
BLOWS_UP = {"type": "object", "properties": {"a": {"pattern": "^(a+)+$"}}}


@pytest.mark.parametrize(
    ("second", "answer", "error", "calls"),
    [
        ({"when": "|".join(["[@, @]"] * 120)}, "{}", "takes too much work, at the size of its value", 1),
        ({"forEach": "[steps.a.output]|" + "|".join(["[@, @][]"] * 60)}, "{}", "takes too much work, at ", 1),
        ({"outputSchema": DOUBLING}, "{}", "checking a value against the schema takes too much work, at ", 2),
        ({"outputSchema": BLOWS_UP}, '{"a": "%s!"}' % ("a" * 60), "does not match '^(a+)+$'", 3),
    ],
    ids=["when", "forEach", "references", "pattern"],
)
def test_a_step_fails_soon_and_names_the_cause(
    live: Deployment, second: dict[str, Any], answer: str, error: str, calls: int
) -> None:
    live.provider.script = lambda request: answer
    run_id = live.accept(live.push([{"name": "a"}, {"name": "b", **second}]))
    begun = time.process_time()
    with pytest.raises(RunFailed):
        live.play(run_id)
    assert time.process_time() - begun < 6
    run = live.read(run_id)
    assert run["status"] == "failed"
    assert error in run["error"]
    assert len(live.provider.calls) == calls
