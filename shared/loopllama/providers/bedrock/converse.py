"""Amazon Bedrock's Converse, through botocore's bedrock-runtime client.

Wire format: https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_Converse.html. botocore finds region
and credentials, signs, validates and serialises; the request itself goes out by `http.post`, because botocore's
timeouts are fixed for a client and bound the silence between two bytes, and a call has a deadline of its own. botocore
retries nothing here, and of answers it reads the errors only: it would make binary floats of a tool call's numbers.

How usage is counted: `inputTokens` is what was neither read from nor written to the cache; `cacheReadInputTokens` and
`cacheWriteInputTokens` come on top of it, so the prompt is the sum of the three
(https://docs.aws.amazon.com/bedrock/latest/userguide/prompt-caching.html); `cacheDetails` says how long the written
ones are kept (API_runtime_CacheDetail.html there). `outputTokens` is the whole answer; what of it was reasoning is not
told. `serviceTier` is the one that answered.

`options` are Converse's own parameters (`guardrailConfig`, `performanceConfig`, `serviceTier`,
`additionalModelRequestFields`, `requestMetadata`), and `inferenceProfile`, an id or ARN to call in the model's place.
"""

from __future__ import annotations

import base64
import contextlib
import threading
from collections.abc import Iterator, Mapping
from functools import lru_cache
from types import MappingProxyType
from typing import Any

from loopllama.aws import clients
from loopllama.catalog.model import at_region
from loopllama.catalog.takes import refused
from loopllama.core import exact_json, numbers, redaction
from loopllama.errors import ModelError
from loopllama.llm import structured_output
from loopllama.llm.types import Message, ModelRequest, Thoughts, Usage
from loopllama.providers import claude, endings, http, wire
from loopllama.providers.adapter import Adapter, Parsed
from loopllama.providers.bedrock.service import aws_failure, underlying_model

_POINT = {"cachePoint": {"type": "default"}}
_LIMITS = ("maxTokens", "temperature", "topP")


class Bedrock(Adapter):
    """The adapter. It takes model ids, inference-profile ids and ARNs alike."""

    def known_as(self, call: ModelRequest) -> str:
        """Return the foundation model's id."""
        return _family(call)

    def parameters(self, call: ModelRequest) -> str:
        """Return the subset of JSON Schema in which the model takes the parameters of tools."""
        return "nova tools" if call.tools and "nova" in self.known_as(call) else super().parameters(call)

    def thinks(self, call: ModelRequest) -> bool:
        """Return whether Claude's extended thinking is on."""
        return claude.thinks(wire.member(call.options, "additionalModelRequestFields"))

    def send(self, call: ModelRequest, until: float) -> Mapping[str, Any]:
        """Make one Converse."""
        from botocore.exceptions import BotoCoreError, ClientError

        arguments = request(call)
        region, arguments["modelId"] = at_region(arguments["modelId"])
        _sending.until = until
        try:
            _client(region).converse(**arguments)
        except ModelError:
            raise
        except (ClientError, BotoCoreError) as error:
            raise aws_failure(error, self.who(call), arguments["modelId"], region) from error
        finally:
            self.sends(redaction.of_headers(_sending.headers))
        return self.document(call, _sending.reply)

    def read(self, call: ModelRequest, value: Mapping[str, Any]) -> Parsed:
        """Return what the message's blocks hold."""
        output = wire.member(value, "output")
        content = wire.member(output, "message").get("content")
        blocks = [block for block in content if isinstance(block, dict)] if isinstance(content, list) else []
        stopped = value.get("stopReason")
        ending = endings.ending(endings.CONVERSE, stopped)
        stop = endings.stop_reason(ending)
        router = wire.member(wire.member(value, "trace"), "promptRouter").get("invokedModelId")
        thoughts = wire.thought_blocks(blocks, lambda block: _thought(block, call), _tool_use)
        return Parsed(
            text="".join(block["text"] for block in blocks if isinstance(block.get("text"), str)),
            tool_calls=wire.tool_calls(blocks, _tool_use, cut=stop == "max_tokens"),
            usage=_usage(value.get("usage")),
            stop_reason=stop,
            model=str(router or ""),
            service_tier=wire.service_tier(wire.member(value, "serviceTier").get("type")),
            error=endings.failure(ending, self.who(call), stopped),
            why_empty="max_tokens is too low" if stop == "max_tokens" else f"stopReason {stopped}",
            malformed=not output,
            thoughts=Thoughts(self.provider, call.model, thoughts) if thoughts else None,
        )


def request(call: ModelRequest) -> dict[str, Any]:
    """Return Converse's arguments."""
    options = dict(call.options)
    model = options.pop("inferenceProfile", None) or call.model
    if call.effort:
        options["additionalModelRequestFields"] = _with_effort(options, call.effort, _family(call))
    if call.service_tier:
        options["serviceTier"] = {"type": call.service_tier}
    # Without a limit Converse takes the model's own, and reserves as much of the account's tokens a minute: see
    # "How quota reservation works" in github.com/aws/agent-toolkit-for-aws, amazon-bedrock/references/quota-health.md.
    longest = wire.answer_limit(call) if call.max_tokens or call.max_output else None
    inference = dict(wire.member(options, "inferenceConfig"))
    temperature = call.temperature
    if isinstance(fields := options.get("additionalModelRequestFields"), dict) or "topP" in inference:
        # Claude's own parameters stand in two places here, and the rules are about both together.
        own = {**(fields if isinstance(fields, dict) else {})}
        if "topP" in inference:
            own["top_p"] = inference.pop("topP")
        own, longest, temperature = claude.fitted(call, own, lambda: _family(call), longest)
        if "top_p" in own and not (isinstance(fields, dict) and "top_p" in fields):
            inference["topP"] = own.pop("top_p")
        if isinstance(fields, dict):
            options["additionalModelRequestFields"] = own
    if (reasoning := _at_high_effort(call, options)) is not None:
        if call.max_tokens is None or call.limit_unasked:
            longest = temperature = None
            inference = {name: value for name, value in inference.items() if name not in _LIMITS}
        else:  # the limit counts more: at the next effort it may be said
            lower = {**reasoning, "maxReasoningEffort": "medium"}
            options["additionalModelRequestFields"] = {
                **options["additionalModelRequestFields"],
                "reasoningConfig": lower,
            }
    messages = wire.alternating(call, _blocks, lambda blocks: blocks.append(_POINT))
    arguments: dict[str, Any] = {**options, "modelId": model, "messages": messages}
    if call.system.strip():
        arguments["system"] = [{"text": call.system}, *([_POINT] if call.prompt_cache else [])]
    limits = {"maxTokens": longest, "temperature": temperature}
    inference |= {name: value for name, value in limits.items() if value is not None}
    arguments.pop("inferenceConfig", None)
    if inference:
        arguments["inferenceConfig"] = inference
    if call.tools:
        specs = [
            {"name": t.name, "description": t.description or t.name, "inputSchema": {"json": t.parameters}}
            for t in call.tools
        ]
        arguments["toolConfig"] = {"tools": [{"toolSpec": spec} for spec in specs], **_choice(call)}
    if call.output_schema is not None:
        form = {"name": "answer", "schema": exact_json.dumps(call.output_schema)}
        text_format = {"type": "json_schema", "structure": {"jsonSchema": form}}
        arguments["outputConfig"] = {**wire.member(options, "outputConfig"), "textFormat": text_format}
    plain: dict[str, Any] = numbers.plain(arguments)
    return plain


# The request


def _family(call: ModelRequest) -> str:
    """Return the foundation model behind the id or ARN that is called, the ARN itself where that may not be read: the
    call may be allowed nevertheless. An entry that says what it stands for is not asked about."""
    if call.stands_for is not None:
        return call.stands_for.model
    model = str(call.options.get("inferenceProfile") or call.model)
    try:
        return underlying_model(model)
    except ModelError:
        return model


def _with_effort(options: Mapping[str, Any], effort: str, family: str) -> dict[str, Any]:
    """Return the model's own parameters with an effort, each family's in its own place: Claude's and Nova 2's
    (https://docs.aws.amazon.com/nova/latest/nova2-userguide/extended-thinking.html), OpenAI's for the others."""
    fields = dict(wire.member(options, "additionalModelRequestFields"))
    if "claude" in family:
        fields["output_config"] = {**wire.member(fields, "output_config"), "effort": effort}
    elif "nova" in family:
        fields["reasoningConfig"] = {"type": "enabled", "maxReasoningEffort": effort}
    else:
        fields["reasoning_effort"] = effort
    return fields


def _at_high_effort(call: ModelRequest, options: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Return Nova's `reasoningConfig` where it asks for an effort beside which there is no limit."""
    reasoning = wire.member(wire.member(options, "additionalModelRequestFields"), "reasoningConfig")
    high = reasoning.get("type") == "enabled" and reasoning.get("maxReasoningEffort") == "high"
    return reasoning if high and refused("limits at high effort", _family(call)) else None


def _choice(call: ModelRequest) -> dict[str, Any]:
    """Return how a tool is forced: by name with Claude and Nova, as "any" with Mistral, not at all with the others
    (https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_ToolChoice.html)."""
    any_tool = call.forced_tool or any(tool.name == structured_output.TOOL_NAME for tool in call.tools)
    if not any_tool:
        return {}
    family = _family(call)
    if call.forced_tool and ("claude" in family or "nova" in family):
        return {"toolChoice": {"tool": {"name": call.forced_tool}}}
    if any(name in family for name in ("claude", "nova", "mistral")):
        return {"toolChoice": {"any": {}}}
    return {}


def _blocks(message: Message) -> list[dict[str, Any]]:
    if message.role == "tool":
        content = [{"text": message.text or "(nothing)"}]
        return [{"toolResult": {"toolUseId": wire.tool_id(message.tool_call_id), "content": content}}]
    blocks: list[dict[str, Any]] = [{"text": message.text}] if message.text.strip() else []
    blocks += [
        {"toolUse": {"toolUseId": wire.tool_id(c.id), "name": c.name, "input": wire.arguments_object(c)}}
        for c in message.tool_calls
    ]
    held = [_sent(block) for block in wire.with_thoughts(blocks, message)]
    return held or [{"text": "(nothing)"}]  # blank texts are refused


def _sent(block: dict[str, Any]) -> dict[str, Any]:
    """Return a block as botocore takes it: it encodes bytes itself."""
    redacted = wire.member(block, "reasoningContent").get("redactedContent")
    return {"reasoningContent": {"redactedContent": base64.b64decode(redacted)}} if redacted else block


# The answer


def _tool_use(block: Mapping[str, Any]) -> wire.Asked | None:
    asked = block.get("toolUse")
    return (asked.get("toolUseId"), asked.get("name"), asked.get("input")) if isinstance(asked, dict) else None


def _thought(block: Mapping[str, Any], call: ModelRequest) -> dict[str, Any] | None:
    """Return thoughts as they go back. Claude's must be signed, or encrypted; models that sign none (MiniMax, Kimi,
    gpt-oss, Nova) take theirs without the field, and think on from them (github.com/maximhq/bifrost, pull request
    6942)."""
    held = wire.member(block, "reasoningContent")
    said, redacted = wire.member(held, "reasoningText"), held.get("redactedContent")
    text, signature = said.get("text"), said.get("signature")
    if isinstance(text, str) and isinstance(signature, str) and signature:
        return {"reasoningContent": {"reasoningText": {"text": text, "signature": signature}}}
    if isinstance(text, str) and text.strip() and not refused("unsigned thoughts", _family(call)):
        return {"reasoningContent": {"reasoningText": {"text": text}}}
    if isinstance(redacted, str) and redacted:
        with contextlib.suppress(ValueError):
            base64.b64decode(redacted, validate=True)
            return {"reasoningContent": {"redactedContent": redacted}}
    return None


def _usage(value: Any) -> Usage | None:
    if not isinstance(value, dict):
        return None
    fresh, output = wire.count(value.get("inputTokens")), wire.count(value.get("outputTokens"))
    if fresh is None or output is None:
        return None
    read = wire.count(value.get("cacheReadInputTokens")) or 0
    written = wire.count(value.get("cacheWriteInputTokens")) or 0
    details = value.get("cacheDetails")
    kept = [part for part in details if isinstance(part, dict)] if isinstance(details, list) else []
    hour = sum(wire.count(part.get("inputTokens")) or 0 for part in kept if part.get("ttl") == "1h")
    return Usage(fresh + read + written, output, read, written, cache_write_1h_tokens=min(hour, written))


# The client


class _Sending(threading.local):
    """The call that this thread is making."""

    until = 0.0
    reply = b""
    headers: Mapping[str, str] = MappingProxyType({})


_sending = _Sending()


_making = threading.Lock()


def _client(region: str | None) -> Any:
    with _making:
        return _made_client(None if region == clients.region() else region)


@lru_cache(maxsize=8)
def _made_client(region: str | None) -> Any:
    client = clients.client("bedrock-runtime", attempts=1, region=region)
    # Once for a client, which may be had again: botocore would run the hook, and so make the call, twice.
    client.meta.events.register("before-send.bedrock-runtime.Converse", _send, unique_id="loopllama")
    return client


class _Body:
    def __init__(self, content: bytes) -> None:
        self._content = content

    def stream(self, **_: Any) -> Iterator[bytes]:
        yield self._content


def _send(request: Any, **_: Any) -> Any:
    """botocore's hook to answer a prepared request in its own HTTP client's place."""
    from botocore.awsrequest import AWSResponse, HeadersDict

    headers = {
        name: value.decode("latin-1") if isinstance(value, bytes) else str(value)
        for name, value in request.headers.items()
    }
    _sending.headers = headers
    body = request.body if isinstance(request.body, bytes) else str(request.body or "").encode()
    reply = http.post(request.url, headers, body, _sending.until, "bedrock")
    _sending.reply = reply.body
    reply_text = _texts(reply.body) if reply.status >= 300 else b"{}"
    return AWSResponse(request.url, reply.status, HeadersDict(reply.headers), _Body(reply_text))  # type: ignore[arg-type]


def _texts(body: bytes) -> bytes:
    """Return the texts of an error's body, which is all that botocore reads of it. Its parser would fail in many ways
    on what is not shaped as it should be, and with that the status would be lost."""
    value = wire.read_object(body)
    if value is None:
        value = {"message": body[:2000].decode("utf-8", "replace")}
    return exact_json.dumps({name: text for name, text in value.items() if isinstance(text, str)}).encode()
