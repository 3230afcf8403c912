"""The registry of providers: which adapter serves which model."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

import pytest

from loopllama.catalog.model import Model
from loopllama.catalog.providers import KNOWN
from loopllama.catalog.takes import refused
from loopllama.errors import CredentialsRejected, ModelRequestRejected
from loopllama.providers import credentials, provider_for
from loopllama.providers.credentials import credentials_for
from loopllama.providers.simulated.adapter import Simulated
from loopllama.settings import Settings
from loopllama_cli.local import providers as local_providers

from .conftest import STACK, put, some_call


def test_one_adapter_for_a_provider(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "k")
    one = provider_for(Model("a", "openai", "gpt-a"), STACK)
    assert provider_for(Model("b", "openai", "gpt-b"), STACK) is one
    assert provider_for(Model("c", "mistral", "m"), STACK) is not one


def test_which_adapter(secrets: Any) -> None:
    for name, known in KNOWN.items():
        if not known.by_role:
            base = known.base_url or "https://acme.openai.azure.com"
            put(secrets, name, {"base_url": base, **({} if known.keyless else {"api_key": "k"})})
    names = {name: type(provider_for(Model("m", name, "m"), STACK)).__name__ for name in KNOWN}
    assert names.pop("anthropic") == "Anthropic"
    assert names.pop("bedrock") == "Bedrock"
    assert names.pop("bedrock-openai") == "BedrockChat"
    assert set(names.values()) == {"OpenAI"}


@pytest.mark.parametrize(
    ("model", "dialect", "adapter"),
    [
        # Perplexity's Agent API has the vendor in its names, what its Chat Completions had has none.
        ("perplexity/sonar", None, "OpenAIResponses"),
        ("anthropic/claude-opus-5", None, "OpenAIResponses"),
        ("sonar-pro", None, "OpenAI"),
        ("sonar-pro", "openai-responses", "OpenAIResponses"),
    ],
)
def test_a_known_providers_secret_may_name_its_dialect(
    secrets: Any, model: str, dialect: str | None, adapter: str
) -> None:
    put(secrets, "perplexity", {"api_key": "k", **({"dialect": dialect} if dialect else {})})
    made = provider_for(Model("m", "perplexity", model), STACK)
    assert type(made).__name__ == adapter
    url = made.url(credentials_for("perplexity", STACK), some_call())  # type: ignore[attr-defined]
    assert url == f"https://api.perplexity.ai/{'v1/responses' if adapter == 'OpenAIResponses' else 'chat/completions'}"


def test_a_known_provider_without_a_key_is_looked_up_again(secrets: Any) -> None:
    model = Model("m", "perplexity", "sonar-pro")
    with pytest.raises(CredentialsRejected, match="loopllama providers set perplexity"):
        provider_for(model, STACK).complete(some_call())
    put(secrets, "perplexity", {"api_key": "k", "dialect": "openai-responses"})
    assert type(provider_for(model, STACK)).__name__ == "OpenAIResponses"


@pytest.mark.parametrize("provider", [name for name, known in KNOWN.items() if known.local_server])
def test_the_usual_address_of_a_server_is_the_local_stacks(secrets: Any, provider: str) -> None:
    """A function calls what listens beside it for nobody who writes a table; the local stack stores the address."""
    with pytest.raises(CredentialsRejected, match=f"loopllama providers set {provider} --base-url URL"):
        provider_for(Model("m", provider, "m"), STACK).complete(some_call())
    put(secrets, provider, local_providers.credentials({})[provider])
    found = credentials_for(provider, STACK)
    assert (found.base_url, found.api_key) == (KNOWN[provider].base_url, "")


def test_a_server_of_ones_own(secrets: Any) -> None:
    model = Model("acme:m", "acme", "m")
    with pytest.raises(CredentialsRejected, match="loopllama providers set acme"):
        provider_for(model, STACK).complete(some_call())
    put(secrets, "acme", {"api_key": "k"})
    with pytest.raises(CredentialsRejected, match="base_url is needed"):
        provider_for(model, STACK).complete(some_call())
    credentials._kept.clear()
    put(secrets, "acme", {"base_url": "https://llm.example.com", "dialect": "anthropic"})
    assert type(provider_for(model, STACK)).__name__ == "Anthropic"
    put(secrets, "vllm", {"base_url": "https://llm.example.com", "dialect": "anthropic"})
    assert type(provider_for(Model("vllm:m", "vllm", "m"), STACK)).__name__ == "Anthropic"
    put(secrets, "acme2", {"base_url": "https://llm.example.com"})
    assert type(provider_for(Model("acme2:m", "acme2", "m"), STACK)).__name__ == "OpenAI"


@pytest.mark.parametrize(
    ("dialect", "model", "adapter"),
    [
        ("openai-responses", "m", "OpenAIResponses"),
        ("azure", "gpt-5.5", "OpenAIResponses"),
        ("azure", "gpt-5", "OpenAI"),
        ("openai", "gpt-5.5", "OpenAI"),
    ],
)
def test_who_is_asked_by_the_responses_api(secrets: Any, dialect: str, model: str, adapter: str) -> None:
    """A server whose secret says so, whatever its model; a second Azure account as the first one."""
    put(secrets, "acme", {"api_key": "k", "base_url": "https://llm.example.com", "dialect": dialect})
    assert type(provider_for(Model(model, "acme", model), STACK)).__name__ == adapter


def test_the_simulated_one_stands_in() -> None:
    model = Model("m", "openai", "m")
    for simulated in (("openai",), ("*",), ("mistral", "openai")):
        assert isinstance(provider_for(model, Settings(simulated_providers=simulated)), Simulated)
    assert not isinstance(provider_for(model, Settings(simulated_providers=("mistral",))), Simulated)


def test_the_simulated_one_is_off_unless_asked_for() -> None:
    model = Model("simulated:m", "simulated", "m")
    with pytest.raises(ModelRequestRejected, match="SIMULATED_PROVIDERS"):
        provider_for(model, STACK).complete(some_call())
    assert isinstance(provider_for(model, Settings(simulated_providers=("simulated",))), Simulated)


def test_every_known_provider_has_an_address_or_says_that_it_needs_one(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, known in KNOWN.items():
        if known.by_role:
            continue
        monkeypatch.setenv(f"{known.variables[0]}_API_KEY", "k")
        if name == "azure":
            with pytest.raises(CredentialsRejected, match="base_url"):
                credentials_for(name, Settings())
        else:
            assert credentials_for(name, Settings()).base_url.startswith(("https://", "http://localhost"))


def test_which_models_take_a_temperature() -> None:
    for model in (
        "gpt-4.1",
        "gpt-5-chat-latest",
        "claude-haiku-4-5",
        "claude-opus-4-6",
        "mistral.pixtral-large",
        "o-model",
    ):
        assert refused("temperature", model) is None, model
    for model in (
        "o3",
        "o4-mini",
        "gpt-5",
        "gpt-5.2-mini",
        "openai/gpt-5",
        "claude-opus-4-7",
        "anthropic.claude-sonnet-5",
    ):
        assert refused("temperature", model), model


def test_what_loads_with_the_registry() -> None:
    """An adapter and what it needs loads when it is first used."""
    code = (
        "import sys; import loopllama.providers; "
        "print([m for m in ('httpcore','httpx','boto3','botocore','pydantic','ssl','jsonschema') if m in sys.modules])"
    )
    path = os.pathsep.join(p for p in sys.path if p)
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env={**os.environ, "PYTHONPATH": path}
    )
    assert done.stdout.strip() == "[]"
