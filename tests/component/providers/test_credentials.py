"""Credentials of providers: where they come from, and where a key may go."""

from __future__ import annotations

import os
import time
from typing import Any

import pytest

from loopllama.aws import clients
from loopllama.catalog.model import Model
from loopllama.errors import CredentialsRejected, ModelRequestRejected, ModelUnavailable
from loopllama.providers import credentials, provider_for
from loopllama.providers.credentials import credentials_for, forget, from_environment
from loopllama.settings import Settings

from .conftest import STACK, put, some_call


def test_the_secret(secrets: Any) -> None:
    put(secrets, "openai", {"api_key": " sk-1 ", "headers": {"OpenAI-Project": "p"}})
    found = credentials_for("openai", STACK)
    assert (found.api_key, found.base_url, found.dialect) == ("sk-1", "https://api.openai.com/v1", "openai")
    assert found.headers == {"OpenAI-Project": "p"}
    assert "stack/providers/openai" in found.source
    assert "sk-1" not in repr(found)


def test_a_secret_that_is_the_bare_key(secrets: Any) -> None:
    put(secrets, "anthropic", "sk-ant-1\n")
    assert credentials_for("anthropic", STACK).api_key == "sk-ant-1"


def test_the_environment_comes_first_and_is_not_mixed_with_the_secret(
    secrets: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(secrets, "openai", {"api_key": "sk-secret", "base_url": "https://gateway.example.com/v1"})
    monkeypatch.setenv("OPENAI_API_KEY", "sk-env")
    found = credentials_for("openai", STACK)
    assert (found.api_key, found.base_url) == ("sk-env", "https://api.openai.com/v1")


def test_variables() -> None:
    assert from_environment("google", {"GEMINI_API_KEY": "g"}) == {"api_key": "g"}
    assert from_environment("azure", {"AZURE_OPENAI_API_KEY": "a", "AZURE_OPENAI_ENDPOINT": "https://x"}) == {
        "api_key": "a",
        "base_url": "https://x",
    }
    assert from_environment("my-vllm.2", {"MY_VLLM_2_BASE_URL": "http://localhost"}) == {"base_url": "http://localhost"}
    assert from_environment("openai", {"OPENAI_API_KEY": " "}) is None
    assert from_environment("bedrock", dict(os.environ)) is None


def test_missing_key_names_the_secret_and_the_command(secrets: Any) -> None:
    with pytest.raises(CredentialsRejected) as caught:
        credentials_for("openai", STACK)
    for part in ("'stack/providers/openai'", "OPENAI_API_KEY", "loopllama providers set openai"):
        assert part in str(caught.value)
    put(secrets, "openai", {"api_key": "sk-1"})
    assert credentials_for("openai", STACK).api_key == "sk-1", "a key that is set later acts at once"


def test_no_deployment_to_ask() -> None:
    with pytest.raises(CredentialsRejected, match="PROVIDER_SECRETS_PREFIX is empty"):
        credentials_for("openai", Settings())


@pytest.mark.parametrize(
    ("secret", "says"),
    [
        ("{", "no JSON object"),
        ({"api_key": "k", "url": "https://x"}, "unknown fields url"),
        ({"api_key": 1}, "must be text"),
        ({"api_key": ""}, "no api_key"),
        ({"api_key": "two words"}, "characters"),
        ({"api_key": "a\nb"}, "characters"),
        ({"api_key": "ключ"}, "characters"),
        ({"api_key": "k", "dialect": "soap"}, "dialect 'soap'"),
        ({"api_key": "k", "headers": ["x"]}, "headers"),
        ({"api_key": "k", "headers": {"x": "a\r\nb"}}, "headers"),
    ],
)
def test_a_secret_that_makes_no_sense(secrets: Any, secret: Any, says: str) -> None:
    put(secrets, "openai", secret)
    with pytest.raises(CredentialsRejected, match=says) as caught:
        credentials_for("openai", STACK)
    assert "loopllama providers set openai" in str(caught.value)


def test_a_secret_that_may_not_be_read(secrets: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    answer_with(monkeypatch, "AccessDeniedException", 400)
    with pytest.raises(CredentialsRejected, match="secretsmanager:GetSecretValue"):
        credentials_for("openai", STACK)


def answer_with(monkeypatch: pytest.MonkeyPatch, code: str, status: int) -> None:
    from botocore.exceptions import ClientError

    def fail(**_: Any) -> None:
        response: Any = {"Error": {"Code": code}, "ResponseMetadata": {"HTTPStatusCode": status}}
        raise ClientError(response, "GetSecretValue")

    monkeypatch.setattr(clients.client("secretsmanager", read_seconds=3, attempts=2), "get_secret_value", fail)


def test_secrets_manager_is_down(secrets: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    put(secrets, "openai", {"api_key": "sk-1"})
    answer_with(monkeypatch, "InternalServiceError", 500)
    with pytest.raises(ModelUnavailable):
        credentials_for("openai", STACK)


# How long they are kept


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    return now


def test_a_rotated_key_acts_after_five_minutes(secrets: Any, clock: list[float]) -> None:
    put(secrets, "openai", {"api_key": "sk-old"})
    assert credentials_for("openai", STACK).api_key == "sk-old"
    put(secrets, "openai", {"api_key": "sk-new"})
    clock[0] += 299
    assert credentials_for("openai", STACK).api_key == "sk-old"
    clock[0] += 2
    assert credentials_for("openai", STACK).api_key == "sk-new"


def test_a_rejected_key_is_read_again_at_once(secrets: Any, clock: list[float]) -> None:
    put(secrets, "openai", {"api_key": "sk-old"})
    credentials_for("openai", STACK)
    put(secrets, "openai", {"api_key": "sk-new"})
    forget("openai", STACK)
    assert credentials_for("openai", STACK).api_key == "sk-new"


def test_the_old_key_serves_while_secrets_manager_is_down(
    secrets: Any, clock: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    put(secrets, "openai", {"api_key": "sk-1"})
    credentials_for("openai", STACK)
    clock[0] += 301
    answer_with(monkeypatch, "InternalServiceError", 500)
    assert credentials_for("openai", STACK).api_key == "sk-1"


def test_a_deleted_key_stops_serving(secrets: Any, clock: list[float]) -> None:
    put(secrets, "openai", {"api_key": "sk-1"})
    credentials_for("openai", STACK)
    secrets.delete_secret(SecretId="stack/providers/openai", ForceDeleteWithoutRecovery=True)
    clock[0] += 301
    with pytest.raises(CredentialsRejected):
        credentials_for("openai", STACK)


# Where a key may go


def reach(url: str, allowed: tuple[str, ...] = (), provider: str = "acme") -> str:
    found = {"api_key": "k", "base_url": url}
    return credentials.checked(provider, found, "the secret", Settings(allowed_provider_hosts=allowed)).base_url


@pytest.mark.parametrize(
    ("url", "allowed", "provider"),
    [
        ("https://llm.example.com/v1", (), "acme"),
        ("https://llm.example.com/v1", ("llm.example.com",), "acme"),
        ("https://llm.example.com", ("*.example.com",), "acme"),
        ("https://LLM.Example.com:8443", ("llm.example.com",), "acme"),
        ("http://127.0.0.1:8000/v1", (), "acme"),
        ("http://localhost:11434/v1", (), "ollama"),
        ("http://[::1]:8000", (), "acme"),
        ("http://llm.internal:8000/v1", ("http://llm.internal",), "acme"),
        ("https://llm.internal", ("http://llm.internal",), "acme"),
        ("https://eu.api.openai.com/v1", ("llm.example.com",), "openai"),
        ("https://mine.openai.azure.com", ("llm.example.com",), "azure"),
    ],
)
def test_hosts_that_may_have_the_key(url: str, allowed: tuple[str, ...], provider: str) -> None:
    assert reach(url, allowed, provider) == url


@pytest.mark.parametrize(
    ("url", "allowed", "says"),
    [
        ("http://llm.example.com/v1", (), "uses http"),
        ("http://llm.example.com/v1", ("llm.example.com",), "uses http"),
        ("http://10.0.0.7:8000", (), "http://10.0.0.7"),
        ("http://127.0.0.1.example.com", (), "uses http"),
        ("https://evil.example.org", ("llm.example.com",), "does not list"),
        ("https://example.com", ("*.example.com",), "does not list"),
        ("https://badexample.com", ("*.example.com",), "does not list"),
        ("https://api.openai.com.evil.org", ("llm.example.com",), "does not list"),
        ("http://127.0.0.1:8000", ("llm.example.com",), "does not list"),
        ("ftp://llm.example.com", (), "must be https"),
        ("llm.example.com/v1", (), "must be https"),
        ("https://user:pass@llm.example.com", (), "must be https"),
        ("https://llm.example.com/v1?key=1", (), "must be https"),
        ("https://llm.example.com/#x", (), "must be https"),
        ("https://llm.example.com:port", (), "no URL"),
        ("https://[::1", (), "no URL"),
        ("https://llm.exämple.com", (), "ASCII"),
        ("https://llm.example.com/a\r\nHost: x", (), "base_url"),
    ],
)
def test_hosts_that_may_not(url: str, allowed: tuple[str, ...], says: str) -> None:
    with pytest.raises(ModelRequestRejected, match=says):
        reach(url, allowed)


def test_a_row_of_a_table_cannot_move_a_key(secrets: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A model's entry names provider and model and nothing that says where to go; a name made up to look like a URL
    is only a name."""
    monkeypatch.setenv("OPENAI_API_KEY", "sk-1")
    model = Model("x", "https://evil.example.org", "m")
    with pytest.raises(CredentialsRejected):
        provider_for(model, STACK).complete(some_call())


# The registry
