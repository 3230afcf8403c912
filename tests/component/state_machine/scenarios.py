"""What the state machine must do, each as small as what it is about allows.

A scenario plays a definition, the deployed one or a mutant of it, and asserts. Those of the first part are about the
state machine alone: functions answer as docs/design.md says, so that each costs a millisecond. Those of the second part
run the handlers of functions/ and look at what they recorded.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from component.state_machine.stage import LUCK, Stage, Troupe
from support.asl.execution import MOST_EVENTS

from loopllama.engine.human_input import respond
from loopllama.errors import ModelThrottled, RunFailed

Definition = Mapping[str, Any]
Scenario = Callable[[Definition, Troupe], object]

# Part one: the state machine alone

THROTTLED = ("Lambda.TooManyRequestsException",)
TROUBLE = (
    "AwsUnavailable",
    "Lambda.ServiceException",
    "Lambda.AWSLambdaException",
    "Lambda.SdkClientException",
    "Lambda.ClientExecutionTimeoutException",
    "Lambda.Unknown",
    "Runtime.ExitError",
    "Sandbox.Timedout",
)
DELAYS = {
    **dict.fromkeys(THROTTLED, (2, 4, 8, 16, 32, *[60] * 120)),
    **dict.fromkeys((*TROUBLE, "States.Timeout"), (1, 2, 4, 8)),
}
"""Seconds at most before each repetition of an invocation that ended with this error."""
KINDS = ("StartRun", "RunStep", "WaitForResponse", "ForkRunStep", "ForkWaitForResponse", "AdvanceRun")
COMMON = {"contract": 1, "run_id": "r", "workflow": "w", "version": 3}
SHARE, FORK_SHARE, LEFT_OUT = 100, 50, 6
"""What the script lets a round's chain and a fork's branch have; each invocation takes one of it."""


def ready(*steps: str) -> dict[str, Any]:
    """Return what may start, as functions say it: `a 7` is item 7 of step a, in the third round of a loop."""
    parted = [step.split() for step in steps]
    branches = [{"step": name, "iteration": 2, "item": int(item)} for name, item in parted]
    return {"ready": branches, "share": FORK_SHARE, "left_out": LEFT_OUT}


def scripted(
    definition: Definition, faults: Mapping[str, list[str]], *rounds: str, **steps: Sequence[Mapping[str, Any]]
) -> Stage:
    """Return a stage whose functions answer by a script: the steps that are ready in each round, and for each item of
    a step what RunStep answers, one after the other; `a_7` is item 7 of step a."""
    left, answers = iter(rounds), {name: iter(given) for name, given in steps.items()}

    def more(_: Any) -> dict[str, Any]:
        step = next(left, None)
        outcome = {"outcome": "done"} if step is None else {"outcome": "more", **ready(step)}
        return {**COMMON, "round": len(rounds), **outcome, "share": SHARE, "left": 7}

    def run_step(payload: dict[str, Any]) -> Mapping[str, Any]:
        if "token" in payload:
            return {}
        payload = payload["work"]
        assert payload["iteration"] == 2
        assert payload.get("left_out", LEFT_OUT) == LEFT_OUT, "of the fork, where there was one"
        assert ("left_out" in payload) == ("ended" in payload)
        work = {name: payload[name] for name in (*COMMON, "step", "iteration", "item", "depth")}
        return {**work, "left": payload["left"] - 1, **next(answers[f"{payload['step']}_{payload['item']}"])}

    return Stage(definition, {"StartRun": more, "RunStep": run_step, "AdvanceRun": more}, ("r", "w", 3), faults)


WAITING = {"outcome": "waiting", "seconds": 1000}
DONE = {"outcome": "done"}


def done(invocations: int, share: int = SHARE) -> dict[str, Any]:
    """Return how a chain ends that was done after so many invocations."""
    return {**DONE, "left": share - invocations}


def tour(definition: Definition, faults: Mapping[str, list[str]]) -> Stage:
    """Play a run that goes every way: a step goes on with the next one, which is tried later, waits for a person, and
    forks into an item that does the same; then comes another round."""
    stage = scripted(
        definition,
        faults,
        *("a 0", "c 0"),
        a_0=[{"outcome": "continue", "step": "b"}],
        b_0=[
            *({"outcome": "retry_later", "seconds": 5}, WAITING),
            *({"outcome": "fork", "join": True, "max_concurrency": 1, **ready("b 7")}, DONE),
        ],
        b_7=[{"outcome": "continue"}, {"outcome": "retry_later", "seconds": 3}, WAITING, DONE],
        c_0=[DONE],
    )
    stage.person = stage.answer
    return stage.play()


def undisturbed(definition: Definition, _: Troupe) -> None:
    """Nothing fails: every state in its order, and no time passes but what is asked for."""
    stage = tour(definition, {})
    assert stage.story == [
        *("StartRun", "RunStep a", "RunStep b", "RunStep b", "WaitForResponse b", "RunStep b"),
        *("ForkRunStep b 7", "ForkRunStep b 7", "ForkRunStep b 7", "ForkWaitForResponse b 7", "ForkRunStep b 7"),
        *("RunStep b", "AdvanceRun", "RunStep c", "AdvanceRun"),
    ]
    assert stage.times["RunStep"] == [0, 0, 5, 5, 8, 8]
    assert stage.times["ForkRunStep"] == [5, 5, 8, 8]
    assert stage.execution.status == "SUCCEEDED"
    assert stage.ended == [[done(4, FORK_SHARE)], [done(5)], [done(1)]]


DELAYED = {"b": 4, "c": 10, "d": 1}
"""Branches, and after how many seconds each is taken again."""


def two_at_a_time(definition: Definition, _: Troupe) -> None:
    """Three branches, two of them at once, and no join: their chain ends when all have."""
    later: dict[str, Any] = {
        f"{name}_0": [{"outcome": "retry_later", "seconds": delay}, DONE] for name, delay in DELAYED.items()
    }
    branches = {"outcome": "fork", "join": False, "max_concurrency": 2, **ready("b 0", "c 0", "d 0")}
    stage = scripted(definition, {}, "a 0", a_0=[branches], **later)
    assert stage.play().execution.status == "SUCCEEDED"
    assert stage.times["ForkRunStep"] == [0, 0, 4, 4, 5, 10], "b and c, b again and d, d again, c again"
    assert stage.ended == [[{**done(1), "ended": [done(2, FORK_SHARE)] * 3}]]


def unanswered(definition: Definition, _: Troupe) -> None:
    """Nobody answers: when the time is over, RunStep is invoked again and sees that."""
    fork = {"outcome": "fork", "join": True, "max_concurrency": 40, **ready("a 1")}
    stage = scripted(definition, {}, "a 0", a_0=[WAITING, fork, DONE], a_1=[WAITING, DONE]).play()
    assert stage.execution.status == "SUCCEEDED"
    assert (stage.times["RunStep"], stage.times["ForkRunStep"]) == ([0, 1000, 2000], [1000, 2000])
    assert stage.ended == [[done(2, FORK_SHARE)], [done(3)]]


def thirty_days(definition: Definition, _: Troupe) -> None:
    """A run may take so long, and no longer."""
    days = {"outcome": "waiting", "seconds": 40 * 86_400}
    stage = scripted(definition, {}, "a 0", a_0=[days]).play()
    assert (stage.execution.status, stage.now) == ("TIMED_OUT", 30 * 86_400)


def repeated(kind: str, error: str) -> Scenario:
    """One invocation ends with an error that passes, and is repeated after a random part of the first delay."""

    def scenario(definition: Definition, _: Troupe) -> None:
        stage = tour(definition, {kind: [error]})
        assert (stage.execution.status, stage.delays) == ("SUCCEEDED", [DELAYS[error][0] / LUCK])

    return scenario


def given_up(kind: str, error: str) -> Scenario:
    """An invocation ends with the same error until it is given up: it is invoked so often, after such delays."""

    def scenario(definition: Definition, _: Troupe) -> None:
        delays = DELAYS[error]
        stage = tour(definition, {kind: [error] * (len(delays) + 1)})
        assert stage.delays == [delay / LUCK for delay in delays]
        assert stage.faults[kind] == []
        ends(stage, kind, error)

    return scenario


def not_repeated(kind: str) -> Scenario:
    """A mistake of ours is not paid for twice."""

    def scenario(definition: Definition, _: Troupe) -> None:
        stage = tour(definition, {kind: ["InternalError"]})
        assert stage.delays == []
        ends(stage, kind, "InternalError")

    return scenario


def ends(stage: Stage, kind: str, error: str) -> None:
    """An error that nothing is done about fails the execution, or ends the chain and is told."""
    if kind in ("StartRun", "AdvanceRun"):
        assert stage.execution.failure is not None
        assert (stage.execution.status, stage.execution.failure.error) == ("FAILED", error)
        assert stage.execution.at == kind, "a redrive goes on here"
        return
    step, item = ("a", 0) if kind == "RunStep" else ("b", 7 if kind.startswith("Fork") else 0)
    before = {"RunStep": 0, "WaitForResponse": 3, "ForkRunStep": 0, "ForkWaitForResponse": 3}[kind]
    share = FORK_SHARE if kind.startswith("Fork") else SHARE
    died = [{"outcome": "crashed", "step": step, "item": item, "error": error, "left": share - before}]
    assert stage.execution.status == "SUCCEEDED"
    own = [[done(5)]] if item else []  # of the forEach step, which gathers
    assert stage.ended == [died, *own, [done(1)]]


def alone() -> Iterator[tuple[str, Scenario]]:
    """Give the scenarios of the state machine alone, by name."""
    yield from {one.__name__: one for one in (undisturbed, two_at_a_time, unanswered, thirty_days)}.items()
    for kind in KINDS:
        slow = () if "Wait" in kind else ("States.Timeout",)  # there it says that nobody answered
        for error in (*THROTTLED, *TROUBLE, *slow):
            yield f"{kind} repeated after {error}", repeated(kind, error)
        for error in (*THROTTLED, TROUBLE[0]):
            yield f"{kind} given up after {error}", given_up(kind, error)
        yield f"{kind} not repeated", not_repeated(kind)


# Part two: whole runs


def completed(troupe: Troupe, stage: Stage) -> dict[str, Any]:
    """Return the run, which is completed, as its execution is."""
    run = troupe.live.read(stage.run_id)
    assert (stage.execution.status, run["status"]) == ("SUCCEEDED", "completed"), run["error"]
    assert {step["status"] for step in run["steps"]} == {"completed"}
    if not any(end["outcome"] == "crashed" for ended in stage.ended for end in ended):
        counted = MOST_EVENTS - MOST_EVENTS // 25 - stage.last["left"] - unused(stage.last["ended"])
        unseen = [kind for kind in stage.repeated if kind not in ("RunStep", "ForkRunStep")]
        assert stage.execution.events == counted + 3 * len(unseen), "RunStep is told how often it was repeated"
    return run


def outcomes(stage: Stage) -> Any:
    """Return how chains ended, without what they had left."""
    return without_left(stage.ended)


def without_left(ended: Any) -> Any:
    """Return how chains and those of their forks ended, without what they had left."""
    if isinstance(ended, list):
        return [without_left(end) for end in ended]
    return {name: without_left(end) if name == "ended" else end for name, end in ended.items() if name != "left"}


def unused(ended: list[Any]) -> int:
    """Return what chains and those of their forks had left together."""
    return sum(end.get("left", 0) + unused(end.get("ended", [])) for end in ended)


def failed(troupe: Troupe, stage: Stage, because: str) -> None:
    """The run has failed, as its execution has."""
    run = troupe.live.read(stage.run_id)
    assert (stage.execution.status, run["status"]) == ("FAILED", "failed")
    assert stage.execution.failure is not None
    assert stage.execution.failure.error == RunFailed.__name__
    assert because in run["error"]


def line(definition: Definition, troupe: Troupe) -> None:
    """Two steps, one after the other in one chain."""
    stage = troupe.stage(definition, [{"name": "one"}, {"name": "two"}]).play()
    assert stage.story == ["StartRun", "RunStep one", "RunStep two", "AdvanceRun"]
    assert outcomes(stage) == [[DONE]]
    completed(troupe, stage)


def branches(definition: Definition, troupe: Troupe) -> None:
    """Two branches at once and their join. The provider turns the first step and one branch away for a while."""
    crew: list[dict[str, Any]] = [
        {"name": "a", "systemPrompt": "A."},
        {"name": "b", "needs": ["a"], "systemPrompt": "B."},
        {"name": "c", "needs": ["a"], "systemPrompt": "C."},
        {"name": "d", "needs": ["b", "c"], "systemPrompt": "D."},
    ]
    busy = {"A.": 7, "B.": 11}

    def script(call: Any) -> str:
        for text in [text for text in busy if text in call.system]:
            raise ModelThrottled("busy", retry_after=busy.pop(text))
        return "fine"

    stage = troupe.stage(definition, crew, script=script).play()
    assert stage.story == [
        *("StartRun", "RunStep a", "RunStep a", "ForkRunStep b", "ForkRunStep c", "ForkRunStep b", "ForkRunStep d"),
        "AdvanceRun",
    ]
    assert (stage.times["RunStep"], stage.times["ForkRunStep"]) == ([0, 7], [7, 7, 18, 18])
    assert outcomes(stage) == [[{**DONE, "ended": [DONE] * 2}]]
    completed(troupe, stage)


def fork_in_a_fork(definition: Definition, troupe: Troupe) -> None:
    """A branch that forks ends; what follows it is found ready in the next round."""
    needs = {"b": ["a"], "c": ["a"], "d": ["b"], "e": ["b"]}
    crew: list[dict[str, Any]] = [{"name": "a"}, *({"name": name, "needs": before} for name, before in needs.items())]
    stage = troupe.stage(definition, crew).play()
    assert stage.story == [
        *("StartRun", "RunStep a", "ForkRunStep b", "ForkRunStep c", "AdvanceRun"),
        *("RunStep d", "RunStep e", "AdvanceRun"),
    ]
    completed(troupe, stage)


EACH = {"name": "each", "forEach": "input.list", "approval": {"start": True, "timeoutSeconds": 600}}


def approve(troupe: Troupe, stage: Stage, after: float = 0) -> Callable[[], None]:
    """Return a person who approves what the run has asked longest, and takes some time for it."""

    def person() -> None:
        stage.wait(after)
        respond(troupe.live.runs, stage.run_id, {"approved": True})

    return person


def items_one_at_a_time(definition: Definition, troupe: Troupe) -> None:
    """Each item of a list waits for a person, one at a time because the step says so."""
    crew: list[dict[str, Any]] = [{**EACH, "maxConcurrency": 1}]
    stage = troupe.stage(definition, crew, {"list": ["x", "y"]})
    stage.person = approve(troupe, stage, after=10)
    stage.play()
    item = "ForkRunStep each {0}", "ForkWaitForResponse each {0}", "ForkRunStep each {0}"
    assert stage.story == [
        *("StartRun", "RunStep each"),
        *(word.format(number) for number in (1, 2) for word in item),
        *("RunStep each", "AdvanceRun"),
    ]
    assert stage.times["ForkRunStep"] == [0, 10, 10, 20]
    assert outcomes(stage) == [[DONE] * 2, [DONE]]
    assert completed(troupe, stage)["output"] == ["fine", "fine"]


def items_at_once(definition: Definition, troupe: Troupe) -> None:
    """Both items wait at the same time, and nobody answers: the step fails, and with it the run."""
    stage = troupe.stage(definition, [EACH], {"list": ["x", "y"]}).play()
    waits = [f"Fork{state} each {n}" for n in (1, 2) for state in ("RunStep", "WaitForResponse")]
    assert stage.story[2:10] == waits * 2, "until it is told that their time ends, and to its end"
    assert stage.times["ForkRunStep"][2:4] == [480, 480]
    assert 598 <= stage.now <= 602
    failed(troupe, stage, "ItemsFailed")
    assert stage.story[10:12] == ["ForkRunStep each 1", "ForkRunStep each 2"], "they see that nobody answered"


def person(definition: Definition, troupe: Troupe) -> None:
    """A step waits for a person, who takes a minute."""
    crew: list[dict[str, Any]] = [{"name": "pay", "approval": True}, {"name": "say"}]
    stage = troupe.stage(definition, crew)
    stage.person = approve(troupe, stage, after=60)
    stage.play()
    assert stage.story == [
        *("StartRun", "RunStep pay", "WaitForResponse pay", "RunStep pay", "RunStep say", "AdvanceRun")
    ]
    assert stage.now == 60
    completed(troupe, stage)


def nobody(definition: Definition, troupe: Troupe) -> None:
    """Nobody answers in time."""
    stage = troupe.stage(definition, [{"name": "pay", "approval": {"start": True, "timeoutSeconds": 600}}]).play()
    assert 598 <= stage.now <= 602
    assert stage.story[:4] == ["StartRun", "RunStep pay", "WaitForResponse pay", "RunStep pay"]
    failed(troupe, stage, "ApprovalTimedOut")


def too_long(definition: Definition, troupe: Troupe) -> None:
    """A run may take thirty days."""
    days = {"start": True, "timeoutSeconds": 25 * 86_400}
    stage = troupe.stage(definition, [{"name": "one", "approval": days}, {"name": "two", "approval": days}])
    answers = [approve(troupe, stage, after=20 * 86_400)]
    stage.person = lambda: answers.pop()() if answers else None
    stage.play()
    assert (stage.execution.status, stage.now) == ("TIMED_OUT", 30 * 86_400)


def died(definition: Definition, troupe: Troupe) -> None:
    """The function of a step dies for good; AdvanceRun dies once before it has said so. Somebody redrives the run."""
    faults = {"RunStep": ["Runtime.ExitError"] * 5, "AdvanceRun": ["Runtime.ExitError"]}
    stage = troupe.stage(definition, [{"name": "one"}, {"name": "two"}], faults=faults).play()
    assert stage.story == ["StartRun", "AdvanceRun"]
    assert outcomes(stage) == [[{"outcome": "crashed", "step": "one", "item": 0, "error": "Runtime.ExitError"}]]
    failed(troupe, stage, "step 'one': Runtime.ExitError")
    stage.redrive()
    assert stage.story == ["AdvanceRun", "RunStep one", "RunStep two", "AdvanceRun"]
    completed(troupe, stage)


def an_item_died(definition: Definition, troupe: Troupe) -> None:
    """The function of an item dies for good, and the step that gathers says so."""
    crew: list[dict[str, Any]] = [{"name": "each", "forEach": "input.list"}]
    faults = {"ForkRunStep": ["Runtime.ExitError"] * 5}
    stage = troupe.stage(definition, crew, {"list": ["x"]}, faults).play()
    assert outcomes(stage)[0] == [{"outcome": "crashed", "step": "each", "item": 1, "error": "Runtime.ExitError"}]
    failed(troupe, stage, "Runtime.ExitError")


WHOLE: tuple[Scenario, ...] = (
    *(line, branches, fork_in_a_fork, items_one_at_a_time, items_at_once, person, nobody, too_long, died, an_item_died),
)
SCENARIOS: dict[str, Scenario] = {**dict(alone()), **{one.__name__: one for one in WHOLE}}
