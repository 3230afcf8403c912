"""An upgrade and a rollback with runs in flight: from an earlier version to this one, and back."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import pytest
from foreign.stacks import WAIT_SECONDS, Stack, Version
from samcli.yamlhelper import yaml_parse
from support.provider_server import Calls, Drop, Hold, ProviderServer, Reply, Script, Status, Text
from support.waiting import eventually

from loopllama_cli import removal

ITEMS, AT_ONCE, BEFORE = 12, 2, 4
"""Items of the list, how many run at once (ministack has few threads), and how many are answered before the
deployment."""
CALL = Decimal("0.00045")
"""Of one answer: 100 and 10 tokens at 3 and 15 USD a million."""
SLEEP_SECONDS = 90
"""Longer than a deployment takes."""


class LongHold(Hold):
    """A call that is answered when the deployment is over, however busy this machine is."""

    def hold(self) -> Text | Calls | Status | Drop:
        self.entered.set()
        self._released.wait(240)
        return self.then


@dataclass
class Providers:
    """What the runs in flight call: a model for lists, one that is throttled at first, and one that just answers."""

    listed: Script
    late: Script
    plain: Script
    held: list[Hold]


@pytest.fixture
def providers(provider_server: ProviderServer) -> Providers:
    held: list[Hold] = []
    lock = threading.Lock()
    answered = 0

    def of_a_list(_: dict[str, Any]) -> Reply:
        nonlocal answered
        with lock:
            answered += 1
            if answered <= BEFORE:
                return Text("done")
            held.append(LongHold(Text("done")))
            return held[-1]

    throttled = iter([Status(429, "slow down", {"retry-after": str(SLEEP_SECONDS)})])
    scripts = (
        provider_server.script("listed", of_a_list),
        provider_server.script("late", lambda _: next(throttled, Text("done"))),
        provider_server.script("plain", lambda _: Text("done")),
    )
    return Providers(*scripts, held)


@dataclass
class InFlight:
    """A run amid a long list, one that sleeps because its provider is throttled, one that waits for a person, and one
    that has ended."""

    listed: str
    late: str
    asking: str
    ended: str


def push(stack: Stack) -> None:
    """Store the workflows."""
    stack.push("asking", "plain:one", {"name": "draft"}, {"name": "send", "needs": ["draft"], "approval": True})
    each = {"name": "each", "forEach": "input.items", "maxConcurrency": AT_ONCE, "prompt": "{{ item }}"}
    stack.push("listed", "listed:one", each, {"name": "sum", "needs": ["each"], "model": "plain:one"})
    stack.push("late", "late:one", {"name": "first"}, {"name": "second", "needs": ["first"]})


def start(stack: Stack, providers: Providers) -> InFlight:
    """Start the runs, and wait until each is where it is to be."""
    asking, ended = stack.start("asking"), stack.start("asking")
    stack.wait(ended, "waiting_input")
    respond(stack, ended)
    assert stack.wait(ended)["status"] == "completed"
    stack.wait(asking, "waiting_input")
    listed = stack.start("listed", {"items": [f"item {number}" for number in range(ITEMS)]})
    eventually(lambda: len(providers.held) >= AT_ONCE, WAIT_SECONDS)
    late = stack.start("late")
    eventually(lambda: stack.waits(late), WAIT_SECONDS)
    return InFlight(listed, late, asking, ended)


def respond(stack: Stack, run_id: str) -> None:
    stack.version.loopllama("runs", "respond", run_id, "--approve", stack=stack.name)


def end(stack: Stack, runs: InFlight, providers: Providers) -> None:
    """Let the runs end, and look at what they made of themselves."""
    assert len(providers.held) == AT_ONCE, "the list was over before the deployment was"
    assert len(providers.late.requests) == 1, "the run slept for a shorter time than the deployment took"
    threading.Thread(target=release, args=(providers,), daemon=True).start()
    respond(stack, runs.asking)
    shown = {name: stack.wait(run_id) for name, run_id in vars(runs).items()}
    assert {run["status"] for run in shown.values()} == {"completed"}
    calls = {"listed": ITEMS + 1, "late": 2, "asking": 2, "ended": 2}
    # No answer was paid twice, and none was lost: the rejected call of `late` has no cost.
    assert {name: Decimal(str(run["cost_usd"])) for name, run in shown.items()} == {
        name: count * CALL for name, count in calls.items()
    }
    assert shown["listed"]["steps"][0]["output"] == ["done"] * ITEMS
    assert len(providers.listed.requests) == ITEMS
    assert len(providers.late.requests) == 3
    usage = stack.loopllama("usage", "--by", "workflow")
    booked = {row["workflow"]: Decimal(str(row["cost_usd"])) for row in usage["groups"]}
    assert booked == {"listed": (ITEMS + 1) * CALL, "late": 2 * CALL, "asking": 4 * CALL}


def release(providers: Providers) -> None:
    """Answer what is held, and what comes to be held, until nothing more comes."""
    for number in range(ITEMS - BEFORE):
        eventually(lambda number=number: len(providers.held) > number, WAIT_SECONDS)  # type: ignore[misc]
        providers.held[number].release()


def test_an_upgrade_with_runs_in_flight(earlier: Version, version: Version, providers: Providers) -> None:
    replace_under_way("upgrade", earlier, version, providers)


def test_a_rollback_with_runs_in_flight(previous: Version, version: Version, providers: Providers) -> None:
    replace_under_way("rollback", version, previous, providers)


def replace_under_way(name: str, first: Version, second: Version, providers: Providers) -> None:
    """Deploy another version in a stack's place while its runs are under way."""
    stack = Stack(name, first)
    for script in (providers.listed, providers.late, providers.plain):
        stack.put_provider(script.url.rpartition("/")[2], script.url)
    push(stack)
    runs = start(stack, providers)
    # A table that only the newer version has is kept by a rollback, but is the stack's no more.
    both = tables_of(first).keys() & tables_of(second).keys()
    tables = {logical: one for logical, one in stack.resources().items() if logical in both}
    assert tables
    stack.deploy(second)
    assert {logical: stack.resources()[logical] for logical in tables} == tables
    assert_tables_can_be_updated(first, second)
    end(stack, runs, providers)
    assert [*removal.remove(removal.find(name))] == []


def assert_tables_can_be_updated(first: Version, second: Version) -> None:
    """DynamoDB changes no index, and CloudFormation makes or deletes one of a table in an update; ministack takes all.
    https://docs.aws.amazon.com/AWSCloudFormation/latest/TemplateReference/aws-resource-dynamodb-table.html"""
    before, after = (tables_of(one) for one in (first, second))
    for logical in before.keys() & after.keys():
        assert before[logical]["KeySchema"] == after[logical]["KeySchema"]
        old, new = (indexes(one[logical]) for one in (before, after))
        assert all(old[index] == new[index] for index in old.keys() & new.keys()), f"{logical}: give it another name"
        assert len(old.keys() ^ new.keys()) <= 1, f"{logical}: one index at a time"


def tables_of(version: Version) -> dict[str, Any]:
    resources = yaml_parse(version.template.read_text("utf-8"))["Resources"]
    return {name: one["Properties"] for name, one in resources.items() if one["Type"] == "AWS::DynamoDB::Table"}


def indexes(table: dict[str, Any]) -> dict[str, Any]:
    found = table.get("GlobalSecondaryIndexes", ())
    return {one["IndexName"]: {name: one[name] for name in ("KeySchema", "Projection")} for one in found}
