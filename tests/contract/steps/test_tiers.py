"""A step whose model's name says an effort and a service tier: what is asked, what a refused tier leads to, what it
costs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

import pytest
from support.dialects import WIRE_FORMATS, Dialect, Figures
from support.step_dialects import OPENAI
from support.step_here import NUMBERS, PROMPT, USAGE, Here, cost_of
from support.wire_server import Reply, Reset

from loopllama_cli.console import output, trace

FLEX = {"input": Decimal("1.5"), "output": Decimal("7.5")}
PRICE = {"effective_from": "2020-01-01", "input": Decimal(3), "output": Decimal(15), "service_tiers": {"flex": FLEX}}
HALF = cost_of(*USAGE) / 2
WITH_TIERS = [dialect for dialect in WIRE_FORMATS if dialect.name != "example"]
"""All but the one that a page shows how to write."""
every_dialect = pytest.mark.parametrize("dialect", WITH_TIERS, ids=lambda one: one.name, indirect=True)


def start(here: Here, suffix: str, **agent: Any) -> tuple[str, dict[str, Any], str]:
    """A run of one step, on a model with a price at the flex tier."""
    number = next(NUMBERS)
    model = here.live.put_model(
        f"tiered-{number}", here.dialect.name, here.dialect.model, prices=[PRICE], efforts=["low"]
    )
    crew = [{"name": "reply", "model": f"{model}{suffix}", **agent}]
    run_id = here.live.accept(here.live.push(crew, name=f"Tiers {number}"), PROMPT)
    return model, here.live.map(here.live.start(run_id))[0], run_id


def answered(dialect: Dialect, tier: str, **more: Any) -> dict[str, Any]:
    """An answer of the dialect that names the tier which gave it."""
    body: dict[str, Any] = dialect.answer("Done.", **more)
    if dialect.name == "bedrock":
        return {**body, "serviceTier": {"type": tier}}
    if dialect.name == "anthropic":
        return {**body, "usage": {**body["usage"], "service_tier": tier}}
    return {**body, "service_tier": tier}


def tier_of(dialect: Dialect, body: Mapping[str, Any]) -> Any:
    return body.get("serviceTier", {}).get("type") if dialect.name == "bedrock" else body.get("service_tier")


@every_dialect
def test_the_tier_goes_out_and_its_price_counts(here: Here) -> None:
    here.first.script(Reply(200, answered(here.dialect, "flex")))
    model, work, run_id = start(here, "@flex")
    assert here.live.step(work)["outcome"] == "done"
    step = here.read(run_id)
    assert tier_of(here.dialect, here.first.requests[0].json) == "flex"
    [attempt] = step["attempts"]
    assert (step["model"], attempt["model"], attempt["service_tier"]) == (f"{model}@flex", f"{model}@flex", "flex")
    assert (step["cost_usd"], step["cost_basis"]) == (HALF, "measured")
    assert here.stored(run_id)["route"]["attempt_order"] == [f"{model}@flex", model]


@every_dialect
def test_a_tier_that_is_refused_falls_back_to_the_standard_one_and_it_is_told(
    here: Here, capsys: pytest.CaptureFixture[str]
) -> None:
    here.first.script(here.dialect.error(*here.dialect.throttled), Reply(200, here.dialect.answer("Done.")))
    model, work, run_id = start(here, "@flex")
    assert here.live.step(work)["outcome"] == "done"
    step = here.read(run_id)
    assert [tier_of(here.dialect, one.json) for one in here.first.requests] == ["flex", None]
    assert [(one["model"], one["outcome"]) for one in step["attempts"]] == [
        (f"{model}@flex", "ModelThrottled"),
        (model, "ok"),
    ]
    assert (step["model"], step["cost_usd"], step["cost_basis"]) == (model, cost_of(*USAGE), "measured")

    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines() if line.startswith("{")]
    counted = [line for line in lines if line.get("Fallbacks")]
    assert [(line["model"], line["Fallbacks"]) for line in counted] == [(model, 1)]
    trace.print_trace(here.live.read(run_id), console := output.out())  # type: ignore[arg-type]
    assert console is not None
    assert f"answered by the fallback {model}" in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize("said", ["Unsupported service_tier: flex", "Flex is not available for this model."])
def test_a_tier_that_the_model_does_not_take_is_asked_without_it(here: Here, said: str) -> None:
    here.first.script(OPENAI.error(400, "invalid_request_error", said), Reply(200, OPENAI.answer("Done.")))
    _, work, run_id = start(here, "@flex")
    assert here.live.step(work)["outcome"] == "done"
    assert [one["outcome"] for one in here.read(run_id)["attempts"]] == ["ModelNotAvailable", "ok"]


@pytest.mark.parametrize("refusal", ["too_long", "refusal"])
def test_what_is_about_the_prompt_is_not_asked_again_at_the_standard_tier(here: Here, refusal: str) -> None:
    here.first.script(
        OPENAI.error(400, "context_length_exceeded", "too long")
        if refusal == "too_long"
        else Reply(200, OPENAI.answer("", stop="refusal"))
    )
    _, work, run_id = start(here, "@flex")
    assert here.live.step(work)["outcome"] == "failed"
    assert len(here.read(run_id)["attempts"]) == len(here.first.requests) == 1


def test_the_next_invocation_goes_on_behind_a_tier_that_was_refused(here: Here) -> None:
    here.first.script(OPENAI.error(*OPENAI.throttled), Reset(), Reply(200, OPENAI.answer("Done.")))
    model, work, run_id = start(here, "@low@flex", retries=3)
    assert here.live.step(work)["outcome"] == "retry_later"
    here.live.wait(120)
    assert here.live.step(work)["outcome"] == "done"
    models = [one["model"] for one in here.read(run_id)["attempts"]]
    assert models == [f"{model}@low@flex", f"{model}@low", f"{model}@low@flex"]
    assert here.read(run_id)["cost_usd"] == HALF


@every_dialect
def test_the_tier_that_answered_is_paid_not_the_one_that_was_asked(here: Here) -> None:
    here.first.script(Reply(200, answered(here.dialect, "default")))
    _, work, run_id = start(here, "@flex")
    assert here.live.step(work)["outcome"] == "done"
    [attempt] = here.read(run_id)["attempts"]
    assert (attempt["service_tier"], attempt["cost_usd"]) == ("standard", cost_of(*USAGE))


def test_a_tier_without_a_price_is_an_estimate(here: Here) -> None:
    here.first.script(Reply(200, answered(here.dialect, "priority")))
    _, work, run_id = start(here, "")
    assert here.live.step(work)["outcome"] == "done"
    step = here.read(run_id)
    assert (step["cost_usd"], step["cost_basis"]) == (cost_of(*USAGE), "estimated")


def test_usage_and_its_bill_tell_efforts_and_tiers_apart(here: Here) -> None:
    from loopllama.queries.usage import summarise

    here.first.script(*(Reply(200, answered(here.dialect, "flex", usage=Figures(1000, 100))) for _ in range(2)))
    number = next(NUMBERS)
    model = here.live.put_model(
        f"told-{number}", here.dialect.name, here.dialect.model, prices=[PRICE], efforts=["low"]
    )
    crew = [{"name": "a", "model": f"{model}@flex"}, {"name": "b", "model": f"{model}@low@flex"}]
    workflow = here.live.push(crew, name=f"Told {number}")
    here.live.play(here.live.accept(workflow, PROMPT))
    groups = summarise(here.live.settings, by=("model",), workflow=workflow)["groups"]
    assert {group["model"]: group["cost_usd"] for group in groups} == {
        f"{model}@flex": cost_of(1000, 100) / 2,
        f"{model}@low@flex": cost_of(1000, 100) / 2,
    }
