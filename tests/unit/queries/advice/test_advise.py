"""Advice as a whole: figures by hand, and what must hold of any record."""

from __future__ import annotations

import time
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.recorded import CHEAP, DEAR, NOW, agent, call, deployment, priced, run, step

from loopllama.core import exact_json
from loopllama.errors import InvalidRequest
from loopllama.queries.advice.advise import MAX_STEPS, advise
from loopllama.queries.advice.reckon import Incumbent
from loopllama.queries.advice.sample import Sample

D = Decimal
DAY = timedelta(days=1)
LABEL = {"type": "object", "properties": {"label": {"enum": ["a", "b"]}}}
SORT, WRITE = agent("sort", output_schema=LABEL), agent("write", "sort")
CREW = [SORT, WRITE]


def runs_of(*steps: Any, count: int = 5, **fields: Any) -> list[Any]:
    return [run(*steps, ago=DAY * number, **fields) for number in range(count)]


def two_steps(**fields: Any) -> list[Any]:
    """Five runs: `sort` costs 0.013 USD, `write` 0.04 (1,000 tokens in, 1,000 out)."""
    return runs_of(step("sort", call()), step("write", call(tokens_out=1000, latency_ms=3000)), **fields)


def advised(crew: Any, runs: Any, *models: Any, runs_month: float | None = 1000, **fields: Any) -> Any:
    candidates = fields.pop("candidates", ())
    told = advise(Sample(runs), deployment(crew, *models, **fields), NOW, runs_month=runs_month, candidates=candidates)
    exact_json.dumps(told)
    return told


def moved(told: Any) -> list[str]:
    return [line["step"] for line in told["advice"] if line["move"] == "model"]


def test_a_months_bill_and_what_a_cheaper_model_saves_of_it() -> None:
    told = advised(CREW, two_steps())
    # At cheap a tenth of each: 0.0117 and 0.036 USD saved a run, 1,000 runs a month.
    assert told["usd_month"] == {"estimate": 53, "low": 53, "high": 53}
    by_step = {line["step"]: line for line in told["advice"]}
    assert by_step["sort"]["saving_usd_month"] == {"estimate": D("11.7"), "low": D("11.7"), "high": D("11.7")}
    assert by_step["write"]["saving_usd_month"]["estimate"] == D("36")
    assert by_step["sort"]["share"] == round(D("11.7") / 53, 4)
    assert [step["usd_month"]["estimate"] for step in told["steps"]] == [13, 40]
    assert by_step["sort"]["command"] == "loopllama whatif w --set sort=cheap"
    assert by_step["sort"]["apply_command"] == "loopllama routes set w sort cheap"
    assert by_step["sort"]["certificates"] == []


def test_a_routine_step_comes_before_a_larger_saving_of_one_that_is_none() -> None:
    # `write` answers freely and at length: three signals against it, 36 / 8 is less than 11.7.
    told = advised(CREW, two_steps())
    assert moved(told) == ["sort", "write"]
    weights = {step["step"]: step["weight"] for step in told["steps"]}
    assert weights == {"sort": 1, "write": D("0.125")}
    assert told["together"]["steps"] == {"sort": "cheap"}
    assert told["together"]["saving_usd_month"]["estimate"] == D("11.7")


def test_a_large_saving_comes_first_all_the_same() -> None:
    steps = step("sort", call()), step("write", call(tokens_out=10_000))
    assert moved(advised(CREW, runs_of(*steps))) == ["write", "sort"]


def test_latency_is_that_of_the_critical_path() -> None:
    crew = [agent("fast"), agent("slow"), agent("last", "fast", "slow")]
    steps = step("fast", call(latency_ms=500)), step("slow", call(latency_ms=2000)), step("last", call(latency_ms=100))
    told = advised(crew, runs_of(*steps, latency_ms=2200))
    effects = {line["step"]: line["latency_ms"] for line in told["advice"] if line["move"] == "model"}
    # Cheap takes 100 ms and 10 ms a token by the catalog: 1,100 ms.
    assert effects["fast"] == {"before": 2200, "after": 2200, "slack": 1500, "source": "the catalog"}
    assert effects["slow"] == {"before": 2200, "after": 1300, "slack": 0, "source": "the catalog"}
    assert effects["last"] == {"before": 2200, "after": 3200, "slack": 0, "source": "the catalog"}


def test_too_few_runs_are_an_answer() -> None:
    told = advised(CREW, two_steps(count=3))
    assert (told["enough"], told["more_runs"], told["advice"], told["usd_run"]) == (False, 2, [], None)
    assert "2 more are needed" in told["steps"][0]["says"]
    assert "1 more is needed" in advised(CREW, two_steps(count=4))["steps"][0]["says"]
    nothing = advised(CREW, [])
    assert (nothing["more_runs"], nothing["from"], nothing["together"]) == (5, None, None)
    seldom = [*two_steps(), run(step("rare", call()))]
    told = advised([*CREW, agent("rare", "write")], seldom)
    assert [step["more_runs"] for step in told["steps"]] == [0, 0, 4]


def test_a_month_is_not_made_of_an_hour() -> None:
    runs = [run(step("sort", call()), ago=timedelta(minutes=number)) for number in range(5)]
    told = advised([SORT], runs, runs_month=None)
    assert (told["rate"], told["usd_month"], told["advice"][0]["saving_usd_month"]) == (None, None, None)
    assert told["advice"][0]["saving_usd_run"]["estimate"] == D("0.0117")
    assert any("what a month costs" in unknown for unknown in told["unknown"])
    with pytest.raises(InvalidRequest):
        advised([SORT], runs, runs_month=0)


def test_the_rate_of_the_record() -> None:
    begun = [NOW - DAY * (number + 0.5) for number in range(30)]
    told = advise(Sample(runs_of(step("sort", call())), begun, all_of_window=True), deployment([SORT]), NOW)
    assert told["rate"] is not None
    assert (told["rate"]["runs_month"], told["rate"]["source"]) == (30, "record")
    saving = told["advice"][0]["saving_usd_month"]
    assert saving is not None
    # 0.0117 · 30, and 2.13 · √(1/30) of it on both sides: runs cost the same, their rate is not sure.
    assert [float(saving[end]) for end in ("low", "estimate", "high")] == pytest.approx(
        [0.2145, 0.351, 0.4875], abs=1e-3
    )


def test_what_the_record_has_of_another_model_is_priced_at_the_present_one() -> None:
    middle = priced("middle", "5", "15")
    now = {"sort": Incumbent(middle, ["middle"], "step-override")}
    told = advised([SORT], runs_of(step("sort", call("dear"))), DEAR, CHEAP, middle, now=now)
    assert told["usd_month"]["estimate"] == D("6.5")
    (line,) = [line for line in told["advice"] if line["move"] == "model"]
    assert (line["from"], line["saving_usd_month"]["estimate"]) == ("middle", D("5.2"))
    assert told["steps"][0]["models_recorded"] == ["dear"]
    # A fallback that answered is what it was.
    now = {"sort": Incumbent(middle, ["middle", "dear"], "step-override")}
    told = advised([SORT], runs_of(step("sort", call("dear"))), DEAR, CHEAP, middle, now=now)
    assert told["usd_month"]["estimate"] == 13


def test_a_cache_that_is_lost_and_rebuilt() -> None:
    caching = priced("caching", "1", "3", cache_read="0.1", cache_write="1.25")
    dear = priced("dear", "10", "30", cache_read="1", cache_write="12.5")
    runs = runs_of(step("sort", call(tokens_cached=800)))
    (line,) = [line for line in advised([SORT], runs, dear, caching)["advice"] if line["move"] == "model"]
    # Before: 200 at 10, 800 at 1, 100 out at 30. After, once the cache is warm: a tenth. Once: 800 at 1.25, not 0.1.
    assert line["saving_usd_run"]["estimate"] == D("0.00522")
    assert line["once_usd"] == D("0.00092")
    (line,) = [line for line in advised([SORT], runs, dear, CHEAP)["advice"] if line["move"] == "model"]
    # Cheap has no cache: all 1,000 tokens at 1.
    assert (line["saving_usd_run"]["estimate"], line["once_usd"]) == (D("0.0045"), 0)


def test_the_model_that_is_named_here_leads_and_the_cheaper_ones_are_alternatives() -> None:
    least = priced("least", "0.1", "0.3")
    told = advised(
        [SORT], runs_of(step("sort", call())), DEAR, CHEAP, least, named={"cheap"}, aliases={"cheap": "small"}
    )
    (line,) = told["advice"]
    assert (line["to"], line["alias"]) == ("cheap", "small")
    assert [other["model"] for other in line["alternatives"]] == ["least"]
    told = advised([SORT], runs_of(step("sort", call())), DEAR, CHEAP, least, candidates={"least"})
    assert [line["to"] for line in told["advice"]] == ["least"]


def test_no_price_no_model_and_nothing_cheaper_are_said() -> None:
    unpriced = replace(DEAR, id="unpriced", prices=())
    told = advised([SORT], runs_of(step("sort", call("unpriced"))), unpriced, CHEAP)
    assert told["advice"] == []
    assert "loopllama models price unpriced" in told["steps"][0]["says"]
    gone = advised([SORT], runs_of(step("sort", call())), DEAR, now={"sort": Incumbent(None)})
    assert "no model is left" in gone["steps"][0]["says"]
    cheapest = advised([SORT], runs_of(step("sort", call("cheap"))), CHEAP, DEAR)
    assert "nothing cheaper" in cheapest["steps"][0]["says"]
    assert cheapest["steps"][0]["left_out"] == [{"reason": "not cheaper", "models": 1}]


def test_simulated_and_estimated_figures_are_marked() -> None:
    told = advised([SORT], runs_of(step("sort", call(simulated=True)), simulated=True))
    assert (told["simulated"], told["advice"][0]["simulated"]) == (True, True)
    assert advised([SORT], runs_of(step("sort", call())))["advice"][0]["simulated"] is False


def test_what_is_not_in_the_figures_is_said() -> None:
    runs = runs_of(step("sort", call()), step("old", call()))
    sample = Sample(runs, unfinished=3, stopped="reading took longer than 12 s")
    told = advise(sample, deployment([SORT]), NOW, runs_month=1)
    for words in ("go on (3)", "were read (5)", "12 s", "without old", "answers are as good"):
        assert any(words in unknown for unknown in told["unknown"]), words
    # The bill is that of the runs, with what the workflow has no longer.
    assert told["usd_month"] is not None
    assert told["usd_month"]["estimate"] == D("0.026")


def test_the_largest_crew_is_answered_in_time() -> None:
    """200 steps, the most that a crew has, each with a model of its own and many candidates: of API Gateway's 30 s the
    reading of runs may take 12."""
    crew = [agent(f"s{n}", *([f"s{n - 1}"] if n else []), output_schema=LABEL) for n in range(200)]
    runs = [run(*[step(f"s{n}", call(tokens_in=1000 + n)) for n in range(200)], ago=DAY * day) for day in range(20)]
    models = [DEAR, CHEAP, *(priced(f"m{n}", "2", "6") for n in range(150))]
    begun = time.process_time()
    told = advised(crew, runs, *models)
    assert time.process_time() - begun < 5
    assert len({line["step"] for line in told["advice"]}) == MAX_STEPS
    # The dearest are looked at.
    assert "s199" in {line["step"] for line in told["advice"]}
    assert told["steps"][0]["says"].startswith("not looked at")


COSTS = st.integers(1, 5000)


@st.composite
def recorded(draw: st.DrawFn) -> Any:
    names = "abc"[: draw(st.integers(1, 3))]
    crew = [
        agent(name, *names[:place], **({"output_schema": LABEL} if draw(st.booleans()) else {}))
        for place, name in enumerate(names)
    ]
    runs = []
    for day in range(draw(st.integers(5, 8))):
        steps = []
        for name in names:
            calls = [
                call(
                    draw(st.sampled_from(["dear", "cheap"])),
                    draw(COSTS),
                    draw(COSTS),
                    outcome=draw(st.sampled_from(["ok", "ok", "ModelTimeout"])),
                    cost_usd=D("0.01"),
                )
                for _ in range(draw(st.integers(0, 3)))
            ]
            steps.append(step(name, *calls))
        runs.append(run(*steps, ago=DAY * day))
    return crew, runs


@settings(max_examples=60)
@given(recorded())
def test_what_parts_save_is_never_more_than_the_bill(record: Any) -> None:
    crew, runs = record
    told = advised(crew, runs, DEAR, CHEAP, priced("least", "0.1", "0.3"))
    bills = {step["step"]: step["usd_run"]["estimate"] for step in told["steps"] if step["usd_run"]}
    best: dict[str, Decimal] = {}
    for line in told["advice"]:
        saving = line["saving_usd_run"]
        assert saving["low"] <= saving["estimate"] <= saving["high"]
        assert saving["estimate"] <= bills[line["step"]] + D("1e-9")
        for other in line["alternatives"]:
            assert other["saving_usd_run"]["estimate"] <= bills[line["step"]] + D("1e-9")
        best[line["step"]] = max(best.get(line["step"], D(0)), saving["estimate"])
    assert sum(best.values()) <= told["usd_run"]["estimate"] + D("1e-9")
    assert sum(bills.values()) == pytest.approx(told["usd_run"]["estimate"], abs=D("1e-8"))
    if told["together"]:
        assert told["together"]["saving_usd_run"]["estimate"] <= told["usd_run"]["estimate"] + D("1e-9")
    ranks = [line["saving_usd_run"]["estimate"] * line["weight"] for line in told["advice"]]
    assert ranks == sorted(ranks, reverse=True)
    latencies = {line["latency_ms"]["before"] for line in told["advice"]}
    assert len(latencies) <= 1
