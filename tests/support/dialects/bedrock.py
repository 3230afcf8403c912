"""Amazon Bedrock's Converse."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, ClassVar
from urllib.parse import unquote, urlsplit

import pytest

from loopllama.aws import clients
from loopllama.errors import CredentialsRejected, ModelRequestRejected, ModelThrottled, ModelUnavailable
from loopllama.llm.structured_output import TOOL_NAME
from loopllama.llm.types import Provider
from loopllama.providers.bedrock import converse as adapter
from support import schema_rules
from support.dialects.anthropic import NO_SAMPLING, ONE_OF_TWO, ONE_SAMPLER, thinking_refused, together_refused
from support.dialects.base import KEY, USUAL, Dialect, Documented, Figures, Seen, adapter_of
from support.dialects.history import Rules, Turn
from support.wire_server import Reply, Request

_TAKES_OUTPUT_CONFIG = re.compile("claude-(haiku-4-5|sonnet-4-5|opus-4-5|opus-4-6|sonnet-4-6)")
"""github.com/pydantic/pydantic-ai, issue 7373; BerriAI/litellm, issue 39070; vercel/ai, issue 20128."""


def start_afresh() -> None:
    """Make the next AWS clients, Bedrock's among them, by what the environment says then."""
    for cached in (clients.client, adapter._made_client):
        cached.cache_clear()


class BedrockDialect(Dialect):
    """Requests and answers are checked against botocore's own service model."""

    name = "bedrock"
    counts = ("inputTokens", "outputTokens", "cacheReadInputTokens")
    cache_points = True
    recursive_schemas = False
    takes_the_models_limit = True
    options: ClassVar[Mapping[str, Any]] = {
        "guardrailConfig": {"guardrailIdentifier": "gr-1", "guardrailVersion": "2"},
        "additionalModelRequestFields": {"thinking": {"type": "enabled", "budget_tokens": 1024}},
        "inferenceConfig": {"topP": 0.95},
    }
    merged_options = ("inferenceConfig",)
    remedy = "role"
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
    documented: ClassVar[Documented] = (
        # https://docs.aws.amazon.com/bedrock/latest/APIReference/CommonErrors.html; test_faults.py tries Converse's own
        (400, "ServiceQuotaExceededException", ModelThrottled),
        (403, "ExpiredTokenException", CredentialsRejected),
        (403, "IncompleteSignature", CredentialsRejected),
        (403, "InvalidSignatureException", CredentialsRejected),
        (403, "InvalidClientTokenId", CredentialsRejected),
        (403, "UnrecognizedClientException", CredentialsRejected),
        (403, "MissingAuthenticationToken", CredentialsRejected),
        (403, "OptInRequired", CredentialsRejected),
        (401, "NotAuthorized", CredentialsRejected),
        (400, "RequestExpired", ModelUnavailable),
        (500, "InternalFailure", ModelUnavailable),
        (503, "ServiceUnavailable", ModelUnavailable),
        (400, "SomethingNew", ModelRequestRejected),
        (500, "SomethingNew", ModelUnavailable),
    )

    rules: ClassVar[Rules] = Rules(
        names="[a-zA-Z0-9_-]{1,64}",
        ids="[a-zA-Z0-9_-]{1,64}",
        says={
            "characters": "Unable to parse the request body: {what}",
            "name": "1 validation error detected: Value '{what}' at 'messages.{at}.member.content.1.member.toolUse."
            "name' failed to satisfy constraint: Member must satisfy regular expression pattern: [a-zA-Z0-9_-]+",
            "id": "1 validation error detected: Value '{what}' at 'messages.{at}.member.content.1.member.toolUse."
            "toolUseId' failed to satisfy constraint: Member must satisfy regular expression pattern: [a-zA-Z0-9_-]+",
            "arguments": "The format of the value at messages.{at}.content.0.toolUse.input is invalid. Provide a json "
            "object for the field and try again.",
            "repeated": "The toolUse blocks at messages.{at}.content contain duplicate Ids: {what}",
            "missing": "Expected toolResult blocks at messages.{at}.content for the following Ids: {what}",
            "extra": "The number of toolResult blocks at messages.{at}.content exceeds the number of toolUse blocks of "
            "previous turn.",
            "tools": "The toolConfig field must be defined when using toolUse and toolResult content blocks.",
        },
    )

    def turns(self, body: Any) -> list[Turn]:
        found = []
        for message in body["messages"]:
            uses = [block["toolUse"] for block in message["content"] if "toolUse" in block]
            results = [block["toolResult"]["toolUseId"] for block in message["content"] if "toolResult" in block]
            found.append(Turn([(one["toolUseId"], one["name"], one["input"]) for one in uses], results))
        return found

    def has_tools(self, body: Any) -> bool:
        return bool(body.get("toolConfig", {}).get("tools"))

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
        adapter._client(None)  # a process's first takes longer than some tests give a whole call
        return adapter_of(self.name)

    def has_key(self, request: Request) -> bool:
        authorization = request.headers["authorization"]
        return authorization.startswith("AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/") and KEY not in authorization

    def answer(
        self, text: str = "", calls: Sequence[Any] = (), stop: str = "end", usage: Figures | None = USUAL
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

    def unreadable(self) -> Mapping[str, Reply]:
        found = {}
        for reason in ("malformed_tool_use", "malformed_model_output"):
            found[reason] = Reply(200, self.answer("I will look that up.") | {"stopReason": reason})
        nova = "Model produced invalid sequence as part of ToolUse. Please refer to the troubleshooting guide."
        return {**found, "Nova": self.error(424, "ModelErrorException", nova)}

    def error(self, status: int, code: str, message: str, headers: Mapping[str, str] | None = None) -> Reply:
        return Reply(status, {"message": message}, {"x-amzn-ErrorType": f"{code}:", **(headers or {})})

    def refusal(self, request: Request) -> Reply | None:
        if (refused := super().refusal(request)) is not None:
            return refused
        body, model = request.json, unquote(urlsplit(request.path).path)
        claude = "anthropic.claude" in model
        kinds = [(one["role"], [_kind(block) for block in one["content"]]) for one in body["messages"]]
        thinking = body.get("additionalModelRequestFields", {}).get("thinking", {})
        if claude and (said := thinking_refused(kinds, thinking.get("type") == "enabled")):
            return self.error(400, "ValidationException", said)
        if claude and "outputConfig" in body and not _TAKES_OUTPUT_CONFIG.search(model):
            return self.error(400, "ValidationException", "output_config.format: Extra inputs are not permitted")
        forced = bool({"any", "tool"} & body.get("toolConfig", {}).get("toolChoice", {}).keys())
        if claude and (said := self._claude_refuses(body, model, forced)):
            return self.error(400, "ValidationException", f"The model returned the following errors: {said}")
        if "nova-2" in model and (said := _nova_refuses(body)):
            return self.error(400, "ValidationException", said)
        if not claude and "deepseek.r1" in model and any("thinking" in kinds for _, kinds in kinds):
            said = "User messages cannot contain reasoning content. Please remove the reasoning content and try again."
            return self.error(400, "ValidationException", said)
        if (heat := body.get("inferenceConfig", {}).get("temperature", 0)) > 1:
            said = (
                f"Value '{heat}' at 'inferenceConfig.temperature' failed to satisfy constraint: Member must have value"
            )
            return self.error(400, "ValidationException", f"{said} value less than or equal to 1")
        for tool in body.get("toolConfig", {}).get("tools", ()):
            schema = tool["toolSpec"]["inputSchema"]["json"]
            rules = schema_rules.of_tool_at_nova if "nova" in model else schema_rules.of_tool_at_anthropic
            if (claude or "nova" in model) and (said := rules(schema)):
                return self.error(400, "ValidationException", said)
        return None

    def _claude_refuses(self, body: Any, model: str, forced: bool) -> str | None:
        """What Claude itself says, in whose names its parameters are."""
        limits = body.get("inferenceConfig", {})
        own = {"temperature": limits.get("temperature"), "top_p": limits.get("topP")}
        own = {name: value for name, value in own.items() if value is not None}
        own |= body.get("additionalModelRequestFields", {})
        if said := together_refused(own, limits.get("maxTokens"), forced, model):
            return said
        if forced and re.search("claude-(opus-5-5|sonnet-5-5)", model):
            return "tool_choice: this model does not support forced tools"
        if {"temperature", "top_p"} <= own.keys() and ONE_SAMPLER.search(model):
            return ONE_OF_TWO
        if NO_SAMPLING.search(model) and (wrong := {"temperature", "top_p", "top_k"} & own.keys()):
            return f"`{min(wrong)}` is deprecated for this model."
        for message in body["messages"]:
            for block in message["content"]:
                if "reasoningText" in block.get("reasoningContent", {}) and not block["reasoningContent"][
                    "reasoningText"
                ].get("signature"):
                    return "messages.1.content.0.thinking.signature: Field required"
        form = body.get("outputConfig", {}).get("textFormat", {}).get("structure", {}).get("jsonSchema", {})
        return schema_rules.at_anthropic(json.loads(form["schema"])) if form else None

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
                elif "reasoningContent" in block:
                    messages.append((message["role"], "thoughts", block["reasoningContent"]))
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


def _kind(block: Mapping[str, Any]) -> str:
    """A block's kind in Claude's own words."""
    [kind] = block.keys() - {"cachePoint"} or {"tool_result"}
    return {"toolUse": "tool_use", "toolResult": "tool_result", "reasoningContent": "thinking"}.get(kind, kind)


@lru_cache(maxsize=1)
def converse() -> Any:
    """botocore's model of the Converse operation."""
    import botocore.session

    return botocore.session.get_session().get_service_model("bedrock-runtime").operation_model("Converse")


def _check(shape: Any, value: Any) -> None:
    from botocore.validate import ParamValidator

    report = ParamValidator().validate(value, shape)
    assert not report.has_errors(), report.generate_report()


def _nova_refuses(body: Any) -> str | None:
    """https://docs.aws.amazon.com/nova/latest/nova2-userguide/extended-thinking.html"""
    reasoning = body.get("additionalModelRequestFields", {}).get("reasoningConfig", {})
    named = sorted({"maxTokens", "temperature", "topP"} & body.get("inferenceConfig", {}).keys())
    if reasoning.get("maxReasoningEffort") == "high" and named:
        return f"{', '.join(named)} must be unset when maxReasoningEffort is high."
    return None
