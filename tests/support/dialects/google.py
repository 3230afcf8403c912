"""Gemini's OpenAI-compatible endpoint."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, ClassVar

from loopllama.errors import (
    CredentialsRejected,
    ModelNotAvailable,
    ModelRequestRejected,
    ModelThrottled,
    ModelTimeout,
    ModelUnavailable,
)
from support import schema_rules
from support.dialects.base import Dialect, Documented, Figures
from support.dialects.history import Rules
from support.dialects.openai import OpenAIDialect
from support.wire_server import Reply, Request


class GoogleDialect(OpenAIDialect):
    """Errors come as google.rpc.Status in a list."""

    name = "google"
    own_format = False
    strict = False
    recursive_schemas = False
    model = "gemini-2.5-flash"
    limit = "max_tokens"
    path = "/v1beta/openai"
    has_refusal = False
    too_long = (
        400,
        "INVALID_ARGUMENT",
        "The input token count (1100000) exceeds the maximum number of tokens allowed (1048576).",
    )
    throttled = (429, "RESOURCE_EXHAUSTED", "You exceeded your current quota.")
    unauthorized = (400, "API_KEY_INVALID", "API key not valid. Please pass a valid API key.")
    unknown_model = (404, "NOT_FOUND", "models/gemini-none is not found for API version v1main")
    bad_request = (400, "INVALID_ARGUMENT", "Invalid value at 'generation_config.temperature'")
    overloaded = (503, "UNAVAILABLE", "The model is overloaded. Please try again later.")
    documented: ClassVar[Documented] = (
        # https://ai.google.dev/gemini-api/docs/troubleshooting
        (400, "INVALID_ARGUMENT", ModelRequestRejected),
        (400, "API_KEY_INVALID", CredentialsRejected),
        (400, "FAILED_PRECONDITION", ModelRequestRejected),
        (401, "UNAUTHENTICATED", CredentialsRejected),
        (403, "PERMISSION_DENIED", ModelNotAvailable),
        (404, "NOT_FOUND", ModelNotAvailable),
        (429, "RESOURCE_EXHAUSTED", ModelThrottled),
        (499, "CANCELLED", ModelUnavailable),
        (500, "INTERNAL", ModelUnavailable),
        (503, "UNAVAILABLE", ModelUnavailable),
        (504, "DEADLINE_EXCEEDED", ModelTimeout),
    )

    rules: ClassVar[Rules] = Rules(
        names="[a-zA-Z_][a-zA-Z0-9_.:-]{0,63}",
        ids=".*",
        says={
            **OpenAIDialect.rules.says,
            "name": "GenerateContentRequest.contents[{at}].parts[0].function_call.name: Invalid function name. Must "
            "start with a letter or an underscore. Must be alphameric (a-z, A-Z, 0-9), underscores (_), dots (.), "
            "colons (:) or dashes (-), with a maximum length of 64.",
            "missing": "Please ensure that the number of function response parts is equal to the number of function "
            "call parts of the function call turn.",
        },
    )

    def refusal(self, request: Request) -> Reply | None:
        if (refused := Dialect.refusal(self, request)) is not None:
            return refused
        body = request.json
        if re.search(r"gemini-[12]\.", body["model"]) and "tools" in body and "response_format" in body:
            said = "Function calling with a response mime type: 'application/json' is unsupported"
            return self.error(400, "INVALID_ARGUMENT", said)
        form = body.get("response_format", {}).get("json_schema")
        if form and (wrong := schema_rules.at_gemini(form["schema"])):
            return self.error(400, "INVALID_ARGUMENT", wrong)
        for place, tool in enumerate(body.get("tools", ())):
            schema, within = tool["function"]["parameters"], f"tools[0].function_declarations[{place}].parameters"
            if wrong := schema_rules.at_gemini(schema, schema_rules.GEMINI_TOOL_KEYS, within):
                return self.error(400, "INVALID_ARGUMENT", wrong)
        return None

    def usage(self, figures: Figures) -> dict[str, Any]:
        return {
            "prompt_tokens": figures.prompt,
            "completion_tokens": figures.answer - figures.reasoning,
            "total_tokens": figures.prompt + figures.answer,
            "prompt_tokens_details": {"cached_tokens": figures.cached},
        }

    def unreadable(self) -> Mapping[str, Reply]:
        """https://ai.google.dev/api/generate-content#FinishReason, and how this endpoint and gateways write it"""
        found = {}
        for reason in ("function_call_filter: MALFORMED_FUNCTION_CALL", "UNEXPECTED_TOOL_CALL", "malformed_response"):
            body = self.answer("I will look that up.")
            body["choices"][0]["finish_reason"] = reason
            found[reason] = Reply(200, body)
        return found

    def error(self, status: int, code: str, message: str, headers: Mapping[str, str] | None = None) -> Reply:
        error: dict[str, Any] = {"code": status, "message": message, "status": code}
        if code == "API_KEY_INVALID":
            info = {"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": code, "domain": "googleapis.com"}
            error |= {"status": "INVALID_ARGUMENT", "details": [info]}
        return Reply(status, [{"error": error}], headers or {})
