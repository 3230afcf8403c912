"""Several questions of one run at once: each is seen whole, answered by its id, and told before its time is over."""

from __future__ import annotations

import re
from typing import Any

import pytest
from support.deployment import Deployment
from support.world import World

from loopllama.agent.tool_calls import MAX_ASKED_CHARACTERS
from loopllama.core import clock
from loopllama.engine.human_input import respond
from loopllama.errors import Conflict
from loopllama.llm.types import ModelResponse, ToolCall, Usage
from loopllama.queries.runs import RunReader
from loopllama.runs import questions
from loopllama.runs.step_ref import Work, question_id

ASKING = {"start": True, "timeoutSeconds": 6000}
APPROVED = {"approved": True}
TEXT = {"type": "object", "properties": {"to": {"type": "string"}}}
MAIL = {"type": "lambda", "function": "mail", "description": "Sends a mail.", "parameters": TEXT}


def asking_everywhere(live: Deployment) -> tuple[str, list[dict[str, Any]]]:
    """A run that asks in two branches, which has a list that may ask too: its id, and the chains that wait."""
    crew = [
        {"name": "start", "needs": []},
        {"name": "legal", "needs": ["start"], "approval": {"start": True, "timeoutSeconds": 9000}},
        {"name": "each", "needs": ["start"], "forEach": "input.words", "approval": {**ASKING, "timeoutSeconds": 4000}},
        {"name": "money", "needs": ["start"], "approval": ASKING},
    ]
    run_id = live.accept(live.push(crew), {"words": ["a", "b"]})
    fork = live.step(live.map(live.start(run_id))[0])
    return run_id, [live.step(branch) for branch in live.map(fork, depth=1)]


def test_all_that_a_run_asks_is_seen_first_what_ends_first(live: Deployment) -> None:
    run_id, chains = asking_everywhere(live)
    assert [one["outcome"] for one in chains] == ["waiting", "waiting"]
    each = {**chains[0], "step": "each", "depth": 0}
    items = [live.step(one) for one in live.map(live.step(each), depth=1)]
    assert [one["outcome"] for one in items] == ["waiting", "waiting"]

    run = live.read(run_id)
    assert run["status"] == "waiting_input"
    places = [(asked["step"], asked["iteration"], asked["item"]) for asked in run["questions"]]
    assert places == [("each", 0, 1), ("each", 0, 2), ("money", 0, None), ("legal", 0, None)]
    assert run["pending"] == run["questions"][0]
    assert len({asked["id"] for asked in run["questions"]}) == 4
    ends = [asked["expires_at"] for asked in run["questions"]]
    assert ends == sorted(ends)


def test_an_answer_that_may_be_meant_for_several_names_them_and_answers_none(live: Deployment) -> None:
    run_id, _ = asking_everywhere(live)
    ids = {asked["step"]: asked["id"] for asked in live.read(run_id)["questions"]}
    with pytest.raises(Conflict, match="asks 2 questions; say by its id") as refused:
        respond(live.runs, run_id, APPROVED)
    named = re.findall(r"([0-9a-f]{16}) \((\w+): approval, until ", str(refused.value))
    assert {step: asked for asked, step in named} == ids
    assert [asked["step"] for asked in live.read(run_id)["questions"]] == ["money", "legal"], "nothing was answered"

    respond(live.runs, run_id, APPROVED, question=ids["legal"])
    assert [asked["step"] for asked in live.read(run_id)["questions"]] == ["money"]
    with pytest.raises(Conflict, match=f"does not ask that, or no longer; it asks {ids['money']}"):
        respond(live.runs, run_id, APPROVED, question=ids["legal"])
    respond(live.runs, run_id, APPROVED)  # one is left, so it is meant
    assert live.read(run_id)["questions"] == []


def test_what_is_asked_is_there_whole(live: Deployment) -> None:
    long, arguments = "Which colour? " * 5000, {"to": "x" * 150_000}
    replies = [("ask_human", {"question": long}), ("mail", arguments)]

    def script(call: Any) -> ModelResponse:
        made = len([message for message in call.messages if message.role == "tool"])
        name, given = replies[made]
        return ModelResponse("", Usage(1, 1), "tool_calls", (ToolCall(f"t{made}", name, given),))

    live.provider.script = script
    live.define_tools(mail=MAIL)
    crew = [{"name": "paint", "tools": ["ask_human", "mail"], "approval": {"tools": ["mail"]}}]
    run_id = live.accept(live.push(crew))
    work = live.map(live.start(run_id))[0]
    assert live.step(work)["outcome"] == "waiting"
    assert live.read(run_id)["pending"]["prompt"] == long
    respond(live.runs, run_id, {"input": "blue"})
    assert live.step(work)["outcome"] == "waiting"
    assert live.read(run_id)["pending"]["tool_input"] == arguments
    assert live.read(run_id)["pending"]["cut"] is False
    kept = live.runs.run(run_id)["pending"]["STEP#paint#0#0"]
    assert "tool_input" not in kept, "the run's item stays small"
    [listed] = RunReader(live.settings).list(limit=1)[0]
    assert listed["pending"] is not None
    assert listed["pending"]["cut"], "a list of runs says that this is not all"


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (None, "are not a JSON object"),
        ({"to": 5}, "do not follow its schema"),
        ({"to": "x" * MAX_ASKED_CHARACTERS}, "are shown to a person"),
    ],
)
def test_what_cannot_be_shown_whole_or_would_not_be_done_is_not_asked_for(
    live: Deployment, arguments: Any, why: str
) -> None:
    replies = [ToolCall("t", "mail", arguments, raw="{" if arguments is None else ""), None]
    given: list[str] = []

    def script(call: Any) -> ModelResponse:
        given.extend(message.text for message in call.messages if message.role == "tool")
        asked = replies.pop(0)
        return ModelResponse("no mail", Usage(1, 1), "tool_calls" if asked else "end", (asked,) if asked else ())

    live.provider.script = script
    live.define_tools(mail=MAIL)
    run_id = live.accept(live.push([{"name": "a", "tools": ["mail"], "approval": {"tools": ["mail"]}}]))
    assert live.step(live.map(live.start(run_id))[0])["outcome"] == "done"
    assert len(given) == 1
    assert why in given[0]


def test_hundreds_of_long_questions_fit_into_the_runs_item(live: Deployment) -> None:
    run_id = live.accept(live.push([{"name": "ask"}]))
    live.start(run_id)
    long, asked_at = "é" * 5000, clock.now_text()
    step: Any = {"key": "start", "kind": "input", "prompt": long, "asked_at": asked_at, "expires_at": asked_at}
    shown = questions.beginning(step, long, {"a": "b" * 5000})
    for item in range(1, 401):
        live.runs.set_pending(Work(run_id, "test", 1, "ask", 0, item), shown)
    assert len(live.read(run_id)["questions"]) == 400


def test_the_end_of_a_question_is_told_once_in_time(world: World) -> None:
    workflow = world.push([{"name": "pay", "approval": {"start": True, "timeoutSeconds": 1000}}], model="house:one")
    run_id = world.request({"workflow": workflow, "input": "hello"})
    world.finish(run_id)
    told = [event["type"] for event in world.events(run_id)]
    assert told == ["RunStarted", "RunWaiting", "QuestionExpiring", "StepFailed", "RunFailed"]
    asked, expiring = world.events(run_id)[1:3]
    after = clock.ms_between(str(asked["asked_at"]), expiring["at"])
    assert 800_000 <= after < 815_000
    assert expiring["question"] == asked["question"] == question_id("STEP#pay#0#0", "start")
    assert [(event["step"], event["expires_at"]) for event in (asked, expiring)] == [("pay", asked["expires_at"])] * 2
    assert [event["type"] for event in world.sent].count("QuestionExpiring") == 1


@pytest.mark.parametrize("late", [False, True])
def test_an_answer_counts_before_and_after_its_end_was_told(world: World, late: bool) -> None:
    workflow = world.push([{"name": "pay", "approval": {"start": True, "timeoutSeconds": 1000}}], model="house:one")

    def person(run_id: str) -> None:
        asked = world.item(run_id, "RUN").get("pending") or {}
        if asked and ("expiring_since" in asked["STEP#pay#0#0"]) == late:
            respond(world.runs, run_id, APPROVED)

    world.person = person
    run_id = world.request({"workflow": workflow, "input": "hello"})
    world.finish(run_id)
    told = [event["type"] for event in world.events(run_id)]
    assert told == ["RunStarted", "RunWaiting", *["QuestionExpiring"] * late, "StepCompleted", "RunCompleted"]
