"""DeepSeek's Chat Completions."""

from __future__ import annotations

from support.dialects.base import Dialect
from support.dialects.openai import OpenAIDialect
from support.wire_server import Reply, Request


class DeepSeekDialect(OpenAIDialect):
    """JSON mode without a schema, and no forced tools: github.com/BerriAI/litellm, pull request 31466. The thoughts
    before a tool call come back: https://api-docs.deepseek.com/guides/thinking_mode#tool-calls."""

    name = "deepseek"
    own_format = False
    model = "deepseek-flash"
    limit = "max_tokens"

    def refusal(self, request: Request) -> Reply | None:
        if (refused := Dialect.refusal(self, request)) is not None:
            return refused
        body = request.json
        thinks = body.get("thinking", {}).get("type") != "disabled"
        if thinks and any("tool_calls" in one and not one.get("reasoning_content") for one in body["messages"]):
            said = "The `reasoning_content` in the thinking mode must be passed back to the API."
            return self.error(400, "invalid_request_error", said)
        if body.get("response_format", {}).get("type") == "json_schema":
            return self.error(400, "invalid_request_error", "This response_format type is unavailable now")
        if isinstance(body.get("tool_choice"), dict) or body.get("tool_choice") == "required":
            said = "Thinking mode does not support this tool_choice"
            return self.error(400, "invalid_request_error", said)
        return None
