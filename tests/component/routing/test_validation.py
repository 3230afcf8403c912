"""What is refused before it is written: models that a step cannot use, catalog entries that lead nowhere."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest
from support.deployment import Deployment

from loopllama.aws import clients, dynamo
from loopllama.catalog.catalog import bundled
from loopllama.catalog.store import CatalogStore, price_of
from loopllama.errors import CatalogInvalid, ModelUnknown, RouteInvalid, VersionConflict
from loopllama.routing.impact import moved
from loopllama.routing.store import RouteStore

SMALL = bundled().aliases()["small"]
CREW = [
    {"name": "reader", "model": "test:a"},
    {"name": "caller", "tools": ["now"]},
    {"name": "sorter", "outputSchema": {"type": "object", "properties": {"x": {"type": "string"}}}},
]


@pytest.fixture
def workflow(live: Deployment) -> str:
    live.provider.script = lambda call: '{"x": "y"}'
    return live.push(CREW, name="Checked")


def entry(model: str, **fields: object) -> None:
    item = {"model": model, "provider": "test", "prices": [{"input": Decimal(1), "output": Decimal(2)}], **fields}
    clients.client("dynamodb").put_item(TableName="ModelsTable", Item=dynamo.to_item(item))


def refused(live: Deployment, workflow: str, step: str, row: Any, **options: bool) -> str:
    with pytest.raises(RouteInvalid) as caught:
        RouteStore(live.settings).set(workflow, step, row, updated_by="ann", reason="r", **options)
    assert all(detail["field"] and detail["message"] for detail in caught.value.details)
    return "; ".join(str(detail["message"]) for detail in caught.value.details)


def accepted(live: Deployment, workflow: str, step: str, model: str) -> None:
    RouteStore(live.settings).set(workflow, step, {"model": model}, updated_by="ann", reason="r")


def test_a_model_must_have_what_the_step_needs(live: Deployment, workflow: str) -> None:
    entry("mute", capabilities=["images"])
    entry("able", capabilities=["tools"])
    assert "cannot call tools" in refused(live, workflow, "caller", {"model": "mute"})
    assert "neither structured output nor tools" in refused(live, workflow, "sorter", {"model": "mute"})
    assert "cannot call tools" in refused(live, workflow, "*", {"model": "mute"})
    assert "cannot call tools" in refused(
        live, workflow, "caller", {"policy": "cheapest", "candidates": ["able", "mute"]}
    )
    accepted(live, workflow, "reader", "mute")
    for step in ("caller", "sorter", "*"):
        accepted(live, workflow, step, "able")


def test_a_model_must_take_the_prompts_that_the_step_had_lately(live: Deployment, workflow: str) -> None:
    entry("tiny", context_window=50)
    accepted(live, workflow, "reader", "tiny")
    run_id = live.accept(workflow, "hello")
    live.play(run_id)
    assert "had 100 lately" in refused(live, workflow, "reader", {"model": "tiny"})


def test_workflow_and_step_must_be_there(live: Deployment, workflow: str) -> None:
    assert "its steps are reader, caller, sorter" in refused(live, workflow, "reder", {"model": "test:a"})
    assert "no workflow" in refused(live, "nobody", "*", {"model": "test:a"})


def test_a_provider_must_have_a_key(live: Deployment, workflow: str) -> None:
    live.settings = replace(live.settings, provider_secrets_prefix="x/providers/", simulated_providers=("google",))
    assert "providers set openai" in refused(live, workflow, "reader", {"model": "gpt-5"})
    clients.client("secretsmanager").create_secret(Name="x/providers/openai", SecretString="{}")
    for model in ("gpt-5", "balanced", "gemini-2.5-flash"):
        accepted(live, workflow, "reader", model)


def test_a_server_of_ones_own_must_have_an_address(live: Deployment, workflow: str) -> None:
    live.settings = replace(live.settings, provider_secrets_prefix="x/providers/")
    entry("mine", provider="ollama")
    told = refused(live, workflow, "reader", {"model": "mine"})
    assert "needs the address of provider ollama" in told
    assert "loopllama providers set ollama --base-url URL" in told
    secret = '{"base_url": "https://llm.example.com/v1"}'
    clients.client("secretsmanager").create_secret(Name="x/providers/ollama", SecretString=secret)
    accepted(live, workflow, "reader", "mine")


def test_force_is_for_prices_only_and_every_reason_is_told(live: Deployment, workflow: str) -> None:
    entry("dead", enabled=False, prices=None)
    told = refused(live, workflow, "reader", {"model": "dead", "fallbacks": ["nosuch"], "max_tokens": 0})
    assert all(word in told for word in ("is disabled", "no price", "no model 'nosuch'", "at least 1"))
    assert "no price" not in refused(live, workflow, "reader", {"model": "dead"}, force=True)


def test_the_expected_change_of_a_row(live: Deployment, workflow: str) -> None:
    store = RouteStore(live.settings)
    assert store.expected_change(workflow, "reader", {"model": "test:b"}) is None
    live.play(live.accept(workflow, "hello"))
    entry("tenth", prices=[{"input": Decimal("0.3"), "output": Decimal("1.5")}])
    told = store.expected_change(workflow, "reader", {"model": "tenth"})
    assert told is not None
    assert (told["cost_usd"]["after"] or 0) < (told["cost_usd"]["before"] or 0)
    assert store.expected_change(workflow, "reader", {"policy": "weighted", "candidates": ["tenth"]}) is None


def test_the_expected_change_is_that_of_the_model_which_the_decision_takes(live: Deployment, workflow: str) -> None:
    """What limits, the catalog and other layers leave out is not what the row would bring."""
    store = RouteStore(live.settings)
    live.play(live.accept(workflow, "hello"))
    entry("tenth", prices=[{"input": Decimal("0.3"), "output": Decimal("1.5")}])
    entry("dear", prices=[{"input": Decimal(300), "output": Decimal(1500)}])

    def after(step: str, **row: Any) -> Decimal | None:
        told = store.expected_change(workflow, step, row)  # type: ignore[arg-type]
        return told["cost_usd"]["after"] if told else None

    tenth, now = after("reader", model="tenth"), after("reader", model="test:a")
    assert after("reader", model="dear") != now != tenth
    assert after("reader", model="dear", max_cost=Decimal("0.1"), fallbacks=["tenth"]) == tenth
    assert after("reader", model="dear", max_cost=Decimal("0.0000001")) == now
    entry("off", enabled=False, replaced_by="tenth")
    assert after("reader", model="off") == tenth
    accepted(live, workflow, "sorter", "test:b")
    told = store.expected_change(workflow, "*", {"model": "tenth"})
    moved = [] if told is None else [step["step"] for step in told["steps"] if step["model_after"]]
    assert moved == ["caller"], "the agent's own model and the step's override speak first"


def test_the_expected_change_of_an_inference_profile_is_that_of_the_model_behind_it(
    live: Deployment, workflow: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    profile = "arn:aws:bedrock:us-east-1:123456789012:application-inference-profile/abc123"
    monkeypatch.setattr("loopllama.providers.bedrock.service.underlying_model", lambda _: "us.amazon.nova-micro-v1:0")
    live.play(live.accept(workflow, "hello"))
    told = RouteStore(live.settings).expected_change(workflow, "reader", {"model": profile})
    same = RouteStore(live.settings).expected_change(workflow, "reader", {"model": "bedrock:us.amazon.nova-micro-v1:0"})
    assert told is not None
    assert same is not None
    assert told["cost_usd"]["after"] == same["cost_usd"]["after"] is not None
    assert not any("it has no price" in unknown for unknown in told["unknown"])


# The catalog's own writes


def write(live: Deployment, model: str, changes: dict[str, object]) -> dict[str, object]:
    return CatalogStore(live.settings).write(model, changes, updated_by="ann", reason="r")[1]


def test_entries_are_merged_stamped_and_taken_apart_again(live: Deployment) -> None:
    write(live, "gpt-5", {"context_window": 9})
    item = write(live, "gpt-5", {"enabled": False, "replaced_by": "gpt-5-mini"})
    assert (item["version"], item["context_window"], item["updated_by"]) == (2, 9, "ann")
    item = write(live, "gpt-5", {"enabled": None, "replaced_by": None})
    assert "enabled" not in item
    assert CatalogStore(live.settings).catalog().resolve("gpt-5").enabled


@pytest.mark.parametrize(
    ("model", "changes", "says"),
    [
        ("new", {"context_window": 5}, "provider"),
        ("gpt-5", {"context_window": "5"}, "whole number"),
        ("gpt-5", {"colour": "red"}, "no field"),
        ("cheap", {"alias_of": "nosuch"}, "nosuch"),
        ("cheap", {"alias_of": "cheap"}, "circle"),
        ("gpt-5", {"enabled": False, "replaced_by": "nosuch"}, "nosuch"),
        ("gpt-5", {"enabled": False, "replaced_by": "openai:gpt-5"}, "itself"),
        ("two words", {"provider": "openai"}, "white space"),
        ("health#", {"provider": "openai"}, "can be no id"),
        ("gpt-5", {"prices": [{"input": Decimal(-1), "output": Decimal(1)}]}, "USD"),
        ("gpt-5", {"prices": [{"input": Decimal("0.1" + 40 * "2"), "output": Decimal(1)}]}, "38 digits"),
    ],
)
def test_entries_that_make_no_sense_are_refused(live: Deployment, model: str, changes: dict, says: str) -> None:
    with pytest.raises(CatalogInvalid, match=says):
        write(live, model, changes)
    assert CatalogStore(live.settings).get(model) is None


CIRCLES = [
    # rows that are there, the write that closes the circle, the field that is wrong (None: the write is taken)
    ([("gpt-5", {"replaced_by": "gpt-5-mini"})], ("gpt-5-mini", {"replaced_by": "gpt-5"}), "replaced_by"),
    (
        [("gpt-5", {"enabled": False, "replaced_by": "gpt-5-mini"})],
        ("gpt-5-mini", {"enabled": False, "replaced_by": "openai:gpt-5@low"}),
        "replaced_by",
    ),
    (
        [("gpt-5", {"replaced_by": "gpt-5-mini"}), ("gpt-5-mini", {"replaced_by": "gpt-5-nano"})],
        ("gpt-5-nano", {"replaced_by": "gpt-5"}),
        "replaced_by",
    ),
    ([("other", {"alias_of": "gpt-5"}), ("gpt-5-mini", {"replaced_by": "other"})],
     ("gpt-5", {"replaced_by": "gpt-5-mini"}), "replaced_by"),
    ([("other", {"alias_of": "gpt-5"}), ("gpt-5-mini", {"replaced_by": "other"})],
     ("other", {"alias_of": "gpt-5-mini"}), "alias_of"),
    ([("one", {"alias_of": "gpt-5"}), ("two", {"alias_of": "gpt-5", "replaced_by": "one"})],
     ("one", {"replaced_by": "two"}), "replaced_by"),
    ([("small", {"alias_of": "gpt-5"}), (SMALL, {"replaced_by": "small"})], ("small", {"alias_of": None}), "alias_of"),
    ([("gpt-5", {"replaced_by": "gpt-5-mini"})], ("gpt-5-mini", {"replaced_by": "gpt-5-nano"}), None),
    ([("gpt-5", {"replaced_by": "gpt-5-mini"})], ("gpt-4o", {"replaced_by": "gpt-5"}), None),
    ([("other", {"alias_of": "gpt-5-mini"}), ("gpt-5", {"replaced_by": "other"})],
     ("gpt-5-mini", {"enabled": False}), None),
]  # fmt: skip


@pytest.mark.parametrize(("rows", "last", "field"), CIRCLES)
def test_a_circle_of_models_that_replace_one_another_is_refused(
    live: Deployment, rows: list[tuple[str, dict[str, object]]], last: tuple[str, dict[str, object]], field: str | None
) -> None:
    for name, changes in rows:
        write(live, name, changes)
    if field is None:
        write(live, *last)
        assert CatalogStore(live.settings).catalog().replacement_circles() == {}
        return
    with pytest.raises(CatalogInvalid, match="circle of models") as told:
        write(live, *last)
    assert [detail["field"] for detail in told.value.details] == [field]


def test_a_circle_made_by_hand_is_told_and_keeps_no_other_change_from_being_made(live: Deployment) -> None:
    entry("gpt-5", replaced_by="gpt-5-mini")
    entry("gpt-5-mini", replaced_by="gpt-5")
    entry("gpt-5-nano", replaced_by="gpt-5")
    circles = {"gpt-5": "gpt-5 -> gpt-5-mini -> gpt-5", "gpt-5-mini": "gpt-5-mini -> gpt-5 -> gpt-5-mini"}
    assert CatalogStore(live.settings).catalog().replacement_circles() == circles
    assert write(live, "gpt-5", {"enabled": False})["enabled"] is False
    assert "replaced_by" not in write(live, "gpt-5", {"replaced_by": None})


def test_an_entry_that_somebody_changed_meanwhile_is_not_overwritten(
    live: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(live, "gpt-5", {"context_window": 9})
    store = CatalogStore(live.settings)
    read = store.get

    def read_and_change(name: str) -> object:
        found = read(name)
        entry("gpt-5")
        return found

    monkeypatch.setattr(store, "get", read_and_change)
    with pytest.raises(VersionConflict, match="read it again"):
        store.write("gpt-5", {"context_window": 10}, updated_by="ann", reason="r")


def test_a_row_with_rubbish_is_mended_field_by_field(live: Deployment) -> None:
    entry("gpt-5", provider=7, prices="junk", context_window="lots", replaced_by="nosuch", enabled="perhaps")
    item = write(live, "gpt-5", {"context_window": 9})
    assert (item["context_window"], item["prices"]) == (9, "junk")
    with pytest.raises(CatalogInvalid) as caught:
        write(live, "gpt-5", {"prices": "dear", "max_output": -1})
    assert {one["field"] for one in caught.value.details} == {"prices", "max_output"}
    store = CatalogStore(live.settings)
    store.add_price("gpt-5", {"effective_from": "2020-01-01", "input": 1, "output": 2}, updated_by="ann", reason="r")
    write(live, "gpt-5", {"provider": None, "replaced_by": "gpt-5-mini", "enabled": True})
    catalog = store.catalog()
    assert catalog.problems == ()
    assert (catalog.resolve("gpt-5").context_window, catalog.resolve("gpt-5").prices[-1].input) == (9, 1)


def test_an_entry_is_written_only_at_the_version_that_was_expected(live: Deployment) -> None:
    store = CatalogStore(live.settings)

    def at(version: int, **changes: object) -> dict[str, object]:
        return store.write("gpt-5", changes, expected_version=version, updated_by="ann", reason="r")[1]

    assert at(0, context_window=9)["version"] == 1
    with pytest.raises(VersionConflict, match="at version 1, not 0"):
        at(0, context_window=10)
    assert at(1, context_window=10)["version"] == 2
    with pytest.raises(VersionConflict):
        store.remove("gpt-5", expected_version=1, updated_by="ann", reason="r")
    assert store.remove("gpt-5", expected_version=2, updated_by="ann", reason="r")
    by_hand = {"model": "gpt-5", "context_window": 9, "version": Decimal("9" * 38)}
    clients.client("dynamodb").put_item(TableName="ModelsTable", Item=dynamo.to_item(by_hand))
    assert at(0, context_window=10)["version"] == 1


def test_prices_are_appended_and_what_was_charged_is_not_rewritten(live: Deployment) -> None:
    from datetime import date

    store = CatalogStore(live.settings)
    stamp: Any = {"updated_by": "ann", "reason": "r"}
    for since, given in ((date(2020, 1, 1), 1), (date(2999, 1, 1), 2), (date(2999, 1, 1), 3)):
        store.add_price("gpt-5", price_of(since, Decimal(given), Decimal(9)), **stamp)
    assert [price.input for price in store.catalog().resolve("gpt-5").prices][-2:] == [1, 3]
    with pytest.raises(CatalogInvalid, match="later date"):
        store.add_price("gpt-5", price_of(date(2020, 1, 1), Decimal(2), Decimal(9)), **stamp)
    kept, later = (price_of(date(year, 1, 1), Decimal(1), Decimal(9)) for year in (2020, 2999))
    with pytest.raises(CatalogInvalid, match="2020-01-01"):
        store.write("gpt-5", {"prices": [later]}, **stamp)
    assert store.write("gpt-5", {"prices": [later, kept]}, **stamp)[1]["version"] == 4
    assert store.remove("gpt-5", **stamp)
    assert not store.remove("gpt-5", **stamp)
    assert (store.catalog().resolve("gpt-5").origin or {})["prices"] == "bundled"


def test_what_a_change_of_the_catalog_moves(live: Deployment, workflow: str) -> None:
    store = CatalogStore(live.settings)
    before = store.catalog()
    off = {"enabled": False, "replaced_by": "test:b"}
    after = before.with_entries([{**one, **(off if one["model"] == "test:a" else {})} for one in store.items()])
    told = moved(live.settings, before, after)
    assert told == [{"workflow": workflow, "step": "reader", "source": "agent", "from": ["test:a"], "to": ["test:b"]}]
    with pytest.raises(ModelUnknown):
        after.resolve("nosuch")
