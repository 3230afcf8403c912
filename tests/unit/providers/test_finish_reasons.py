"""What the ends of answers stand for, as OpenAI's dialect meets them at its many servers."""

from __future__ import annotations

from typing import Any

import pytest

from loopllama.errors import ContentFiltered, InvalidModelResponse, ModelError, ModelUnavailable
from loopllama.llm.types import ModelRequest
from loopllama.providers.openai import OpenAI
from loopllama.settings import Settings

CALL = ModelRequest("m", "m", "", (), 5.0)


def parsed(finish: object, **message: object) -> Any:
    value = {"choices": [{"message": {"content": "Dear customer, we", **message}, "finish_reason": finish}]}
    return OpenAI("zai", Settings()).read(CALL, value)


@pytest.mark.parametrize(
    ("finish", "error"),
    [
        # Mistral and OpenRouter, Z.ai, DeepSeek, vLLM
        *((name, ModelUnavailable) for name in ("error", "network_error", "insufficient_system_resource", "abort")),
        # OpenAI, Z.ai, Bedrock behind a gateway, Gemini
        *((name, ContentFiltered) for name in ("content_filter", "sensitive", "guardrail_intervened", "SAFETY")),
        # Gemini by its own endpoint, and behind gateways
        *(
            (name, InvalidModelResponse)
            for name in (
                *(
                    "function_call_filter: MALFORMED_FUNCTION_CALL",
                    "MALFORMED_FUNCTION_CALL",
                    "malformed_function_call",
                ),
                *("UNEXPECTED_TOOL_CALL", "TOO_MANY_TOOL_CALLS", "MALFORMED_RESPONSE"),
            )
        ),
    ],
)
def test_a_broken_off_answer_is_never_taken_for_whole(finish: str, error: type) -> None:
    broken = parsed(finish).error
    assert type(broken) is error
    assert isinstance(broken, ModelError)
    assert broken.repeatable is (error is InvalidModelResponse)


@pytest.mark.parametrize("finish", ["stop", "eos", "", None, 7, ["stop"], "something_new"])
def test_an_end_that_says_nothing_else_is_one(finish: object) -> None:
    answer = parsed(finish)
    assert (answer.error, answer.stop_reason) == (None, "end")


@pytest.mark.parametrize("finish", ["length", "model_length", "max_tokens", "model_context_window_exceeded"])
def test_an_answer_that_was_cut_off_says_so(finish: str) -> None:
    assert parsed(finish).stop_reason == "max_tokens"
