"""Where each wire format says the effort and the service tier that a model's name asks for."""

from __future__ import annotations

from typing import Any

import pytest

from loopllama.catalog.catalog import bundled
from loopllama.catalog.providers import KNOWN
from loopllama.llm.types import Message, ModelRequest
from loopllama.providers import _adapters, anthropic, openai, openai_responses, provider_for, wire
from loopllama.providers.bedrock import converse
from loopllama.settings import Settings

SCHEMA = {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"], "additionalProperties": False}
CLAUDE, NOVA = "us.anthropic.claude-sonnet-5", "us.amazon.nova-2-lite-v1:0"
FIELDS = "additionalModelRequestFields"


def call(model: str, **fields: Any) -> ModelRequest:
    return ModelRequest(model, model, "Be short.", [Message("user", "Hello")], 10, **fields)


def chat(one: ModelRequest) -> dict[str, Any]:
    return openai.request(one, KNOWN["openai"], "max_completion_tokens")


def responses(one: ModelRequest) -> dict[str, Any]:
    return openai_responses.request(one, KNOWN["openai"])


@pytest.mark.parametrize(
    ("request_of", "model", "options", "said"),
    [
        (chat, "gpt-5", {}, {"reasoning_effort": "low"}),
        (chat, "gpt-5", {"reasoning_effort": "high", "verbosity": "low"}, {"reasoning_effort": "low"}),
        (
            chat,
            "x/y",
            {"reasoning": {"effort": "high", "exclude": True}},
            {"reasoning": {"effort": "low", "exclude": True}},
        ),
        (responses, "gpt-6-sol", {}, {"reasoning": {"effort": "low"}}),
        (responses, "gpt-6-sol", {"reasoning_effort": "high"}, {"reasoning": {"effort": "low"}}),
        (
            responses,
            "gpt-6-sol",
            {"reasoning": {"effort": "high", "summary": "auto"}},
            {"reasoning": {"effort": "low", "summary": "auto"}},
        ),
        (anthropic.request, "claude-sonnet-5", {}, {"output_config": {"effort": "low"}}),
        (
            anthropic.request,
            "claude-sonnet-5",
            {"output_config": {"effort": "high", "x": 1}},
            {"output_config": {"effort": "low", "x": 1}},
        ),
        (converse.request, CLAUDE, {}, {FIELDS: {"output_config": {"effort": "low"}}}),
        (
            converse.request,
            CLAUDE,
            {FIELDS: {"output_config": {"effort": "max"}, "x": 5}},
            {FIELDS: {"output_config": {"effort": "low"}, "x": 5}},
        ),
        (converse.request, NOVA, {}, {FIELDS: {"reasoningConfig": {"type": "enabled", "maxReasoningEffort": "low"}}}),
        (converse.request, "openai.gpt-oss-120b-1:0", {}, {FIELDS: {"reasoning_effort": "low"}}),
    ],
)  # fmt: skip
def test_the_names_effort_wins_over_the_options(
    request_of: Any, model: str, options: dict[str, Any], said: dict[str, Any]
) -> None:
    body = request_of(call(model, options=options, effort="low"))
    assert {name: body.get(name) for name in said} == said
    assert not (body.keys() & {"reasoning", "reasoning_effort"}) - said.keys()
    # Without an effort in the name nothing is said but by the options.
    plain = request_of(call(model))
    assert not plain.keys() & {"reasoning", "reasoning_effort", "output_config", FIELDS}


def test_effort_and_schema_stand_side_by_side() -> None:
    body = anthropic.request(call("claude-sonnet-5", effort="low", output_schema=SCHEMA))
    assert body["output_config"] == {"effort": "low", "format": {"type": "json_schema", "schema": SCHEMA}}


@pytest.mark.parametrize(
    ("request_of", "model", "options", "said"),
    [
        (chat, "gpt-5", {"service_tier": "priority"}, {"service_tier": "flex"}),
        (responses, "gpt-6-sol", {"service_tier": "priority"}, {"service_tier": "flex"}),
        (converse.request, NOVA, {"serviceTier": {"type": "priority"}}, {"serviceTier": {"type": "flex"}}),
    ],
)
def test_the_names_tier_wins_over_the_options(request_of: Any, model: str, options: Any, said: dict[str, Any]) -> None:
    for own in ({}, options):
        body = request_of(call(model, options=own, service_tier="flex"))
        assert {name: body[name] for name in said} == said
    assert not request_of(call(model)).keys() & said.keys()


def test_anthropic_has_no_word_for_its_priority_tier() -> None:
    assert anthropic.request(call("claude-sonnet-5", service_tier="priority"))["service_tier"] == "auto"


@pytest.mark.parametrize(
    ("said", "tier"),
    [
        *(("default", "standard"), ("standard", "standard"), ("on_demand", "standard"), ("flex", "flex")),
        *(("priority", "priority"), ("fast", "priority"), ("batch", "batch"), ("scale", "scale")),
        *(("reserved", "reserved"), ("auto", ""), ("something", ""), (None, ""), (3, ""), ({}, "")),
    ],
)
def test_tiers_that_answers_name(said: Any, tier: str) -> None:
    assert wire.service_tier(said) == tier


@pytest.mark.parametrize(("name", "by_responses"), [("gpt-5.4", False), ("gpt-5.4@low", True), ("gpt-5.4@none", False)])
def test_an_effort_in_the_name_needs_the_responses_api_as_one_in_the_options_does(
    name: str, by_responses: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    _adapters.clear()
    monkeypatch.setenv("OPENAI_API_KEY", "key")
    adapter = provider_for(bundled().resolve(name), Settings())
    assert isinstance(adapter, openai_responses.OpenAIResponses) is by_responses
