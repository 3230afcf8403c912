"""Our adapters against an implementation that others wrote: LiteLLM's proxy, which serves both the OpenAI and the
Anthropic format.

Some of its models answer by LiteLLM's own mocks. Others are translated: LiteLLM reads what our adapter of one format
sent, writes it in the other format to an upstream that this test plays, and translates the answer back. What arrives
there is what somebody else understood of our request.

LOOPLLAMA_LITELLM is the path of the `litellm` program; `make test-litellm` makes its environment and sets it.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.dialects import AnthropicDialect, Figures, OpenAIDialect
from support.wire_server import Reply, WireServer

from loopllama import providers
from loopllama.catalog.model import Model
from loopllama.errors import (
    ContextTooLong,
    ModelError,
    ModelNotAvailable,
    ModelRequestRejected,
    ModelThrottled,
    ModelUnavailable,
)
from loopllama.llm.types import Message, ModelRequest, Provider, ToolCall, ToolSpec, Usage
from loopllama.providers import credentials, provider_for
from loopllama.settings import Settings

PROGRAM = os.environ.get("LOOPLLAMA_LITELLM", "")
KEY = "sk-litellm-0001"
START_SECONDS = 180

pytestmark = pytest.mark.skipif(not PROGRAM, reason="LOOPLLAMA_LITELLM is not set: run `make test-litellm`")

ORDER = ToolSpec(
    "get_order",
    "Look up an order.",
    {"type": "object", "properties": {"order_id": {"type": "string"}}, "required": ["order_id"]},
)


@pytest.fixture(scope="module")
def upstream() -> Iterator[WireServer]:
    with WireServer() as server:
        yield server


@pytest.fixture(scope="module")
def proxy(upstream: WireServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("litellm")

    def mock(name: str, answer: str) -> dict[str, object]:
        params = {"model": "openai/gpt-4.1-mini", "api_key": "none", "mock_response": answer}
        return {"model_name": name, "litellm_params": params}

    def via(name: str, model: str, base: str) -> dict[str, object]:
        return {"model_name": name, "litellm_params": {"model": model, "api_key": "upstream-key", "api_base": base}}

    config = {
        "model_list": [
            mock("plain", "Sorry to hear that."),
            mock("throttled", "litellm.RateLimitError"),
            mock("too-long", "litellm.ContextWindowExceededError"),
            mock("broken", "litellm.InternalServerError"),
            via("via-openai", "openai/gpt-4.1-mini", f"{upstream.url}/v1"),
            via("via-claude", "anthropic/claude-haiku-4-5", upstream.url),
        ],
        # Without it, Messages for an OpenAI model go to the Responses API.
        "litellm_settings": {
            "telemetry": False,
            "num_retries": 0,
            "use_chat_completions_url_for_anthropic_messages": True,
        },
        "router_settings": {"num_retries": 0, "disable_cooldowns": True},
        "general_settings": {"master_key": KEY},
    }
    (folder / "config.yaml").write_text(json.dumps(config))  # JSON is YAML
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "TMPDIR") if name in os.environ}
    command = [PROGRAM, "--config", str(folder / "config.yaml"), "--host", "127.0.0.1", "--port", str(port)]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            command, cwd=folder, stdout=log, stderr=log, env={**kept, "LITELLM_LOCAL_MODEL_COST_MAP": "True"}
        )
        try:
            _wait(f"http://127.0.0.1:{port}/health/liveliness", process, folder / "log")
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _wait(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    end = time.monotonic() + START_SECONDS
    while time.monotonic() < end and process.poll() is None:
        try:
            with urllib.request.urlopen(url, timeout=5):  # noqa: S310 — loopback
                return
        except OSError:
            time.sleep(0.2)
    raise AssertionError(f"LiteLLM's proxy did not start:\n{log.read_text(errors='replace')[-3000:]}")


@pytest.fixture
def adapter_of(proxy: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Provider]]:
    """Our two adapters, with the proxy for their provider."""
    credentials._kept.clear()
    providers._adapters.clear()
    for name, base in (("LITELLM", f"{proxy}/v1"), ("ANTHROPIC", proxy)):
        monkeypatch.setenv(f"{name}_API_KEY", KEY)
        monkeypatch.setenv(f"{name}_BASE_URL", base)
    names = {"openai": "litellm", "anthropic": "anthropic"}
    yield {format_: provider_for(Model(f"{name}:m", name, "m"), Settings()) for format_, name in names.items()}
    providers._adapters.clear()


FORMATS = pytest.mark.parametrize("form", ["openai", "anthropic"])


def call(model: str, *messages: Message, **changes: object) -> ModelRequest:
    said = messages or (Message("user", "I was charged twice."),)
    values: dict[str, object] = {"model": model, "catalog_id": model, "timeout": 60.0, "max_tokens": 200, **changes}
    return ModelRequest(system="You sort support tickets.", messages=said, **values)  # type: ignore[arg-type]


@FORMATS
def test_mock_answers(adapter_of: dict[str, Provider], form: str) -> None:
    answer = adapter_of[form].complete(call("plain"))
    assert answer.text == "Sorry to hear that."
    assert answer.stop_reason == "end"
    assert not answer.usage.estimated
    assert answer.usage.input_tokens > 0
    assert answer.usage.output_tokens > 0


@FORMATS
@pytest.mark.parametrize(
    ("model", "expected"),
    [
        ("throttled", ModelThrottled),
        ("too-long", ContextTooLong),
        ("broken", ModelUnavailable),
        ("no-such-model", ModelNotAvailable),
    ],
)
def test_mock_errors(adapter_of: dict[str, Provider], form: str, model: str, expected: type[ModelError]) -> None:
    with pytest.raises(ModelError) as caught:
        adapter_of[form].complete(call(model))
    assert type(caught.value) is expected


CONVERSATION = (
    Message("user", "Where is my order A-1042?", stable=True),
    Message("assistant", "Let me look.", tool_calls=(ToolCall("call_1", "get_order", {"order_id": "A-1042"}),)),
    Message("tool", "shipped on Friday", tool_call_id="call_1", stable=True),
)


@FORMATS
def test_a_conversation_in_translation(adapter_of: dict[str, Provider], upstream: WireServer, form: str) -> None:
    """Sent in one format, understood by LiteLLM, and read by us in the other one."""
    dialect = AnthropicDialect() if form == "openai" else OpenAIDialect()
    model = "via-claude" if form == "openai" else "via-openai"
    upstream.script(Reply(200, dialect.answer("It was shipped on Friday.")))
    answer = adapter_of[form].complete(call(model, *CONVERSATION, tools=(ORDER,), prompt_cache=True))
    assert answer.text == "It was shipped on Friday."
    assert answer.usage == Usage(21, 7)
    request = upstream.requests[-1]
    body = request.json
    if form == "openai":
        seen = dialect.seen(request)
        assert seen.max_tokens == 200
    else:
        body.setdefault("stream", False)
        assert isinstance(dialect, OpenAIDialect)
        seen = dialect.seen_body(body)
        assert body.get("max_tokens", body.get("max_completion_tokens")) == 200
    assert "You sort support tickets." in json.dumps(seen.system)  # text, or a list of one
    assert [(role, kind) for role, kind, _ in seen.messages] == [
        ("user", "text"),
        ("assistant", "text"),
        ("assistant", "call"),
        ("tool", "result"),
    ]
    asked = seen.messages[2][2]
    assert asked[1:] == ("get_order", {"order_id": "A-1042"})
    answered_id, answered = seen.messages[3][2]
    assert answered_id == asked[0]
    assert "shipped on Friday" in json.dumps(answered)
    assert seen.tools["get_order"]["required"] == ["order_id"]


@FORMATS
def test_tool_calls_in_translation(adapter_of: dict[str, Provider], upstream: WireServer, form: str) -> None:
    dialect = AnthropicDialect() if form == "openai" else OpenAIDialect()
    model = "via-claude" if form == "openai" else "via-openai"
    calls = [("a1", "get_order", {"order_id": "A"}), ("b2", "get_order", {"order_id": "B"})]
    upstream.script(Reply(200, dialect.answer("", calls, "tools")))
    answer = adapter_of[form].complete(call(model, tools=(ORDER,), forced_tool="get_order"))
    assert answer.stop_reason == "tool_calls"
    assert [(c.name, c.arguments) for c in answer.tool_calls] == [(name, arguments) for _, name, arguments in calls]
    body = upstream.requests[-1].json
    if form == "openai":
        assert body["tool_choice"]["name"] == "get_order"
    else:
        assert body["tool_choice"]["function"]["name"] == "get_order"


@FORMATS
def test_usage_in_translation(adapter_of: dict[str, Provider], upstream: WireServer, form: str) -> None:
    """Two formats that count caches differently, and LiteLLM between them, come to the same figures."""
    figures = Figures(prompt=2048, answer=503, cached=1024, written=512 if form == "openai" else 0)
    dialect = AnthropicDialect() if form == "openai" else OpenAIDialect()
    model = "via-claude" if form == "openai" else "via-openai"
    upstream.script(Reply(200, dialect.answer("ok", usage=figures)))
    usage = adapter_of[form].complete(call(model)).usage
    assert (usage.input_tokens, usage.output_tokens) == (2048, 503)
    assert usage.cached_tokens == 1024


@FORMATS
def test_cut_off_in_translation(adapter_of: dict[str, Provider], upstream: WireServer, form: str) -> None:
    dialect = AnthropicDialect() if form == "openai" else OpenAIDialect()
    upstream.script(Reply(200, dialect.answer("Sorry to", stop="length")))
    answer = adapter_of[form].complete(call("via-claude" if form == "openai" else "via-openai"))
    assert (answer.text, answer.stop_reason) == ("Sorry to", "max_tokens")


@FORMATS
def test_upstream_errors_in_translation(adapter_of: dict[str, Provider], upstream: WireServer, form: str) -> None:
    dialect = AnthropicDialect() if form == "openai" else OpenAIDialect()
    model = "via-claude" if form == "openai" else "via-openai"
    for error, expected in (
        (dialect.throttled, ModelThrottled),
        (dialect.overloaded, ModelUnavailable),
        (dialect.too_long, ContextTooLong),
        (dialect.bad_request, ModelRequestRejected),
    ):
        before = len(upstream.requests)
        upstream.script(dialect.error(*error))
        with pytest.raises(ModelError) as caught:
            adapter_of[form].complete(call(model))
        assert type(caught.value) is expected, str(caught.value)
        assert len(upstream.requests) == before + 1
