"""DeepSeek's Chat Completions."""

from __future__ import annotations

from support.dialects.openai import OpenAIDialect
from support.wire_server import Reply, Request


class DeepSeekDialect(OpenAIDialect):
    """JSON mode without a schema, and no forced tools: github.com/BerriAI/litellm, pull request 31466."""

    name = "deepseek"
    own_format = False
    model = "deepseek-flash"
    limit = "max_tokens"

    def refusal(self, request: Request) -> Reply | None:
        body = request.json
        if body.get("response_format", {}).get("type") == "json_schema":
            return self.error(400, "invalid_request_error", "This response_format type is unavailable now")
        if isinstance(body.get("tool_choice"), dict) or body.get("tool_choice") == "required":
            said = "Thinking mode does not support this tool_choice"
            return self.error(400, "invalid_request_error", said)
        return None
