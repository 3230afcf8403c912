"""What an error of a provider stands for, by its status, its codes and its words."""

from __future__ import annotations

import json
from typing import Any

import pytest

from loopllama.errors import (
    ContentFiltered,
    ContextTooLong,
    CredentialsRejected,
    ModelError,
    ModelNotAvailable,
    ModelRequestRejected,
    ModelThrottled,
    ModelUnavailable,
)
from loopllama.providers.anthropic import CODES as ANTHROPIC
from loopllama.providers.error_mapping import judged, kind_of, read_error
from loopllama.providers.openai_service import CODES as OPENAI
from loopllama.providers.waits import in_text as wait_in


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


FILTERED = [
    ("anthropic", 400, [], "Output blocked by content filtering policy"),
    ("openai", 400, ["invalid_prompt"], "Invalid prompt: your prompt was flagged as potentially violating our policy."),
    ("openai", 400, ["cyber_policy"], "This request has been flagged for possible cybersecurity risk."),
    ("openai", 400, [], "Your request was rejected as a result of our safety system."),
    ("deepseek", 400, ["invalid_request_error"], "Content Exists Risk"),
    ("qwen", 400, ["data_inspection_failed"], "Input data may contain inappropriate content."),
    ("qwen", 400, [], "<400> InternalError.Algo.DataInspectionFailed: Input text data may contain bad words"),
    ("moonshot", 400, [], "The request was rejected because it was considered high risk"),
    ("z.ai", 400, ["1301"], "\u5185\u5bb9\u53ef\u80fd\u5305\u542b\u654f\u611f"),
    ("openrouter", 403, [], "Input was flagged by moderation"),
    ("xai", 403, [], "Content violates usage guidelines. Failed check: SAFETY_CHECK_TYPE_BIO"),
    ("groq", 400, ["content_blocked"], "Content blocked by safety policy"),
    ("bedrock", 400, ["ValidationException"], "The model returned the following errors: Output blocked by content "
     "filtering policy"),
    ("minimax", 422, [], "input new_sensitive"),
]  # fmt: skip


@pytest.mark.parametrize(("provider", "status", "codes", "said"), FILTERED, ids=lambda value: str(value)[:30])
def test_a_filters_refusal_with_a_status_of_the_requests(
    provider: str, status: int, codes: list[str], said: str
) -> None:
    for known in ({}, OPENAI, ANTHROPIC):
        assert kind_of(status, codes, said, known) is ContentFiltered, provider


@pytest.mark.parametrize(
    ("status", "said"),
    [
        (400, "Incorrect API key provided: sk***89. You can obtain an API key from https://console.x.ai."),
        (400, "API key not valid. Please pass a valid API key."),
        (400, "API key expired. Please renew the API key."),
        (403, "Method doesn't allow unregistered callers. Please use API Key"),
    ],
)
def test_a_wrong_key_with_another_status_than_401(status: int, said: str) -> None:
    assert kind_of(status, ["INVALID_ARGUMENT"], said, OPENAI) is CredentialsRejected
    assert kind_of(403, [], "This API key has no access to the project", OPENAI) is ModelNotAvailable


OF_ALL = [
    "messages: at least one message is required",
    "Invalid 'messages': empty array. Expected an array with minimum length 1, but got an empty array instead.",
    "[] is too short - 'messages'",
    "messages must not be empty",
    "* GenerateContentRequest.contents: contents is not specified",
    "We could not parse the JSON body of your request.",
    "model: Field required",
    "you must provide a model parameter",
]
OF_ONE = [
    *(said for _, _, said in OF_THE_REQUEST if "not support" in said or "deprecated" in said),
    "The requested model is not supported.",
    "This model only support stream mode, please enable the stream parameter to access the model.",
    "parameter.enable_thinking must be set to false for non-streaming calls",
    "Requests with max_tokens > 4096 must have stream=true",
    '"auto" tool choice requires --enable-auto-tool-choice and --tool-call-parser to be set',
    "Model grok-4 does not support parameter reasoningEffort.",
    "Unknown parameter: 'verbositty'.",
    "Your organization must be verified to generate reasoning summaries.",
    "Developer instruction is not enabled for models/gemma-3-27b-it",
    "User location is not supported for the API use.",
    "This model doesn't support the toolConfig.toolChoice.any field.",
    "reasoning_effort: Extra inputs are not permitted",
    "Invalid schema for function 'search': schema must be a JSON Schema of 'type: \"object\"'",
    "Provider returned error",
    "temperature must be at most 1",
    "Invalid value for 'temperature'",
    "temperature: range: 0..1",
    "Input should be less than or equal to 1.5",
    "No tool output found for function call call_1.",
    "Please use a valid role: user, model.",
    "Expected last role User or Tool (or Assistant with prefix True) for serving but got assistant",
    "`max_tokens` must be greater than `thinking.budget_tokens`.",
    "messages.1.content.0.type: Expected `thinking` or `redacted_thinking`, but found `tool_use`.",
    "Invalid 'tools': array too long. Expected an array with maximum length 128, but got an array with length 200.",
    "Words that nobody has seen yet",
    "",
]


def test_what_one_model_refuses_says_nothing_of_the_next() -> None:
    for said, next_model in [*((said, True) for said in OF_ONE), *((said, False) for said in OF_ALL)]:
        error = judged(ModelRequestRejected(said), [], said)
        assert error.next_model is next_model, said
        assert not error.later
    assert judged(ModelRequestRejected("?"), ["unsupported_value"], "?").next_model
    gone: ModelError = judged(ModelThrottled("not supported"), [], "not supported")
    assert gone.next_model
    assert ModelRequestRejected("another").next_model
    assert judged(CredentialsRejected("no"), [], OF_ALL[0]).next_model


@pytest.mark.parametrize(
    ("status", "said", "kind"),
    [
        (400, "Range of input length should be [1, 129024]", ContextTooLong),
        (400, "Input length (40000 tokens) exceeds the maximum allowed length (32768 tokens).", ContextTooLong),
        (400, "The decoder prompt (length 2136) is longer than the maximum model length of 2048.", ContextTooLong),
        (500, "The decoder prompt (length 2136) is longer than the maximum model length of 2048.", ContextTooLong),
        (400, "Prompt exceeds max length", ContextTooLong),
        (400, "Input length 203743 exceeds the maximum length 202752", ContextTooLong),
        (400, "The number of input tokens exceeds the maximum length of 127072", ContextTooLong),
        (
            400,
            "too many tokens: size limit exceeded by 1523 tokens. Try using shorter or fewer inputs.",
            ContextTooLong,
        ),
        (422, "Input validation error: `inputs` must have less than 4096 tokens. Given: 5000", ContextTooLong),
        (400, "Exceeded maximum allowed content length: 40000 > 32768 tokens", ContextTooLong),
        (
            400,
            "`max_completion_tokens` must be less than or equal to `8192`, the maximum value for it is less than the "
            "`context_window` for this model",
            ModelRequestRejected,
        ),
        (400, "The tool's input description exceeds the maximum length of 1024", ModelRequestRejected),
        (400, "The total length of all messages is too long.", ContextTooLong),
        (400, "Request too large: prompt is 230000 tokens, limit is 200000", ContextTooLong),
        (400, "prompt token count of 200000 exceeds the limit of 128000", ContextTooLong),
        (400, "input characters limit is 393216", ContextTooLong),
        (400, "max_tokens must be at least 1, got -500.", ContextTooLong),
        (400, "The sum of prompt tokens and max tokens exceeds the model limit", ContextTooLong),
        (400, "Prompt has 256468 tokens, but the configured context size is 256000 tokens", ContextTooLong),
        (400, "Input tokens (9000) exceed the configured limit of 8000 tokens.", ContextTooLong),
        (400, "The length of the prompt (9000) plus max_tokens (4000) exceeds the limit 8192", ContextTooLong),
        (400, "The input (516368 tokens) is longer than the model's context length (262144 tokens).", ContextTooLong),
        (500, "Context size has been exceeded.", ContextTooLong),
        (400, "Invalid 'messages[0].content': string too long. Expected a maximum length of 1048576", ContextTooLong),
        (400, "Invalid 'tools[0].function.description': string too long. Expected at most 1024", ModelRequestRejected),
        (400, "Invalid 'user': string too long. Expected a string with maximum length 64", ModelRequestRejected),
        (400, "The maximum tokens you requested exceeds the model limit of 5000.", ModelRequestRejected),
        (
            400,
            "max_tokens is too large: 64000. This model supports at most 16384 completion tokens",
            ModelRequestRejected,
        ),
        (400, "Your organization has been restricted. Please reach out to support.", CredentialsRejected),
        (400, "This organization has been disabled.", CredentialsRejected),
        (403, "Your API key was reported as leaked. Please use another API key.", CredentialsRejected),
        (403, "Key limit exceeded (total limit).", ModelThrottled),
        (403, "Your newly created team doesn't have any credits yet.", ModelThrottled),
        (403, "Free allocated quota exceeded.", ModelThrottled),
        (400, "Budget has been exceeded! Current cost: 0.0005, Max budget: 0.0001", ModelThrottled),
        (403, "Your account is not active, current state: arrears", ModelThrottled),
        (400, "The system has detected potentially unsafe or sensitive content in your input.", ContentFiltered),
        (400, "The prompt was blocked: PROHIBITED_CONTENT", ContentFiltered),
        (400, "Invalid request: Your request exceeded model token limit: 131072", ContextTooLong),
        (400, "Total tokens of image and text exceed max message tokens", ContextTooLong),
        (403, "Your team has used all available credits or reached its monthly spending limit", ModelThrottled),
        (412, "Account x is suspended, possibly due to failure to pay past invoices.", ModelThrottled),
        (400, "Access denied, please make sure your account is in good standing.", ModelThrottled),
        (403, "Your account balance is insufficient", ModelThrottled),
        (400, "No models loaded. Please load a model in the developer page.", ModelNotAvailable),
        (400, 'Failed to load model "qwen". Error: insufficient system resources.', ModelNotAvailable),
        (400, "Model not loaded", ModelNotAvailable),
        (400, "Model unloaded.", ModelUnavailable),
        (400, "The model has crashed without additional information. (Exit code: 6)", ModelUnavailable),
        (500, "Jinja Exception: Conversation roles must alternate user/assistant", ModelRequestRejected),
    ],
)
def test_more_words_of_the_same(status: int, said: str, kind: type) -> None:
    assert kind_of(status, [], said, OPENAI) is kind
    if status == 500 and kind is ContextTooLong:
        assert kind_of(status, ["server_error"], said, OPENAI) is kind
    if kind is ModelRequestRejected:
        assert judged(ModelRequestRejected(said), [], said).next_model


@pytest.mark.parametrize(
    "code", ["context_window_exceeded", "model_max_prompt_tokens_exceeded", "input_tokens_exceeded"]
)
def test_a_code_may_say_it_alone(code: str) -> None:
    assert kind_of(400, [code], "\u8bf7\u6c42\u8d85\u51fa\u6a21\u578b", OPENAI) is ContextTooLong


@pytest.mark.parametrize("whose", ["key", "team"])
def test_a_key_that_may_not_use_a_model_says_nothing_against_the_key(whose: str) -> None:
    said = f"{whose} not allowed to access model. This {whose} can only access models=['gpt-4o-mini']."
    assert kind_of(401, ["401", f"{whose}_model_access_denied"], said, OPENAI) is ModelNotAvailable


def test_the_words_of_an_error_may_be_called_otherwise() -> None:
    for key in ("msg", "error_msg", "errorMessage"):
        body = json.dumps({"code": 1113, key: "\u4f59\u989d\u4e0d\u8db3"}).encode()
        assert read_error(body) == ([], "\u4f59\u989d\u4e0d\u8db3")
    assert "\u4f59" in read_error(json.dumps({"other": "\u4f59"}).encode())[1]


def test_what_a_gateway_passes_on_of_its_upstream_is_read() -> None:
    raw = "prompt is too long: 210000 tokens > 200000 maximum"
    body = {"error": {"message": "Provider returned error", "code": 400, "metadata": {"raw": raw}}}
    codes, said = read_error(json.dumps(body).encode())
    assert kind_of(400, codes, said, OPENAI) is ContextTooLong


def test_the_quota_that_google_names_is_among_the_codes() -> None:
    violation = {"quotaId": "GenerateRequestsPerDayPerProjectPerModel-FreeTier", "quotaValue": "20"}
    details = [{"@type": "type.googleapis.com/google.rpc.QuotaFailure", "violations": [{}, 1, violation]}, {"x": 1}]
    codes, _ = read_error(json.dumps({"error": {"status": "RESOURCE_EXHAUSTED", "details": details}}).encode())
    assert codes == ["RESOURCE_EXHAUSTED", violation["quotaId"]]
    for broken in (None, "x", [1], [{"violations": 1}], [{"violations": [{"quotaId": 1}]}]):
        assert read_error(json.dumps({"error": {"status": "X", "details": broken}}).encode())[0] == ["X"]


@pytest.mark.parametrize(
    ("status", "codes", "said", "wait", "later"),
    [
        (429, [], "Too many tokens", 7.0, True),
        (429, [], "Too many tokens per day", None, False),
        (429, [], "slow down", 3_601.0, False),
        (402, [], "?", None, False),
        (403, [], "Insufficient credits", None, False),
        (429, ["insufficient_quota"], "You exceeded your current quota, please check your plan", None, False),
        # Money, with the status of a quota: Z.ai's 1113, LiteLLM's proxy, Moonshot, Gemini, xAI.
        (429, ["1113"], "Insufficient balance or no resource package. Please recharge.", 5.0, False),
        (
            429,
            ["1113"],
            "\u4f59\u989d\u4e0d\u8db3\u6216\u65e0\u53ef\u7528\u8d44\u6e90\u5305,\u8bf7\u5145\u503c\u3002",
            None,
            False,
        ),
        (429, ["429", "budget_exceeded"], "?", None, False),
        (429, [], "ExceededBudget: User=u over budget. Spend=10.2, Budget=10.0", None, False),
        (429, ["exceeded_current_quota_error"], "Your account is suspended, please check your plan", None, False),
        (429, ["RESOURCE_EXHAUSTED"], "Your prepayment credits are depleted.", 39.0, False),
        (429, ["RESOURCE_EXHAUSTED"], "Your project has exceeded its monthly spending cap.", 39.0, False),
        (429, [], "Your team has either used all available credits or reached its monthly spending limit", None, False),
        (429, [], "You are over your rate limit", 39.0, True),
        # Gemini has the same words for a quota of a minute.
        (429, ["RESOURCE_EXHAUSTED"], "You exceeded your current quota, please check your plan", 39.0, True),
    ],
)
def test_what_a_throttled_call_says_of_a_later_try(
    status: int, codes: list[str], said: str, wait: float | None, later: bool
) -> None:
    error = judged(ModelThrottled(said, status=status, retry_after=wait), codes, said)
    assert (error.later, error.retry_after) == (later, wait)
    assert error.next_model
    down = judged(ModelUnavailable(said, status=503, retry_after=wait), codes, said)
    assert (down.later, down.retry_after) == (True, wait)
