"""Which models the entries of the parameter AllowedModels allow."""

from __future__ import annotations

from typing import Any

import pytest

from loopllama.catalog.catalog import bundled


@pytest.mark.parametrize(
    ("entries", "name", "is_allowed"),
    [
        (("gpt-5-mini",), "gpt-5-mini", True),
        (("gpt-5-mini",), "openai:gpt-5-mini", True),
        (("openai:gpt-5-mini",), "gpt-5-mini@low@flex", True),
        (("gpt-5-mini",), "gpt-5", False),
        (("gpt-5",), "gpt-5-mini", False),
        (("openai:gpt-5*",), "gpt-5-mini", True),
        (("openai:gpt-5*",), "azure:gpt-5", False),
        (("gpt-5*",), "gpt-5", False),
        (("small",), "small", True),
        (("small",), "frontier", False),
        (("bedrock:us.amazon.nova-lite-v1:0",), "bedrock:us-east-1/us.amazon.nova-lite-v1:0", True),
        (("bedrock:us.amazon.nova-lite-v1:0",), "bedrock:us.amazon.nova-pro-v1:0", False),
        (("nobody knows",), "gpt-5", False),
    ],
)
def test_what_an_entry_allows(entries: tuple[str, ...], name: str, is_allowed: bool) -> None:
    model = bundled().allowing(entries).resolve(name)
    assert (model.enabled, model.barred) == (is_allowed, not is_allowed)


def test_a_name_of_somebodys_own_opens_no_other_model() -> None:
    """The Models table may make any name, an allowed one too, mean another model."""
    rows: list[dict[str, Any]] = [
        {"model": "gpt-5-mini", "provider_model": "gpt-5-pro"},
        {"model": "mine", "provider": "openai", "provider_model": "gpt-5-pro", "same_as": "gpt-5-mini"},
        {"model": "renamed", "alias_of": "gpt-5-pro"},
        {"model": "openai:gpt-5-mini", "provider_model": "gpt-5-pro"},
        {"model": "off", "provider": "openai", "provider_model": "gpt-5-mini", "enabled": False, "replaced_by": "mine"},
        {"model": "also", "provider": "openai", "provider_model": "gpt-5-mini"},
    ]
    catalog = bundled().allowing(("gpt-5-mini", "mine", "renamed")).with_entries(rows)
    barred = {name: catalog.resolve(name).barred for name in ("gpt-5-mini", "mine", "renamed", "off", "also")}
    assert barred == {"gpt-5-mini": True, "mine": True, "renamed": True, "off": False, "also": False}


def test_options_call_nothing_that_is_not_allowed_in_the_models_place() -> None:
    nova, opus = "us.amazon.nova-micro-v1:0", "us.anthropic.claude-opus-4-1-20250805-v1:0"
    mine = "arn:aws:bedrock:us-east-1:123456789012:application-inference-profile/abc123def456"
    rows: list[dict[str, Any]] = [
        {"model": name, "provider": "bedrock", "provider_model": model, "options": {"inferenceProfile": profile}}
        for name, model, profile in (("dear", nova, opus), ("bill", nova, mine), ("other", opus, mine + "0"))
    ]
    catalog = bundled().with_entries(rows).allowing((f"bedrock:{nova}", f"bedrock:{mine}"))
    barred = {name: catalog.resolve(name).barred for name in ("dear", "bill", "other")}
    assert barred == {"dear": True, "bill": False, "other": True}
