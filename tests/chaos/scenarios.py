"""Whole runs, each as small as what it is about allows. Together they lead through every place where a function calls
AWS or a model; `places.txt` says which.

A scenario plays a run until nothing more happens by itself, and returns its id. What the run comes to stands beside it.
A fault may fail the run on its way, and never change what a redrive makes of it.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import boto3
import pytest
from support.deployment import Killed
from support.world import World

from loopllama.core import clock
from loopllama.engine import human_input
from loopllama.providers.http import Reply

LARGE = "word " * 8_000
"""Goes through the bucket."""
LONG = 11 * 86_400
"""Seconds: more than a third of the 30 days that runs are kept."""
DOWN = Reply(503, {}, b'{"error": {"message": "overloaded"}}')
WRONG = Reply(400, {}, b'{"error": {"message": "no such thing"}}')


@dataclass(frozen=True)
class Scenario:
    """`play` gets the world and the id of the workflow of this `crew`."""

    play: Callable[[World, str], str]
    crew: Sequence[Any]
    turns: Counter[str] = field(default_factory=Counter)
    """The model calls that are answered, by step."""
    ends: str = "completed"
    """The run's status, or the error that it fails with."""
    asked: int = 0
    """How often a person is asked."""
    fields: dict[str, Any] = field(default_factory=dict)
    """Of the workflow, beside its crew."""
    check: Callable[[World, str], None] = lambda world, run_id: None
    """What else must hold at the end."""


def _requested(world: World, workflow: str, **more: Any) -> str:
    run_id = world.request({"workflow": workflow, "input": "hello", **more})
    world.finish(run_id)
    return run_id


def sequence(world: World, workflow: str) -> str:
    """Two steps; the input and the first output go through the bucket."""
    world.serve = lambda body: LARGE if "Do one." in json.dumps(body) else "fine"
    return _requested(world, workflow, input=LARGE)


def upload(world: World, workflow: str) -> str:
    """An object in the uploads bucket starts a run."""
    key = f"{workflow}/note.txt"
    boto3.client("s3").put_object(Bucket="uploads", Key=key, Body=b"hello")
    run_id = world.request({"bucket": {"name": "uploads"}, "object": {"key": key, "size": 5}}, "Object Created")
    world.finish(run_id)
    return run_id


def tools(world: World, workflow: str) -> str:
    """The model asks for a Lambda function, and answers when it has seen what that gave."""
    world.serve = lambda body: "three" if body["messages"][-1]["role"] == "tool" else {"item": "lamp"}
    return _requested(world, workflow)


def _same_key(world: World, _: str) -> None:
    assert len(set(world.tool_calls)) <= 1, "a call that is repeated has the same idempotency key"


def fork(world: World, workflow: str) -> str:
    """Two branches and their join."""
    return _requested(world, workflow)


def for_each(world: World, workflow: str) -> str:
    """A turn for each item of a list, gathered."""
    return _requested(world, workflow, input={"list": ["a", "b"]})


def one_of_the_items_fails(world: World, workflow: str) -> str:
    """The provider rejects the call for one item; somebody fixes what was wrong, and the run is redriven."""
    with _wrong(world, "# Item\\n\\nb"):
        return _requested(world, workflow, input={"list": ["a", "b"]})


def repeat(world: World, workflow: str) -> str:
    """A loop of two rounds."""
    world.serve = lambda body: "good" if "last time" in json.dumps(body) else "bad"
    return _requested(world, workflow)


def person(world: World, workflow: str) -> str:
    """A step waits for an approval, which comes over the API."""
    world.person = _approve(world)
    return _requested(world, workflow)


def early(world: World, workflow: str) -> str:
    """The approval comes before the state machine waits for it."""
    world.person, world.early = _approve(world), True
    return _requested(world, workflow)


def undelivered(world: World, workflow: str) -> str:
    """Who took the approval died before it was delivered: the reconciler delivers it."""

    def die(_: str) -> None:
        raise Killed

    def approve(run_id: str) -> None:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(human_input, "deliver", die)
            with pytest.raises(Killed), world.faults.of(""):
                human_input.respond(world.runs, run_id, {"approved": True})

    world.person = approve
    return _requested(world, workflow)


def nobody(world: World, workflow: str) -> str:
    """Nobody answers in time."""
    return _requested(world, workflow)


def long(world: World, workflow: str) -> str:
    """The approval takes so long that the run must be kept for longer."""

    def approve(run_id: str) -> None:
        world.wait(LONG)
        for _ in range(2):
            world.tick()
            world.wait(901)
        _approve(world)(run_id)

    world.person = approve
    return _requested(world, workflow, input=LARGE)


def _kept(world: World, run_id: str) -> None:
    left = {item["item"]: int(item["delete_at"]) - clock.now_ms() / 1000 for item in world.runs.everything(run_id)}
    assert min(left.values()) > LONG, left


def budget(world: World, workflow: str) -> str:
    """The run's budget and that of its workflow for the day; the first call dies with its reservation."""
    alive: list[bool] = []

    def serve(_: dict[str, Any]) -> str:
        if not alive:
            alive.append(True)
            raise Killed
        return "fine"

    world.serve = serve
    return _requested(world, workflow, budget={"maxSteps": 5, "maxTokens": 50_000})


def _spent(world: World, run_id: str) -> None:
    shown = world.read(run_id)["budget"]
    assert shown["spent"]["steps"] == 1
    assert shown["reserved"] == {"steps": 0, "tokens": 0, "cost_usd": 0}


def fallback(world: World, workflow: str) -> str:
    """The first model is down, which is noted, and the second one answers; later the first one is well again."""
    world.serve = lambda body: DOWN if body["model"] == "one" else "fine"
    _requested(world, workflow)
    world.serve = lambda _: "fine"
    world.wait(10)
    return _requested(world, workflow)


def rejected(world: World, workflow: str) -> str:
    """The provider rejects a call; somebody fixes what was wrong, and the run is redriven."""
    with _wrong(world, "Do one."):
        return _requested(world, workflow)


def started(world: World, workflow: str) -> str:
    """A run is started over the API; its input goes through the bucket."""
    body = {"input": LARGE}
    run_id = str(world.call_api("POST", f"/v1/workflows/{workflow}/runs", body, "start")["id"])
    world.finish(run_id)
    return run_id


def replay(world: World, workflow: str) -> str:
    """A run is replayed from its second step over the API."""
    first = _requested(world, workflow, input=LARGE)
    body = {"from_step": "two", "models": {"two": "house:two"}}
    made = world.call_api("POST", f"/v1/runs/{first}/replay", body, "again")
    world.finish(made["id"])
    return str(made["id"])


def cancel(world: World, workflow: str) -> str:
    """A run that waits is cancelled over the API."""
    world.person = lambda run_id: world.call_api("POST", f"/v1/runs/{run_id}/cancel", key="stop")
    return _requested(world, workflow)


def left_behind(world: World, workflow: str) -> str:
    """Who accepted the run died before its execution was started: the reconciler starts it."""
    run_id = world.request({"workflow": workflow, "input": "hello"})
    world.executions.pop(run_id, None)
    world.finish(run_id)
    return run_id


def out_of_time(world: World, workflow: str) -> str:
    """The execution's time is over while a step waits."""

    def end(run_id: str) -> None:
        world.executions[run_id].status = "TIMED_OUT"

    world.person = end
    return _requested(world, workflow)


def unheard(world: World, workflow: str) -> str:
    """The same, and nobody hears of it: the reconciler finds out."""
    world.news = False
    return out_of_time(world, workflow)


def pinned(world: World, workflow: str) -> str:
    """A run keeps the models as they stand when it starts; its step's is chosen by latency, of which the stream's
    consumer keeps what it sees. The row that says so is kept in the history."""
    row = {"workflow": workflow, "step": "one", "policy": "fastest", "candidates": ["house:one", "house:two"]}
    world.record_change(row)
    return _requested(world, workflow, pin="run")


def _recorded(world: World, _: str) -> None:
    assert [entry["change"] for entry in world.history()] == ["set"]
    assert "RouteChanged" in {event["type"] for event in world.sent}


def _approve(world: World) -> Callable[[str], object]:
    return lambda run_id: world.call_api("POST", f"/v1/runs/{run_id}/respond", {"approved": True}, "answer")


class _wrong:  # noqa: N801 - a context manager
    """Within, the provider rejects every call that has `text` in it."""

    def __init__(self, world: World, text: str) -> None:
        self._world, self._text = world, text

    def __enter__(self) -> None:
        self._world.serve = lambda body: WRONG if self._text in json.dumps(body) else "fine"

    def __exit__(self, *_: object) -> None:
        self._world.serve = lambda _: "fine"


ONE, TWO = [{"name": "one"}], [{"name": "one"}, {"name": "two"}]
PAY = [{"name": "pay", "approval": {"start": True, "timeoutSeconds": 1000}}]
WAIT = [{"name": "pay", "approval": {"start": True, "timeoutSeconds": 2 * LONG}}]
DIAMOND = [
    {"name": "a"},
    {"name": "b", "needs": ["a"]},
    {"name": "c", "needs": ["a"]},
    {"name": "d", "needs": ["b", "c"]},
]
LOOP = [
    {"name": "write"},
    {"name": "check", "repeat": {"backTo": "write", "until": "steps.check.output == 'good'", "max": 3}},
]
EACH = [{"name": "each", "forEach": "input.list"}]

# The smallest first: a place is tried in the first that leads through it.
SCENARIOS = {
    "upload": Scenario(upload, ONE, Counter(one=1)),
    "left_behind": Scenario(left_behind, ONE, Counter(one=1)),
    "started": Scenario(started, ONE, Counter(one=1)),
    "sequence": Scenario(sequence, TWO, Counter(one=1, two=1)),
    "fork": Scenario(fork, DIAMOND, Counter(a=1, b=1, c=1, d=1)),
    "rejected": Scenario(rejected, ONE, Counter(one=1)),
    "tools": Scenario(tools, [{"name": "look", "tools": ["stock"]}], Counter(look=2), check=_same_key),
    "person": Scenario(person, PAY, Counter(pay=1), asked=1),
    "early": Scenario(early, PAY, Counter(pay=1), asked=1),
    "undelivered": Scenario(undelivered, PAY, Counter(pay=1), asked=1),
    "long": Scenario(long, WAIT, Counter(pay=1), asked=1, check=_kept),
    "nobody": Scenario(nobody, PAY, ends="ApprovalTimedOut", asked=1),
    "cancel": Scenario(cancel, PAY, ends="cancelled", asked=1),
    "out_of_time": Scenario(out_of_time, PAY, ends="exceeded the state machine's time limit", asked=1),
    "unheard": Scenario(unheard, PAY, ends="exceeded the state machine's time limit", asked=1),
    "budget": Scenario(budget, ONE, Counter(one=1), fields={"budget": {"daily": {"maxCostUsd": 5}}}, check=_spent),
    "for_each": Scenario(for_each, EACH, Counter(each=2)),
    "one_of_the_items_fails": Scenario(one_of_the_items_fails, EACH, Counter(each=2)),
    "repeat": Scenario(repeat, LOOP, Counter(write=2, check=2)),
    "fallback": Scenario(fallback, [{"name": "one", "model": "house:one", "fallbacks": ["house:two"]}], Counter(one=1)),
    "replay": Scenario(replay, TWO, Counter(two=1)),
    "pinned": Scenario(pinned, ONE, Counter(one=1), check=_recorded),
}


def workflows(world: World) -> Iterator[tuple[str, str]]:
    """Store every scenario's workflow; gives names and ids."""
    for name, scenario in SCENARIOS.items():
        crew = [{"systemPrompt": f"Do {agent['name']}.", **agent} for agent in scenario.crew]
        yield name, world.push(crew, name=name, model="house:one", **scenario.fields)
