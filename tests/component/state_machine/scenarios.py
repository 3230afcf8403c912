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

from loopllama import CONTRACT
from loopllama.engine import history
from loopllama.engine.human_input import respond
from loopllama.errors import LineLeft, ModelThrottled, RunFailed
from loopllama.runs.step_ref import ALONE, LINE

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
KINDS = (
    *("StartRun", "LineRunStep", "RunStep", "WaitForResponse", "ChainRunStep", "ChainWaitForResponse"),
    *("ForkRunStep", "ForkWaitForResponse", "AdvanceRun"),
)
COMMON = {"contract": CONTRACT, "run_id": "r", "workflow": "w", "version": 3}
LEFT, SHARE, FORK_SHARE, LEFT_OUT = 200, 100, 50, 6
"""What the script lets a run's only chain, a round's chain and a fork's branch have; an invocation takes one of it."""


def ready(*steps: str, share: int = FORK_SHARE) -> dict[str, Any]:
    """Return what may start, as functions say it: `a 7` is item 7 of step a, in the third round of a loop."""
    parted = [step.split() for step in steps]
    branches = [{"step": name, "iteration": 2, "item": int(item)} for name, item in parted]
    return {"ready": branches, "share": share, "left_out": LEFT_OUT}


LINE_LEFT = [{"outcome": "line_left"}]


def line_of(*steps: str) -> dict[str, Any]:
    """Return the answer of StartRun that begins a line."""
    return {**COMMON, "round": 0, "outcome": "line", "line": [*steps], "left": 9, "ended": LINE_LEFT}


def alone(step: str, number: int = 1) -> dict[str, Any]:
    """Return the answer that begins a run's only chain, in the round of that number."""
    work = {**COMMON, "step": step, "iteration": 2, "item": 0, "depth": ALONE}
    return {**work, "round": number, "outcome": "continue", "left": LEFT}


def side_by_side(*steps: str) -> dict[str, Any]:
    """Return the answer that begins a round of chains."""
    return {**COMMON, "round": 3, "outcome": "more", **ready(*steps, share=SHARE), "left": 7}


OVER = {"contract": CONTRACT, "run_id": "r", "outcome": "done"}


def scripted(
    definition: Definition,
    faults: Mapping[str, list[str]],
    *begun: Mapping[str, Any],
    **steps: Sequence[Mapping[str, Any] | Exception],
) -> Stage:
    """Return a stage whose functions answer by a script: what StartRun and then each AdvanceRun begins, and for each
    item of a step what RunStep answers, one after the other; `a_7` is item 7 of step a."""
    left, answers = iter(begun), {name: iter(given) for name, given in steps.items()}

    def begin(_: Any) -> Mapping[str, Any]:
        return next(left, OVER)

    def run_step(payload: dict[str, Any]) -> Mapping[str, Any]:
        if "token" in payload:
            return {}
        payload = payload["work"]
        assert payload.get("left_out", LEFT_OUT) == LEFT_OUT, "of the fork, where there was one"
        assert ("left_out" in payload) == ("ended" in payload)
        answer = next(answers[f"{payload['step']}_{payload.get('item', 0)}"])
        if isinstance(answer, Exception):
            raise answer
        if payload["depth"] == LINE:
            return answer
        assert payload["iteration"] == 2
        kept = (*COMMON, "step", "iteration", "item", "depth", *(("round",) if payload["depth"] < 0 else ()))
        return {**{name: payload[name] for name in kept}, "left": payload["left"] - 1, **answer}

    return Stage(definition, {"StartRun": begin, "RunStep": run_step, "AdvanceRun": begin}, ("r", "w", 3), faults)


WAITING = {"outcome": "waiting", "seconds": 1000}
DONE = {"outcome": "done"}
ADVANCE = {"outcome": "advance", "ended": [DONE]}


def done(invocations: int, share: int = SHARE) -> dict[str, Any]:
    """Return how a chain ends that was done after so many invocations."""
    return {**DONE, "left": share - invocations}


def tour(definition: Definition, faults: Mapping[str, list[str]]) -> Stage:
    """Play a run that goes every way. It leaves a line at the second step. Its only chain goes on with the next step,
    which is tried later, waits for a person, and becomes a round. There, a chain does the same, and forks into an item
    that does so too. In the end comes a chain that asks AdvanceRun."""
    stage = scripted(
        definition,
        faults,
        *(line_of("w", "x"), alone("a"), alone("e", 4)),
        w_0=[{"outcome": "continue"}],
        x_0=[LineLeft("as this test wants it")],
        a_0=[{"outcome": "continue", "step": "b"}],
        b_0=[{"outcome": "retry_later", "seconds": 2}, WAITING, side_by_side("c 0")],
        c_0=[{"outcome": "continue", "step": "d"}],
        d_0=[
            *({"outcome": "retry_later", "seconds": 5}, WAITING),
            *({"outcome": "fork", "join": True, "max_concurrency": 1, **ready("d 7")}, DONE),
        ],
        d_7=[{"outcome": "continue"}, {"outcome": "retry_later", "seconds": 3}, WAITING, DONE],
        e_0=[ADVANCE],
    )
    stage.person = stage.answer
    return stage.play()


def undisturbed(definition: Definition, _: Troupe) -> None:
    """Nothing fails: every state in its order, and no time passes but what is asked for."""
    stage = tour(definition, {})
    assert stage.story == [
        *("StartRun", "LineRunStep w", "LineRunStep x", "AdvanceRun", "RunStep a", "RunStep b", "RunStep b"),
        *("WaitForResponse b", "RunStep b", "ChainRunStep c", "ChainRunStep d", "ChainRunStep d"),
        *("ChainWaitForResponse d", "ChainRunStep d", "ForkRunStep d 7", "ForkRunStep d 7", "ForkRunStep d 7"),
        *("ForkWaitForResponse d 7", "ForkRunStep d 7", "ChainRunStep d", "AdvanceRun", "RunStep e", "AdvanceRun"),
    ]
    assert stage.times["RunStep"] == [0, 0, 2, 2, 10]
    assert stage.times["ChainRunStep"] == [2, 2, 7, 7, 10]
    assert stage.times["ForkRunStep"] == [7, 7, 10, 10]
    assert stage.execution.status == "SUCCEEDED"
    assert stage.ended == [LINE_LEFT, [done(4, FORK_SHARE)], [done(5)], [DONE]]


def whole_line(definition: Definition, _: Troupe) -> None:
    """Steps follow one another, each when the one before it has ended, and then the execution ends: nothing else is
    invoked, and ids are all that it says."""
    steps = {f"{name}_0": [{"outcome": "continue"}] for name in "wxy"}
    stage = scripted(definition, {"LineRunStep": ["AwsUnavailable"]}, line_of("w", "x", "y"), **steps).play()
    assert stage.story == ["StartRun", "LineRunStep w", "LineRunStep x", "LineRunStep y"]
    assert stage.times["LineRunStep"] == [0, 1 / LUCK, 1 / LUCK, 1 / LUCK]
    assert (stage.execution.status, stage.execution.output) == ("SUCCEEDED", line_of("w", "x", "y"))


def only_chain(definition: Definition, _: Troupe) -> None:
    """A run's only chain ends the run."""
    stage = scripted(definition, {}, alone("a", 0), a_0=[{"outcome": "continue", "step": "b"}], b_0=[DONE]).play()
    assert stage.story == ["StartRun", "RunStep a", "RunStep b"]
    assert (stage.execution.status, stage.execution.output["outcome"]) == ("SUCCEEDED", "done")


DELAYED = {"b": 4, "c": 10, "d": 1}
"""Branches, and after how many seconds each is taken again."""


def two_at_a_time(definition: Definition, _: Troupe) -> None:
    """Three branches, two of them at once, and no join: their chain ends when all have."""
    later: dict[str, Any] = {
        f"{name}_0": [{"outcome": "retry_later", "seconds": delay}, DONE] for name, delay in DELAYED.items()
    }
    branches = {"outcome": "fork", "join": False, "max_concurrency": 2, **ready("b 0", "c 0", "d 0")}
    stage = scripted(definition, {}, side_by_side("a 0"), a_0=[branches], **later)
    assert stage.play().execution.status == "SUCCEEDED"
    assert stage.times["ForkRunStep"] == [0, 0, 4, 4, 5, 10], "b and c, b again and d, d again, c again"
    assert stage.ended == [[{**done(1), "ended": [done(2, FORK_SHARE)] * 3}]]


def unanswered(definition: Definition, _: Troupe) -> None:
    """Nobody answers: when the time is over, RunStep is invoked again and sees that."""
    fork = {"outcome": "fork", "join": True, "max_concurrency": 40, **ready("b 1")}
    stage = scripted(
        definition,
        {},
        *(alone("a"), side_by_side("b 0")),
        a_0=[WAITING, ADVANCE],
        b_0=[WAITING, fork, DONE],
        b_1=[WAITING, DONE],
    ).play()
    assert stage.execution.status == "SUCCEEDED"
    assert stage.times["RunStep"] == [0, 1000]
    assert (stage.times["ChainRunStep"], stage.times["ForkRunStep"]) == ([1000, 2000, 3000], [2000, 3000])
    assert stage.ended == [[DONE], [done(2, FORK_SHARE)], [done(3)]]


def thirty_days(definition: Definition, _: Troupe) -> None:
    """A run may take so long, and no longer."""
    days = {"outcome": "waiting", "seconds": 40 * 86_400}
    stage = scripted(definition, {}, alone("a"), a_0=[days]).play()
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
    assert stage.execution.status == "SUCCEEDED"
    if kind == "LineRunStep":
        assert stage.story[:2] == ["StartRun", "AdvanceRun"], "it says what is ready"
        assert stage.ended[0] == LINE_LEFT
        return
    step, before = DYING[kind]
    name, _, item = step.partition(" ")
    died = {"outcome": "crashed", "step": name, "item": int(item or 0), "error": error}
    if not before:
        assert stage.ended[:2] == [LINE_LEFT, died], "of the run's only chain, whose events AdvanceRun has in `left`"
        return
    share, taken = before
    own = [[done(5)]] if item else []  # of the forEach step, which gathers
    assert stage.ended == [LINE_LEFT, [{**died, "left": share - taken}], *own, [DONE]]


DYING: Mapping[str, tuple[str, tuple[int, int] | None]] = {
    "RunStep": ("a", None),
    "WaitForResponse": ("b", None),
    "ChainRunStep": ("c", (SHARE, 0)),
    "ChainWaitForResponse": ("d", (SHARE, 3)),
    "ForkRunStep": ("d 7", (FORK_SHARE, 0)),
    "ForkWaitForResponse": ("d 7", (FORK_SHARE, 3)),
}
"""The step that is invoked first in a place, and the share of its chain with what it took of it before."""


STORIES: tuple[Scenario, ...] = (undisturbed, whole_line, only_chain, two_at_a_time, unanswered, thirty_days)


def of_machine() -> Iterator[tuple[str, Scenario]]:
    """Give the scenarios of the state machine alone, by name."""
    yield from {one.__name__: one for one in STORIES}.items()
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
        unseen = [kind for kind in stage.repeated if not kind.endswith("RunStep")]
        counted = MOST_EVENTS - MOST_EVENTS // 25 - left_of(stage) + history.RETRY * len(unseen)
        # A line is charged when it begins; for all else RunStep is told how often it was repeated.
        lines = [kind for kind in stage.times if kind == "LineRunStep"]
        assert stage.execution.events <= counted if lines else stage.execution.events == counted
    return run


def left_of(stage: Stage) -> int:
    """Return what of the execution's history nobody has used, as functions were told."""
    if stage.story[-1] == "AdvanceRun":
        return int(stage.last["left"]) + unused(stage.last["ended"])
    return int(stage.execution.output["left"]) + history.ROUND  # which did not come


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
    """Two steps, one after the other. Step Functions counts a transition for each state that is entered."""
    stage = troupe.stage(definition, [{"name": "one"}, {"name": "two"}]).play()
    assert stage.story == ["StartRun", "LineRunStep one", "LineRunStep two"]
    assert stage.execution.entered == 5
    completed(troupe, stage)


def a_line_that_is_left(definition: Definition, troupe: Troupe) -> None:
    """The provider turns the second step away for a while."""
    busy = [11]

    def script(call: Any) -> str:
        if "Two." in call.system and busy:
            raise ModelThrottled("busy", retry_after=busy.pop())
        return "fine"

    crew = [{"name": "one"}, {"name": "two", "systemPrompt": "Two."}, {"name": "three"}]
    stage = troupe.stage(definition, crew, script=script).play()
    assert stage.story == [
        *("StartRun", "LineRunStep one", "LineRunStep two", "AdvanceRun"),
        *("RunStep two", "RunStep two", "RunStep three"),
    ]
    assert stage.times["RunStep"][:2] == [0, 11]
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
        *("StartRun", "RunStep a", "RunStep a"),
        *("ChainRunStep b", "ChainRunStep c", "ChainRunStep b", "ChainRunStep d", "AdvanceRun"),
    ]
    assert (stage.times["RunStep"], stage.times["ChainRunStep"]) == ([0, 7], [7, 7, 18, 18])
    assert outcomes(stage) == [[DONE] * 2]
    completed(troupe, stage)


def fork_in_a_fork(definition: Definition, troupe: Troupe) -> None:
    """A branch of the start may fork. One of that fork that forks ends; what follows it is found ready in the next
    round, which is one step here, and so again the run's only chain."""
    needs: dict[str, list[str]] = {"b": [], "c": ["a"], "d": ["a"], "e": ["c"], "f": ["c"], "g": ["e", "f"]}
    crew: list[dict[str, Any]] = [{"name": "a"}, *({"name": name, "needs": before} for name, before in needs.items())]
    stage = troupe.stage(definition, crew).play()
    assert stage.story == [
        *("StartRun", "ChainRunStep a", "ForkRunStep c", "ForkRunStep d", "ChainRunStep b", "AdvanceRun"),
        *("ChainRunStep e", "ChainRunStep f", "ChainRunStep g", "AdvanceRun"),
    ]
    assert outcomes(stage)[0] == [{**DONE, "ended": [DONE] * 2}, DONE]
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
        *("StartRun", "ChainRunStep each"),
        *(word.format(number) for number in (1, 2) for word in item),
        *("ChainRunStep each", "AdvanceRun"),
    ]
    assert stage.times["ForkRunStep"] == [0, 10, 10, 20]
    assert outcomes(stage) == [[DONE] * 2, [DONE]]
    assert completed(troupe, stage)["output"] == ["fine", "fine"]


def items_at_once(definition: Definition, troupe: Troupe) -> None:
    """Both items wait at the same time, and nobody answers: the step fails, and with it the run."""
    stage = troupe.stage(definition, [EACH], {"list": ["x", "y"]}).play()
    assert stage.story[2:6] == [f"Fork{state} each {n}" for n in (1, 2) for state in ("RunStep", "WaitForResponse")]
    assert 598 <= stage.now <= 602
    failed(troupe, stage, "ItemsFailed")
    assert stage.story[6:8] == ["ForkRunStep each 1", "ForkRunStep each 2"], "they see that nobody answered"


def person(definition: Definition, troupe: Troupe) -> None:
    """A step waits for a person, who takes a minute. What asks a person is no line, and the run's only chain."""
    crew: list[dict[str, Any]] = [{"name": "pay", "approval": True}, {"name": "say"}]
    stage = troupe.stage(definition, crew)
    stage.person = approve(troupe, stage, after=60)
    stage.play()
    assert stage.story == ["StartRun", "RunStep pay", "WaitForResponse pay", "RunStep pay", "RunStep say"]
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
    """The function of a step dies for good, in the line and where it is left; AdvanceRun dies once before it has said
    so. Somebody redrives the run."""
    deaths = ["Runtime.ExitError"] * 5
    faults = {"LineRunStep": deaths, "RunStep": deaths, "AdvanceRun": deaths[:1]}
    stage = troupe.stage(definition, [{"name": "one"}, {"name": "two"}], faults=faults).play()
    assert stage.story == ["StartRun", "AdvanceRun", "AdvanceRun"]
    assert stage.ended[1] == {"outcome": "crashed", "step": "one", "item": 0, "error": "Runtime.ExitError"}
    failed(troupe, stage, "step 'one': Runtime.ExitError")
    stage.redrive()
    assert stage.story == ["AdvanceRun", "RunStep one", "RunStep two"]
    stage.ended.clear()
    completed(troupe, stage)


def an_item_died(definition: Definition, troupe: Troupe) -> None:
    """The function of an item dies for good, and the step that gathers says so."""
    crew: list[dict[str, Any]] = [{"name": "each", "forEach": "input.list"}]
    faults = {"ForkRunStep": ["Runtime.ExitError"] * 5}
    stage = troupe.stage(definition, crew, {"list": ["x"]}, faults).play()
    assert outcomes(stage)[0] == [{"outcome": "crashed", "step": "each", "item": 1, "error": "Runtime.ExitError"}]
    failed(troupe, stage, "Runtime.ExitError")


WHOLE: tuple[Scenario, ...] = (
    *(
        line,
        a_line_that_is_left,
        branches,
        fork_in_a_fork,
        items_one_at_a_time,
        items_at_once,
        person,
        nobody,
        too_long,
        died,
        an_item_died,
    ),
)
SCENARIOS: dict[str, Scenario] = {**dict(of_machine()), **{one.__name__: one for one in WHOLE}}
