"""Moves that leave a step on its model, and the one to a better model: figures by hand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from support.recorded import ALWAYS, CHEAP, DEAR, NOW, agent, call, deployment, priced, run, step

from loopllama.catalog.model import Price
from loopllama.queries.advice import moves
from loopllama.queries.advice.reckon import Incumbent, Reckoner

D = Decimal
HALF = {"flex": Price(ALWAYS, D(5), D(15))}
THINKING = priced("thinking", "10", "30", efforts=("low", "medium", "high"))


def found(move: Any, crew: Sequence[Any], runs: Sequence[Any], *models: Any, name: str = "s", **fields: Any) -> Any:
    """The lines of a move."""
    reckoner = Reckoner(runs, deployment(crew, *models, **fields), None, NOW)
    facts = reckoner.facts(next(one for one in crew if one["name"] == name))
    more = (facts.now.model,) if move in (moves.effort, moves.tier) else ()
    return list(move(reckoner, facts, *more))


def using(model: Any, **fields: Any) -> Any:
    return {"s": Incumbent(model, [model.id], "agent", **fields)}


# Effort


def test_effort_saves_between_nothing_and_all_of_its_reasoning() -> None:
    # 1,000 tokens of reasoning at 30 USD a million: 0.03 a run; the middle is 0.015.
    runs = [run(step("s", call("thinking", tokens_out=1200, tokens_reasoning=1000))) for _ in range(5)]
    (line,) = found(moves.effort, [agent("s")], runs, THINKING)
    assert line["to"] == "thinking@low"
    assert line["saving_usd_run"] == {"estimate": D("0.015"), "low": 0, "high": D("0.03")}
    assert (line["basis"], line["estimated"], line["latency_ms"]["after"]) == ("bounds", True, None)
    assert line["command"] == "loopllama runs replay run_1 --from-step s --model s=thinking@low"
    assert line["apply_command"] == "loopllama routes set w s thinking@low"


def test_effort_needs_reasoning_in_the_record() -> None:
    assert not found(moves.effort, [agent("s")], [run(step("s", call("thinking")))] * 5, THINKING)


@pytest.mark.parametrize(
    ("efforts", "now", "lower"),
    [
        (("low", "medium", "high"), None, "low"),
        (("low", "medium", "high"), "high", "medium"),
        (("low", "medium", "high"), "low", None),
        (("minimal", "low", "high"), "low", "minimal"),
        (("low",), None, None),
        ((), None, None),
        (None, None, None),
    ],
)
def test_the_next_lower_effort(efforts: Any, now: str | None, lower: str | None) -> None:
    model = replace(THINKING, efforts=efforts, effort=now, id=f"thinking@{now}" if now else "thinking")
    assert getattr(moves.lower_effort(model), "effort", None) == lower


# Service tier


def beside(ms: int, other_ms: int) -> list[Any]:
    """Runs of two steps side by side."""
    return [run(step("s", call(latency_ms=ms)), step("long", call(latency_ms=other_ms)), latency_ms=other_ms)] * 5


def test_a_cheaper_tier_for_a_step_with_slack() -> None:
    flexible = replace(DEAR, prices=(replace(DEAR.prices[0], service_tiers=HALF),))
    crew = [agent("s"), agent("long")]
    (line,) = found(moves.tier, crew, beside(1000, 2000), flexible)
    assert (line["to"], line["saving_usd_run"]["estimate"]) == ("dear@flex", D("0.0065"))
    assert (line["latency_ms"]["slack"], line["latency_ms"]["after"], line["weight"]) == (1000, None, 1)
    assert line["command"] == "loopllama whatif w --set s=dear@flex"
    assert not found(moves.tier, crew, beside(1001, 2000), flexible)
    assert not found(moves.tier, crew, beside(1000, 2000), DEAR)


# Limit of the answer


def answered(count: int, tokens: int, **fields: Any) -> list[Any]:
    return [run(step("s", call(tokens_out=tokens, **fields))) for _ in range(count)]


def test_a_limit_that_no_answer_was_near() -> None:
    (line,) = found(moves.cap, [agent("s")], answered(20, 120), now=using(DEAR))
    assert line["command"] == "loopllama trace run_1"
    assert line["apply_command"] == "loopllama routes set w s --max-tokens 300"
    assert (line["saving_usd_run"]["estimate"], line["basis"]) == (0, "none")
    # 10,000 and 300 tokens at 30 USD a million.
    assert line["worst_call_usd"] == {"before": D("0.3"), "after": D("0.009")}
    assert found(moves.cap, [agent("s")], answered(20, 120), now=using(DEAR, cap=600))
    assert not found(moves.cap, [agent("s")], answered(20, 120), now=using(DEAR, cap=599))
    assert not found(moves.cap, [agent("s")], answered(19, 120), now=using(DEAR))
    assert not found(moves.cap, [agent("s")], answered(20, 120, stop_reason="max_tokens"), now=using(DEAR))


def test_a_limit_keeps_what_the_row_says() -> None:
    row = {
        "workflow": "w",
        "step": "s",
        "version": D(3),
        "policy": "weighted",
        "candidates": [{"model": "dear", "weight": D(9)}, {"model": "cheap", "weight": D("0.5")}],
        "fallbacks": ["cheap"],
        "temperature": D("0.2"),
        "pin": "run",
    }
    (line,) = found(moves.cap, [agent("s")], answered(20, 120), now=using(DEAR, row=row, chosen=True))
    assert line["apply_command"] == (
        "loopllama routes set w s --policy weighted --max-tokens 300 --temperature 0.2 --candidate dear=9 "
        "--candidate cheap=0.5 --fallback cheap --pin"
    )


# Prompt


FIXED = "word " * 1200
CACHING = priced("caching", "10", "30", cache_read="1", cache_write="12.5", capabilities=frozenset({"prompt_cache"}))
IMPLICIT = priced("implicit", "10", "30", cache_read="1")


def apart(minutes: int) -> list[Any]:
    return [
        run(step("s", call("caching", latency_ms=10)), ago=timedelta(minutes=minutes * number)) for number in range(5)
    ]


def test_fixed_text_of_a_prompt_is_cached_in_the_system_prompt() -> None:
    crew = [agent("s", prompt=f"{{{{ input }}}} {FIXED}")]
    (line,) = found(moves.cached_prompt, crew, apart(4), CACHING)
    # 1,200 tokens: four runs read them at 1 instead of 10 USD a million, the oldest writes them at 12.5.
    assert line["saving_usd_run"]["estimate"] == (4 * D("0.0108") - D("0.003")) / 5
    assert line["command"] == "loopllama workflows export w"
    assert line["estimated"] is True
    # Where no run follows another within five minutes there is nothing to read.
    assert not found(moves.cached_prompt, crew, apart(6), CACHING)
    assert not found(moves.cached_prompt, crew, apart(4), DEAR)


def test_what_a_provider_caches_by_itself_is_the_beginning() -> None:
    before, behind = ([agent("s", prompt=text)] for text in (f"{FIXED} {{{{ input }}}}", f"{{{{ input }}}} {FIXED}"))
    assert not found(moves.cached_prompt, before, apart(4), IMPLICIT)
    assert found(moves.cached_prompt, behind, apart(4), IMPLICIT)
    assert found(moves.cached_prompt, before, apart(4), CACHING)


@pytest.mark.parametrize(("words", "is_worth_it"), [(1000, False), (1020, False), (1030, True)])
def test_less_than_providers_cache_is_left_where_it_is(words: int, is_worth_it: bool) -> None:
    crew = [agent("s", prompt="{{ input }} " + "word " * words)]
    assert bool(found(moves.cached_prompt, crew, apart(4), CACHING)) is is_worth_it


# Output


@pytest.mark.parametrize(
    ("crew", "is_read"),
    [
        ([agent("s"), agent("last", "s")], True),
        ([agent("s"), agent("last", "s", prompt="{{ input }}")], False),
        ([agent("s"), agent("last", "s", prompt="{{ steps.s.output }}")], True),
        ([agent("s"), agent("last", "s", prompt="{{ input }}", when="steps.s.output == 'x'")], True),
        ([agent("s"), agent("last", prompt="{{ input }}")], False),
        ([agent("last"), agent("s", "last")], True),
        ([agent("s"), agent("last", "s", prompt="{{ input }}", when="input == 'x'")], True),
        ([agent("s"), agent("last", "s", prompt="{{ input }}", for_each="steps.s.output.list")], True),
    ],
)
def test_whether_anybody_reads_what_a_step_says(crew: list[Any], is_read: bool) -> None:
    runs = [run(step("s", call()), step("last", call()))] * 5
    lines = found(moves.unread_output, crew, runs)
    assert bool(lines) is not is_read
    for line in lines:
        assert line["saving_usd_run"]["estimate"] == D("0.013")
        assert line["command"] == "loopllama workflows show w"


def test_a_step_with_tools_or_an_approval_may_be_there_for_those() -> None:
    runs = [run(step("s", call()), step("last", call()))] * 5
    for fields in ({"tools": ["t"]}, {"approval": {"start": True}}):
        assert not found(moves.unread_output, [agent("s", **fields), agent("last", prompt="{{ input }}")], runs)


# Repairs


GOOD = priced("good", "2", "6")
STRUCTURED = agent("s", output_schema={"type": "object", "properties": {"a": {"type": "string"}}})


def repaired(times: int) -> list[Any]:
    """Five runs in which the cheap model was asked again: 1,000 tokens, then 1,200 with what was wrong."""
    again = [call("cheap", tokens_in=1200, tokens_out=90)] * times
    return [run(step("s", call("cheap"), *again))] * 5


def test_a_repair_that_costs_more_than_a_better_model() -> None:
    (line,) = found(moves.repair, [STRUCTURED], repaired(2), CHEAP, GOOD, named=frozenset({"good"}))
    # Cheap: 0.0013 and twice 0.00147. Good, once: 1,000 in at 2, 90 out at 6 USD a million.
    assert line["saving_usd_run"]["estimate"] == D("0.00424") - D("0.00254")
    assert (line["to"], line["move"]) == ("good", "repair")
    assert line["command"].startswith("loopllama runs replay run_1 --from-step s")
    assert "5 of 5 turns repaired" in line["rests_on"]
    assert line["latency_ms"]["after"] < line["latency_ms"]["before"]


def test_no_repair_or_one_that_is_cheap_is_no_reason() -> None:
    assert not found(moves.repair, [STRUCTURED], repaired(0), CHEAP, GOOD, named=frozenset({"good"}))
    dear = priced("good", "4", "12")
    assert not found(moves.repair, [STRUCTURED], repaired(1), CHEAP, dear, named=frozenset({"good"}))
