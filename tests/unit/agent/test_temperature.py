"""Whether `temperature` goes to a model that a step was moved to."""

from __future__ import annotations

import pytest

from loopllama.catalog.model import Model
from loopllama.catalog.takes import takes_temperature
from loopllama.llm.types import Identity

REASONS = frozenset({"tools", "reasoning"})


@pytest.mark.parametrize(
    ("model", "takes"),
    [
        (Model("support-prod", "azure", "support-prod", capabilities=REASONS), False),
        (Model("support-prod", "azure", "support-prod", capabilities=frozenset({"tools"})), True),
        (Model("support-prod", "azure", "support-prod"), True),
        # What it is the same as counts more than what it can do.
        (Model("prod", "azure", "prod", stands_for=Identity("openai", "gpt-5")), False),
        (Model("prod", "azure", "prod", capabilities=REASONS, stands_for=Identity("openai", "gpt-4.1")), True),
        (Model("azure:gpt-5-mini", "azure", "gpt-5-mini"), False),
        # Claude thinks only when it is told to, and Gemini takes it beside its thoughts.
        (Model("claude-sonnet-4-5", "anthropic", "claude-sonnet-4-5", capabilities=REASONS), True),
        (Model("gemini-2.5-flash", "google", "gemini-2.5-flash", capabilities=REASONS), True),
    ],
)
def test_a_deployments_entry_says_what_its_name_does_not(model: Model, takes: bool) -> None:
    assert takes_temperature(model) is takes
