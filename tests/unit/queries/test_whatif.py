"""Predictions by recorded runs: cost to the token, latency along the critical path, and what is not known."""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loopllama.catalog.catalog import bundled
from loopllama.catalog.model import Model, Price, Speed
from loopllama.errors import InvalidRequest, ModelUnknown
from loopllama.queries.durations import critical_path
from loopllama.queries.recorded import recent_runs
from loopllama.queries.whatif import predict

OLD = date(2020, 1, 1)
D = Decimal


def priced(name, given, taken, speed=(500, 100), **cached):
    more: Any = {key: Decimal(value) for key, value in cached.items()}
    prices = (Price(OLD, Decimal(given), Decimal(taken), **more),)
    return Model(name, "openai", name, prices=prices, speed=Speed(*speed))


DEAR = priced("dear", 10, 30, cache_read="1", cache_write="12.5")
CHEAP = priced("cheap", 1, 3)
CACHING = priced("caching", 1, 3, cache_read="0.1")
UNPRICED = Model("unpriced", "openai", "unpriced")
MODELS = {model.id: model for model in (DEAR, CHEAP, CACHING, UNPRICED)}
NEEDS = {"a": [], "b": [], "c": ["a", "b"]}


def resolve(name):
    if name not in MODELS:
        raise ModelUnknown(name)
    return MODELS[name]


def call(model="dear", ms=1000, **fields):
    return {"model": model, "outcome": "ok", "latency_ms": ms, "tokens_in": 1000, "tokens_out": 100} | fields


def step(name, *calls, ms=None, place="0#0"):
    took = sum(one["latency_ms"] for one in calls) if ms is None else ms
    return {"id": f"STEP#{name}#{place}", "step": name, "latency_ms": took, "attempts": list(calls)}


def run(*steps, ms=3000, **fields):
    return {"id": "r", "status": "completed", "created_at": "2026-01-01T00:00:00.000Z", "latency_ms": ms,
            "steps": list(steps), "simulated": False} | fields  # fmt: skip


DEAR_CALL, CHEAP_CALL = Decimal("0.013"), Decimal("0.0013")


def test_recorded_tokens_are_priced_anew():
    told = predict([run(step("a", call()), step("b", call()), step("c", call()))], NEEDS, {"a": CHEAP}, resolve)
    assert told["cost_usd"]["before"] == 3 * DEAR_CALL
    assert told["cost_usd"]["after"] == 2 * DEAR_CALL + CHEAP_CALL
    assert told["cost_usd"]["change"] == Decimal("-0.3")
    assert [(one["step"], one["model_after"]) for one in told["steps"]] == [("a", "cheap"), ("b", None), ("c", None)]
    everything = predict([run(step("a", call()), step("c", call()))], NEEDS, {"*": CHEAP, "c": DEAR}, resolve)
    assert everything["cost_usd"]["after"] == DEAR_CALL + CHEAP_CALL


def test_cached_tokens_stay_cached_where_the_new_model_caches():
    cached = call(tokens_cached=800, tokens_cache_write=100)
    for model, expected in (
        (CHEAP, Decimal("0.0013")),  # no price for the cache: everything is plain input
        (CACHING, Decimal("0.00058")),  # 800 at 0.1, the 100 that were written and the rest at 1
        (DEAR, Decimal("0.00605")),  # as recorded
    ):
        told = predict([run(step("a", cached))], NEEDS, {"a": model}, resolve)
        assert told["cost_usd"]["after"] == expected
    assert any("cache" in one for one in predict([run(step("a", cached))], NEEDS, {"a": CHEAP}, resolve)["unknown"])


def test_prices_of_then_or_of_today():
    risen = Model("risen", "openai", "risen", prices=(*CHEAP.prices, Price(date(2026, 3, 1), Decimal(5), Decimal(5))))
    runs = [run(step("a", call(started_at="2026-02-01T00:00:00.000Z")))]
    then = predict(runs, NEEDS, {"a": risen}, resolve, prices="then")
    assert then["cost_usd"]["after"] == CHEAP_CALL
    assert predict(runs, NEEDS, {"a": risen}, resolve)["cost_usd"]["after"] == Decimal("0.0055")


def test_what_failed_calls_of_the_old_chain_cost_is_left_out():
    failed = call(outcome="ModelTimeout", cost_usd=Decimal("0.5"), ms=5000)
    told = predict([run(step("a", failed, call()), ms=6000)], NEEDS, {"a": CHEAP}, resolve)
    assert told["cost_usd"]["before"] == Decimal("0.5") + DEAR_CALL
    assert told["cost_usd"]["after"] == CHEAP_CALL
    assert (told["latency_ms"]["after"] or 0) < 3000


@pytest.mark.parametrize(
    "changes", [{}, {"*": CHEAP}, {"*": DEAR}, {"a": CHEAP}, {"a": CHEAP, "c": DEAR}, {"c": CACHING}, {"b": UNPRICED}]
)
def test_the_steps_sum_up_to_the_runs(changes):
    failed = call(outcome="ModelTimeout", cost_usd=D("0.5"), ms=5000)
    own = call("cheap", outcome="InvalidModelResponse", cost_usd=CHEAP_CALL)
    again = [step("c", call(), place=f"{n}#0") for n in range(3)]
    items = [step("b", call(tokens_in=n), place=f"0#{n}") for n in (1, 2)]
    runs = [
        run(step("a", failed, call()), step("b"), *items, *again, step("old", call())),
        run(step("a", own, call("cheap")), step("c", call("cheap"), call()), step("older", failed, call())),
    ]
    told: Any = predict(runs, NEEDS, changes, resolve)
    for when in ("before", "after"):
        parts = [one[f"cost_usd_{when}"] for one in told["steps"]]
        whole = told["cost_usd"][when]
        assert whole == (None if None in parts else sum(parts) / len(runs)), when
    assert [one["step"] for one in told["steps"]] == ["a", "b", "c", "old", "older"]
    assert [one["turns"] for one in told["steps"]] == [2, 2, 5, 1, 1]
    for name in ("old", "older"):
        assert any(f"step {name!r}" in one and "no longer" in one for one in told["unknown"])
    assert not any(
        "no longer" in one for one in predict(runs, {**NEEDS, "old": [], "older": []}, {}, resolve)["unknown"]
    )


def test_latency_follows_the_critical_path():
    # `a` takes 1 s beside the 4 s of `b`: moving it changes nothing until it is the longer one.
    runs = [run(step("a", call(ms=1000)), step("b", call("cheap", ms=4000)), step("c", call(ms=1000)), ms=5500)]
    seen = run(step("a", call("cheap", ms=2500)), step("b", call(ms=500)), step("c", call(ms=1)))
    told = predict([*runs, seen], NEEDS, {"a": CHEAP}, resolve)
    assert told["latency_ms"]["before"] == Decimal(round((5500 + 3000) / 2))
    assert told["latency_ms"]["after"] == told["latency_ms"]["before"]
    quick = predict(runs, NEEDS, {"b": DEAR}, resolve)
    # The path is now whatever of `a` and the faster `b` is longer, then `c`.
    assert quick["latency_ms"]["after"] == 5500 - (4000 - 1000)


def test_where_a_latency_comes_from_is_said():
    here = [run(step("a", call("cheap", ms=700), call("cheap", ms=900)), step("b", call()))]
    assert (
        predict([*here, run(step("a", call()))], NEEDS, {"a": CHEAP}, resolve)["steps"][0]["latency_from"]
        == "this step"
    )
    elsewhere = predict(here, NEEDS, {"b": CHEAP}, resolve)
    assert [one["latency_from"] for one in elsewhere["steps"]] == ["the record", "other steps"]
    assert "other steps only" in " ".join(elsewhere["unknown"])
    never = predict([run(step("a", call()))], NEEDS, {"a": CHEAP}, resolve)
    assert never["steps"][0]["latency_from"] == "the catalog"
    assert never["steps"][0]["latency_ms_after"] == 500 + 1000
    assert "never seen" in " ".join(never["unknown"])


def test_items_of_a_list_stretch_the_step_that_they_are_of():
    items = [step("a", call(ms=1000), place=f"0#{n}") for n in (1, 2)]
    told = predict([run(step("a", ms=1200), *items, ms=2000)], NEEDS, {"a": CACHING}, resolve)
    expected = 1500  # the catalog's prior of CACHING for 100 tokens
    assert told["latency_ms"]["after"] == round(2000 - 1200 + 1200 * expected / 1000)
    assert told["steps"][0]["turns"] == 2


def test_iterations_follow_one_another():
    rounds = [step("a", call("cheap", ms=1000), place=f"{n}#0") for n in range(3)]
    told = predict([run(*rounds, ms=3500)], NEEDS, {"a": DEAR}, resolve)
    assert told["latency_ms"]["after"] == 3500 + 3 * (1500 - 1000) - 0


def test_an_unpriced_model_makes_the_cost_unknown_not_nothing():
    told = predict([run(step("a", call()), step("b", call()))], NEEDS, {"a": UNPRICED}, resolve)
    assert told["cost_usd"] == {"before": 2 * DEAR_CALL, "after": None, "change": None}
    assert any("no price" in one for one in told["unknown"])
    gone = predict([run(step("a", call("gone", cost_usd=Decimal("0.1"))))], NEEDS, {"a": CHEAP}, resolve)
    assert gone["cost_usd"]["before"] == Decimal("0.1")


def test_spread_over_the_runs():
    runs = [run(step("a", call(tokens_in=1000 * n)), step("b", call())) for n in range(1, 12)]
    told = predict(runs, NEEDS, {"a": CHEAP}, resolve)
    spread = told["spread"]["cost"]
    assert spread is not None
    assert spread["p10"] < spread["p90"] < 0
    assert predict(runs[:1], NEEDS, {"a": CHEAP}, resolve)["spread"]["cost"] is None


def test_what_cannot_be_predicted_is_said():
    with pytest.raises(InvalidRequest, match="no step 'x'"):
        predict([run(step("a", call()))], NEEDS, {"x": CHEAP}, resolve)
    with pytest.raises(InvalidRequest, match="no completed run"):
        predict([], NEEDS, {"a": CHEAP}, resolve)
    assert "not taken" in " ".join(predict([run(step("b", call()))], NEEDS, {"a": CHEAP}, resolve)["unknown"])


@given(st.dictionaries(st.sampled_from("abcdef"), st.floats(0, 1e6)), st.data())
def test_no_path_is_longer_than_the_critical_one_nor_shorter_than_any_step(durations, data):
    names = "abcdef"
    needs = {
        name: data.draw(st.lists(st.sampled_from(names[:place]), unique=True)) if place else []
        for place, name in enumerate(names)
    }
    longest = critical_path(needs, durations)
    assert longest >= max(durations.values(), default=0)
    assert longest <= sum(durations.values()) * 1.000001


def test_a_deep_crew_needs_no_deep_stack():
    needs = {f"s{n}": [f"s{n - 1}"] if n else [] for n in range(5000)}
    assert critical_path(dict(reversed(needs.items())), dict.fromkeys(needs, 1.0)) == 5000


class Reader:
    """Pages of runs, newest first."""

    def __init__(self, statuses):
        self.runs: list[Any] = [
            {"id": f"r{n}", "status": status, "created_at": f"2026-01-{28 - n:02d}T00:00:00.000Z", "steps": []}
            for n, status in enumerate(statuses)
        ]

    def ended(self, workflow_id, limit=20, cursor=None):
        start = int(cursor or 0)
        return self.runs[start : start + 3], str(start + 3) if start + 3 < len(self.runs) else None

    def get(self, run_id, show=None):
        return next(one for one in self.runs if one["id"] == run_id)


def test_the_newest_completed_runs_are_looked_at():
    from datetime import UTC, datetime

    reader = Reader(["running", "completed", "failed", "completed", "completed", "completed"])
    assert [one["id"] for one in recent_runs(reader, "w", limit=3)] == ["r1", "r3", "r4"]
    since = datetime(2026, 1, 25, tzinfo=UTC)
    assert [one["id"] for one in recent_runs(reader, "w", since=since)] == ["r1", "r3"]


def test_replays_that_kept_steps_are_no_whole_runs():
    reader = Reader(["completed"] * 3)
    reader.runs[0]["steps"] = [step("a") | {"replayed_from": "r2"}, step("b", call())]
    assert [one["id"] for one in recent_runs(reader, "w")] == ["r1", "r2"]


def test_steps_and_runs_count_alike():
    """Each step's ms are means a run, as the run's are: of its turns together, 0 where a run did without it. USD are
    those of both runs, so that nothing is lost by dividing."""
    rounds = [step("a", call(ms=1000), place=f"{n}#0") for n in range(3)]
    tooled = step("c", call(ms=400), call(ms=500), ms=2000)
    told = predict([run(*rounds, tooled, ms=5000), run(step("a", call(ms=1000)), ms=1000)], NEEDS, {}, resolve)
    assert [(one["latency_ms_before"], one["cost_usd_before"]) for one in told["steps"]] == [
        (2000, 4 * DEAR_CALL),
        (1000, 2 * DEAR_CALL),
    ]
    assert (told["latency_ms"]["before"], told["cost_usd"]["before"]) == (3000, 3 * DEAR_CALL)


def test_a_forecast_is_as_certain_as_what_it_is_made_from():
    runs = [
        run(
            step("a", call(cost_basis="estimated"), call(cost_basis="measured")), step("b", call(cost_basis="measured"))
        )
    ]
    told = predict(runs, NEEDS, {}, resolve)
    assert [told["cost_basis"], *(one["cost_basis"] for one in told["steps"])] == ["estimated", "estimated", "measured"]


# Efforts and service tiers


def test_a_tier_is_forecast_at_its_own_price_whatever_tier_answered_before():
    recorded = call("gpt-5", service_tier="priority")
    told = predict([run(step("a", recorded))], NEEDS, {"a": bundled().resolve("gpt-5@flex")}, bundled().resolve)
    priority, flex = ((1000 * given + 100 * taken) / 10**6 for given, taken in ((D("2.5"), 20), (D("0.625"), 5)))
    assert (told["cost_usd"]["before"], told["cost_usd"]["after"]) == (priority, flex)
    assert [one["model_after"] for one in told["steps"]] == ["gpt-5@flex"]


def test_an_effort_is_forecast_with_the_recorded_tokens_and_that_is_said():
    told = predict([run(step("a", call("gpt-5")))], NEEDS, {"a": bundled().resolve("gpt-5@low")}, bundled().resolve)
    assert told["cost_usd"]["before"] == told["cost_usd"]["after"] == D("0.00225")
    assert "how much gpt-5 writes at effort low: the tokens are those of its own effort" in told["unknown"]
    told = predict([run(step("a", call("gpt-5@low")))], NEEDS, {"a": bundled().resolve("gpt-5@low")}, bundled().resolve)
    assert [(one["models_before"], one["model_after"]) for one in told["steps"]] == [(["gpt-5@low"], None)]


def test_an_hour_in_the_cache_is_forecast_at_its_price():
    recorded = call("claude-sonnet-5", tokens_cache_write=900, tokens_cache_write_1h=500)
    told = predict([run(step("a", recorded))], NEEDS, {"a": bundled().resolve("claude-opus-5")}, bundled().resolve)
    assert told["cost_usd"]["before"] == (100 * 2 + 400 * D("2.5") + 500 * 4 + 100 * 10) / 10**6
    assert told["cost_usd"]["after"] == (100 * 5 + 400 * D("6.25") + 500 * 10 + 100 * 25) / 10**6


def test_a_recorded_call_costs_what_the_model_that_answered_it_costs():
    """A router or an alias of the provider's answers with another model than the one asked."""
    answered = call(answered_by="cheap")
    told = predict([run(step("a", answered), step("b", call()))], NEEDS, {"b": CHEAP}, resolve)
    assert told["cost_usd"] == {
        "before": CHEAP_CALL + DEAR_CALL,
        "after": 2 * CHEAP_CALL,
        "change": round((CHEAP_CALL - DEAR_CALL) / (CHEAP_CALL + DEAR_CALL), 4),
    }
    for name in ("dear-2026-01-01", "nobody-knows", "unpriced"):
        told = predict([run(step("a", call(answered_by=name)))], NEEDS, {"b": CHEAP}, resolve)
        assert told["cost_usd"]["before"] == DEAR_CALL, name


def test_a_change_to_the_model_that_is_there_changes_nothing():
    failed = call(outcome="InvalidModelResponse", cost_usd=DEAR_CALL)
    told = predict([run(step("a", failed, call()))], NEEDS, {"a": DEAR}, resolve)
    assert told["cost_usd"] == {"before": 2 * DEAR_CALL, "after": 2 * DEAR_CALL, "change": 0}
    assert told["latency_ms"]["change"] == 0
    other = call("cheap", outcome="InvalidModelResponse", cost_usd=CHEAP_CALL)
    told = predict([run(step("a", other, call()))], NEEDS, {"a": DEAR}, resolve)
    assert told["cost_usd"]["after"] == DEAR_CALL  # the other one would not have been asked
