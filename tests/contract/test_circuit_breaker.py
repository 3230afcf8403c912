"""Whether a server in lasting trouble is left alone: the engine's own steps, one run after the other, each in a process
of its own, with a fallback at another provider."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import pytest
from support.dialects import OpenAIDialect
from support.step_here import NUMBERS, PROMPT, Here
from support.wire_server import Drip, Hang, Raw, Reply, Reset, Step

from loopllama.aws import clients, dynamo
from loopllama.routing.circuit_breaker import FAILURES, parse_states
from loopllama.routing.model_health import KEY

RUNS = 5
LONGEST_CALL = 0.8
"""What is slow takes as long (s); what answers at once is never taken for slow, on a busy machine either."""
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 5000\r\n\r\n"
OPENAI = OpenAIDialect()


class Trouble:
    """A model at the first provider, with a fallback at the second; runs of one step that use it."""

    def __init__(self, here: Here) -> None:
        self.here = here
        number = next(NUMBERS)
        self.models = [
            here.live.put_model(f"first-{number}", here.dialect.name, here.dialect.model),
            here.live.put_model(f"second-{number}", "second", "second-model"),
        ]
        crew = [{"name": "reply", "model": self.models[0], "fallbacks": self.models[1:]}]
        self.workflow = here.live.push(crew, name=f"Trouble {number}")

    def run(self) -> dict[str, Any]:
        """One run; returns its step."""
        live = self.here.live
        run_id = live.accept(self.workflow, PROMPT)
        [work] = live.map(live.start(run_id))
        assert live.step(work)["outcome"] == "done"
        return self.here.read(run_id)

    def item(self) -> dict[str, Any]:
        table = self.here.live.settings.models_table
        return dynamo.from_item(
            clients.client("dynamodb").get_item(TableName=table, Key={"model": {"S": KEY}}).get("Item", {})
        )


@pytest.fixture
def trouble(here: Here, monkeypatch: pytest.MonkeyPatch) -> Trouble:
    settings = replace(here.live.settings, model_timeout_seconds=LONGEST_CALL)
    monkeypatch.setattr(here.live, "settings", settings)
    return Trouble(here)


def test_a_server_that_never_answers_makes_three_runs_wait_and_is_back_when_it_answers(trouble: Trouble) -> None:
    here, [first, second] = trouble.here, trouble.models
    here.first.script(*[Hang()] * FAILURES)
    here.second.script(*[Reply(200, OPENAI.answer("From the second."))] * RUNS)
    for number in range(RUNS):
        step = trouble.run()
        assert (step["output"], step["model"]) == ("From the second.", second)
        assert [a["outcome"] for a in step["attempts"]] == ["ModelTimeout"] * (number < FAILURES) + ["ok"]
    assert "its circuit breaker is open" in step["ignored"][0]["reason"]
    assert len(here.first.requests) == FAILURES
    # Its time is over: the next step is the probe, and the model is back.
    item = trouble.item()
    item[f"m:{first}"]["open_until"] = int(time.time() * 1000)
    clients.client("dynamodb").put_item(TableName=here.live.settings.models_table, Item=dynamo.to_item(item))
    here.first.script(*[Reply(200, here.dialect.answer("Back."))] * 2)
    for _ in range(2):
        assert (step := trouble.run())["output"] == "Back."
        assert step["model"] == first
    assert first not in parse_states(trouble.item())


@pytest.mark.parametrize("dialect", [OPENAI], ids=lambda d: d.name, indirect=True)
@pytest.mark.parametrize(
    ("reply", "counted"),
    [
        (Drip(HEAD, 0.05), True),
        (Drip(b"HTTP/1.1 200 OK\r\nX-Slow: ", 0.05), True),
        (Reset(HEAD + b'{"choi'), True),
        (Raw(b""), True),
        (Reply(503, {"error": {"message": "overloaded"}}), True),
        (Reply(504, b"<html>upstream timed out</html>"), True),
        (Reply(200, {"choices": [{"index": 0}]}), True),
        (Reply(200, {"choices": []}), False),  # what a blocked prompt may get
        (Reply(200, OPENAI.answer("")), False),
        (Reply(400, {"error": {"code": "context_length_exceeded", "message": "too long"}}), False),
    ],
    ids=lambda value: None if isinstance(value, bool) else repr(value)[:60],
)
def test_what_sets_a_model_aside(trouble: Trouble, reply: Step, counted: bool) -> None:
    here = trouble.here
    empty = reply == Reply(200, OPENAI.answer(""))  # each run asks once more
    calls = FAILURES if counted else 2 * RUNS if empty else RUNS
    here.first.script(*[reply] * calls)
    here.second.script(*[Reply(200, OPENAI.answer("From the second."))] * RUNS)
    for _ in range(RUNS):
        assert trouble.run()["model"] == trouble.models[1]
    assert len(here.first.requests) == calls


@pytest.mark.parametrize("body", [b"<html>It works!</html>", {}, b""], ids=["html", "object", "nothing"])
def test_answers_that_cannot_be_read_do(trouble: Trouble, body: Any) -> None:
    here = trouble.here
    here.first.script(*[Reply(200, body)] * FAILURES)
    here.second.script(*[Reply(200, OPENAI.answer("From the second."))] * RUNS)
    for number in range(RUNS):
        attempts = trouble.run()["attempts"]
        assert [a["outcome"] for a in attempts] == ["InvalidModelResponse"] * (number < FAILURES) + ["ok"]


@pytest.mark.parametrize("dialect", [OPENAI], ids=lambda d: d.name, indirect=True)
def test_a_success_in_between_keeps_it_in_use(trouble: Trouble) -> None:
    here = trouble.here
    good = Reply(200, here.dialect.answer("Well."))
    script: list[Step] = [Hang(), Hang(), good] * 3
    here.first.script(*script)
    here.second.script(*[Reply(200, OPENAI.answer("From the second."))] * 6)
    used = [trouble.run()["model"] == trouble.models[0] for _ in script]
    assert used == [False, False, True] * 3
