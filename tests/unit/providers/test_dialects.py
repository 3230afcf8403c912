"""The registry of wire formats: who uses an entry, and what an entry loads."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

import pytest

from loopllama.catalog.providers import KNOWN
from loopllama.catalog.takes import needs_responses
from loopllama.providers import DIALECTS

LOADED = """
import json, sys
from loopllama.providers import DIALECTS
before = set(sys.modules)
made = DIALECTS[sys.argv[1]].load()
print(json.dumps([[one.__module__ for one in made.__mro__], sorted(set(sys.modules) - before)]))
"""


def test_every_known_provider_speaks_a_dialect_of_the_registry() -> None:
    assert {known.dialect for known in KNOWN.values()} <= set(DIALECTS)


def test_a_dialect_that_needs_the_functions_role_is_for_no_server_of_ones_own() -> None:
    by_role = {known.dialect for known in KNOWN.values() if known.by_role}
    by_role |= {DIALECTS[name].responses for name in by_role} - {""}
    assert by_role == {name for name, entry in DIALECTS.items() if not entry.own_servers}


@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_dialect_loads_no_other(dialect: str) -> None:
    path = os.pathsep.join(one for one in sys.path if one)
    done = subprocess.run(
        [sys.executable, "-c", LOADED, dialect],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": path},
    )
    own, loaded = json.loads(done.stdout)
    others = {entry.load().__module__ for entry in DIALECTS.values()} - {*own}  # it may be made from one of them
    assert own[0] in loaded
    assert others
    assert not others & set(loaded)


@pytest.mark.parametrize(
    ("model", "options", "needs"),
    [
        ("gpt-5.5", {}, True),
        ("gpt-5.5-2026-04-24", {}, True),
        ("gpt-5.6-luna", {"reasoning_effort": "none"}, True),
        ("gpt-5.10", {}, True),
        ("gpt-6", {}, True),
        ("gpt-6.1-mini", {}, True),
        ("gpt-10", {}, True),
        ("ft:gpt-5.5:acme::1", {}, True),
        ("gpt-5.4", {}, False),
        ("gpt-5.4", {"reasoning_effort": "none"}, False),
        ("gpt-5.4-mini", {"reasoning_effort": "low"}, True),
        ("gpt-5.4", {"reasoning": {"effort": "low"}}, True),
        ("gpt-5.2", {"reasoning_effort": "low"}, False),
        *((name, {}, False) for name in ("gpt-5", "gpt-5-mini", "gpt-5.1", "gpt-4.1", "gpt-4o", "gpt-35-turbo", "o3")),
        ("gpt-oss-120b", {"reasoning_effort": "low"}, False),
        ("claude-opus-5-5", {}, False),
        ("my-gpt-5.5", {}, False),
        # Served there only: the pro and codex models, and OpenAI's at Bedrock.
        *((name, {}, True) for name in ("gpt-5-pro", "gpt-5-pro-2025-10-06", "gpt-5.2-pro", "o1-pro", "o3-pro")),
        *((name, {}, True) for name in ("gpt-5-codex", "gpt-5.1-codex-max", "gpt-5.3-codex", "codex-mini-latest")),
        *((name, {}, True) for name in ("openai.gpt-5.4", "us-east-2/openai.gpt-5.5", "us.openai.gpt-5.6-sol")),
        *((name, {}, False) for name in ("openai.gpt-oss-120b", "openai.gpt-oss-20b-1:0", "xai.grok-4.3", "zai.glm-5")),
        *((name, {}, False) for name in ("deepseek-v4-pro", "sonar-pro", "gemini-3-pro", "gpt-5-chat-latest")),
    ],
)
def test_which_models_of_openai_need_the_responses_api(model: str, options: dict[str, Any], needs: bool) -> None:
    assert needs_responses(model, options) is needs
