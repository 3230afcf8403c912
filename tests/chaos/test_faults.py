"""Every call that a function makes fails once, at each place where it is made, in each way that it can fail.

`places.txt` is the list of places, one a line: function | call | where in our code (three functions deep). Their ways
to fail are `support.faults.WAYS`. A place is tried in the first of the `scenarios` that leads through it. Whatever
failed, in the end

- the run is what it is without the fault, perhaps after a redrive of a run that had failed and said why;
- nothing is stuck: the run is in a final state, and nobody needs to look at it any more;
- the bill is right: a row for each attempt, each answered turn once, and no call that the provider was paid for is
  missing from the record;
- its events are all there, in order, each once, and all of them were sent.

When places have come or gone, `test_without_a_fault` says so, and `make places` writes the list anew.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import boto3
import pytest
from chaos.scenarios import SCENARIOS, Scenario, workflows
from support.faults import Place
from support.world import World
from support.worlds import whole_world

from loopllama.llm.usage import shown

PLACES = Path(__file__).with_name("places.txt")
CALL = Decimal("0.00045")
REDRIVES = 2
"""That of the scenario, and another where the fault fails the redriven run."""
SUMS = ("tokens_in", "tokens_out", "tokens_cached", "cost_usd")
CLOSING = {"RunCompleted": "completed", "RunFailed": "failed", "RunCancelled": "cancelled"}
TOOL = {
    "type": "lambda",
    "function": "stock",
    "description": "What is in stock",
    "parameters": {"type": "object", "properties": {"item": {"type": "string"}}},
}


def listed() -> list[tuple[str, Place]]:
    """The places of `places.txt`, each with its scenario."""
    found: list[tuple[str, Place]] = []
    scenario = ""
    for line in PLACES.read_text().splitlines():
        if line.startswith("# "):
            scenario = line.removeprefix("# ").partition(":")[0]
        elif line:
            found.append((scenario, Place.read(line)))
    return found


FAULTS = [
    pytest.param(scenario, place, way, id=f"{place.function}-{place.call}-{place.path.replace(' ', '')}-{way}")
    for scenario, place in listed()
    for way in place.ways
]


@contextlib.contextmanager
def world_made() -> Iterator[tuple[World, dict[str, str]]]:
    """The world, and the ids of the scenarios' workflows."""
    with whole_world() as world:
        world.define_tools(stock=TOOL)
        boto3.client("s3").create_bucket(Bucket="uploads")
        yield world, dict(workflows(world))


@pytest.fixture(scope="module")
def made() -> Iterator[tuple[World, dict[str, str]]]:
    """One world for all: each play begins by forgetting the last one."""
    with world_made() as found:
        yield found


def play(made: tuple[World, dict[str, str]], name: str, place: Place | None = None, way: str = "") -> None:
    """Play a scenario, and hold what it came to against what it should."""
    world, ids = made
    scenario = SCENARIOS[name]
    world.forget()
    world.faults.arm(place, way)
    run_id = scenario.play(world, ids[name])
    for _ in range(REDRIVES):
        ended = world.item(run_id, "RUN")
        if ended["status"] == "failed" and scenario.ends not in str(ended["error"]):
            assert_says_why(str(ended["error"]), way)
            world.redrive(run_id)
    assert world.faults.happened == bool(place), f"{place} is no place of {name} any more"
    runs = {one: world.read(one) for one in world.run_ids()}
    assert_ended(world, scenario, runs[run_id])
    for run in runs.values():
        assert_billed(world, run)
        assert_told(world, run)
    assert not [row["item"] for row in world.rows("RunsTable") if "delete_at" not in row], "kept for ever"
    assert_paid(world, [attempt for run in runs.values() for step in run["steps"] for attempt in step["attempts"]])
    scenario.check(world, run_id)


def assert_says_why(error: str, way: str) -> None:
    """A run that failed says of what: what somebody must fix, or what the scenario is about. Trouble that passes
    fails none."""
    causes = [
        "ModelRequestRejected",
        "ItemsFailed",
        *(["AwsRefused", "CredentialsRejected"] if way == "denied" else []),
    ]
    assert any(cause in error for cause in causes), error


def assert_ended(world: World, scenario: Scenario, run: dict[str, Any]) -> None:
    stored = world.item(run["id"], "RUN")
    status = scenario.ends if scenario.ends in CLOSING.values() else "failed"
    assert (run["status"], scenario.ends in f"{run['status']} {run['error']}") == (status, True), run["error"]
    assert not {"active", "check_at", "pending", "stopping"}.intersection(stored)
    assert not [name for name in world.item(run["id"], "BUDGET") if name.startswith("open_")]
    if status == "completed":
        assert {step["status"] for step in run["steps"]} == {"completed"}
    answered = Counter(
        step["step"] for step in run["steps"] for attempt in step["attempts"] if attempt["outcome"] == "ok"
    )
    assert answered == scenario.turns
    # A redriven run asks anew what nobody has answered; without a redrive it asks once.
    kinds = [event["type"] for event in world.events(run["id"])]
    asked = [0]
    for kind in kinds:
        asked += [0] if kind == "RunStarted" else []
        asked[-1] += kind == "RunWaiting"
    assert max(asked) <= scenario.asked <= sum(asked)


def assert_billed(world: World, run: dict[str, Any]) -> None:
    """Record, totals and bill say the same."""
    rows, stored = [shown(row) for row in world.bill(run["id"])], shown(world.item(run["id"], "RUN"))
    attempts = [attempt for step in run["steps"] for attempt in step["attempts"]]
    assert len(rows) == len(attempts)
    for name in SUMS:
        told = sum(one.get(name) or 0 for one in attempts)
        assert stored.get(name, 0) == told == sum(row.get(name) or 0 for row in rows), name
    assert sum(row.get("cost_usd") or 0 for row in rows) == CALL * len([a for a in attempts if a["outcome"] == "ok"])
    billed = Counter(dict.fromkeys({row["step"] for row in rows}, 0))
    for row in rows:
        billed[row["step"]] += int(row["steps"])
    done = Counter(step["step"] for step in run["steps"] if step["status"] == "completed" and step["attempts"])
    assert +billed == done


def assert_paid(world: World, attempts: list[dict[str, Any]]) -> None:
    """The provider's own count: what is answered was paid, and what was paid is on record."""
    answered = len([one for one in attempts if one["outcome"] == "ok"])
    perhaps = len([one for one in attempts if one["cost_basis"] == "unknown"])
    assert answered <= world.paid <= answered + perhaps


def assert_told(world: World, run: dict[str, Any]) -> None:
    """Every event once, in order, and sent."""
    events = world.events(run["id"])
    assert [event["id"] for event in events] == [str(number) for number in range(1, len(events) + 1)]
    kinds = Counter(event["type"] for event in events)
    begun = [event["resumed"] for event in events if event["type"] == "RunStarted"]
    closing = [CLOSING[event["type"]] for event in events if event["type"] in CLOSING]
    assert CLOSING[events[-1]["type"]] == closing[-1] == run["status"]
    assert set(closing[:-1]) <= {"failed"}
    if events[0]["type"] == "RunStarted":
        assert begun == [False] + [True] * (len(closing) - 1)
    else:  # it failed before it was started
        assert begun == [True] * (len(closing) - 1)
    done = [(event["step"], event["iteration"], event["item"]) for event in events if event["type"] == "StepCompleted"]
    assert len(done) == len(set(done))
    kept = [step for step in run["steps"] if step.get("replayed_from")]
    assert len(done) + len(kept) == len([step for step in run["steps"] if step["status"] == "completed"]), kinds
    sent: dict[str, Any] = {}
    for event in world.sent:
        if event.get("run_id") == run["id"]:
            assert sent.setdefault(event["id"], event) == event
    assert sent.keys() == {event["id"] for event in events}


@pytest.mark.parametrize("name", SCENARIOS)
def test_without_a_fault(made: tuple[World, dict[str, str]], name: str) -> None:
    play(made, name)
    found, known = made[0].faults.places, listed()
    new = set(found) - {place for _, place in known}
    gone = {place for scenario, place in known if scenario == name} - set(found)
    told = [*(f"+ {place}" for place in new), *(f"- {place}" for place in gone)]
    assert not told, "\n".join(["places have come or gone; `make places` writes the list anew:", *told])


@pytest.mark.parametrize(("name", "place", "way"), FAULTS)
def test_with_a_fault(made: tuple[World, dict[str, str]], name: str, place: Place, way: str) -> None:
    play(made, name, place, way)


def write_places() -> None:
    """Play every scenario and write down the places that no scenario before it led through."""
    known: set[Place] = set()
    lines: list[str] = []
    with world_made() as made:
        for name, scenario in SCENARIOS.items():
            play(made, name)
            new = [place for place in made[0].faults.places if place not in known]
            known.update(new)
            told = " ".join((scenario.play.__doc__ or "").split())
            lines += [f"# {name}: {told}", *map(str, new), ""]
    PLACES.write_text("\n".join(lines))


if __name__ == "__main__":
    write_places()
