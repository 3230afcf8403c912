"""The six layers: who decides, what is skipped, and what is said about it."""

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loopllama.aws import dynamo
from loopllama.catalog.catalog import bundled
from loopllama.errors import ModelUnknown, NoEligibleModel
from loopllama.policies.registry import POLICIES
from loopllama.routing.decision import Route, RouteRequest, decide
from loopllama.routing.overrides import MAX_CANDIDATES, MAX_FALLBACKS, NO_OVERRIDE, parse_choice, parse_row

NOW = 1_800_000_000.0
LAYERS = ("run", "step-override", "agent", "workflow-override", "workflow-default", "deployment-default")
MODELS = ("gpt-5", "gpt-5-mini", "claude-opus-5", "claude-sonnet-5", "gemini-2.5-pro", "mistral-large-2512")


def route(said, *, catalog=None, required=(), prompt_tokens=0, step=None, run_models=None):
    """Decide where `said` is what each layer says: a model, or for rows and the agent a map of attributes."""

    def row(value):
        return NO_OVERRIDE if value is None else parse_row({"model": value} if isinstance(value, str) else value)

    agent = said.get("agent", {})
    definition: Any = {"name": "writer", "role": "Writer"} | ({"model": agent} if isinstance(agent, str) else agent)
    request = RouteRequest(
        workflow_id="w",
        workflow_model=said.get("workflow-default"),
        step=definition | (step or {}),
        run_models=run_models if run_models is not None else {"writer": said["run"]} if "run" in said else {},
        required=frozenset(required),
        prompt_tokens=prompt_tokens,
        run_id="r1",
    )
    rows = row(said.get("step-override")), row(said.get("workflow-override"))
    return decide(request, *rows, said.get("deployment-default", "small"), catalog or bundled(), NOW)


def ids(decided):
    return [model.id for model in decided.attempt_order]


@pytest.mark.parametrize("first", range(6))
def test_the_first_layer_that_speaks_wins(first):
    decided = route(dict(zip(LAYERS[first:], MODELS[first:], strict=True)))
    assert (decided.source, ids(decided)) == (LAYERS[first], [MODELS[first]])
    assert decided.ignored == ()
    assert decided.policy == "fixed"


def test_a_runs_step_beats_its_star_and_both_are_the_run():
    decided = route({"step-override": "gpt-5"}, run_models={"*": "gpt-5-nano", "writer": "gpt-5-mini"})
    assert (decided.source, ids(decided)) == ("run", ["gpt-5-mini"])
    decided = route({"step-override": "gpt-5"}, run_models={"*": "gpt-5-nano", "reviewer": "gpt-5-mini"})
    assert (decided.source, ids(decided)) == ("run", ["gpt-5-nano"])


def test_aliases_are_followed():
    assert ids(route({"deployment-default": "balanced"})) == [bundled().aliases()["balanced"]]


def test_fallbacks_travel_with_the_model():
    agent = {"model": "gpt-5", "fallbacks": ["gpt-5-mini", "small"]}
    assert ids(route({"agent": agent})) == ["gpt-5", "gpt-5-mini", bundled().aliases()["small"]]
    assert ids(route({"agent": agent, "step-override": "claude-opus-5"})) == ["claude-opus-5"]


def test_the_chain_holds_each_model_once():
    row = {"model": "small", "fallbacks": ["gpt-5", bundled().aliases()["small"], "openai:gpt-5", "gpt-5-mini"]}
    assert ids(route({"step-override": row})) == [bundled().aliases()["small"], "gpt-5", "gpt-5-mini"]


def test_numbers_are_layered_each_for_itself():
    said = {
        "step-override": {"max_tokens": Decimal(500)},
        "agent": {"model": "gpt-5", "max_tokens": 900, "temperature": Decimal("0.7")},
        "workflow-override": {"temperature": Decimal("0.1"), "model": "gpt-5-mini"},
    }
    decided = route(said)
    assert (decided.source, decided.max_tokens, decided.temperature) == ("agent", 500, Decimal("0.7"))
    decided = route({"workflow-override": {"temperature": Decimal("0.1")}})
    assert (decided.source, decided.temperature, decided.max_tokens) == ("deployment-default", Decimal("0.1"), None)


def test_the_version_is_that_of_the_row_that_chose_the_model():
    row = {"model": "gpt-5", "version": Decimal(7)}
    assert route({"step-override": row}).route_version == 7
    assert route({"workflow-override": row}).route_version == 7
    assert route({"step-override": {"version": Decimal(7), "max_tokens": Decimal(5)}}).route_version is None
    assert route({"step-override": "gpt-5"}).route_version is None


def test_an_expired_row_does_not_count():
    row: dict[str, Any] = {"model": "gpt-5", "max_tokens": Decimal(9), "expires_at": Decimal(int(NOW))}
    decided = route({"step-override": row, "workflow-default": "gpt-5-mini"})
    assert (decided.source, decided.max_tokens) == ("workflow-default", None)
    assert decided.ignored == ({"layer": "step-override", "reason": f"expired at {int(NOW)}"},)
    assert decided.invalid_overrides == 0
    row["expires_at"] += 1
    assert route({"step-override": row}).source == "step-override"


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ({"model": "gtp-5"}, "did you mean"),
        ({"model": Decimal(5)}, "`model` must be"),
        ({"model": ""}, "`model` must be"),
        ({"model": "x" * 300}, "`model` must be"),
        ({"model": "gpt-5", "fallbacks": "gpt-5-mini"}, "`fallbacks` must be a list"),
        ({"model": "gpt-5", "fallbacks": []}, "`fallbacks` must be a list"),
        ({"model": "gpt-5", "fallbacks": [["gpt-5"]]}, "`fallbacks` must be a list"),
        ({"model": "gpt-5", "fallbacks": ["gpt-5-mini"] * (MAX_FALLBACKS + 1)}, "`fallbacks` must be a list"),
        ({"fallbacks": ["gpt-5-mini"]}, "`model` is missing"),
        ({"model": "gpt-5", "policy": "luckiest"}, "`policy` must be one of"),
        ({"model": "gpt-5", "policy": ["fixed"]}, "`policy` must be one of"),
        ({"policy": "fixed"}, "`model` is missing"),
        ({"model": "gpt-5", "candidates": []}, "`candidates` must be a list"),
        ({"model": "gpt-5", "candidates": ["a"] * (MAX_CANDIDATES + 1)}, "`candidates` must be a list"),
        ({"model": "gpt-5", "candidates": ["gpt-5", "gpt-5"]}, "twice"),
        ({"model": "gpt-5", "candidates": [{"model": "gpt-5", "weight": "1"}]}, "weight"),
        ({"model": "gpt-5", "expires_at": "tomorrow"}, "`expires_at` must be"),
        ({"model": "gpt-5", "expires_at": True}, "`expires_at` must be"),
    ],
)
def test_a_row_that_makes_no_sense_is_passed_over_and_told(row, says):
    decided = route({"step-override": row, "agent": "claude-sonnet-5"})
    assert (decided.source, ids(decided)) == ("agent", ["claude-sonnet-5"])
    assert [entry["layer"] for entry in decided.ignored] == ["step-override"]
    assert says in decided.ignored[0]["reason"]
    assert decided.invalid_overrides == 1


@pytest.mark.parametrize(
    ("field", "value"),
    [("max_tokens", "500"), ("max_tokens", Decimal("0.5")), ("max_tokens", Decimal(0)), ("temperature", Decimal(3)),
     ("temperature", "hot"), ("temperature", True), ("pin", "for ever")],
)  # fmt: skip
def test_one_bad_attribute_leaves_the_rest_of_the_row(field, value):
    decided = route(
        {"step-override": {"model": "gpt-5", field: value}, "agent": {"max_tokens": 7, "temperature": Decimal(1)}}
    )
    assert (decided.source, decided.max_tokens, decided.temperature) == ("step-override", 7, Decimal(1))
    assert f"`{field}`" in decided.ignored[0]["reason"]
    assert decided.invalid_overrides == 1


def test_an_unknown_fallback_is_skipped_alone():
    decided = route({"step-override": {"model": "gpt-5", "fallbacks": ["nosuch", "gpt-5-mini"]}})
    assert ids(decided) == ["gpt-5", "gpt-5-mini"]
    assert decided.ignored[0]["model"] == "nosuch"
    assert decided.invalid_overrides == 1


def test_models_that_lack_what_the_step_needs_are_skipped():
    catalog = bundled().with_entries([{"model": "gpt-5", "capabilities": ["images"]}])
    decided = route(
        {"step-override": {"model": "gpt-5", "fallbacks": ["gpt-5-mini"]}}, catalog=catalog, required=["tools"]
    )
    assert (decided.source, ids(decided)) == ("step-override", ["gpt-5-mini"])
    assert decided.ignored == ({"layer": "step-override", "model": "gpt-5", "reason": "lacks tools"},)
    alone = route({"step-override": "gpt-5", "workflow-default": "gpt-5-nano"}, catalog=catalog, required=["tools"])
    assert (alone.source, ids(alone), alone.invalid_overrides) == ("workflow-default", ["gpt-5-nano"], 1)


def test_structured_output_is_liked_not_needed():
    assert ids(route({"deployment-default": "small"}, required=["structured_output"])) == [bundled().aliases()["small"]]


def test_unknown_capabilities_exclude_nothing():
    assert ids(route({"step-override": "openai:house"}, required=["tools", "images"])) == ["openai:house"]


def test_a_context_window_that_is_too_small_is_skipped():
    row = {"model": "gpt-4o-mini", "fallbacks": ["gpt-4.1-mini"]}
    decided = route({"step-override": row}, prompt_tokens=128_001)
    assert ids(decided) == ["gpt-4.1-mini"]
    assert (
        decided.ignored[0]["reason"]
        == "its context window of 128,000 tokens is too small for a prompt of about 128,001"
    )
    assert decided.invalid_overrides == 0
    assert ids(route({"step-override": row}, prompt_tokens=128_000)) == ["gpt-4o-mini", "gpt-4.1-mini"]


def test_a_prompt_that_is_too_long_for_all_of_a_layer_moves_the_step_to_no_other_layer():
    row = {"model": "gpt-4o-mini", "fallbacks": ["gpt-4o"]}
    decided = route({"agent": row, "workflow-default": "gpt-4.1-mini"}, prompt_tokens=128_001)
    assert (decided.source, ids(decided)) == ("agent", ["gpt-4o-mini", "gpt-4o"])
    assert [(one["layer"], one["model"]) for one in decided.ignored] == [("agent", "gpt-4o-mini"), ("agent", "gpt-4o")]
    weighted = {"policy": "weighted", "candidates": [{"model": "gpt-4o-mini", "weight": 1}]}
    assert ids(route({"step-override": weighted, "workflow-default": "gpt-4.1-mini"}, prompt_tokens=128_001)) == [
        "gpt-4o-mini"
    ]


def test_the_kill_switch_reaches_every_layer():
    catalog = bundled().with_entries([{"model": "gpt-5", "enabled": False, "replaced_by": "gpt-5-mini"}])
    for layer in LAYERS:
        decided = route({layer: "gpt-5"}, catalog=catalog)
        assert (decided.source, ids(decided)) == (layer, ["gpt-5-mini"])
        assert decided.ignored == ({"layer": layer, "model": "gpt-5", "reason": "disabled; replaced by gpt-5-mini"},)
        assert decided.invalid_overrides == 0


@pytest.mark.parametrize(
    ("asked", "use", "taken", "said"),
    [
        ("gpt-5@low", "gpt-5-mini", "gpt-5-mini@low", ""),
        ("gpt-5@flex", "gpt-5-mini", "gpt-5-mini@flex", ""),
        ("gpt-5@low@flex", "gpt-5-mini", "gpt-5-mini@low@flex", ""),
        ("gpt-5@low@flex", "gpt-5-mini@high", "gpt-5-mini@high@flex", ""),
        ("gpt-5@low@flex", "gpt-4o", "gpt-4o", ", which has no effort 'low' and no service tier 'flex'"),
        ("gpt-5@low", "gpt-4o", "gpt-4o", ", which has no effort 'low'"),
        ("gpt-5@low@priority", "gpt-4o", "gpt-4o@priority", ", which has no effort 'low'"),
        ("gpt-5", "gpt-5-mini@low", "gpt-5-mini@low", ""),
    ],
)
def test_a_replacement_keeps_the_effort_and_the_tier_that_it_has(asked, use, taken, said):
    catalog = bundled().with_entries([{"model": "gpt-5", "enabled": False, "replaced_by": use}])
    decided = route({"step-override": asked}, catalog=catalog)
    assert ids(decided)[0] == taken
    assert decided.ignored[0] == {
        "layer": "step-override",
        "model": asked,
        "reason": f"disabled; replaced by {taken}{said}",
    }


def test_a_disabled_model_without_a_replacement_leaves_it_to_fallback_or_next_layer():
    catalog = bundled().with_entries([{"model": "gpt-5", "enabled": False}])
    assert ids(route({"step-override": {"model": "gpt-5", "fallbacks": ["gpt-5-nano"]}}, catalog=catalog)) == [
        "gpt-5-nano"
    ]
    decided = route({"step-override": "gpt-5", "workflow-default": "gpt-5-nano"}, catalog=catalog)
    assert (decided.source, decided.ignored[0]["reason"]) == ("workflow-default", "disabled")


def test_replacements_may_be_disabled_too_and_never_go_round():
    catalog = bundled().with_entries(
        [
            {"model": "gpt-5", "enabled": False, "replaced_by": "gpt-5-mini"},
            {"model": "gpt-5-mini", "enabled": False, "replaced_by": "small"},
            {"model": "gpt-4o", "enabled": False, "replaced_by": "gpt-4o-mini"},
            {"model": "gpt-4o-mini", "enabled": False, "replaced_by": "gpt-4o"},
            {"model": "gpt-4.1", "enabled": False, "replaced_by": "nosuch"},
        ]
    )
    assert ids(route({"step-override": "gpt-5"}, catalog=catalog)) == [bundled().aliases()["small"]]
    decided = route({"step-override": {"model": "gpt-4o", "fallbacks": ["gpt-4.1", "gpt-5-nano"]}}, catalog=catalog)
    assert ids(decided) == ["gpt-5-nano"]
    told = " | ".join(entry["reason"] for entry in decided.ignored)
    assert "circle" in told
    assert "unknown" in told


def test_a_malformed_entry_of_the_models_table_is_told_where_it_matters():
    catalog = bundled().with_entries([{"model": "gpt-5", "prices": "free"}])
    (entry,) = route({"step-override": "gpt-5"}, catalog=catalog).ignored
    assert entry["model"] == "gpt-5"
    assert "Models table" in entry["reason"]
    assert route({"step-override": "gpt-5-mini"}, catalog=catalog).ignored == ()


def test_nothing_left_says_why_for_each():
    catalog = bundled().with_entries([{"model": "gpt-5", "enabled": False}])
    with pytest.raises(NoEligibleModel) as caught:
        route({"step-override": "nosuch", "agent": "gpt-5", "deployment-default": "gpt-5"}, catalog=catalog)
    assert "step-override: no model 'nosuch'" in str(caught.value)
    assert "agent (gpt-5): disabled" in str(caught.value)
    with pytest.raises(ModelUnknown):
        route({"step-override": "nosuch", "deployment-default": "nosuch-either"})


def test_a_run_that_names_an_unknown_model_is_told_and_goes_on():
    decided = route({"run": "nosuch", "agent": "gpt-5"})
    assert (decided.source, decided.ignored[0]["layer"], decided.invalid_overrides) == ("agent", "run", 0)


def test_the_record_goes_through_dynamodb_and_back():
    said = {
        "step-override": {
            "model": "gpt-5",
            "fallbacks": ["nosuch", "small"],
            "version": Decimal(3),
            "max_tokens": Decimal(9),
        }
    }
    decided = route(said | {"agent": {"temperature": Decimal("0.5")}})
    record: Any = dynamo.from_item(dynamo.to_item(decided.to_record()))
    assert record["attempt_order"] == ["gpt-5", bundled().aliases()["small"]]
    restored = Route.from_record(record, bundled().resolve)
    assert restored.attempt_order == decided.attempt_order
    assert restored.to_record() == decided.to_record()


rubbish = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-3, 10**13)
    | st.decimals(allow_nan=True, allow_infinity=True)
    | st.floats()
    | st.text(max_size=8)
    | st.binary(max_size=3)
    | st.sampled_from(
        [
            "gpt-5",
            "small",
            "loop",
            *POLICIES,
            "run",
            "openai:x",
            "arn:aws:bedrock:x",
            "1",
            "*",
            "health#",
            "observed#w#writer",
        ]
    ),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["model", "weight", "x"]), inner, max_size=3)
        | st.sets(st.integers() | st.text(max_size=3), max_size=3)
    ),
    max_leaves=6,
)
any_row: st.SearchStrategy[Any] = st.dictionaries(
    st.sampled_from(["model", "policy", "candidates", "fallbacks", "max_cost", "max_latency", "max_tokens",
                     "temperature", "pin", "expires_at", "version", "updated_by", "reason", "step", "workflow",
                     "else"]),
    rubbish,
    max_size=8,
)  # fmt: skip
entries = st.lists(
    st.dictionaries(
        st.sampled_from(["alias_of", "enabled", "replaced_by", "prices", "capabilities", "context_window", "provider"]),
        rubbish,
        max_size=4,
    ).flatmap(lambda e: st.sampled_from(["gpt-5", "loop", "openai:x"]).map(lambda name: {"model": name} | e)),
    max_size=4,
)


names = st.sampled_from(["gpt-5", "gpt-5-mini", "small", "loop", "openai:x", "nosuch"])
candidates = st.lists(
    names | st.fixed_dictionaries({"model": names}, optional={"weight": st.integers(-1, 5) | rubbish}), max_size=4
)
choices = st.fixed_dictionaries(
    {"policy": st.sampled_from(sorted(POLICIES)), "candidates": candidates},
    optional={
        "model": names,
        "fallbacks": st.lists(names, max_size=2),
        "max_cost": st.decimals("0.0001", 1, places=4) | rubbish,
        "max_latency": st.integers(1, 5000) | rubbish,
    },
)
rows = any_row | choices


@given(rows, rows, rows, st.dictionaries(st.sampled_from(["writer", "*"]), rubbish), rubbish, entries)
def test_no_rubbish_breaks_a_decision(step_row, workflow_row, agent, run_models, default, table):
    request = RouteRequest(
        "w",
        default,
        {"name": "writer", "role": "Writer"} | agent | {"name": "writer"},
        run_models,
        frozenset(["tools"]),
    )
    catalog = bundled().with_entries(table)
    decided = decide(request, parse_row(step_row), parse_row(workflow_row), "claude-sonnet-5", catalog, NOW)
    assert decided.attempt_order
    assert all(model.enabled for model in decided.attempt_order)
    assert len(set(ids(decided))) == len(decided.attempt_order)
    assert decided.source in LAYERS
    assert all(entry["layer"] in LAYERS and entry["reason"] for entry in decided.ignored)
    dynamo.to_item(decided.to_record())
    # Whoever was asked before the winner and said something about the model is among the ignored, or chose nothing.
    told = {entry["layer"] for entry in decided.ignored}
    for layer, row in (("step-override", step_row), ("workflow-override", workflow_row)):
        if LAYERS.index(layer) < LAYERS.index(decided.source) and row.get("model") is not None:
            assert layer in told


@given(rows)
def test_reading_a_row_never_raises_and_keeps_only_what_makes_sense(row):
    read = parse_row(row)
    assert read.max_tokens is None or read.max_tokens >= 1
    assert read.temperature is None or 0 <= read.temperature <= 2
    if read.choice is not None:
        assert parse_choice(row) == read.choice
