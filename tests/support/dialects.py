"""The providers' wire formats as the contract suite speaks them: answers and errors shaped as each provider documents
them, and requests read back into one form."""

from __future__ import annotations

import itertools
import json
import re
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest

from loopllama import providers
from loopllama.aws import clients
from loopllama.catalog.providers import takes_temperature
from loopllama.llm.structured_output import TOOL_NAME
from loopllama.llm.types import Provider
from loopllama.providers import anthropic, credentials, openai
from loopllama.providers.bedrock import converse as bedrock
from loopllama.providers.bedrock import service
from loopllama.settings import Settings
from support.wire_server import Reply, Request

KEY = "sk-contract-0123456789"


@dataclass(frozen=True)
class Figures:
    """Tokens as we count them: the whole prompt, and parts of it."""

    prompt: int = 21
    answer: int = 7
    cached: int = 0
    written: int = 0
    reasoning: int = 0


@dataclass(frozen=True)
class Seen:
    """A request as the provider saw it. Messages are `(role, kind, content)` with kind text, call or result."""

    model: str
    system: str
    messages: list[tuple[str, str, Any]]
    tools: Mapping[str, Any] = field(default_factory=dict)
    forced: str | None = None
    schema: Any = None
    strict: bool | None = None
    max_tokens: int | None = None
    temperature: float | None = None
    cache_points: int = 0


class Dialect(ABC):
    name: str
    counts_writes = False
    counts_reasoning = False
    has_refusal = True
    """Whether a refusal has a form of its own."""
    model = "test-model"

    @abstractmethod
    def adapter(self, url: str, patch: pytest.MonkeyPatch) -> Provider:
        """The product's adapter, with the server at `url` for its provider."""

    @abstractmethod
    def answer(
        self, text: str = "", calls: Sequence[Any] = (), stop: str = "end", usage: Figures | None = Figures()
    ) -> Any:
        """A body. `calls` are `(id, name, arguments)`; arguments that are text are broken JSON. `stop` is one of end,
        tools, length, refusal."""

    @abstractmethod
    def error(self, status: int, code: str, message: str, headers: Mapping[str, str] | None = None) -> Reply: ...

    @abstractmethod
    def seen(self, request: Request) -> Seen: ...

    @abstractmethod
    def has_key(self, request: Request) -> bool: ...

    def refusal(self, request: Request) -> Reply | None:
        """What the provider answers to a request that it does not take; `None` where it takes it."""
        return None

    too_long: tuple[int, str, str]
    """The error for a prompt beyond the context window: status, code, message."""
    throttled: tuple[int, str, str]
    unauthorized: tuple[int, str, str]
    unknown_model: tuple[int, str, str]
    bad_request: tuple[int, str, str]
    overloaded: tuple[int, str, str]


def _http_adapter(provider: str, url: str, patch: pytest.MonkeyPatch) -> Provider:
    from loopllama.catalog.model import Model
    from loopllama.catalog.providers import KNOWN

    prefix = KNOWN[provider].variables[0]
    patch.setenv(f"{prefix}_API_KEY", KEY)
    patch.setenv(f"{prefix}_BASE_URL", url)
    credentials._kept.clear()
    providers._adapters.clear()
    return providers.provider_for(Model(f"{provider}:m", provider, "m"), Settings())


class OpenAIDialect(Dialect):
    name = "openai"
    counts_reasoning = True
    model = "gpt-4.1-mini"
    limit = "max_completion_tokens"
    path = "/v1"
    too_long = (
        400,
        "context_length_exceeded",
        "This model's maximum context length is 128000 tokens. However, your messages resulted in 130010 tokens.",
    )
    throttled = (429, "rate_limit_exceeded", "Rate limit reached for gpt-4.1-mini")
    unauthorized = (401, "invalid_api_key", f"Incorrect API key provided: {KEY}")
    unknown_model = (404, "model_not_found", "The model `gpt-none` does not exist or you do not have access to it.")
    bad_request = (400, "invalid_value", "Invalid value for 'temperature'")
    overloaded = (503, "server_is_overloaded", "The engine is currently overloaded, please try again later")

    def adapter(self, url: str, patch: pytest.MonkeyPatch) -> Provider:
        return _http_adapter(self.name, url + self.path, patch)

    def has_key(self, request: Request) -> bool:
        return request.headers.get("authorization") == f"Bearer {KEY}"

    def answer(
        self, text: str = "", calls: Sequence[Any] = (), stop: str = "end", usage: Figures | None = Figures()
    ) -> Any:
        message: dict[str, Any] = {"role": "assistant", "content": text or None, "refusal": None}
        if calls:
            message["tool_calls"] = [
                {
                    "id": identifier,
                    "type": "function",
                    "function": {"name": name, "arguments": a if isinstance(a, str) else json.dumps(a)},
                }
                for identifier, name, a in calls
            ]
        finish = {"end": "stop", "tools": "tool_calls", "length": "length", "refusal": "stop"}[stop]
        if stop == "refusal":
            message |= {"content": None, "refusal": "I'm sorry, I cannot assist with that request."}
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": finish}
        body = {
            "id": "chatcmpl-1",
            "object": "chat.completion",
            "model": f"{self.model}-2025-04-14",
            "choices": [choice],
        }
        return {**body, "usage": self.usage(usage)} if usage else body

    def usage(self, figures: Figures) -> dict[str, Any]:
        return {
            "prompt_tokens": figures.prompt,
            "completion_tokens": figures.answer,
            "total_tokens": figures.prompt + figures.answer,
            "prompt_tokens_details": {"cached_tokens": figures.cached, "audio_tokens": 0},
            "completion_tokens_details": {"reasoning_tokens": figures.reasoning, "audio_tokens": 0},
        }

    def error(self, status: int, code: str, message: str, headers: Mapping[str, str] | None = None) -> Reply:
        body = {"error": {"message": message, "type": "invalid_request_error", "param": None, "code": code}}
        return Reply(status, body, headers or {})

    def refusal(self, request: Request) -> Reply | None:
        body = request.json
        form = body.get("response_format", {}).get("json_schema")
        if re.match(r"gpt-(3\.5|4-turbo|4$)", body["model"]) and form:
            said = "Invalid parameter: 'response_format' of type 'json_schema' is not supported with this model."
            return self.error(400, "", said)
        if form and form.get("strict") and (place := _not_strict(form["schema"])):
            return self.error(400, "", f"Invalid schema for response_format 'answer': In context={place}.")
        if re.match(r"o\d|gpt-[5-9]", body["model"]):
            for name in ("temperature", "max_tokens"):
                if name in body:
                    return self.error(
                        400,
                        "unsupported_parameter",
                        f"Unsupported parameter: '{name}' is not supported with this model.",
                    )
        return None

    def seen(self, request: Request) -> Seen:
        assert request.path == f"{self.path}/chat/completions"
        return self.seen_body(request.json)

    def seen_body(self, body: Any) -> Seen:
        assert body["stream"] is False
        messages: list[tuple[str, str, Any]] = []
        system = ""
        for message in body["messages"]:
            role = message["role"]
            if role == "system":
                system = message["content"]
            elif role == "tool":
                messages.append(("tool", "result", (message["tool_call_id"], message["content"])))
            else:
                if message["content"]:
                    messages.append((role, "text", message["content"]))
                for call in message.get("tool_calls", ()):
                    function = call["function"]
                    content = (call["id"], function["name"], json.loads(function["arguments"]))
                    messages.append((role, "call", content))
        form = body.get("response_format", {}).get("json_schema", {})
        assert not form or body["response_format"]["type"] == "json_schema"
        return Seen(
            body["model"],
            system,
            messages,
            {t["function"]["name"]: t["function"]["parameters"] for t in body.get("tools", ())},
            body.get("tool_choice", {}).get("function", {}).get("name"),
            form.get("schema"),
            form.get("strict"),
            body.get(self.limit),
            body.get("temperature"),
        )


class AzureDialect(OpenAIDialect):
    name = "azure"
    path = "/openai/v1"
    too_long = (400, "context_length_exceeded", OpenAIDialect.too_long[2])
    throttled = (429, "429", "Requests have exceeded the token rate limit of your current pricing tier.")
    unauthorized = (401, "401", "Access denied due to invalid subscription key or wrong API endpoint.")
    unknown_model = (404, "DeploymentNotFound", "The API deployment for this resource does not exist.")

    def has_key(self, request: Request) -> bool:
        return request.headers.get("api-key") == KEY and "authorization" not in request.headers


class GoogleDialect(OpenAIDialect):
    """Gemini through its OpenAI-compatible endpoint: errors come as google.rpc.Status in a list."""

    name = "google"
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

    def refusal(self, request: Request) -> Reply | None:
        body = request.json
        if re.search(r"gemini-[12]\.", body["model"]) and "tools" in body and "response_format" in body:
            said = "Function calling with a response mime type: 'application/json' is unsupported"
            return self.error(400, "INVALID_ARGUMENT", said)
        return None

    def usage(self, figures: Figures) -> dict[str, Any]:
        return {
            "prompt_tokens": figures.prompt,
            "completion_tokens": figures.answer - figures.reasoning,
            "total_tokens": figures.prompt + figures.answer,
            "prompt_tokens_details": {"cached_tokens": figures.cached},
        }

    def error(self, status: int, code: str, message: str, headers: Mapping[str, str] | None = None) -> Reply:
        error: dict[str, Any] = {"code": status, "message": message, "status": code}
        if code == "API_KEY_INVALID":
            info = {"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": code, "domain": "googleapis.com"}
            error |= {"status": "INVALID_ARGUMENT", "details": [info]}
        return Reply(status, [{"error": error}], headers or {})


class MistralDialect(OpenAIDialect):
    name = "mistral"
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


class DeepSeekDialect(OpenAIDialect):
    """JSON mode without a schema, and no forced tools: github.com/BerriAI/litellm, pull request 31466."""

    name = "deepseek"
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


class AnthropicDialect(Dialect):
    name = "anthropic"
    counts_writes = True
    counts_reasoning = True
    model = "claude-haiku-4-5"
    too_long = (400, "invalid_request_error", "prompt is too long: 201246 tokens > 200000 maximum")
    throttled = (429, "rate_limit_error", "This request would exceed your organization's rate limit")
    unauthorized = (401, "authentication_error", "invalid x-api-key")
    unknown_model = (404, "not_found_error", "model: claude-none")
    bad_request = (400, "invalid_request_error", "temperature: range: 0..1")
    overloaded = (529, "overloaded_error", "Overloaded")

    def adapter(self, url: str, patch: pytest.MonkeyPatch) -> Provider:
        return _http_adapter(self.name, url, patch)

    def has_key(self, request: Request) -> bool:
        return request.headers.get("x-api-key") == KEY and request.headers["anthropic-version"] == anthropic.VERSION

    def answer(
        self, text: str = "", calls: Sequence[Any] = (), stop: str = "end", usage: Figures | None = Figures()
    ) -> Any:
        content: list[dict[str, Any]] = [{"type": "text", "text": text}] if text else []
        content += [{"type": "tool_use", "id": i, "name": n, "input": a} for i, n, a in calls]
        reason = {"end": "end_turn", "tools": "tool_use", "length": "max_tokens", "refusal": "refusal"}[stop]
        body: dict[str, Any] = {
            "id": "msg_1",
            "type": "message",
            "role": "assistant",
            "model": f"{self.model}-20251001",
            "content": content,
            "stop_reason": reason,
            "stop_sequence": None,
        }
        if usage:
            body["usage"] = {
                "input_tokens": usage.prompt - usage.cached - usage.written,
                "cache_creation_input_tokens": usage.written,
                "cache_read_input_tokens": usage.cached,
                "cache_creation": {"ephemeral_5m_input_tokens": usage.written, "ephemeral_1h_input_tokens": 0},
                "output_tokens": usage.answer,
                "output_tokens_details": {"thinking_tokens": usage.reasoning},
                "service_tier": "standard",
            }
        return body

    def error(self, status: int, code: str, message: str, headers: Mapping[str, str] | None = None) -> Reply:
        body = {"type": "error", "error": {"type": code, "message": message}, "request_id": "req_1"}
        return Reply(status, body, headers or {})

    def refusal(self, request: Request) -> Reply | None:
        body = request.json
        if body.get("tool_choice", {}).get("type") in ("any", "tool"):
            if body.get("thinking", {}).get("type") in ("enabled", "adaptive"):
                return self.error(400, "invalid_request_error", _THINKING_FORCED)
            if re.match("claude-(fable|mythos|opus-5-5|sonnet-5-5)", body["model"]):
                return self.error(400, "invalid_request_error", "tool_choice: this model does not support forced tools")
        if "temperature" in body and not takes_temperature(body["model"]):
            return self.error(400, "invalid_request_error", "`temperature` is deprecated for this model.")
        schema = body.get("output_config", {}).get("format", {}).get("schema")
        if schema and (place := _closed(schema)):
            said = f"output_config.format.schema: For 'object' type, 'additionalProperties' must be false ({place})"
            return self.error(400, "invalid_request_error", said)
        return None

    def seen(self, request: Request) -> Seen:
        assert request.path == "/v1/messages"
        body = request.json
        messages: list[tuple[str, str, Any]] = []
        roles = [message["role"] for message in body["messages"]]
        assert roles[0] == "user"
        assert all(one != other for one, other in itertools.pairwise(roles)), "roles must alternate"
        for message in body["messages"]:
            for block in message["content"]:
                if block["type"] == "text":
                    assert block["text"].strip(), "text content blocks must be non-empty"
                    messages.append((message["role"], "text", block["text"]))
                elif block["type"] == "tool_use":
                    messages.append((message["role"], "call", (block["id"], block["name"], block["input"])))
                else:
                    messages.append(("tool", "result", (block["tool_use_id"], block["content"])))
        form = body.get("output_config", {}).get("format", {})
        assert not form or form["type"] == "json_schema"
        choice = body.get("tool_choice", {})
        points = request.body.count(b'"cache_control":{"type":"ephemeral"}')
        assert points <= 4
        return Seen(
            body["model"],
            "".join(block["text"] for block in body.get("system", ())),
            messages,
            {tool["name"]: tool["input_schema"] for tool in body.get("tools", ())},
            choice.get("name") or (TOOL_NAME if choice.get("type") == "any" else None),
            form.get("schema"),
            None,
            body["max_tokens"],
            body.get("temperature"),
            points,
        )


_THINKING_FORCED = "Thinking may not be enabled when tool_choice forces tool use."
_TAKES_OUTPUT_CONFIG = re.compile("claude-(haiku-4-5|sonnet-4-5|opus-4-5|opus-4-6|sonnet-4-6)")
"""github.com/pydantic/pydantic-ai, issue 7373; BerriAI/litellm, issue 39070; vercel/ai, issue 20128."""


def _objects(schema: Any, place: str = "()") -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Every schema of an object inside a schema, with its place."""
    if isinstance(schema, Mapping):
        if schema.get("type") == "object":
            yield place, schema
        for key, value in schema.items():
            yield from _objects(value, f"{place}.{key}")
    elif isinstance(schema, list):
        for value in schema:
            yield from _objects(value, place)


def _closed(schema: Any) -> str | None:
    """Where an object is not closed."""
    return next((place for place, one in _objects(schema) if one.get("additionalProperties") is not False), None)


def _not_strict(schema: Any) -> str | None:
    """What OpenAI's strict mode finds wrong: each object is closed, and has no optional property."""
    if place := _closed(schema):
        return f"{place}, 'additionalProperties' is required to be supplied and to be false"
    open_ones = (p for p, one in _objects(schema) if set(one.get("properties", ())) != set(one.get("required", ())))
    place = next(open_ones, None)
    return f"{place}, 'required' is required to include every key in properties" if place else None


def start_afresh() -> None:
    """Make the next AWS clients, Bedrock's among them, by what the environment says then."""
    for cached in (clients.client, bedrock._made_client):
        cached.cache_clear()


class BedrockDialect(Dialect):
    """Requests and answers are checked against botocore's own service model."""

    name = "bedrock"
    counts_writes = True
    model = "us.anthropic.claude-haiku-4-5-20251001-v1:0"
    too_long = (
        400,
        "ValidationException",
        "The model returned the following errors: Input is too long for requested model.",
    )
    throttled = (429, "ThrottlingException", "Too many tokens, please wait before trying again.")
    unauthorized = (403, "UnrecognizedClientException", "The security token included in the request is invalid.")
    unknown_model = (404, "ResourceNotFoundException", "Could not resolve the foundation model from model identifier.")
    bad_request = (400, "ValidationException", "Malformed input request: temperature is out of range")
    overloaded = (503, "ServiceUnavailableException", "Bedrock is unable to process your request.")

    def adapter(self, url: str, patch: pytest.MonkeyPatch) -> Provider:
        # The region stays: what a deployment in this process asks first in such a test must find its own.
        for name, value in {
            "AWS_ACCESS_KEY_ID": "AKIDEXAMPLE",
            "AWS_SECRET_ACCESS_KEY": KEY,
            "AWS_ENDPOINT_URL_BEDROCK_RUNTIME": url,
            "AWS_EC2_METADATA_DISABLED": "true",
        }.items():
            patch.setenv(name, value)
        for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_BEARER_TOKEN_BEDROCK"):
            patch.delenv(name, raising=False)
        start_afresh()
        return bedrock.Bedrock("bedrock", Settings())

    def has_key(self, request: Request) -> bool:
        authorization = request.headers["authorization"]
        return authorization.startswith("AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/") and KEY not in authorization

    def answer(
        self, text: str = "", calls: Sequence[Any] = (), stop: str = "end", usage: Figures | None = Figures()
    ) -> Any:
        content: list[dict[str, Any]] = [{"text": text}] if text else []
        content += [{"toolUse": {"toolUseId": i, "name": n, "input": a}} for i, n, a in calls]
        reason = {"end": "end_turn", "tools": "tool_use", "length": "max_tokens", "refusal": "guardrail_intervened"}[
            stop
        ]
        body: dict[str, Any] = {
            "output": {"message": {"role": "assistant", "content": content}},
            "stopReason": reason,
            "metrics": {"latencyMs": 12},
        }
        if usage:
            body["usage"] = {
                "inputTokens": usage.prompt - usage.cached - usage.written,
                "outputTokens": usage.answer,
                "totalTokens": usage.prompt + usage.answer,
                "cacheReadInputTokens": usage.cached,
                "cacheWriteInputTokens": usage.written,
            }
            _check(converse().output_shape, body)
        return body

    def error(self, status: int, code: str, message: str, headers: Mapping[str, str] | None = None) -> Reply:
        return Reply(status, {"message": message}, {"x-amzn-ErrorType": f"{code}:", **(headers or {})})

    def refusal(self, request: Request) -> Reply | None:
        body, model = request.json, unquote(urlsplit(request.path).path)
        claude = "anthropic.claude" in model
        if claude and "outputConfig" in body and not _TAKES_OUTPUT_CONFIG.search(model):
            return self.error(400, "ValidationException", "output_config.format: Extra inputs are not permitted")
        if claude and {"any", "tool"} & body.get("toolConfig", {}).get("toolChoice", {}).keys():
            if "thinking" in body.get("additionalModelRequestFields", {}):
                return self.error(400, "ValidationException", _THINKING_FORCED)
            if re.search("claude-(opus-5-5|sonnet-5-5)", model):
                return self.error(400, "ValidationException", "tool_choice: this model does not support forced tools")
        return None

    def seen(self, request: Request) -> Seen:
        head, model, tail = urlsplit(request.path).path.strip("/").split("/")
        assert (head, tail) == ("model", "converse")
        body = request.json
        _check(converse().input_shape, {**body, "modelId": unquote(model)})
        messages: list[tuple[str, str, Any]] = []
        roles = [message["role"] for message in body["messages"]]
        assert all(one != other for one, other in itertools.pairwise(roles)), "roles must alternate"
        for message in body["messages"]:
            for block in message["content"]:
                if "text" in block:
                    assert block["text"].strip(), "The text field in the ContentBlock object is blank"
                    messages.append((message["role"], "text", block["text"]))
                elif "toolUse" in block:
                    use = block["toolUse"]
                    messages.append((message["role"], "call", (use["toolUseId"], use["name"], use["input"])))
                elif "toolResult" in block:
                    result = block["toolResult"]
                    messages.append(("tool", "result", (result["toolUseId"], result["content"][0]["text"])))
        tools = [tool["toolSpec"] for tool in body.get("toolConfig", {}).get("tools", ())]
        choice = body.get("toolConfig", {}).get("toolChoice", {})
        form = body.get("outputConfig", {}).get("textFormat", {}).get("structure", {}).get("jsonSchema", {})
        limits = body.get("inferenceConfig", {})
        return Seen(
            unquote(model),
            "".join(block.get("text", "") for block in body.get("system", ())),
            messages,
            {tool["name"]: tool["inputSchema"]["json"] for tool in tools},
            choice.get("tool", {}).get("name") or (TOOL_NAME if "any" in choice else None),
            json.loads(form["schema"]) if form else None,
            None,
            limits.get("maxTokens"),
            limits.get("temperature"),
            request.body.count(b'"cachePoint"'),
        )


@lru_cache(maxsize=1)
def converse() -> Any:
    """botocore's model of the Converse operation."""
    import botocore.session

    return botocore.session.get_session().get_service_model("bedrock-runtime").operation_model("Converse")


def _check(shape: Any, value: Any) -> None:
    from botocore.validate import ParamValidator

    report = ParamValidator().validate(value, shape)
    assert not report.has_errors(), report.generate_report()


CODES: dict[str, Mapping[str, Any]] = {
    "openai": openai.CODES,
    "azure": openai.CODES,
    "google": openai.CODES,
    "mistral": openai.CODES,
    "deepseek": openai.CODES,
    "anthropic": anthropic.CODES,
    "bedrock": service.CODES,
}
DIALECTS: list[Dialect] = [
    OpenAIDialect(),
    AzureDialect(),
    GoogleDialect(),
    MistralDialect(),
    AnthropicDialect(),
    BedrockDialect(),
]
