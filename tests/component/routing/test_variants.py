"""Efforts and service tiers in the tables: rows and entries that name them, as people and commands write them."""

from __future__ import annotations

from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import pytest
from support.deployment import Deployment
from support.routing_tables import Clock, Counting, attempt_order, put, request

from loopllama.catalog.pricing import cost
from loopllama.catalog.store import CatalogStore, price_of
from loopllama.errors import CatalogInvalid, RouteInvalid
from loopllama.llm.types import Usage
from loopllama.routing.router import Router
from loopllama.routing.store import RouteStore
from loopllama.routing.validation import warnings

DAY = date(2026, 11, 23)
MAX = "gpt-5@max"


def test_a_row_by_hand_and_the_kill_switch_of_its_model(dynamodb: Counting, router: Router, clock: Clock) -> None:
    put(dynamodb, "routes", workflow="w", step="writer", model="gpt-5@low@flex")
    assert attempt_order(router.decide(request())) == ["gpt-5@low@flex", "gpt-5@low"]
    assert dynamodb.taken() == {"query": 1, "batch_get_item": 1}
    put(dynamodb, "models", model="gpt-5", enabled=False, replaced_by="gpt-5-mini")
    clock.now += 5
    assert attempt_order(router.decide(request())) == ["gpt-5-mini@low@flex", "gpt-5-mini@low"]


def test_an_alias_of_the_table_may_stand_for_an_effort(dynamodb: Counting, router: Router, clock: Clock) -> None:
    put(dynamodb, "models", model="thrifty", alias_of="gpt-5@low@flex")
    put(dynamodb, "routes", workflow="w", step="writer", model="thrifty@high")
    assert attempt_order(router.decide(request())) == ["gpt-5@high@flex", "gpt-5@high"]


def test_a_decision_is_restored_with_effort_and_tier(router: Router, dynamodb: Counting) -> None:
    put(dynamodb, "routes", workflow="w", step="writer", model="gpt-5@low@flex")
    decided = router.decide(request())
    restored = router.restore(decided.to_record())
    assert restored is not None
    assert restored.attempt_order == decided.attempt_order


@pytest.mark.parametrize(
    "row",
    [{"model": MAX}, {"policy": "cheapest", "candidates": [MAX]}, {"model": "o3", "fallbacks": [MAX]}],
)
def test_a_row_that_names_what_the_model_has_not_is_refused_with_what_it_has(live: Deployment, row: Any) -> None:
    workflow = live.push([{"name": "reply"}], name="Refused rows")
    with pytest.raises(RouteInvalid, match="gpt-5 has no effort 'max': its efforts are minimal, low, medium, high"):
        RouteStore(live.settings).set(workflow, "reply", row, updated_by="ann", reason="r")


def test_a_workflow_that_names_it_gets_a_warning(live: Deployment) -> None:
    definition: Any = {"model": "gpt-5@low", "crew": [{"name": "reply", "model": "gpt-5@max", "needs": []}]}
    [told] = [one for one in warnings(live.settings, definition) if one["field"] == "crew.0.model"]
    assert str(told["message"]).startswith("gpt-5 has no effort 'max': its efforts are minimal, low, medium, high")
    assert "step reply uses gpt-5@low" in str(told["message"])


def test_an_entry_is_of_the_model_whatever_its_effort(live: Deployment) -> None:
    store = CatalogStore(live.settings)
    for name in ("gpt-5@low", "gpt-5@flex", "mine@none"):
        with pytest.raises(CatalogInvalid, match=f"an entry holds at all of them: name '{name.partition('@')[0]}'"):
            store.write(name, {"provider": "openai"}, updated_by="ann", reason="r")


def test_a_tiers_price_is_added_beside_the_one_in_force_and_never_rewritten(live: Deployment) -> None:
    store, today = CatalogStore(live.settings), datetime.now(UTC).date()
    who: Any = {"updated_by": "ann", "reason": "r"}
    store.write("mine", {"provider": "vllm", "provider_model": "m"}, **who)
    with pytest.raises(CatalogInvalid, match="no standard price"):
        store.with_tier("mine", today, "flex", (Decimal(1), Decimal(2), None, None, None))
    store.add_price("mine", price_of(today, Decimal(4), Decimal(8), cache_write_1h=Decimal(6)), **who)
    half = store.with_tier("mine", today, "flex", (Decimal(2), Decimal(4), None, None, None))
    store.add_price("mine", half, **who)
    hour = Usage(1_000_000, 0, cache_write_tokens=1_000_000, cache_write_1h_tokens=1_000_000)
    assert [cost(store.catalog().resolve(name), hour, today) for name in ("mine", "mine@flex")] == [6, 2]
    with pytest.raises(CatalogInvalid, match="keep it"):
        store.add_price("mine", half | {"service_tiers": {"flex": {"input": 1, "output": 4}}}, **who)
    with pytest.raises(CatalogInvalid, match="keep it"):
        store.add_price("mine", price_of(today, Decimal(4), Decimal(8), cache_write_1h=Decimal(6)), **who)


def test_a_run_and_a_pinned_run_may_name_it(live: Deployment) -> None:
    workflow = live.push([{"name": "reply"}], name="Named by the run")
    live.provider.script = lambda _: "Done."
    for options in ({}, {"pin": "run"}):
        run_id = live.accept(workflow, "Hello", models={"*": "gpt-5@low@flex"}, **options)
        live.play(run_id)
        [step] = live.read(run_id)["steps"]
        assert (step["model"], step["source"]) == ("gpt-5@low@flex", "run")
        assert [call.effort for call in live.provider.calls[-1:]] == ["low"]
        assert step["cost_usd"] == cost(
            CatalogStore(live.settings).catalog().resolve("gpt-5@flex"), Usage(100, 10), DAY
        )


@pytest.mark.parametrize("other", ["gpt-5@low", "gpt-5@flex", "openai:gpt-5@low", "thrifty", "thrifty@high"])
def test_no_model_is_replaced_by_itself_at_another_effort(live: Deployment, other: str) -> None:
    store = CatalogStore(live.settings)
    who: Any = {"updated_by": "ann", "reason": "r"}
    store.write("thrifty", {"alias_of": "gpt-5@low"}, **who)
    for name in ("gpt-5", "thrifty"):
        if other.startswith("thrifty") or name == "gpt-5":
            with pytest.raises(CatalogInvalid, match="is the model itself"):
                store.write(name, {"enabled": False, "replaced_by": other}, **who)
    store.write("thrifty", {"enabled": False, "replaced_by": "gpt-5-mini@low"}, **who)
    model = store.catalog().resolve("thrifty@high")
    assert (model.enabled, model.replaced_by) == (False, "gpt-5-mini@low")


def test_what_an_entry_is_the_same_as_says_no_effort(live: Deployment) -> None:
    store = CatalogStore(live.settings)
    fields = {"provider": "azure", "provider_model": "prod"}
    with pytest.raises(CatalogInvalid, match="'gpt-5@low' says an effort or a service tier: name 'gpt-5'"):
        store.write("prod", fields | {"same_as": "gpt-5@low"}, updated_by="ann", reason="r")
    store.write("prod", fields | {"same_as": "gpt-5"}, updated_by="ann", reason="r")
    assert store.catalog().resolve("prod@low@flex").stands_for == ("openai", "gpt-5")
