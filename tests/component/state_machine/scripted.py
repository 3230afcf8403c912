"""What the state machine must do by itself: functions answer as docs/design.md says, so that a scenario costs a
millisecond."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from component.state_machine.stage import LUCK, Stage, Troupe

from loopllama import CONTRACT
from loopllama.errors import LineLeft
from loopllama.runs.step_ref import ALONE, LINE

Definition = Mapping[str, Any]
Scenario = Callable[[Definition, Troupe], object]

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
