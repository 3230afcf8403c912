"""Thirty runs while function processes are killed at random and one in twenty answers of DynamoDB is lost.

At the end every run is completed, every step is done, paid and billed once, and everything that happened is told once.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import re
import signal
import threading
import time
from collections import Counter
from typing import Any

from support.aws_proxy import AwsProxy
from support.provider_server import Calls, Hold, ProviderServer, Reply, Script, Status, Text
from support.stream_records import record
from support.system import System
from support.whole_runs import assert_told_in_order, assert_whole, events_of

from loopllama.engine.human_input import respond
from loopllama.engine.reconcile import reconcile_run
from loopllama.errors import Conflict
from loopllama.events.log import EventLog
from loopllama.runs.store import FINAL, RunStore

SEED = 20261123
RUNS_OF_A_CREW, KILLS = 5, 40
LEASE_SECONDS = 4
"""RunStep's timeout here: the lease of an invocation that was killed ends with it."""
VICTIMS = {"StartRun": 1, "RunStep": 6, "AdvanceRun": 2, "PublishEvents": 2, "ReconcileRuns": 1}
"""The functions and how often each is hit."""
WRITES = ("PutItem", "UpdateItem", "DeleteItem", "BatchWriteItem", "TransactWriteItems")
ANY = {"type": "object"}

CREWS: dict[str, list[dict[str, Any]]] = {
    "diamond": [
        {"name": "plan"},
        {"name": "left", "needs": ["plan"]},
        {"name": "right", "needs": ["plan"]},
        {"name": "end", "needs": ["left", "right"]},
    ],
    "list": [{"name": "plan"}, {"name": "work", "forEach": "input.list", "maxConcurrency": 3}, {"name": "end"}],
    "fallback": [{"name": "plan", "model": "chaos:bad", "fallbacks": ["chaos:good"]}, {"name": "end"}],
    "tool": [{"name": "count", "tools": ["calculator"]}, {"name": "end"}],
    "loop": [
        {"name": "write"},
        {
            "name": "review",
            "outputSchema": ANY,
            "repeat": {"backTo": "write", "until": "steps.review.output.ok", "max": 4},
        },
        {"name": "end"},
    ],
    "person": [{"name": "plan"}, {"name": "pay", "approval": True}, {"name": "end"}],
}
ITEMS = 4
TURNS = {
    "diamond": Counter(plan=1, left=1, right=1, end=1),
    "list": Counter(plan=1, work=ITEMS, end=1),
    "fallback": Counter(plan=1, end=1),
    "tool": Counter(count=2, end=1),
    "loop": Counter(write=2, review=2, end=1),
    "person": Counter(plan=1, pay=1, end=1),
}
"""The model calls that each crew's steps need."""


class Slow(Hold):
    """An answer that takes as long as a quick model."""

    def __init__(self, then: Text | Calls | Status, seconds: float) -> None:
        super().__init__(then)
        self._seconds = seconds

    def hold(self) -> Any:
        time.sleep(self._seconds)
        return self.then


def answering(seed: int) -> Any:
    """Answers by what is asked alone, so that a call that is made again gets the same answer."""
    dice = random.Random(seed)  # noqa: S311 - times of answers

    def answer(request: dict[str, Any]) -> Reply:
        return Slow(_answer(request), dice.uniform(0.02, 0.15))

    return answer


def _answer(request: dict[str, Any]) -> Text | Calls | Status:
    messages = request["messages"]
    text = messages[1]["content"]
    if request["model"] == "bad":
        return Status(503, "overloaded")
    step = step_of(request)
    if step == "count":
        results = [message["content"] for message in messages if message["role"] == "tool"]
        return Text(f"It is {results[0]}.") if results else Calls("calculator", {"expression": "6 * 7"})
    if step == "write":
        return Text("the second draft" if "last time" in text else "the first draft")
    if step == "review":
        return Text(json.dumps({"ok": "the second draft" in text}))
    return Text(f"{step} is done")


def step_of(request: dict[str, Any]) -> str:
    found = re.match(r"Do (\w+)\.", request["messages"][0]["content"])
    assert found
    return found[1]


def run_of(request: dict[str, Any]) -> str:
    """The run's mark in its input."""
    found = re.search(r"mark-\w+-\d", request["messages"][1]["content"])
    assert found
    return found[0]


class Killer(threading.Thread):
    """Kills a process of a function, again and again, and lets the last runs end in peace."""

    def __init__(self, system: System, seed: int) -> None:
        super().__init__(daemon=True)
        self._system, self._dice = system, random.Random(seed)  # noqa: S311 - what is killed when
        self._over = threading.Event()
        self.killed = 0

    def run(self) -> None:
        while self.killed < KILLS and not self._over.wait(self._dice.uniform(0.1, 0.4)):
            (name,) = self._dice.choices(list(VICTIMS), list(VICTIMS.values()))
            processes = self._system.stack.processes(name)
            if processes:
                with contextlib.suppress(ProcessLookupError):  # gone by itself
                    os.kill(self._dice.choice(processes), signal.SIGKILL)
                    self.killed += 1

    def stop(self) -> None:
        self._over.set()
        self.join()


class Chaos:
    """What happened: the runs by crew, each with the mark in its input, and what the provider was asked."""

    def __init__(self, runs: dict[str, tuple[str, str]], script: Script, killed: int, lost: int) -> None:
        self.runs, self.script, self.killed, self.lost = runs, script, killed, lost
        self.given_up: set[str] = set()
        """Runs of which one invocation died five times: there the state machine gives up, and they are failed."""

    def of(self, crew: str) -> list[str]:
        """The runs of a crew that were not given up."""
        return [run_id for run_id, (name, _) in self.runs.items() if name == crew and run_id not in self.given_up]

    def asked(self, mark: str) -> Counter[str]:
        """How often the provider was asked for each step of a run, failing models left out."""
        mine = [one for one in self.script.requests if one["model"] == "good" and run_of(one) == mark]
        return Counter(map(step_of, mine))


def _answer_people(system: System, runs: dict[str, tuple[str, str]]) -> None:
    store = RunStore(system.settings)
    for run_id in [run_id for run_id, (crew, _) in runs.items() if crew == "person"]:
        if system.item(run_id, "RUN").get("pending"):
            try:
                respond(store, run_id, {"approved": True})
            except Conflict:
                continue


def raise_chaos(system: System, provider_server: ProviderServer) -> Chaos:
    """Run all crews while things go wrong."""
    script = provider_server.script("chaos", answering(SEED))
    system.put_provider("chaos", script.url)
    for model in ("chaos:good", "chaos:bad"):
        system.put_model(model, "chaos")
    more = {"model": "chaos:good", "budget": {"maxSteps": 50, "maxCostUsd": "1.00"}}
    pushed = {name: system.push(f"Chaos {name}", crew, **more) for name, crew in CREWS.items()}
    dice = random.Random(SEED)  # noqa: S311 - which answers are lost
    runs: dict[str, tuple[str, str]] = {}
    with contextlib.ExitStack() as stack:
        proxy = stack.enter_context(AwsProxy(system.stack))
        for name in VICTIMS:
            timeout = LEASE_SECONDS if name == "RunStep" else None
            stack.enter_context(system.configured(name, timeout, AWS_ENDPOINT_URL_DYNAMODB=proxy.url))
        stack.enter_context(proxy.losing(lambda operation, _: operation in WRITES and dice.random() < 0.05))
        killer = Killer(system, SEED)
        stack.callback(killer.stop)
        killer.start()
        for number in range(RUNS_OF_A_CREW):
            for name, workflow in pushed.items():
                mark = f"mark-{name}-{number}"
                run_id = system.start(workflow, {"mark": mark, "list": list(range(ITEMS))})
                runs[run_id] = name, mark

        def ended() -> bool:
            _answer_people(system, runs)
            return all(system.item(run_id, "RUN")["status"] in FINAL for run_id in runs)

        system.until(ended, 240)
    return Chaos(runs, script, killer.killed, proxy.lost)


def assert_there_was_chaos(system: System, chaos: Chaos) -> None:
    assert len(chaos.runs) == 30
    assert chaos.killed >= 20
    assert chaos.lost >= 20
    died = [line for line in system.log_lines() if "Runtime exited with error: signal: killed" in line]
    assert len(died) >= 3  # while they were at work: the others waited for it


def assert_few_are_given_up(system: System, chaos: Chaos) -> None:
    """They failed, say why, and have paid nothing twice."""
    for run_id, (crew, _) in chaos.runs.items():
        run = system.wait(run_id)
        if run["status"] == "completed":
            continue
        # Of an item of a forEach step that is said in fewer words.
        assert re.search("(the function that ran the step|its function) died", run["error"])
        chaos.given_up.add(run_id)
        attempts = [(step["step"], attempt) for step in run["steps"] for attempt in step["attempts"]]
        assert Counter(step for step, attempt in attempts if attempt["outcome"] == "ok") <= TURNS[crew]
        assert run["cost_usd"] == sum(attempt["cost_usd"] or 0 for _, attempt in attempts)
    # How many depends on how fast the machine is: forty kills on a slow one meet the same invocation more often.
    assert len(chaos.given_up) <= 5


def assert_every_run_is_whole(system: System, chaos: Chaos, crew: str) -> None:
    """Completed; record, totals and bill say the same."""
    for run_id in chaos.of(crew):
        run = system.wait(run_id)
        assert_whole(system, run, settled=False)
        assert {step["step"] for step in run["steps"]} == {step["name"] for step in CREWS[crew]}


def assert_every_step_is_paid_once(system: System, chaos: Chaos, crew: str) -> None:
    """And what was killed while it was being paid is on record."""
    for run_id in chaos.of(crew):
        steps = system.read(run_id)["steps"]
        attempts = [(step["step"], attempt) for step in steps for attempt in step["attempts"]]
        good = [(step, attempt["outcome"]) for step, attempt in attempts if attempt["model"] == "chaos:good"]
        assert Counter(step for step, outcome in good if outcome == "ok") == TURNS[crew]
        lost = Counter(step for step, outcome in good if outcome != "ok")
        assert {outcome for _, outcome in good} <= {"ok", "lost"}
        asked = chaos.asked(chaos.runs[run_id][1])
        # A call that died may not have reached the provider.
        assert TURNS[crew] <= asked <= TURNS[crew] + lost


def assert_everything_is_told_once_and_in_order(system: System, chaos: Chaos, crew: str) -> None:
    """Also when every change comes again."""
    log = EventLog(system.settings)
    needs = {step["name"]: step["needs"] for step in CREWS[crew] if "needs" in step}
    line = [step["name"] for step in CREWS[crew]]
    needs = needs or {step: line[:place] for place, step in enumerate(line)}
    told = {run_id: events_of(system, log, run_id) for run_id in chaos.of(crew)}
    for run_id, events in told.items():
        assert_told_in_order(system.read(run_id), events, needs)
        asked = [event for event in events if event["type"] == "RunWaiting"]
        assert [event["step"] for event in asked] == (["pay"] if crew == "person" else [])
    # Every change again, and in the wrong order.
    again = []
    for run_id in told:
        steps = [step["id"] for step in system.read(run_id)["steps"]]
        items = [system.item(run_id, item) for item in ("RUN", *steps)]
        again += [record({**item, "status": "running"}, item) for item in items]
    random.Random(SEED).shuffle(again)  # noqa: S311 - any order
    assert system.invoke("PublishEvents", {"Records": again}) == {"batchItemFailures": []}
    assert {run_id: log.after(run_id, 0, 1000) for run_id in told} == told


def assert_nothing_is_stuck(system: System, chaos: Chaos) -> None:
    """A run in which a function died for good keeps its place among the active ones, as a call may still be under way
    when it ends; the reconciler's last look takes it away and finds nothing to correct by then."""
    store = RunStore(system.settings)

    def active() -> set[str]:
        found = {run["run_id"] for run in store.active()}
        return found.intersection(chaos.runs)

    for run_id in active():
        before = system.item(run_id, "RUN")
        assert before["status"] == ("failed" if run_id in chaos.given_up else "completed")
        assert "check_at" in before
        assert reconcile_run(system.settings, store, run_id) == "checked"
        last_look = ("active", "check_at")
        assert system.item(run_id, "RUN") == {name: value for name, value in before.items() if name not in last_look}
    assert not active()
    lost = system.client("sqs").receive_message(QueueUrl=system.resources["LostEvents"])
    assert not lost.get("Messages")


def test_thirty_runs_in_chaos(system: System, provider_server: ProviderServer) -> None:
    chaos = raise_chaos(system, provider_server)
    assert_there_was_chaos(system, chaos)
    assert_few_are_given_up(system, chaos)
    for crew in CREWS:
        assert_every_run_is_whole(system, chaos, crew)
        assert_every_step_is_paid_once(system, chaos, crew)
        assert_everything_is_told_once_and_in_order(system, chaos, crew)
    assert_nothing_is_stuck(system, chaos)
