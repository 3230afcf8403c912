"""What the ends of answers stand for: every one that a provider documents, by provider, with its source."""

from __future__ import annotations

from typing import Any

import pytest

from loopllama.errors import ContentFiltered, InvalidModelResponse, ModelError, ModelThrottled, ModelUnavailable
from loopllama.llm.types import ModelRequest
from loopllama.providers import endings
from loopllama.providers.adapter import Parsed
from loopllama.providers.anthropic import Anthropic
from loopllama.providers.bedrock.converse import Bedrock
from loopllama.providers.openai import OpenAI
from loopllama.providers.openai_responses import OpenAIResponses
from loopllama.settings import Settings

CALL = ModelRequest("m", "m", "", (), 5.0)
TEXT = "Dear customer, we"

CHAT: dict[str, str] = {
    # provider and source: reason=meaning
    "openai https://platform.openai.com/docs/api-reference/chat/object": "stop=end length=max_tokens "
    "tool_calls=tool_calls function_call=tool_calls content_filter=declined",
    "azure https://learn.microsoft.com/azure/ai-foundry/openai/reference": "stop=end length=max_tokens "
    "content_filter=declined tool_calls=tool_calls",
    "google https://ai.google.dev/api/generate-content#FinishReason": "FINISH_REASON_UNSPECIFIED=end STOP=end "
    "MAX_TOKENS=max_tokens SAFETY=declined RECITATION=declined LANGUAGE=declined OTHER=broken_off BLOCKLIST=declined "
    "PROHIBITED_CONTENT=declined SPII=declined MALFORMED_FUNCTION_CALL=malformed IMAGE_SAFETY=declined "
    "IMAGE_PROHIBITED_CONTENT=declined IMAGE_OTHER=broken_off NO_IMAGE=broken_off IMAGE_RECITATION=declined "
    "UNEXPECTED_TOOL_CALL=malformed TOO_MANY_TOOL_CALLS=malformed MISSING_THOUGHT_SIGNATURE=malformed "
    "MALFORMED_RESPONSE=malformed MODEL_ARMOR=declined malformed_function_call=malformed "
    "content_filter:RECITATION=declined function_call_filter:MALFORMED_FUNCTION_CALL=malformed",
    "mistral https://docs.mistral.ai/api": "stop=end length=max_tokens model_length=max_tokens error=broken_off "
    "tool_calls=tool_calls",
    "deepseek https://api-docs.deepseek.com/api/create-chat-completion": "stop=end length=max_tokens "
    "content_filter=declined tool_calls=tool_calls insufficient_system_resource=broken_off",
    "openrouter https://openrouter.ai/docs/api-reference/overview": "tool_calls=tool_calls stop=end length=max_tokens "
    "content_filter=declined error=broken_off",
    "groq https://console.groq.com/docs/api-reference": "stop=end length=max_tokens tool_calls=tool_calls "
    "function_call=tool_calls",
    "together https://docs.together.ai/reference/chat-completions-1": "stop=end eos=end length=max_tokens "
    "tool_calls=tool_calls function_call=tool_calls",
    "fireworks https://docs.fireworks.ai/api-reference/post-chatcompletions": "stop=end length=max_tokens "
    "tool_calls=tool_calls function_call=tool_calls error=broken_off",
    "xai https://docs.x.ai/docs/api-reference": "stop=end length=max_tokens end_turn=end tool_calls=tool_calls "
    "content_filter=declined",
    "cerebras https://inference-docs.cerebras.ai/api-reference/chat-completions": "stop=end length=max_tokens "
    "content_filter=declined tool_calls=tool_calls",
    "perplexity https://docs.perplexity.ai": "stop=end length=max_tokens",
    "moonshot https://platform.moonshot.ai/docs/api/chat": "stop=end length=max_tokens tool_calls=tool_calls "
    "content_filter=declined repeat=malformed",
    "zai https://docs.z.ai/api-reference/llm/chat-completion": "stop=end tool_calls=tool_calls length=max_tokens "
    "sensitive=declined network_error=broken_off model_context_window_exceeded=max_tokens",
    "cohere https://docs.cohere.com/reference/chat": "COMPLETE=end STOP_SEQUENCE=end MAX_TOKENS=max_tokens "
    "TOOL_CALL=tool_calls ERROR=broken_off TIMEOUT=broken_off ERROR_TOXIC=declined ERROR_LIMIT=max_tokens "
    "USER_CANCEL=broken_off",
    "vllm https://docs.vllm.ai": "stop=end length=max_tokens tool_calls=tool_calls abort=broken_off error=broken_off "
    "repetition=malformed",
    "watsonx https://cloud.ibm.com/apidocs/watsonx-ai": "max_tokens=max_tokens eos_token=end stop_sequence=end "
    "token_limit=max_tokens time_limit=max_tokens cancelled=broken_off error=broken_off not_finished=broken_off",
    "xai-sdk https://github.com/xai-org/xai-sdk-python": "REASON_STOP=end REASON_MAX_LEN=max_tokens "
    "REASON_MAX_CONTEXT=max_tokens REASON_TIME_LIMIT=max_tokens REASON_TOOL_CALLS=tool_calls",
    "enumerations, as gateways write them": "FinishReason.MAX_TOKENS=max_tokens FinishReason.STOP=end "
    "finish_reason_length=max_tokens FinishReason.SAFETY=declined",
    "gateways, by the name of the limit, or without what is put before it": "max_output_tokens=max_tokens "
    "max_new_tokens=max_tokens max_len=max_tokens max_context=max_tokens incomplete=max_tokens time_limit=max_tokens",
    "ollama https://docs.ollama.com/api/openai-compatibility": "stop=end length=max_tokens load=broken_off "
    "unload=broken_off",
    "tgi https://huggingface.co/docs/text-generation-inference": "eos_token=end stop_sequence=end length=max_tokens",
    "litellm https://docs.litellm.ai": "guardrail_intervened=declined content_filtered=declined refusal=declined "
    "tool_use=tool_calls malformed_model_output=malformed malformed_tool_use=malformed pause_turn=broken_off",
}
ANTHROPIC = (
    "end_turn=end stop_sequence=end max_tokens=max_tokens tool_use=tool_calls pause_turn=broken_off refusal=declined "
    "model_context_window_exceeded=max_tokens compaction=broken_off"
)
"""https://platform.claude.com/docs/en/build-with-claude/handling-stop-reasons; a pause that is not continued."""
CONVERSE = (
    "end_turn=end tool_use=tool_calls max_tokens=max_tokens stop_sequence=end guardrail_intervened=declined "
    "content_filtered=declined malformed_model_output=malformed malformed_tool_use=malformed "
    "model_context_window_exceeded=max_tokens"
)
"""https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_Converse.html"""
RESPONSES = (
    "completed=end failed=broken_off in_progress=broken_off queued=broken_off cancelled=broken_off "
    "incomplete/max_output_tokens=max_tokens incomplete/content_filter=declined incomplete=max_tokens"
)
"""https://platform.openai.com/docs/api-reference/responses/object: `status`, and `incomplete_details.reason`"""


def pairs(text: str) -> list[tuple[str, str]]:
    return [(pair.rpartition("=")[0], pair.rpartition("=")[2]) for pair in text.split()]


def chat(finish: object, **choice: object) -> Parsed:
    value = {"choices": [{"message": {"content": TEXT}, "finish_reason": finish, **choice}]}
    return OpenAI("zai", Settings()).read(CALL, value)


def anthropic(reason: object) -> Parsed:
    return Anthropic("anthropic", Settings()).read(
        CALL, {"content": [{"type": "text", "text": TEXT}], "stop_reason": reason}
    )


def converse(reason: object) -> Parsed:
    message = {"role": "assistant", "content": [{"text": TEXT}]}
    return Bedrock("bedrock", Settings()).read(CALL, {"output": {"message": message}, "stopReason": reason})


def responses(reason: object) -> Parsed:
    status, _, why = str(reason).partition("/")
    output = [{"type": "message", "content": [{"type": "output_text", "text": TEXT}]}]
    details = {"reason": why} if why else None
    return OpenAIResponses("openai", Settings()).read(
        CALL, {"status": status if isinstance(reason, str) else reason, "incomplete_details": details, "output": output}
    )


ROWS = [
    *((chat, name, *pair) for name, listed in CHAT.items() for pair in pairs(listed)),
    *((anthropic, "anthropic", *pair) for pair in pairs(ANTHROPIC)),
    *((converse, "bedrock", *pair) for pair in pairs(CONVERSE)),
    *((responses, "responses", *pair) for pair in pairs(RESPONSES)),
]
ERRORS: dict[str, type[ModelError]] = {
    "declined": ContentFiltered,
    "broken_off": ModelUnavailable,
    "malformed": InvalidModelResponse,
}


@pytest.mark.parametrize(
    ("read", "reason", "meaning"),
    [(read, reason, meaning) for read, _, reason, meaning in ROWS],
    ids=[f"{name.split(' ')[0]}-{reason}" for _, name, reason, _ in ROWS],
)
def test_every_documented_end(read: Any, reason: str, meaning: str) -> None:
    answer: Parsed = read(reason)
    assert answer.text == TEXT
    if meaning in ERRORS:
        # Never taken for a whole answer.
        assert isinstance(answer.error, ERRORS[meaning])
        assert answer.error.repeatable is (meaning == "malformed")
    else:
        assert (answer.error, answer.stop_reason) == (None, meaning)


def test_the_list_has_every_end_that_is_read() -> None:
    """What a table knows is documented by somebody above."""
    listed = {reason.lower() for _, _, reason, _ in ROWS} | {"content_filter_results", "cancelled", "compaction"}
    assert endings.CHAT.keys() <= listed
    assert endings.ANTHROPIC.keys() == {reason for reason, _ in pairs(ANTHROPIC)}
    assert endings.RESPONSES.keys() == {part for reason, _ in pairs(RESPONSES) for part in reason.split("/")}


def test_the_list_has_every_end_of_converse() -> None:
    """botocore's service model is the documentation here; an end that a later version adds shows up."""
    import botocore.session

    service = botocore.session.get_session().get_service_model("bedrock-runtime")
    shape: Any = service.operation_model("Converse").output_shape  # the stubs know less of shapes
    documented = set(shape.members["stopReason"].enum)
    assert documented == {reason for reason, _ in pairs(CONVERSE)}


@pytest.mark.parametrize("read", [chat, anthropic, converse, responses])
@pytest.mark.parametrize("reason", ["", None, 7, ["stop"], "something_new", "a:b"])
def test_an_end_that_says_nothing_else_is_one(read: Any, reason: object) -> None:
    answer: Parsed = read(reason)
    assert (answer.error, answer.stop_reason) == (None, "end")


@pytest.mark.parametrize(
    ("finish", "native", "expected"),
    [
        ("stop", "MALFORMED_FUNCTION_CALL", InvalidModelResponse),
        ("stop", "refusal", ContentFiltered),
        ("error", "MALFORMED_FUNCTION_CALL", InvalidModelResponse),
        ("error", "SAFETY", ContentFiltered),
        ("error", "STOP", ModelUnavailable),
        (None, "abort", ModelUnavailable),
        ("stop", "end_turn", type(None)),
        ("stop", "completed", type(None)),
        ("tool_calls", "tool_use", type(None)),
        ("length", "STOP", type(None)),
    ],
)
def test_what_the_upstream_called_it(finish: object, native: str, expected: type) -> None:
    """OpenRouter makes one of five names of it, and says the upstream's own beside."""
    assert type(chat(finish, native_finish_reason=native).error) is expected


@pytest.mark.parametrize(
    ("code", "expected"),
    [(429, ModelThrottled), (502, ModelUnavailable), ("x", ModelUnavailable), (None, ModelUnavailable)],
)
def test_why_an_answer_was_broken_off(code: object, expected: type) -> None:
    """An error that comes when the answer has begun: https://openrouter.ai/docs/api-reference/errors"""
    error = chat("error", error={"code": code, "message": "Upstream ran out"}).error
    assert type(error) is expected
    assert "broke off the answer (Upstream ran out)" in str(error)


@pytest.mark.parametrize(
    ("code", "said", "later", "wait"),
    [
        (429, "Please try again in 20s", True, 20),
        (429, "Too many tokens per day", False, None),
        (402, "Insufficient credits", False, None),
        (502, "Provider returned nothing", True, None),
    ],
)
def test_when_a_broken_off_answer_is_worth_a_later_try(code: int, said: str, later: bool, wait: float | None) -> None:
    error = chat("error", error={"code": code, "message": said}).error
    assert error is not None
    assert (error.later, error.retry_after, error.next_model) == (later, wait, True)


def test_a_call_that_was_cut_off_is_no_call() -> None:
    asked = {"type": "function_call", "call_id": "a", "name": "now", "arguments": '{"zone": "Eur'}
    value = {"status": "incomplete", "incomplete_details": {"reason": "max_output_tokens"}, "output": [asked]}
    [call] = OpenAIResponses("openai", Settings()).read(CALL, value).tool_calls
    assert call.arguments is None


@pytest.mark.parametrize("status", ["completed", None])
@pytest.mark.parametrize(
    ("items", "stop"),
    [
        ([("message", "incomplete")], "max_tokens"),
        ([("message", "completed")], "end"),
        ([("message", None)], "end"),
        ([("reasoning", "incomplete"), ("message", "completed")], "end"),  # what it thought is not the answer
        ([("message", "completed"), ("function_call", "completed")], "tool_calls"),
        ([("message", "completed"), ("function_call", "incomplete")], "max_tokens"),
    ],
)
def test_an_item_that_is_cut_off_is_not_whole_in_a_response_that_is(
    status: str | None, items: list[tuple[str, str | None]], stop: str
) -> None:
    parts = {"content": [{"type": "output_text", "text": TEXT}], "call_id": "a", "name": "now", "arguments": "{}"}
    output = [{"type": kind, "status": said, **parts} for kind, said in items]
    parsed = OpenAIResponses("openai", Settings()).read(CALL, {"status": status, "output": output})
    assert (parsed.stop_reason, parsed.error) == (stop, None)
    assert [call.arguments for call in parsed.tool_calls] == [
        None if stop == "max_tokens" else {} for kind, _ in items if kind == "function_call"
    ]


UNKNOWN = {
    "end": "done finished complete unknown null stop_string matched_stop escape_sequence",
    "max_tokens": "max_length length_limit max-tokens maxTokens MAX-LENGTH context_length_exceeded truncated",
    "declined": "contentFilter content-filter CONTENT-FILTER censored moderation blocked flagged policy_violation",
    "broken_off": "canceled failed server_error interrupted overloaded preempted rate_limit quota_exceeded TIME-OUT",
    "malformed": "repetition_truncation loop_detected malformed_output",
}


@pytest.mark.parametrize(("meaning", "name"), [(key, name) for key, names in UNKNOWN.items() for name in names.split()])
@pytest.mark.parametrize("table", ["CHAT", "ANTHROPIC", "CONVERSE"])
def test_a_name_that_nobody_documents_says_by_its_words_how_it_ended(table: str, meaning: str, name: str) -> None:
    assert endings.ending(getattr(endings, table), name) == meaning
