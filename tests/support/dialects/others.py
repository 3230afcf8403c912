"""Servers that speak OpenAI's Chat Completions with a difference or two in what they take."""

from __future__ import annotations

from typing import ClassVar

from support.dialects.base import Dialect
from support.dialects.openai import OpenAIDialect
from support.wire_server import Reply, Request


class GroqDialect(OpenAIDialect):
    """No schema beside tools: github.com/vercel/ai, pull request 16540."""

    name = "groq"
    own_format = False
    model = "llama-3.3-70b-versatile"
    path = "/openai/v1"

    def refusal(self, request: Request) -> Reply | None:
        if (refused := Dialect.refusal(self, request)) is not None:
            return refused
        if {"tools", "response_format"} <= request.json.keys():
            said = "json mode cannot be combined with tool/function calling"
            return self.error(400, "", said)
        return None


class CerebrasBesideToolsDialect(GroqDialect):
    """No schema beside tools: github.com/juspay/neurolink, its page on Cerebras."""

    name = "cerebras"
    model = "gpt-oss-120b"
    path = "/v1"

    def refusal(self, request: Request) -> Reply | None:
        if (refused := Dialect.refusal(self, request)) is not None:
            return refused
        if {"tools", "response_format"} <= request.json.keys():
            return self.error(400, "wrong_api_format", '"tools" is incompatible with "response_format"')
        return None


class WordsOnlyDialect(OpenAIDialect):
    """A tool is forced by a word, not by its name."""

    name = "words-only"
    own_format = False
    model = "qwen3-4b-instruct"
    limit = "max_tokens"
    words: ClassVar[tuple[str, ...]]
    says: ClassVar[str]

    def refusal(self, request: Request) -> Reply | None:
        if (refused := Dialect.refusal(self, request)) is not None:
            return refused
        choice = request.json.get("tool_choice", "auto")
        return None if choice in self.words else Reply(400, {"error": self.says})


class LmStudioDialect(WordsOnlyDialect):
    """github.com/can1357/llm-git, issue 13."""

    words = ("none", "auto", "required")
    says = "Invalid tool_choice type: 'object'. Supported string values: none, auto, required"


class EarlierMistralDialect(WordsOnlyDialect):
    """github.com/kyaukyuai/gpt-all-star, issue 670."""

    words = ("none", "auto", "any")
    says = "body.tool_choice: Input should be 'auto', 'none' or 'any'"


class CerebrasDialect(WordsOnlyDialect):
    """Forces none: github.com/567-labs/instructor, issue 1766."""

    words = ("none", "auto")
    says = "Unsupported tool_choice: type='function'. Expected 'auto' or 'none'."


class ForeignAtAzureDialect(OpenAIDialect):
    """A model of others at Azure, which does not know OpenAI's newer parameters."""

    name = "azure"
    own_format = False
    path = "/openai/v1"
    model = "mistral-prod"
    limit = "max_tokens"

    def refusal(self, request: Request) -> Reply | None:
        if "max_completion_tokens" in request.json:
            where = ["body", "max_completion_tokens"]
            wrong = {"type": "extra_forbidden", "loc": where, "msg": "Extra inputs are not permitted"}
            return Reply(422, {"detail": [wrong]})
        return Dialect.refusal(self, request)
