"""What a model said wrong about tools goes back to it in a form that the provider takes, and the step goes on."""

from __future__ import annotations

from typing import Any

import pytest
from support.deployment import Killed, dies_once_settled
from support.step_dialects import every_dialect
from support.step_here import Here
from support.wire_server import Reply

from loopllama.llm.structured_output import TOOL_NAME

ONE_AND_ONE = {"expression": "1+1"}


def calls_in(here: Here, number: int) -> list[tuple[str, str, Any]]:
    seen = here.dialect.seen(here.first.requests[number])
    return [content for _, kind, content in seen.messages if kind == "call"]


def results_in(here: Here, number: int) -> list[tuple[str, str]]:
    return [content for role, _, content in here.dialect.seen(here.first.requests[number]).messages if role == "tool"]


@every_dialect
@pytest.mark.parametrize("name", ["multi_tool_use.parallel", "search the web", "functions.search", "", "x" * 300_000])
def test_a_name_that_no_provider_takes(here: Here, name: str) -> None:
    here.first.script(
        Reply(200, here.dialect.answer("", [("call_1", name, {})], "tools", usage=None)),
        Reply(200, here.dialect.answer("Two.")),
    )
    run_id, work = here.start(tools=["calculator", "ask_human"])
    assert here.live.step(work)["outcome"] == "done"
    assert here.first.refused == 0
    [(_, result)] = results_in(here, 1)
    assert result == f"there is no tool {name[:80]!r}; the tools are: calculator, ask_human"
    step = here.read(run_id)
    assert (step["output"], step["tool_calls"][0]["name"]) == ("Two.", name[:256])


@every_dialect
def test_a_tool_is_called_by_an_agent_that_has_none(here: Here) -> None:
    """Providers refuse tool calls in a request without tools: it is told in words."""
    here.first.script(
        Reply(200, here.dialect.answer("", [("call_1", "search", {"q": "x"})], "tools")),
        Reply(200, here.dialect.answer("Two.")),
    )
    run_id, work = here.start()
    assert here.live.step(work)["outcome"] == "done"
    assert here.first.refused == 0
    assert here.read(run_id)["output"] == "Two."
    said = here.dialect.seen(here.first.requests[1]).messages[-1]
    assert said[:2] == ("user", "text")
    assert "there is no tool 'search'; this agent has no tools: answer without them" in said[2]


@every_dialect
def test_ids_that_repeat_or_are_missing(here: Here) -> None:
    one = ("", "calculator", ONE_AND_ONE)
    two = ("http_request", "calculator", {"expression": "2+2"})
    here.first.script(
        Reply(200, here.dialect.answer("", [two, ("http_request", *one[1:]), one], "tools", usage=None)),
        Reply(200, here.dialect.answer("", [one, two], "tools", usage=None)),
        Reply(200, here.dialect.answer("Done.")),
    )
    run_id, work = here.start(tools=["calculator"])
    assert here.live.step(work)["outcome"] == "done"
    assert here.first.refused == 0
    assert here.read(run_id)["output"] == "Done."
    calls, results = calls_in(here, 2), results_in(here, 2)
    assert [identifier for identifier, _, _ in calls] == [identifier for identifier, _ in results]
    assert len({identifier for identifier, _, _ in calls}) == 5
    assert [text for _, text in results] == ["4", "2", "2", "2", "4"]
    # The conversation before the last answer is, to the letter, what it was.
    assert (calls_in(here, 1), results_in(here, 1)) == (calls[:3], results[:3])


@every_dialect
def test_the_answer_beside_another_call_is_asked_again(here: Here) -> None:
    free = {
        "type": "object",
        "properties": {"sum": {"type": "integer"}, "more": {"type": "object"}},
        "required": ["sum"],
    }
    given = [("call_1", "calculator", ONE_AND_ONE), ("call_2", TOOL_NAME, {"sum": 0})]
    again = [("call_3", TOOL_NAME, {"sum": 2})]
    here.first.script(
        Reply(200, here.dialect.answer("", given, "tools")), Reply(200, here.dialect.answer("", again, "tools"))
    )
    run_id, work = here.start(tools=["calculator"], outputSchema=free)
    with dies_once_settled(), pytest.raises(Killed):
        here.live.step(work, "first")
    here.live.wait(60)
    assert here.live.step(work, "second")["outcome"] == "done"
    assert here.first.refused == 0
    assert here.read(run_id)["output"] == {"sum": 2}
    assert [text.split(":")[0] for _, text in results_in(here, 1)] == ["2", "not taken as the answer"]


@every_dialect
@pytest.mark.parametrize(
    ("arguments", "stop"),
    [("[1, 2]", "tools"), ('{"expression": ', "tools"), ('{"expression": "1+', "length"), ("\\ud83d", "tools")],
    ids=["no object", "broken", "cut off", "half a character"],
)
def test_arguments_that_are_no_object(here: Here, arguments: str, stop: str) -> None:
    here.first.script(
        Reply(200, here.dialect.answer("", [("call_1", "calculator", arguments)], stop)),
        Reply(200, here.dialect.answer("Two.")),
    )
    run_id, work = here.start(tools=["calculator"])
    assert here.live.step(work)["outcome"] == "done"
    assert here.first.refused == 0
    assert here.read(run_id)["output"] == "Two."
    [(_, name, sent)] = calls_in(here, 1)
    assert (name, sent) == ("calculator", {"not_json": sent["not_json"]})
    [(_, result)] = results_in(here, 1)
    assert "the arguments of calculator are not a JSON object" in result
