"""Mistral's Chat Completions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from loopllama.errors import (
    CredentialsRejected,
    ModelNotAvailable,
    ModelRequestRejected,
    ModelThrottled,
    ModelUnavailable,
)
from support.dialects.base import Documented, Figures
from support.dialects.history import Rules
from support.dialects.openai import OpenAIDialect
from support.wire_server import Reply


class MistralDialect(OpenAIDialect):
    name = "mistral"
    own_format = False
    model = "mistral-small-latest"
    limit = "max_tokens"
    counts_reasoning = False
    has_refusal = False
    too_long = (
        400,
        "3051",
        "Prompt contains 140000 tokens and 0 draft tokens, too large for model with 131072 maximum context length",
    )
    throttled = (429, "1300", "Requests rate limit exceeded")
    unauthorized = (401, "", "Unauthorized")
    unknown_model = (400, "invalid_model", "Invalid model: mistral-none")
    bad_request = (422, "", "Input should be less than or equal to 1.5")
    overloaded = (503, "", "Service unavailable.")
    documented: ClassVar[Documented] = (
        # https://docs.mistral.ai/api, https://api-docs.deepseek.com/quick_start/error_codes
        (400, "invalid_request", ModelRequestRejected),
        (401, "", CredentialsRejected),
        (402, "", ModelThrottled),
        (403, "", ModelNotAvailable),
        (404, "", ModelNotAvailable),
        (422, "", ModelRequestRejected),
        (429, "rate_limited", ModelThrottled),
        (500, "", ModelUnavailable),
        (503, "", ModelUnavailable),
        (520, "", ModelUnavailable),
    )

    rules: ClassVar[Rules] = Rules(
        names="[a-zA-Z0-9_-]{1,64}",
        ids="[a-zA-Z0-9]{9}",
        says={
            **OpenAIDialect.rules.says,
            "name": "Function name was {what} but must be a-z, A-Z, 0-9, or contain underscores and dashes, with a "
            "maximum length of 64.",
            "id": "Tool call id was {what} but must be a-z, A-Z, 0-9, with a length of 9.",
            "repeated": "Duplicate tool call id in assistant message",
            "missing": "Not the same number of function calls and responses",
            "extra": "Unexpected tool call id {what} in tool results",
        },
    )

    def usage(self, figures: Figures) -> dict[str, Any]:
        return {
            "prompt_tokens": figures.prompt,
            "completion_tokens": figures.answer,
            "total_tokens": figures.prompt + figures.answer,
            "prompt_tokens_details": {"cached_tokens": figures.cached},
        }

    def error(self, status: int, code: str, message: str, headers: Mapping[str, str] | None = None) -> Reply:
        if status == 422:
            return Reply(status, {"detail": [{"loc": ["body", "temperature"], "msg": message}]}, headers or {})
        body = {"object": "error", "message": message, "type": code or None, "param": None, "code": code or None}
        return Reply(status, body, headers or {})
