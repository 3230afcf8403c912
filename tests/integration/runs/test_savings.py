"""Turning steps down to a cheaper model between two runs of one workflow."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from support.provider_server import Script, Text
from support.system import PRICES, System

NAMES = ["one", "two", "three", "four", "five", "six"]
MOVED = NAMES[1:5]


def deployed(system: System) -> Any:
    """What a deployment would change: functions, with their code and settings, and the state machine."""
    functions = system.client("lambda").list_functions()["Functions"]
    machine = system.client("stepfunctions").describe_state_machine(stateMachineArn=system.outputs["RunWorkflowArn"])
    told = ("CodeSha256", "LastModified", "Environment", "Version", "Timeout", "MemorySize")
    return (
        {function["FunctionName"]: [function.get(name) for name in told] for function in functions},
        (machine["definition"], machine["creationDate"], machine.get("revisionId")),
    )


def cost(model: str, tokens_in: int, tokens_out: int) -> Decimal:
    given, taken = PRICES[model]
    return (given * tokens_in + taken * tokens_out) / 1_000_000


def test_equal_steps_four_of_six_moved_to_a_tenth_of_the_price_cost_60_percent_less(
    system: System, provider: Any
) -> None:
    script: Script
    script, _ = provider(lambda _: Text("The same answer.", 1000, 200))
    name = script.url.rpartition("/")[2]
    dear = system.put_model(f"{name}:dear", name, Decimal(3), Decimal(15))
    cheap = system.put_model(f"{name}:cheap", name, Decimal("0.3"), Decimal("1.5"))
    workflow = system.push("Six equal steps", [{"name": each} for each in NAMES], model=dear)
    before = deployed(system)

    first = system.run(workflow)
    for step in MOVED:
        system.put("RoutesTableName", {"workflow": workflow, "step": step, "model": cheap})
    second = system.run(workflow)

    assert first["status"] == second["status"] == "completed"
    assert first["cost_usd"] == 6 * Decimal("0.006")
    # Two steps at the price and four at a tenth of it: 2.4 sixths of the first, which is 60 % less.
    assert second["cost_usd"] == first["cost_usd"] * Decimal("0.4")
    assert (second["tokens_in"], second["tokens_out"]) == (first["tokens_in"], first["tokens_out"]) == (6000, 1200)
    assert [(s["model"], s["source"]) for s in second["steps"]] == [
        (cheap, "step-override") if step in MOVED else (dear, "workflow-default") for step in NAMES
    ]
    assert first["workflow_version"] == second["workflow_version"] == 1
    assert deployed(system) == before
    assert script.models() == ["dear"] * 7 + ["cheap"] * 4 + ["dear"]


@pytest.mark.aws
@pytest.mark.parametrize("moved", [["one"], MOVED])
def test_simulated_steps_cost_what_their_tokens_and_the_two_prices_imply(system: System, moved: list[str]) -> None:
    crew = [{"name": name, "systemPrompt": f"Say what matters for {name}."} for name in NAMES]
    workflow = system.push(f"Simulated, {len(moved)} moved", crew)
    text = "The order is late. The customer wants the money back. " * 5
    first = system.run(workflow, text)
    for step in moved:
        system.put("RoutesTableName", {"workflow": workflow, "step": step, "model": "sim:tenth"})
    second = system.run(workflow, text)

    expected = Decimal(0)
    for old, new in zip(first["steps"], second["steps"], strict=True):
        assert (new["tokens_in"], new["tokens_out"]) == (old["tokens_in"], old["tokens_out"])
        model = "sim:tenth" if new["step"] in moved else "sim:base"
        assert new["model"] == model
        assert new["cost_usd"] == cost(model, old["tokens_in"], old["tokens_out"])
        expected += cost(model, old["tokens_in"], old["tokens_out"])
    assert second["cost_usd"] == expected
    assert first["cost_usd"] - second["cost_usd"] == sum(
        s["cost_usd"] * Decimal("0.9") for s in first["steps"] if s["step"] in moved
    )
