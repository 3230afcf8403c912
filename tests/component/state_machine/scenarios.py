"""What the state machine must do, each as small as what it is about allows.

A scenario plays a definition, the deployed one or a mutant of it, and asserts. Those of `scripted` are about the state
machine alone. Those here run the handlers of functions/ and look at what they recorded.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from component.state_machine.scripted import DONE, Definition, Scenario, of_machine
from component.state_machine.stage import Stage, Troupe
from support.asl.execution import MOST_EVENTS

from loopllama.engine import history
from loopllama.engine.human_input import respond
from loopllama.errors import ModelThrottled, RunFailed


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
    waits = [f"Fork{state} each {n}" for n in (1, 2) for state in ("RunStep", "WaitForResponse")]
    assert stage.story[2:10] == waits * 2, "until it is told that their time ends, and to its end"
    assert stage.times["ForkRunStep"][2:4] == [480, 480]
    assert 598 <= stage.now <= 602
    failed(troupe, stage, "ItemsFailed")
    assert stage.story[10:12] == ["ForkRunStep each 1", "ForkRunStep each 2"], "they see that nobody answered"


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
