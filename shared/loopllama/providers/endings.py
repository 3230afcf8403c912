"""How answers end: what each provider calls it, in one vocabulary.

`end`, `tool_calls` and `max_tokens` are ends of an answer. With the others there is none that can be used: somebody
declined to give it (`declined`), the provider broke it off (`broken_off`), or the model wrote what nobody can read
(`malformed`). A broken-off answer is never taken for a whole one.

Names are compared in lower case and with underscores, because gateways pass on what their upstream wrote. A name that
is not known says by its words how it ended; one that has none of them is an end like any other: providers add some, and
what was said stands.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Literal

from loopllama.core.patterns import late
from loopllama.errors import ContentFiltered, InvalidModelResponse, ModelError, ModelUnavailable
from loopllama.llm.types import StopReason

Ending = Literal["end", "tool_calls", "max_tokens", "declined", "broken_off", "malformed"]


_ENUM = late(r"^(?:finish_?reason[._](?!unspecified)|reason_)")
"""What SDKs that gateways are built on put before the name: `FinishReason.MAX_TOKENS`, `REASON_MAX_LEN`."""


def _table(**names: str) -> Mapping[str, Ending]:
    return {name: ending for ending, listed in names.items() for name in listed.split()}  # type: ignore[misc]


ANTHROPIC = _table(
    end="end_turn stop_sequence",
    tool_calls="tool_use",
    max_tokens="max_tokens model_context_window_exceeded",
    declined="refusal",
    # Both ask to be continued, which the adapter does.
    broken_off="pause_turn compaction",
)
"""https://platform.claude.com/docs/en/build-with-claude/handling-stop-reasons, …/compaction"""

CONVERSE = _table(
    end="end_turn stop_sequence",
    tool_calls="tool_use",
    max_tokens="max_tokens model_context_window_exceeded",
    declined="guardrail_intervened content_filtered refusal",
    broken_off="pause_turn",
    malformed="malformed_model_output malformed_tool_use",
)
"""https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_Converse.html, stopReason"""

RESPONSES = _table(
    end="completed",
    max_tokens="incomplete max_output_tokens",
    declined="content_filter",
    broken_off="cancelled queued in_progress failed",
)
"""Statuses, and reasons of incomplete ones: https://platform.openai.com/docs/api-reference/responses/object"""

GEMINI = _table(
    end="finish_reason_unspecified stop",
    max_tokens="max_tokens",
    declined="safety recitation language blocklist prohibited_content spii image_safety image_prohibited_content "
    "image_recitation model_armor",
    broken_off="other image_other no_image",
    malformed="malformed_function_call unexpected_tool_call too_many_tool_calls missing_thought_signature "
    "malformed_response",
)
"""https://ai.google.dev/api/generate-content#FinishReason,
https://cloud.google.com/vertex-ai/generative-ai/docs/reference/rest/v1/GenerateContentResponse#FinishReason"""

COHERE = _table(
    end="complete stop_sequence",
    tool_calls="tool_call",
    max_tokens="max_tokens error_limit",
    declined="error_toxic",
    broken_off="error timeout user_cancel",
)
"""https://docs.cohere.com/reference/chat, finish_reason"""

CHAT: Mapping[str, Ending] = {
    # Upstreams' own names, as gateways pass them on.
    **COHERE,
    **GEMINI,
    **CONVERSE,
    **ANTHROPIC,
    **_table(
        # OpenAI, Azure, Groq, Cerebras, Perplexity, Moonshot, xAI, Fireworks, Ollama, llama.cpp, vLLM;
        # Together says eos, text-generation-inference eos_token.
        end="stop eos eos_token",
        tool_calls="tool_calls function_call",
        # Mistral says model_length; watsonx token_limit and time_limit; xAI's SDK max_len and max_context; others what
        # their parameter is called.
        max_tokens="length model_length token_limit time_limit max_len max_context max_new_tokens "
        "max_output_tokens incomplete",
        # Z.ai says sensitive; Azure's filters write content_filter_results.
        declined="content_filter content_filter_results sensitive",
        # Mistral and OpenRouter (error), Z.ai (network_error), DeepSeek (insufficient_system_resource), vLLM and SGLang
        # (abort), Ollama (load, unload), watsonx (not_finished).
        broken_off="error network_error insufficient_system_resource abort cancelled timeout load unload not_finished",
        # vLLM and Moonshot stop a model that writes the same over and over (github.com/BerriAI/litellm, pull request
        # 27101; github.com/MoonshotAI/moonpalace, pull request 3).
        malformed="repetition repeat",
    ),
}
"""Chat Completions at its many servers. https://platform.openai.com/docs/api-reference/chat/object,
https://docs.mistral.ai/api, https://api-docs.deepseek.com/api/create-chat-completion,
https://openrouter.ai/docs/api-reference/overview (normalized and native_finish_reason),
https://docs.z.ai/api-reference/llm/chat-completion, https://docs.together.ai/reference/chat-completions-1,
https://docs.x.ai/docs/api-reference, https://docs.vllm.ai"""


_BY_WORDS: tuple[tuple[re.Pattern[str], Ending], ...] = (
    (late("malformed|repetit|loop|unpars|degenerat"), "malformed"),
    (late("filter|safety|moderat|refus|block|censor|prohibit|violat|flagged"), "declined"),
    (
        late("error|fail|abort|cancel|interrupt|time_?out|overload|preempt|evict|disconnect|rate_?limit|quota"),
        "broken_off",
    ),
    (late("length|max_|limit|truncat|context|budget"), "max_tokens"),
)
"""What a name that no table has says by its words: no server's list is complete, and an answer that is broken off must
not be taken for a whole one."""


def _by_name(table: Mapping[str, Ending], name: str) -> Ending:
    by_words: Ending = next((found for words, found in _BY_WORDS if words.search(name)), "end")
    return table.get(name, by_words)


def ending(table: Mapping[str, Ending], *reasons: Any) -> Ending:
    """Return how an answer ended by the reasons that it gives, whatever they are: the first that says more than that it
    is over counts, or one behind it that says why the answer was broken off. Gateways may write two in one,
    `content_filter: RECITATION`."""
    first: Ending = "end"
    for reason in reasons:
        for name in reversed(_snake(reason).split(":")) if isinstance(reason, str) else ():
            found = _by_name(table, _ENUM.sub("", name.strip(" _")))
            if first == "end" or (first == "broken_off" and found in ("declined", "malformed")):
                first = found
    return first


def _snake(reason: str) -> str:
    """Return a name as most write it: some servers say `contentFilter`, `content-filter` or `CONTENT FILTER`."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])|[\s-]+", "_", reason.strip()).lower()


def stop_reason(found: Ending) -> StopReason:
    """Return what is recorded of an answer that can be used."""
    return found if found in ("tool_calls", "max_tokens") else "end"


def failure(found: Ending, who: str, reason: Any) -> ModelError | None:
    """Return the error that stands for an answer which cannot be used; `None` for one that can."""
    if found == "declined":
        return ContentFiltered(f"{who} declined to answer ({reason})")
    if found == "broken_off":
        return ModelUnavailable(f"{who}: the provider broke off the answer ({reason})")
    if found == "malformed":
        return InvalidModelResponse(f"{who}: the model's answer cannot be read ({reason})", repeatable=True)
    return None
