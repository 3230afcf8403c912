"""A model's `options`: where they come from, what they may not set, and the same model under several names."""

from decimal import Decimal

import pytest

from loopllama.catalog.catalog import bundled

LOW = {"model": "gpt-5-low", "provider": "openai", "provider_model": "gpt-5", "options": {"reasoning_effort": "low"}}


def nested(levels):
    return [nested(levels - 1)] if levels else 1


def test_options_are_an_entrys():
    catalog = bundled().with_entries([{"model": "gpt-5", "options": {"service_tier": "flex", "seed": Decimal(7)}}])
    assert catalog.resolve("gpt-5").options == {"service_tier": "flex", "seed": 7}
    assert catalog.resolve("openai:gpt-5").options == {"service_tier": "flex", "seed": 7}
    assert catalog.resolve("gpt-5-mini").options is None
    assert (catalog.resolve("gpt-5").origin or {})["options"] == "table"


def test_a_model_under_a_name_of_its_own_costs_and_can_do_the_same():
    catalog = bundled().with_entries([LOW])
    low, plain = catalog.resolve("gpt-5-low"), catalog.resolve("gpt-5")
    assert (low.id, low.provider_model, low.options) == ("gpt-5-low", "gpt-5", {"reasoning_effort": "low"})
    assert (low.prices, low.max_output, low.capabilities) == (plain.prices, plain.max_output, plain.capabilities)
    # The provider's own name stays that of the bundled entry.
    assert catalog.resolve("openai:gpt-5") == plain
    assert plain.options is None


def test_on_bedrock_too():
    name = "us.anthropic.claude-haiku-4-5-20251001-v1:0"
    guarded = {
        "model": "guarded",
        "provider": "bedrock",
        "provider_model": name,
        "options": {"guardrailConfig": {"guardrailIdentifier": "gr-1", "guardrailVersion": "2"}},
    }
    catalog = bundled().with_entries([guarded])
    assert catalog.resolve("guarded").prices == catalog.resolve(f"bedrock:{name}").prices != ()
    assert catalog.resolve(f"bedrock:{name}").options is None


def test_a_server_of_ones_own_is_unpriced_still():
    entry = {"model": "mine", "provider": "vllm", "provider_model": "gpt-5"}
    assert bundled().with_entries([entry]).resolve("mine").prices == ()


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ("low", "must be a map"),
        ({"": 1}, "must be a map"),
        ({"model": "dearer"}, "may not set model:"),
        ({"stream": True, "n": Decimal(9), "top_p": 1}, "may not set n, stream:"),
        ({"messages": []}, "messages"),
        ({"modelId": "x"}, "modelId"),
        ({"api_base": "https://elsewhere.example"}, "api_base"),
        ({"x": b"bytes"}, "nothing but JSON"),
        ({"x": "y" * 5000}, "at most 4,096"),
        ({"x": nested(20)}, "at most 16 levels"),
        ({"x": 10**40 + 1}, "at most 38 digits"),
        ({"x": Decimal("1E+120")}, "at most 38 digits"),
    ],
)
def test_options_that_make_no_sense_are_passed_over_whole_and_told(options, says):
    catalog = bundled().with_entries([{"model": "gpt-5", "max_output": Decimal(77), "options": options}])
    assert catalog.resolve("gpt-5").options is None
    assert catalog.resolve("gpt-5").max_output == 77
    assert says in catalog.problems[0]["reason"]
