"""An agent's turn with the adapters at work: structured output, tools, prompt caching, and what the record sums up."""

from __future__ import annotations

import time
from decimal import Decimal
from typing import Any

import pytest
from support.deployment import Killed
from support.step_dialects import GOOGLE
from support.step_here import Here
from support.wire_server import Reply, Request, WireServer

from loopllama.catalog.catalog import bundled

# Gemini's thought signatures: https://ai.google.dev/gemini-api/docs/thought-signatures


def signed(*signatures: str | None) -> Reply:
    """An answer that asks for the time once for each signature."""
    body = GOOGLE.answer("", [(f"call_{n}", "now", {}) for n in range(len(signatures))], "tools")
    for call, signature in zip(body["choices"][0]["message"]["tool_calls"], signatures, strict=True):
        if signature is not None:
            call["extra_content"] = {"google": {"thought_signature": signature}}
    return Reply(200, body)


def signatures_in(request: Request) -> list[str | None]:
    calls = [call for message in request.json["messages"] for call in message.get("tool_calls", ())]
    return [call.get("extra_content", {}).get("google", {}).get("thought_signature") for call in calls]


@pytest.mark.parametrize("dialect", [GOOGLE], ids=["google"], indirect=True)
def test_thought_signatures_are_given_back_also_by_another_invocation(
    here: Here, monkeypatch: pytest.MonkeyPatch
) -> None:
    here.first.script(signed("c2ln", None), Reply(200, here.dialect.answer("Noon.")))
    _, work = here.start(tools=["now"])

    def die(*_: Any, **__: Any) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr("loopllama.runs.attempt_log.StepLedger.open_tool", die)
        with pytest.raises(Killed):
            here.live.step(work, "first")
    here.live.wait(60)
    assert here.live.step(work, "second")["outcome"] == "done"
    # The second of two calls side by side has none.
    assert signatures_in(here.first.requests[1]) == ["c2ln", None]


def test_a_fallback_to_gemini_goes_on_with_another_models_tool_calls(here: Here) -> None:
    here.first.script(
        Reply(200, here.dialect.answer("", [("a", "now", {}), ("b", "now", {})], "tools")), Reply(500, b"down")
    )
    here.start()  # for its models
    gemini = here.live.put_model("gemini-behind", "google", "gemini-3-flash-preview", capabilities=["tools"])
    with WireServer() as google, pytest.MonkeyPatch.context() as patch:
        patch.setenv("GOOGLE_API_KEY", "k")
        patch.setenv("GOOGLE_BASE_URL", google.url)
        google.script(Reply(200, GOOGLE.answer("Noon.")))
        crew = [{"name": "reply", "model": here.models[0], "fallbacks": [gemini], "tools": ["now"]}]
        run_id = here.live.accept(here.live.push(crew, name="Behind"), "When?")
        here.live.play(run_id)
        assert here.live.read(run_id)["output"] == "Noon."
        assert signatures_in(google.requests[0]) == ["skip_thought_signature_validator", None]
    assert [signatures_in(request) for request in here.first.requests] == [[], [None, None]]


# What the catalog's entry says


def test_a_models_options_and_its_longest_answer_go_into_the_call(here: Here) -> None:
    """Put into the Models table between two calls of the same step: no deployment, no change of the workflow."""
    here.first.script(Reply(503, b""), Reply(200, here.dialect.answer("ok")))
    run_id, work = here.start(maxTokens=100_000)
    assert here.live.step(work)["outcome"] == "retry_later"
    plain = here.first.requests[0].json
    # The bundled model's own limit: more would be refused.
    assert plain["max_completion_tokens"] == (bundled().resolve("gpt-4.1-mini").max_output or 0) < 100_000
    assert "reasoning_effort" not in plain

    options = {"reasoning_effort": "low", "seed": 7, "logit_bias": {"50256": Decimal("-1.5")}}
    here.live.put_model(here.models[0], "openai", here.dialect.model, max_output=900, options=options)
    assert here.live.step(work)["outcome"] == "done"
    sent = here.first.requests[1].json
    assert sent == {
        **plain,
        "max_completion_tokens": 900,
        **options,
        "logit_bias": {"50256": -1.5},
    }
    assert here.read(run_id)["output"] == "ok"


def test_options_that_would_replace_the_call_are_not_sent(here: Here) -> None:
    here.first.script(Reply(200, here.dialect.answer("ok")))
    _, work = here.start()
    here.live.put_model(here.models[0], "openai", here.dialect.model, options={"model": "dearer", "n": 9})
    assert here.live.step(work)["outcome"] == "done"
    sent = here.first.requests[0].json
    assert sent["model"] == here.dialect.model
    assert "n" not in sent


# Connections


def test_a_connection_that_idled_a_minute_between_two_steps_is_used_again(
    here: Here, monkeypatch: pytest.MonkeyPatch
) -> None:
    here.first.script(*[Reply(200, here.dialect.answer("ok"))] * 4)

    def step() -> None:
        _, work = here.start()
        assert here.live.step(work)["outcome"] == "done"

    class Later:
        """The pool's clock, ahead by `seconds`."""

        seconds = 0

        @classmethod
        def monotonic(cls) -> float:
            return time.monotonic() + cls.seconds

    monkeypatch.setattr("httpcore._sync.http11.time", Later)
    step()
    Later.seconds = 60
    step()
    Later.seconds += 200
    step()
    assert [one.connection for one in here.first.requests] == [1, 1, 1]
    Later.seconds += 301
    step()
    assert [one.connection for one in here.first.requests] == [1, 1, 1, 2]
