"""What a process finds of credentials: an account with secrets, and an environment without any key."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from support.moto_account import account

from loopllama import providers
from loopllama.aws import clients
from loopllama.catalog.providers import KNOWN, variables_of
from loopllama.llm.types import Message, ModelRequest
from loopllama.providers import credentials
from loopllama.settings import Settings

STACK = Settings(provider_secrets_prefix="stack/providers/")
KEYS = [f"{prefix}_{end}" for name in KNOWN for prefix in variables_of(name) for end in ("API_KEY", "BASE_URL")]


@pytest.fixture(autouse=True)
def _fresh(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in [*KEYS, "ACME_API_KEY", "ACME_BASE_URL"]:
        monkeypatch.delenv(name, raising=False)
    for name, value in {
        "AWS_DEFAULT_REGION": "eu-central-1",
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing",
    }.items():
        monkeypatch.setenv(name, value)
    for name in ("AWS_ENDPOINT_URL", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    credentials._kept.clear()
    clients.client.cache_clear()
    providers._adapters.clear()
    yield
    credentials._kept.clear()
    clients.client.cache_clear()
    providers._adapters.clear()


@pytest.fixture
def secrets(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    with account(monkeypatch) as client:
        yield client("secretsmanager")


def put(secrets: Any, provider: str, value: Any) -> None:
    text = value if isinstance(value, str) else json.dumps(value)
    name = f"stack/providers/{provider}"
    try:
        secrets.create_secret(Name=name, SecretString=text)
    except secrets.exceptions.ResourceExistsException:
        secrets.put_secret_value(SecretId=name, SecretString=text)


def some_call() -> ModelRequest:
    return ModelRequest("m", "m", "", (Message("user", "hi"),), 1.0)
