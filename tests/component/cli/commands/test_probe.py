"""`models probe`: what it finds of each server of one's own, and what it writes."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import pytest
from support import own_servers
from support.command_line import answer, invoke
from support.loopback import serving
from support.wire_server import nobody_listens

from loopllama.aws import clients, dynamo
from loopllama.catalog.providers import KNOWN


@pytest.fixture(autouse=True)
def _plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "http_proxy"):  # nothing on this machine is asked by a proxy
        monkeypatch.setenv(name, "http://127.0.0.1:9")


def probed(monkeypatch: Any, provider: str, kind: type[own_servers.OwnServer], *more: str, **attributes: Any) -> Any:
    """Probe one such server; what was found and planned."""
    with serving(kind, seen=[], **attributes) as url:
        monkeypatch.setenv(f"{provider.upper()}_BASE_URL", f"{url}/v1")
        if kind.key or attributes.get("key"):
            monkeypatch.setenv(f"{provider.upper()}_API_KEY", attributes["key"])
        return answer("models", "probe", provider, *more)


def entry(model: str) -> dict[str, Any]:
    """The entry of the Models table."""
    found = clients.client("dynamodb").get_item(TableName="Models", Key=dynamo.to_item({"model": model}))
    return dynamo.from_item(found["Item"])


@pytest.mark.parametrize(
    ("provider", "kind", "attributes", "window", "can", "slots"),
    [
        # The window in use, not the model's longest: what is longer would be cut without a word.
        ("ollama", own_servers.Ollama, {}, 4096, ["structured_output", "tools"], None),
        ("ollama", own_servers.Ollama, {"window": None}, 131072, ["structured_output", "tools"], None),
        (
            "ollama",
            own_servers.Ollama,
            {"window": None, "parameters": 'stop "<|im_end|>"\nnum_ctx                        8192'},
            8192,
            ["structured_output", "tools"],
            None,
        ),
        (
            "ollama",
            own_servers.Ollama,
            {"can": ("completion", "thinking", "vision"), "takes_tools": False},
            4096,
            ["images", "reasoning", "structured_output"],
            None,
        ),
        ("vllm", own_servers.VLLM, {}, 8192, ["structured_output", "tools"], None),
        ("vllm", own_servers.VLLM, {"takes_tools": False, "holds_schema": False}, 8192, [], None),
        ("llamacpp", own_servers.LlamaCpp, {}, 2048, ["structured_output", "tools"], 4),
        ("llamacpp", own_servers.LlamaCpp, {"template_tools": False, "calls": False}, 2048, ["structured_output"], 4),
        ("llamacpp", own_servers.LlamaCpp, {"template_tools": False}, 2048, ["structured_output", "tools"], 4),
        ("lmstudio", own_servers.LMStudio, {}, 4096, ["images", "structured_output", "tools"], None),
        ("house", own_servers.OwnServer, {}, None, ["structured_output", "tools"], None),
        ("house", own_servers.OwnServer, {"calls": False, "key": "sk-of-the-house"}, None, ["structured_output"], None),
        ("house", own_servers.VLLM, {}, 8192, ["structured_output", "tools"], None),
    ],
)
def test_what_each_server_has_and_can(
    monkeypatch: pytest.MonkeyPatch,
    provider: str,
    kind: type[own_servers.OwnServer],
    attributes: dict[str, Any],
    window: int | None,
    can: list[str],
    slots: int | None,
) -> None:
    told = probed(monkeypatch, provider, kind, **attributes)
    (one,) = told["models"]  # embeddings are none
    assert (one["provider_model"], one.get("context_window")) == (kind.model, window)
    assert (one["capabilities"], one.get("max_concurrent_calls")) == (can, slots)
    written = entry(f"{provider}:{kind.model}")
    assert written["provider"] == provider
    assert written["provider_model"] == kind.model
    assert sorted(written["capabilities"]) == can
    assert written.get("context_window") == window
    assert written.get("max_concurrent_calls") == slots
    assert "prices" not in written
    assert answer("models", "show", f"{provider}:{kind.model}")["capabilities"] == can


def test_again_changes_nothing_and_prices_and_names_of_people_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    price = {"effective_from": "2026-01-01", "input": Decimal("0.02"), "output": Decimal("0.04")}
    mine = {
        "model": "my-llama",
        "provider": "vllm",
        "provider_model": own_servers.VLLM.model,
        "prices": [price],
        "options": {"top_k": 20},
        "context_window": 100,
    }
    clients.client("dynamodb").put_item(TableName="Models", Item=dynamo.to_item(mine))
    told = probed(monkeypatch, "vllm", own_servers.VLLM)
    assert [one["model"] for one in told["entries"]] == ["my-llama"]
    first = entry("my-llama")
    assert (first["prices"], first["options"], first["context_window"]) == ([price], {"top_k": 20}, 8192)
    assert first["reason"] == "told by vllm"
    again = probed(monkeypatch, "vllm", own_servers.VLLM)
    assert (again["entries"], again["applied"]) == ([], False)
    assert entry("my-llama") == first


def test_a_dry_run_and_a_no_write_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    told = probed(monkeypatch, "vllm", own_servers.VLLM, "--dry-run")
    assert told["entries"]
    assert told["applied"] is False
    with serving(own_servers.VLLM, seen=[]) as url:
        monkeypatch.setenv("VLLM_BASE_URL", f"{url}/v1")
        shown = invoke("models", "probe", "vllm", input="n\n")
        assert f"vllm:{own_servers.VLLM.model}  context_window: nothing -> 8192" in shown.stdout
        assert clients.client("dynamodb").scan(TableName="Models")["Items"] == []
        done = invoke("models", "probe", "vllm", "--yes")
    assert f"loopllama models price vllm:{own_servers.VLLM.model} --input 0 --output 0" in done.stderr.replace("\n", "")


def test_only_the_models_that_are_named_are_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    told = probed(monkeypatch, "ollama", own_servers.Ollama, "--model", "llama3.2")
    assert [one["provider_model"] for one in told["models"]] == ["llama3.2:latest"]
    with serving(own_servers.Ollama, seen=[]) as url:
        monkeypatch.setenv("OLLAMA_BASE_URL", f"{url}/v1")
        said = invoke("models", "probe", "ollama", "--model", "qwen3", code=3).stderr.replace("\n", " ")
    assert "has no model 'qwen3'; it has llama3.2:latest. Get it with: ollama pull qwen3" in said


def test_what_is_said_where_there_is_nothing_to_ask(monkeypatch: pytest.MonkeyPatch) -> None:
    with nobody_listens() as url:
        monkeypatch.setenv("OLLAMA_BASE_URL", f"{url}/v1")
        said = invoke("models", "probe", "ollama", code=1).stderr.replace("\n", " ")
    assert "ollama does not answer at http://127.0.0.1:" in said
    assert "Start it with: ollama serve; or say where it is: export OLLAMA_BASE_URL=URL" in said
    with serving(own_servers.VLLM, seen=[]) as url:
        monkeypatch.setenv("VLLM_BASE_URL", url)
        said = invoke("models", "probe", "vllm", code=1).stderr.replace("\n", " ")
        assert "answers HTTP 404" in said
        monkeypatch.setenv("VLLM_BASE_URL", f"{url}/v1")
        monkeypatch.setattr(own_servers.VLLM, "key", "another")
        monkeypatch.setenv("VLLM_API_KEY", "sk-not-that-one")
        said = invoke("models", "probe", "vllm", code=1).stderr.replace("\n", " ")
        assert "HTTP 401" in said
        assert "loopllama providers set vllm" in said
        assert "sk-not-that-one" not in said


def test_providers_that_are_no_server_of_ones_own_are_not_asked() -> None:
    said = invoke("models", "probe", "mistral", code=2).stderr.replace("\n", " ")
    assert "loopllama models list --provider mistral" in said


@pytest.mark.parametrize("provider", [name for name, known in KNOWN.items() if known.local_server])
def test_a_deployed_stack_has_no_neighbours(provider: str) -> None:
    """What listens beside a function is no server of anybody's, so the built-in address is the local stack's alone."""
    said = invoke("models", "probe", provider, code=1).stderr.replace("\n", " ")
    assert f"loopllama providers set {provider} --base-url URL" in said
    listed = {one["provider"]: one["key"] for one in answer("providers", "list")}
    assert listed[provider] == "missing"
    assert "give it one" in invoke("providers", "set", provider, input="", code=2).stderr
    invoke("providers", "set", provider, "--base-url", "https://llm.example.com/v1", input="")
    listed = {one["provider"]: one["key"] for one in answer("providers", "list")}
    assert listed[provider] == "keyless"


class Babbling(own_servers.OwnServer):
    """Answers every question about itself with what a test says."""

    says: Any = None

    def serve(self) -> None:
        if self.path == "/v1/chat/completions":
            self.chat(json.loads(self.body()))
        elif self.path == "/v1/models":
            self.say(200, {"data": [{"id": self.model, "meta": self.says, "architecture": self.says}]})
        else:
            self.answer(200, self.says if isinstance(self.says, str) else json.dumps(self.says))


@pytest.mark.parametrize(
    "says",
    [
        "no JSON",
        [],
        {"data": [None, {"id": []}], "version": 1, "models": [None, {}]},
        {"version": "1", "capabilities": None, "model_info": [], "parameters": 5},
        {"default_generation_settings": {"n_ctx": -5}, "total_slots": "many", "chat_template_caps": []},
        {"default_generation_settings": {"n_ctx": 1e300}, "total_slots": True, "modalities": {"vision": "yes"}},
    ],
)
def test_a_server_that_says_anything_is_taken_for_no_more_than_its_list(
    monkeypatch: pytest.MonkeyPatch, says: Any
) -> None:
    told = probed(monkeypatch, "house", Babbling, says=says)
    (one,) = told["models"]
    assert one.get("context_window") is None
    assert one["capabilities"] == ["structured_output", "tools"]


@pytest.mark.parametrize("body", ["[]", "{}", "no JSON", '{"data": 5}', " " * 5_000_000])
def test_what_is_no_list_of_models_is_said(monkeypatch: pytest.MonkeyPatch, body: str) -> None:
    class Odd(own_servers.OwnServer):
        def serve(self) -> None:
            self.answer(200, body)

    with serving(Odd) as url:
        monkeypatch.setenv("HOUSE_API_KEY", "k")
        monkeypatch.setenv("HOUSE_BASE_URL", url)
        said = invoke("models", "probe", "house", code=1).stderr.replace("\n", " ")
    assert "no list of models; most servers have it below /v1" in said or "too long" in said


def test_an_address_without_its_v1_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    class Elsewhere(own_servers.OwnServer):
        def serve(self) -> None:
            self.answer(404, "404 page not found")

    with serving(Elsewhere) as url:
        monkeypatch.setenv("OLLAMA_BASE_URL", url)
        said = invoke("models", "probe", "ollama", code=1).stderr.replace("\n", " ")
    assert "answers HTTP 404; most servers have it below /v1" in said
