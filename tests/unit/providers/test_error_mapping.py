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
    QuotaExhausted,
)
from loopllama.providers.anthropic import CODES as ANTHROPIC
from loopllama.providers.error_mapping import kind_of, of_long_quota, read_error, wait_in
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


GONE = [
    # In the providers' words, shortened. Most come with status 404 as well, which alone says it.
    ("deepseek", 400, "Model Not Exist"),
    ("groq", 400, "The model `llama2-70b-4096` has been decommissioned and is no longer supported."),
    (
        "together",
        400,
        "Unable to access non-serverless model meta-llama/Llama-3. Please visit https://api.together.ai/models/ to "
        "create and start a new dedicated endpoint for the model.",
    ),
    ("mistral", 400, "Invalid model: mistral-none"),
    ("openrouter", 400, "anthropic/claude-none is not a valid model ID"),
    ("google", 400, "models/gemini-none is not found for API version v1main, or is not supported for generateContent."),
    ("xai", 400, "The model grok-none does not exist or your team 1a2b does not have access to it."),
    ("fireworks", 400, "Model not found, inaccessible, and/or not deployed"),
    ("perplexity", 400, "Invalid model 'sonar-none'. Permitted models can be found in the documentation."),
    ("cerebras", 400, "Model llama-none does not exist or you do not have access to it."),
    ("ollama", 400, 'model "gemma9" not found, try pulling it first'),
    ("vllm", 400, "The model `meta-llama/Llama-9` does not exist."),
    ("azure", 400, "Unavailable model: gpt-9"),
    ("moonshot", 400, "Not found the model kimi-none or Permission denied"),
    ("litellm", 400, "/chat/completions: Invalid model name passed in model=gpt-none. Call `/v1/models` to view."),
    ("z.ai", 400, "Unknown Model, please check the model code."),
    ("openai", 400, "The model `gpt-4-32k` has been deprecated, learn more here: https://platform.openai.com/docs"),
]
OF_THE_REQUEST = [
    (
        "openai",
        400,
        "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens'.",
    ),
    ("openai", 400, "Invalid parameter: 'response_format' of type 'json_schema' is not supported with this model."),
    ("openai", 400, "Tool choice 'function' not found in 'tools' parameter."),
    ("openai", 400, "No tool output found for function call call_1."),
    ("openai", 400, "Item with id 'rs_1' not found. Items are not persisted when `store` is set to false."),
    ("anthropic", 400, "`temperature` is deprecated for this model."),
    ("anthropic", 400, "model: String should have at least 1 character"),
    ("bedrock", 400, "The model returned the following errors: tool_choice.tool: Tool 'x' not found in provided tools"),
    (
        "bedrock",
        400,
        "The model returned the following errors: output_format: This field is deprecated. Use 'output_config.format' "
        "instead.",
    ),
    ("bedrock", 400, "The model returned the following errors: thinking.type: enabled is no longer supported."),
    ("google", 400, "Please use a valid role: user, model."),
    ("google", 400, "Invalid JSON payload received. Unknown name \"const\" at 'tools[0]': Cannot find field."),
    ("mistral", 422, "model: Field required"),
    ("groq", 400, "json mode cannot be combined with tool/function calling"),
    ("deepseek", 400, "This response_format type is unavailable now"),
    ("vllm", 400, "default chat template is no longer allowed, so you must provide a chat template"),
    ("litellm", 400, "the model does not support parameters: ['temperature'], tool x is not available"),
    ("ollama", 400, "registry.ollama.ai/library/gemma3 does not support tools"),
    ("azure", 400, "Invalid model output: the tool call is no JSON"),
]


@pytest.mark.parametrize(("provider", "status", "said"), GONE, ids=lambda value: str(value)[:30])
def test_a_model_that_is_not_there(provider: str, status: int, said: str) -> None:
    assert kind_of(status, ["invalid_request_error"], said, {}) is ModelNotAvailable, provider


@pytest.mark.parametrize(("provider", "status", "said"), OF_THE_REQUEST, ids=lambda value: str(value)[:30])
def test_an_error_of_the_request_is_none_of_the_model(provider: str, status: int, said: str) -> None:
    assert kind_of(status, ["invalid_request_error"], said, {}) is ModelRequestRejected, provider


@pytest.mark.parametrize(
    ("said", "names", "wait", "kind"),
    [
        # A quota of a minute, whoever says so.
        ("Rate limit reached for requests", [], None, ModelThrottled),
        ("Too many tokens, please wait before trying again.", ["ThrottlingException"], None, ModelThrottled),
        ("Quota exceeded", ["RESOURCE_EXHAUSTED", "GenerateRequestsPerMinutePerProjectPerModel"], 39, ModelThrottled),
        ("This request would exceed the limit of 50,000 input tokens per minute", [], 3_600, ModelThrottled),
        # A day's, of Bedrock, OpenRouter, and Cohere's of a month.
        ("Too many tokens per day, please wait before trying again.", ["ThrottlingException"], None, QuotaExhausted),
        ("Rate limit exceeded: free-models-per-day", [], None, QuotaExhausted),
        ("You are using a Trial key, which is limited to 1000 API calls / month.", [], None, QuotaExhausted),
        ("You have exceeded the daily limit", [], None, QuotaExhausted),
        # Gemini names the wait of a minute beside it.
        ("Quota exceeded. Please retry in 39.2s.", ["GenerateRequestsPerDayPerProject-FreeTier"], 39.2, QuotaExhausted),
        # GitHub's models
        ("Rate limit of 50 per 86400s exceeded for UserByModelByDay. Please wait 43200 s", [], 43_200, QuotaExhausted),
        # OpenAI's and Groq's move: the wait that they name is as long as it takes.
        ("Rate limit reached on requests per day (RPD). Please try again in 8.64s.", [], 8.64, ModelThrottled),
        ("Rate limit reached on tokens per day (TPD). Please try again in 15m35s.", [], 935, QuotaExhausted),
        # Nobody waits for longer than an hour.
        ("Slow down", [], 3_601, QuotaExhausted),
        # Words that only look like it.
        ("Your request yesterday was fine; today we are busy", [], None, ModelThrottled),
    ],
)
def test_quotas_that_no_step_waits_for(said: str, names: list[str], wait: float | None, kind: type[Exception]) -> None:
    assert of_long_quota(ModelThrottled, names, said, wait) is kind
    assert of_long_quota(ModelUnavailable, names, said, wait) is ModelUnavailable


def test_the_quota_that_google_names_is_among_the_codes() -> None:
    violation = {"quotaId": "GenerateRequestsPerDayPerProjectPerModel-FreeTier", "quotaValue": "20"}
    details = [{"@type": "type.googleapis.com/google.rpc.QuotaFailure", "violations": [{}, 1, violation]}, {"x": 1}]
    codes, _ = read_error(json.dumps({"error": {"status": "RESOURCE_EXHAUSTED", "details": details}}).encode())
    assert codes == ["RESOURCE_EXHAUSTED", violation["quotaId"]]
    for broken in (None, "x", [1], [{"violations": 1}], [{"violations": [{"quotaId": 1}]}]):
        assert read_error(json.dumps({"error": {"status": "X", "details": broken}}).encode())[0] == ["X"]
