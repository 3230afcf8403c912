"""The catalog: what is bundled, what the table adds, how names are found."""

import json
import subprocess
import sys
from datetime import date
from decimal import Decimal

import botocore.session
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loopllama.catalog.catalog import bundled
from loopllama.catalog.entries import _READ, parse_item
from loopllama.catalog.model import CAPABILITIES, PROVIDERS, at_region, foundation_model
from loopllama.errors import ModelUnknown
from loopllama.providers.bedrock.access import needs_agreement
from loopllama_cli.catalog.regions import NEAREST, PROFILES, aliases

DAY = date(2026, 11, 23)
WITH_BUNDLED_MODELS = ("openai", "anthropic", "google", "bedrock", "bedrock-openai", "mistral", "deepseek")


def price(**changes):
    return {"input": Decimal(1), "output": Decimal(2)} | changes


def test_every_bundled_model_is_whole():
    models = list(bundled().models())
    assert {model.provider for model in models} == set(WITH_BUNDLED_MODELS) <= set(PROVIDERS)
    for model in models:
        assert model.prices, model.id
        assert [p.effective_from for p in model.prices] == sorted(p.effective_from for p in model.prices)
        assert model.prices[0].between is None
        assert all(p.input >= 0 and p.output > 0 for p in model.prices)
        assert model.capabilities
        assert model.capabilities <= set(CAPABILITIES)
        assert model.context_window is None or model.context_window >= 8_000
        assert 0 < model.speed.first_token_ms < 10_000
        assert model.speed.tokens_per_second > 0
        assert bundled().resolve(f"{model.provider}:{model.provider_model}") is model


def test_bedrock_has_each_family():
    ids = " ".join(model.id for model in bundled().models() if model.provider == "bedrock")
    for family in ("amazon.nova", "anthropic.claude", "meta.llama", "mistral."):
        assert family in ids


@pytest.mark.parametrize("alias", ["frontier", "balanced", "small"])
def test_aliases_stand_for_priced_bedrock_models_that_use_tools(alias):
    model = bundled().resolve(alias)
    assert model.provider == "bedrock"
    assert model.prices
    assert "tools" in (model.capabilities or ())
    assert bundled().aliases()[alias] == model.id


ALIASES = ("frontier", "balanced", "small")
HAS_BEDROCK = [
    region
    for partition in ("aws", "aws-us-gov")
    for region in botocore.session.get_session().get_available_regions("bedrock", partition)
]


def in_region(monkeypatch, region):
    monkeypatch.setenv("AWS_REGION", region)
    return bundled()


def test_aliases_cost_less_as_they_get_smaller():
    outputs = [bundled().resolve(alias).prices[-1].output for alias in ALIASES]
    assert outputs == sorted(outputs, reverse=True)
    assert len(set(outputs)) == 3


@pytest.mark.parametrize("region", HAS_BEDROCK)
def test_in_every_region_with_bedrock_aliases_are_models_that_need_no_subscription(region, monkeypatch):
    catalog = in_region(monkeypatch, region)
    assert region in aliases(), "a region that is newer than the table of catalog_regions"
    outputs = []
    for alias in ALIASES:
        model = catalog.resolve(alias)
        where, identifier = at_region(model.provider_model)
        assert (model.provider, foundation_model(identifier).startswith("amazon.nova-")) == ("bedrock", True)
        assert not needs_agreement(identifier)
        assert model.prices
        assert "tools" in (model.capabilities or ())
        assert model.id in {one.id for one in catalog.models()}
        # Only where the region itself has none is another one called, and that has one.
        assert (where is not None) == (region in NEAREST)
        place = where or region
        prefix = identifier.removesuffix(foundation_model(identifier)).removesuffix(".")
        assert place in PROFILES[foundation_model(identifier)][prefix].split()
        assert prefix != "global" or region == "ap-southeast-6"
        outputs.append(model.prices[-1].output)
    assert outputs[2] == min(outputs)


@pytest.mark.parametrize(
    ("region", "frontier", "balanced", "small"),
    [
        ("us-west-2", "us.amazon.nova-pro-v1:0", "us.amazon.nova-2-lite-v1:0", "us.amazon.nova-lite-v1:0"),
        ("eu-north-1", "eu.amazon.nova-pro-v1:0", "eu.amazon.nova-2-lite-v1:0", "eu.amazon.nova-lite-v1:0"),
        ("eu-west-2", "amazon.nova-pro-v1:0", "amazon.nova-pro-v1:0", "amazon.nova-lite-v1:0"),
        ("ap-south-1", "apac.amazon.nova-pro-v1:0", "apac.amazon.nova-pro-v1:0", "apac.amazon.nova-lite-v1:0"),
        ("ap-northeast-1", "apac.amazon.nova-pro-v1:0", "jp.amazon.nova-2-lite-v1:0", "amazon.nova-lite-v1:0"),
        ("ca-central-1", "us.amazon.nova-2-lite-v1:0", "us.amazon.nova-2-lite-v1:0", "ca.amazon.nova-lite-v1:0"),
        ("us-gov-west-1", "amazon.nova-pro-v1:0", "amazon.nova-pro-v1:0", "amazon.nova-lite-v1:0"),
        (
            "sa-east-1",
            "us-east-1/us.amazon.nova-pro-v1:0",
            "us-east-1/us.amazon.nova-2-lite-v1:0",
            "us-east-1/us.amazon.nova-lite-v1:0",
        ),
        ("xx-new-9", *["global.amazon.nova-2-lite-v1:0"] * 3),
    ],
)
def test_what_aliases_stand_for_by_region(region, frontier, balanced, small, monkeypatch):
    catalog = in_region(monkeypatch, region)
    assert [catalog.resolve(alias).provider_model for alias in ALIASES] == [frontier, balanced, small]
    assert [catalog.aliases()[alias] for alias in ALIASES] == [
        f"bedrock:{name}" for name in (frontier, balanced, small)
    ]
    # A row of the table stands over it, in every region.
    row = {"model": "frontier", "alias_of": "bedrock:global.anthropic.claude-opus-5"}
    assert catalog.with_entries([row]).resolve("frontier").id == "bedrock:global.anthropic.claude-opus-5"
    assert catalog.with_entries([row]).resolve("small").provider_model == small


def test_a_model_in_another_region_is_priced_as_there(monkeypatch):
    here = bundled().resolve("bedrock:us.amazon.nova-lite-v1:0")
    there = bundled().resolve("bedrock:us-east-1/us.amazon.nova-lite-v1:0")
    assert (there.id, there.provider_model) == (f"bedrock:{there.provider_model}", "us-east-1/us.amazon.nova-lite-v1:0")
    assert (there.prices, there.capabilities, there.max_output) == (here.prices, here.capabilities, here.max_output)
    assert bundled().resolve("bedrock:jp.amazon.nova-2-lite-v1:0").prices[0].output == Decimal("3.311")
    monkeypatch.delenv("AWS_REGION")
    monkeypatch.delenv("AWS_DEFAULT_REGION")
    assert bundled().resolve("small").id == here.id


def test_a_model_nobody_lists_is_unpriced_and_excluded_from_nothing():
    model = bundled().resolve("openai:my-finetune")
    assert (model.id, model.provider, model.provider_model) == ("openai:my-finetune", "openai", "my-finetune")
    assert model.prices == ()
    assert model.capabilities is None
    assert model.lacks({"tools", "images"}) == []


@pytest.mark.parametrize(
    ("snapshot", "model"),
    [
        ("openai:gpt-5-mini-2025-08-07", "gpt-5-mini"),
        ("openai:gpt-4.1-2025-04-14", "gpt-4.1"),
        ("openai:gpt-4o-2024-08-06", "gpt-4o"),
        ("anthropic:claude-sonnet-4-5-20250929", "claude-sonnet-4-5"),
        ("anthropic:claude-haiku-4-5-20251001", "claude-haiku-4-5"),
    ],
)
def test_a_dated_snapshot_is_priced_and_can_do_as_its_model(snapshot, model):
    dated, known = bundled().resolve(snapshot), bundled().resolve(model)
    assert (dated.id, dated.provider_model) == (snapshot, snapshot.partition(":")[2])
    assert dated.prices == known.prices
    assert (dated.capabilities, dated.max_output) == (known.capabilities, known.max_output)


def test_what_only_looks_like_a_snapshot_has_no_price():
    for name in ("gpt-4o-2024-05-13", "gpt-5-mini-2025-13-99", "gpt-5-mini-20250", "none-2025-08-07"):
        assert bundled().resolve(f"openai:{name}").prices == ()
    assert bundled().resolve("azure:gpt-5-mini-2025-08-07").prices == ()


def test_other_geographies_and_arns_are_priced_by_the_profile_they_name():
    american = bundled().resolve("bedrock:us.anthropic.claude-sonnet-5")
    european = bundled().resolve("bedrock:eu.anthropic.claude-sonnet-5")
    assert european.provider_model == "eu.anthropic.claude-sonnet-5"
    assert european.prices == american.prices
    arn = "arn:aws:bedrock:us-east-1:123456789012:inference-profile/us.anthropic.claude-sonnet-5"
    assert bundled().resolve(arn).prices == american.prices
    assert bundled().resolve(arn).provider_model == arn
    assert bundled().resolve(f"bedrock:{arn}").id == f"bedrock:{arn}"
    opaque = "arn:aws:bedrock:us-east-1:123456789012:application-inference-profile/abc123"
    assert bundled().resolve(opaque).prices == ()
    # The global profile costs less than the regional ones: the two are never taken for each other.
    assert bundled().resolve("bedrock:global.anthropic.claude-sonnet-5").prices != american.prices
    assert bundled().resolve("bedrock:xx.anthropic.claude-sonnet-5").prices == ()


@pytest.mark.parametrize(
    ("name", "near"),
    [("gtp-5-mini", "gpt-5-mini"), ("claude-sonet-5", "claude-sonnet-5"), ("balance", "balanced"), ("nosuch:x", "")],
)
def test_unknown_models_get_near_matches(name, near):
    with pytest.raises(ModelUnknown) as caught:
        bundled().resolve(name)
    assert near in str(caught.value)
    assert "provider:model" in str(caught.value)


@pytest.mark.parametrize("name", ["", "two words", "x" * 257, "tab\there"])
def test_what_cannot_be_an_id_is_refused(name):
    with pytest.raises(ModelUnknown, match="no model id"):
        bundled().resolve(name)


def test_the_table_wins_field_by_field():
    catalog = bundled().with_entries([{"model": "gpt-5-mini", "context_window": Decimal(1000), "enabled": False}])
    model, before = catalog.resolve("gpt-5-mini"), bundled().resolve("gpt-5-mini")
    assert (model.context_window, model.enabled) == (1000, False)
    assert (model.prices, model.capabilities) == (before.prices, before.capabilities)
    assert model.origin is not None
    assert model.origin["context_window"] == "table"
    assert model.origin["prices"] == "bundled"
    assert before.enabled


def test_a_dated_price_acts_from_its_date_on_and_keeps_what_was_before():
    dated = {"model": "gpt-5-mini", "prices": [price(effective_from="2026-12-01")]}
    prices = bundled().with_entries([dated]).resolve("gpt-5-mini").prices
    assert prices[:-1] == bundled().resolve("gpt-5-mini").prices
    assert prices[-1].effective_from == date(2026, 12, 1)
    always = bundled().with_entries([{"model": "gpt-5-mini", "prices": [price()]}]).resolve("gpt-5-mini").prices
    assert [p.input for p in always] == [Decimal(1)]


def test_the_table_adds_models_and_aliases():
    catalog = bundled().with_entries(
        [
            {"model": "house-model", "provider": "openai", "provider_model": "llama-3", "capabilities": ["tools"]},
            {"model": "corp-llm:big", "provider": "corp-llm", "prices": [price()]},
            {"model": "small", "alias_of": "house-model"},
            {"model": "cheap", "alias_of": "small"},
        ]
    )
    assert catalog.problems == ()
    assert catalog.resolve("cheap").id == "house-model"
    assert catalog.resolve("openai:llama-3").id == "house-model"
    assert catalog.resolve("corp-llm:big").prices[0].output == 2
    assert catalog.aliases()["small"] == "house-model"
    assert "cheap" not in {model.id for model in catalog.models()}
    assert "house-model" in {model.id for model in catalog.models()}


def test_an_entry_by_another_name_of_a_model_is_that_models_entry():
    catalog = bundled().with_entries([{"model": "openai:gpt-5-mini", "enabled": False}])
    assert not catalog.resolve("gpt-5-mini").enabled
    both = [{"model": "gpt-5-mini", "enabled": True}, {"model": "openai:gpt-5-mini", "enabled": False}]
    assert bundled().with_entries(both).resolve("gpt-5-mini").enabled
    assert bundled().with_entries(both[::-1]).resolve("gpt-5-mini").enabled


def test_a_disabled_alias_disables_what_it_stands_for_there_only():
    catalog = bundled().with_entries(
        [{"model": "small", "alias_of": "gpt-5-nano", "enabled": False, "replaced_by": "gpt-5-mini"}]
    )
    assert (catalog.resolve("small").enabled, catalog.resolve("small").replaced_by) == (False, "gpt-5-mini")
    assert catalog.resolve("gpt-5-nano").enabled


def test_the_kill_switch_acts_even_as_text():
    assert not bundled().with_entries([{"model": "gpt-5", "enabled": "False"}]).resolve("gpt-5").enabled
    for off, on in ((Decimal(0), Decimal(1)), ("0", "1"), ("no", "yes"), (" OFF ", "on"), (False, True)):
        assert not bundled().with_entries([{"model": "gpt-5", "enabled": off}]).resolve("gpt-5").enabled, off
        assert bundled().with_entries([{"model": "gpt-5", "enabled": on}]).resolve("gpt-5").enabled, on


def test_aliases_in_a_circle_are_told():
    catalog = bundled().with_entries([{"model": "a", "alias_of": "b"}, {"model": "b", "alias_of": "a"}])
    with pytest.raises(ModelUnknown, match="circle: a -> b -> a"):
        catalog.resolve("a")
    itself = bundled().with_entries([{"model": "small", "alias_of": "small"}])
    with pytest.raises(ModelUnknown, match="circle"):
        itself.resolve("small")


@pytest.mark.parametrize(
    ("field", "value", "says"),
    [
        ("prices", "3", "list of 1 to"),
        ("prices", [], "list of 1 to"),
        ("prices", [{"input": "3", "output": Decimal(1)}], "must be a number"),
        ("prices", [{"input": Decimal(3)}], "output"),
        ("prices", [price(), price()], "same date"),
        ("prices", [price(effective_from="soon")], "effective_from"),
        ("prices", [price(effective_from="2026-02-30")], "prices"),
        ("prices", [price(tiers=[{"above": Decimal(-1)}])], "whole number"),
        ("context_window", "many", "whole number"),
        ("context_window", Decimal("1.5"), "whole number"),
        ("capabilities", ["flying"], "list of"),
        ("enabled", Decimal(2), "true or false"),
        ("replaced_by", ["gpt-5"], "id of a model"),
        ("provider", "Open AI", "provider's name"),
    ],
)
def test_malformed_fields_are_passed_over_and_told(field, value, says):
    catalog = bundled().with_entries([{"model": "gpt-5", field: value, "max_output": Decimal(77)}])
    assert catalog.resolve("gpt-5").max_output == 77
    assert getattr(catalog.resolve("gpt-5"), field) == getattr(bundled().resolve("gpt-5"), field)
    (problem,) = catalog.problems
    assert problem["model"] == "gpt-5"
    assert says in problem["reason"]


def test_a_model_that_is_nobodys_needs_a_provider():
    catalog = bundled().with_entries([{"model": "house-model", "prices": [price()]}])
    assert "needs `provider`" in catalog.problems[0]["reason"]
    with pytest.raises(ModelUnknown):
        catalog.resolve("house-model")


values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.decimals(allow_nan=True, allow_infinity=True)
    | st.text(max_size=10)
    | st.binary(max_size=4)
    | st.sampled_from(["gpt-5", "small", "a", "b", "2026-01-01"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["input", "output", "above", "tiers", "effective_from", "x"]), inner, max_size=4
        )
    ),
    max_leaves=8,
)
attributes = st.sampled_from(["model", "x", *_READ, "speed"])
items = st.dictionaries(attributes, values, max_size=8).map(lambda item: {"model": "gpt-5"} | item)


@given(st.lists(items, max_size=5))
def test_no_rubbish_in_the_table_breaks_the_catalog(rubbish):
    catalog = bundled().with_entries(rubbish)
    for name in ("gpt-5", "small", "a", "b", "claude-sonnet-5"):
        try:
            model = catalog.resolve(name)
        except ModelUnknown:
            assert name != "claude-sonnet-5"
        else:
            assert all(p.input >= 0 for p in model.prices)
    for item in rubbish:
        parse_item(item)


def test_the_file_is_what_the_installed_price_package_says():
    from loopllama_cli.catalog import build

    assert build.main(["--check"]) == 0


def test_the_check_sees_a_stale_file(tmp_path, monkeypatch):
    from loopllama_cli.catalog import build

    stale = json.loads(build.TARGET.read_text())
    stale["models"]["gpt-5"]["prices"][0]["input"] = "99"
    monkeypatch.setattr(build, "TARGET", tmp_path / "data.json")
    build.TARGET.write_text(build.render(stale))
    assert build.main(["--check"]) == 1
    assert build.main([]) == 0
    assert build.main(["--check"]) == 0


def test_what_lambda_loads_stays_small():
    blocked = ["pydantic", "httpx", "boto3", "botocore", "jsonschema", "yaml", "genai_prices"]
    code = (
        f"import sys; sys.modules.update(dict.fromkeys({blocked})); sys.path.insert(0, 'shared')\n"
        "import loopllama.catalog.catalog, loopllama.catalog.pricing, loopllama.routing.router\n"
        "assert loopllama.catalog.catalog.bundled().resolve('small').prices"
    )
    subprocess.run([sys.executable, "-I", "-c", code], check=True, timeout=60)


@pytest.mark.parametrize("field", ["max_concurrent_calls", "context_window", "max_output"])
@pytest.mark.parametrize("value", ["1E+100", "1E-100", "0.5", "0", "-1", "NaN", "sNaN", "Infinity"])
def test_a_number_that_is_none_of_a_fields_is_refused_in_words(field, value):
    _, fields, reasons = parse_item({"model": "x", field: Decimal(value)})
    assert fields == {}
    assert reasons[field].startswith("must be a whole number of ")
    assert parse_item({"model": "x", field: Decimal("3.0")})[1] == {field: 3}
