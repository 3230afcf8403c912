"""What an error of a provider stands for, by its status, its codes and its words."""

from __future__ import annotations

import json
from typing import Any

import pytest

from loopllama.errors import (
    ContextTooLong,
    ModelNotAvailable,
    ModelRequestRejected,
    ModelThrottled,
    ModelUnavailable,
)
from loopllama.providers.anthropic import CODES as ANTHROPIC
from loopllama.providers.error_mapping import kind_of, read_error, wait_in
from loopllama.providers.openai_service import CODES as OPENAI


@pytest.mark.parametrize(
    ("said", "seconds"),
    [
        # Gemini, github.com/NousResearch/hermes-agent/issues/29071
        ("You exceeded your current quota. Please retry in 39.207s.", 39.207),
        # OpenAI and Groq
        ("Rate limit reached for gpt-4o on tokens per min. Please try again in 20s. Visit …", 20.0),
        ("Please try again in 6m0s.", 360.0),
        ("Please try again in 1h2m3.5s.", 3723.5),
        ("Please try again in 182ms.", 0.182),
        ("Too many requests, retry after 30 seconds", 30.0),
        ("Please wait 5 seconds before you send another request", 5.0),
        ("Try again in 2 minutes", 120.0),
        ("Rate limit reached: 20 requests in 60 s", None),
        ("Please retry in a moment", None),
        ("try again in 999999999h", 24 * 3600.0),
        ("", None),
    ],
)
def test_the_wait_that_a_message_names(said: str, seconds: float | None) -> None:
    assert wait_in(said) == (None if seconds is None else pytest.approx(seconds))


def test_the_wait_of_retry_info_where_the_message_names_none() -> None:
    info = {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "39s"}
    error: dict[str, Any] = {"code": 429, "message": "Quota exceeded.", "status": "RESOURCE_EXHAUSTED"}
    for body in ([{"error": {**error, "details": [info]}}], {"error": {**error, "details": [{"x": 1}, info]}}):
        codes, said = read_error(json.dumps(body).encode())
        assert "RESOURCE_EXHAUSTED" in codes
        assert wait_in(said) == 39
    for broken in ("soon", 39, None, "9" * 30 + "s"):
        _, said = read_error(json.dumps({"error": {**error, "details": [{**info, "retryDelay": broken}]}}).encode())
        assert wait_in(said) is None


@pytest.mark.parametrize(
    ("status", "codes", "said", "kind"),
    [
        (404, ["model_not_found"], "The model `gpt-old` does not exist", ModelNotAvailable),
        (404, ["invalid_request_error"], "gone", ModelNotAvailable),
        (410, [], "", ModelNotAvailable),
        (403, [], "Forbidden", ModelNotAvailable),
        # DeepSeek, Groq, Together, Mistral
        (400, ["invalid_request_error"], "Model Not Exist", ModelNotAvailable),
        (400, ["model_decommissioned"], "The model `x` has been decommissioned", ModelNotAvailable),
        (
            400,
            ["invalid_request_error"],
            "Unable to access non-serverless model: model is not available",
            ModelNotAvailable,
        ),
        (400, ["invalid_model"], "Invalid model: mistral-none", ModelNotAvailable),
        (400, ["invalid_request_error"], "temperature must be at most 1", ModelRequestRejected),
        (422, [], "model: field required", ModelRequestRejected),
        (400, [], "This model does not support tools", ModelRequestRejected),
        # A request larger than the whole quota of a minute will not fit later either.
        (429, ["rate_limit_exceeded"], "Request too large: Limit 30000, Requested 31024.", ContextTooLong),
        (429, ["rate_limit_exceeded"], "Limit 30000, Used 29000, Requested 2000.", ModelThrottled),
        (503, [], "model is overloaded", ModelUnavailable),
    ],
)
def test_what_an_error_stands_for(status: int, codes: list[str], said: str, kind: type) -> None:
    assert kind_of(status, codes, said, OPENAI) is kind


def test_numbers_without_end_say_nothing() -> None:
    """Python refuses to read a number of more than 4,300 digits."""
    long = "9" * 5000
    assert kind_of(429, [], f"Limit 1, Requested {long}", OPENAI) is ModelThrottled
    assert kind_of(429, [], f"Limit {long}, Requested {long}", OPENAI) is ModelThrottled
    for said in (f"try again in {long}s", "try again in " + "1m" * 900, "try " * 500 + long):
        assert wait_in(said) is None


def test_anthropics_types() -> None:
    assert kind_of(404, ["not_found_error"], "model: claude-none", ANTHROPIC) is ModelNotAvailable
    assert kind_of(403, ["permission_error"], "no", ANTHROPIC) is ModelNotAvailable
    assert kind_of(400, ["invalid_request_error"], "max_tokens: too large", ANTHROPIC) is ModelRequestRejected
