"""Which servers a local stack finds in the environment of who starts it."""

from __future__ import annotations

import json

import pytest

from loopllama.catalog.providers import KNOWN
from loopllama_cli.local import providers


@pytest.mark.parametrize("provider", [*(name for name, known in KNOWN.items() if known.local_server), "house"])
def test_the_environment_says_where_a_server_is_and_needs_no_key(provider: str) -> None:
    prefix = provider.upper()
    stored = providers.credentials({f"{prefix}_BASE_URL": "http://127.0.0.1:9999/v1"})
    assert json.loads(stored[provider]) == {"base_url": "http://127.0.0.1:9999/v1"}
    stored = providers.credentials({f"{prefix}_BASE_URL": "http://h/v1", f"{prefix}_API_KEY": "k"})
    assert json.loads(stored[provider]) == {"base_url": "http://h/v1", "api_key": "k"}


def test_without_it_they_are_where_they_listen_by_default() -> None:
    stored = providers.credentials({})
    assert {name: json.loads(text) for name, text in stored.items()} == {
        "ollama": {"base_url": "http://localhost:11434/v1"},
        "vllm": {"base_url": "http://localhost:8000/v1"},
        "llamacpp": {"base_url": "http://localhost:8080/v1"},
        "lmstudio": {"base_url": "http://localhost:1234/v1"},
    }
    assert not stored.keys() & set(providers.simulated(stored)), "no stand-in answers for them"
