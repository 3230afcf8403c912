"""No model is asked nothing: an empty prompt is refused where it comes in, or fails its step with a sentence."""

from __future__ import annotations

from typing import Any

import pytest
from support.deployment import Deployment

from loopllama.engine.human_input import respond
from loopllama.engine.replay import replay_run
from loopllama.errors import InvalidRequest, RunFailed, WorkflowInvalid

BLANK = ["", " ", " \n\t", "\u00a0\u3000"]


@pytest.mark.parametrize("text", BLANK)
def test_an_empty_input_reaches_no_model_by_itself(live: Deployment, text: str) -> None:
    """No text at all is refused at the door. A blank one may be what a crew that does not read it is started with."""
    workflow = live.push([{"name": "echo", "prompt": "{{ input }}"}])
    if not text:
        with pytest.raises(InvalidRequest, match="input is empty"):
            live.accept(workflow, text)
        return
    run_id = live.accept(workflow, text)
    with pytest.raises(RunFailed):
        live.play(run_id)
    assert "the prompt is empty, because {{ input }} came to nothing" in live.read(run_id)["error"]
    assert live.provider.calls == []


@pytest.mark.parametrize("text", BLANK)
def test_an_empty_system_prompt_or_template_is_refused_at_the_door(live: Deployment, text: str) -> None:
    for agent in ({"systemPrompt": text}, {"prompt": text}):
        with pytest.raises(WorkflowInvalid):
            live.push([{"name": "one", **agent}])
    run_id = live.accept(live.push([{"name": "one"}]))
    live.play(run_id)
    with pytest.raises(InvalidRequest):
        replay_run(live.settings, run_id, "one", system_prompts={"one": text})


@pytest.mark.parametrize(
    ("crew", "run_input", "named"),
    [
        (
            [
                {"name": "maybe", "when": "input.x", "needs": []},
                {"name": "other", "needs": []},
                {"name": "reply", "needs": ["maybe", "other"], "prompt": " {{ steps.maybe.output }}\n"},
            ],
            {"y": 1},
            "{{ steps.maybe.output }} came to nothing",
        ),
        ([{"name": "reply", "prompt": "{{ input.text }}{{ input.more }}"}], {"text": " ", "more": ""}, "input.more"),
        ([{"name": "reply", "prompt": '{{ " " }}'}], "x", "its text came to nothing"),
        ([{"name": "reply", "forEach": "input.list", "prompt": "{{ item }}"}], {"list": ["a", ""]}, "{{ item }} came"),
    ],
)
def test_a_template_that_comes_to_nothing_fails_its_step(
    live: Deployment, crew: list[dict[str, Any]], run_input: Any, named: str
) -> None:
    run_id = live.accept(live.push(crew), run_input)
    with pytest.raises(RunFailed):
        live.play(run_id)
    error = live.read(run_id)["error"]
    assert "InvalidRequest" in error or "ItemsFailed" in error
    assert "the prompt is empty" in error
    assert named in error
    asked = [call.messages[0].text for call in live.provider.calls]
    assert all(text.strip() for text in asked)


def test_what_is_no_text_is_no_empty_prompt(live: Deployment) -> None:
    run_id = live.accept(live.push([{"name": "echo", "prompt": "{{ input }}"}]), {})
    live.play(run_id)
    assert live.read(run_id)["status"] == "completed"
    assert live.provider.calls[0].messages[0].text == "{}"


@pytest.mark.parametrize("text", BLANK)
def test_a_person_cannot_answer_nothing(live: Deployment, text: str) -> None:
    from loopllama.llm.types import ModelResponse, ToolCall, Usage

    asks = ToolCall("t1", "ask_human", {"question": "Which?"})
    live.provider.script = lambda call: ModelResponse("", Usage(1, 1), "tool_calls", (asks,))
    run_id = live.accept(live.push([{"name": "paint", "tools": ["ask_human"]}]))
    assert live.step(live.map(live.start(run_id))[0])["outcome"] == "waiting"
    with pytest.raises(InvalidRequest, match="waits for an answer"):
        respond(live.runs, run_id, {"input": text})
