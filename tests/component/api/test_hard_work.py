"""Requests that are small and ask the API for much work: a 400 or a short answer, soon."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from typing import Any

import pytest
from support.api_client import InProcess
from support.deployment import Deployment


def crew(agents: int, **fields: Any) -> list[dict[str, Any]]:
    return [{"role": "R", "name": f"s{place}", "systemPrompt": "x", **fields} for place in range(agents)]


@pytest.mark.parametrize(
    "agents",
    [
        crew(200, tools=[f"t{tool}" for tool in range(64)], approval={"tools": [f"u{tool}" for tool in range(60)]}),
        crew(40, prompt="".join(f"{{{{item.a{i}}}}}" for i in range(550))),
        crew(200, **{f"unknown_{field}": 1 for field in range(180)}),
        crew(130, tools=[f"tool_of_nobody_{tool}" for tool in range(64)]),
        crew(1, outputSchema={"pattern": "^(x)\\1"}),
        crew(1, outputSchema={"allOf": [{}] * 20_000}),
    ],
    ids=["approvals", "prompts", "fields", "tools", "pattern", "schema"],
)
def test_a_definition_full_of_mistakes_is_a_400_at_once(live: Deployment, agents: list[dict[str, Any]]) -> None:
    api = InProcess(live.settings)
    begun = time.process_time()
    status, answer = api.ask("POST", "/v1/workflows", {"name": "w", "crew": agents})
    assert status == 400
    assert time.process_time() - begun < 4
    assert len(answer["details"]) <= 50
    assert len(json.dumps(answer)) < 100_000


def test_models_that_nobody_knows_are_told_of_fifty_at_most(live: Deployment) -> None:
    live.settings = replace(live.settings, default_model="test:base")
    agents = [
        {**agent, "policy": "cheapest", "candidates": [f"nothing-{place}-{model}" for model in range(60)]}
        for place, agent in enumerate(crew(200))
    ]
    api = InProcess(live.settings)
    begun = time.process_time()
    status, answer = api.ask("POST", "/v1/workflows", {"name": "w", "crew": agents})
    assert status == 201
    assert time.process_time() - begun < 5
    assert len(answer["warnings"]) == 50


def test_of_very_many_models_only_some_are_looked_at(live: Deployment) -> None:
    live.settings = replace(live.settings, default_model="test:base")
    agents = [
        {**agent, "policy": "fastest", "candidates": [f"test:m{place}x{model}" for model in range(60)]}
        for place, agent in enumerate(crew(100))
    ]
    status, answer = InProcess(live.settings).ask("POST", "/v1/workflows", {"name": "w", "crew": agents})
    assert status == 201
    assert len(answer["warnings"]) <= 50
