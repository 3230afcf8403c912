"""Our prices against LiteLLM's, over all bundled models that LiteLLM has. That they are genai-prices' too is in
tests/unit/catalog/test_pricing.py.

LOOPLLAMA_LITELLM is the path of the `litellm` program; `make test-litellm` makes its environment and sets it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from loopllama.catalog import pricing
from loopllama.catalog.catalog import bundled
from loopllama.catalog.model import Model

PROGRAM = os.environ.get("LOOPLLAMA_LITELLM", "")
PRICES = "lib/python*/site-packages/litellm/model_prices_and_context_window_backup.json"
FIELDS = {
    "input": "input_cost_per_token",
    "output": "output_cost_per_token",
    "cache_read": "cache_read_input_token_cost",
    "cache_write": "cache_creation_input_token_cost",
}
MOMENT = datetime(2026, 11, 26, 2, tzinfo=UTC)
"""A Thursday, within DeepSeek's peak hours, whose price is LiteLLM's plain one; its `off_peak_pricing` is our other
price."""
EXPLAINED = {
    "mistral-large-4": "LiteLLM has the price of its first days; Mistral has changed it twice since, and OpenRouter "
    "passes on the same 0.70 and 2.10 USD as ours",
}

pytestmark = pytest.mark.skipif(not PROGRAM, reason="LOOPLLAMA_LITELLM is not set: run `make test-litellm`")


def theirs(model: Model, listed: Mapping[str, Any]) -> Mapping[str, Any] | None:
    name = model.provider_model
    prefixes = {"google": ["gemini/"]}.get(
        model.provider, ["", f"{model.provider}/", "bedrock/", "bedrock_mantle/", "bedrock_converse/"]
    )
    found = next((listed[prefix + name] for prefix in prefixes if prefix + name in listed), None)
    return found if found and "input_cost_per_token" in found else None


def test_prices_are_litellms_but_where_that_is_explained() -> None:
    [path] = Path(PROGRAM).parents[1].glob(PRICES)
    listed = json.loads(path.read_text(), parse_float=Decimal)
    different: dict[str, list[str]] = {}
    compared = 0
    for model in bundled().models():
        price, entry = pricing.price_at(model, MOMENT), theirs(model, listed)
        if price is None or entry is None:
            continue
        compared += 1
        for ours, name in FIELDS.items():
            mine, other = getattr(price, ours), entry.get(name)
            # What one of the two has no price of its own for is charged otherwise; LiteLLM writes 0 for it.
            if mine is not None and other and abs(mine - Decimal(other) * 1_000_000) > Decimal("0.000001"):
                different.setdefault(model.id, []).append(f"{ours}: {mine}, LiteLLM {Decimal(other) * 1_000_000}")
    assert compared >= 130
    assert different.keys() == EXPLAINED.keys(), different
