"""Writing rows of the Routes table: what is refused, and who wins."""

import threading
from decimal import Decimal

import pytest
from component.routing.test_cache import request
from support.routing_tables import CONFIG, Clock, put

from loopllama.aws import dynamo
from loopllama.errors import RouteInvalid, VersionConflict
from loopllama.routing import cache as routing_table
from loopllama.routing.store import RouteStore

# Writing


def set_(store, values, step="writer", **options):
    return store.set("w", step, values, **({"updated_by": "ann", "reason": "cheaper"} | options))


def test_set_stores_a_row_that_acts(dynamodb, store, router, clock):
    row = set_(store, {"model": "gpt-5", "fallbacks": ["small"], "temperature": 0.3})
    assert store.rows("w") == [row]
    assert (row["version"], row["updated_by"], row["reason"]) == (1, "ann", "cheaper")
    assert row["updated_at"] == "2027-01-15T08:00:00.000Z"
    decided = router.decide(request())
    assert (decided.source, decided.route_version, decided.temperature) == ("step-override", 1, Decimal("0.3"))
    assert set_(store, {"model": "gpt-5-mini"}, expected_version=1)["version"] == 2
    assert "fallbacks" not in store.get("w", "writer")


def test_set_for_a_time(store, clock):
    assert set_(store, {"model": "gpt-5"}, expires_in=60)["expires_at"] == int(clock.now) + 60
    with pytest.raises(RouteInvalid, match="more than 0"):
        set_(store, {"model": "gpt-5"}, expires_in=0)
    with pytest.raises(RouteInvalid, match="passed"):
        set_(store, {"model": "gpt-5", "expires_at": int(clock.now) - 1})


@pytest.mark.parametrize(
    ("values", "field", "says"),
    [
        ({"model": "gtp-5"}, "model", "did you mean"),
        ({"model": "dead"}, "model", "disabled; use gpt-5-mini"),
        ({"model": "openai:house"}, "model", "no price"),
        ({"model": "gpt-5", "fallbacks": ["dead"]}, "fallbacks", "disabled"),
        ({"model": "gpt-5", "fallbacks": "gpt-5"}, "fallbacks", "list"),
        ({"model": "dead", "fallbacks": ["gpt-5", "dead"]}, "model", "disabled"),
        ({"policy": "cheapest", "candidates": ["gpt-5", "gtp-5"]}, "candidates", "did you mean"),
        ({"policy": "cheapest"}, "candidates", "missing"),
        ({"model": "gpt-5", "policy": "magic"}, "policy", "must be one of"),
        ({"model": "gpt-5", "max_cost": 0}, "max_cost", "USD"),
        ({"model": "gpt-5", "max_latency": Decimal("1.5")}, "max_latency", "ms"),
        # What DynamoDB would round, or not take at all.
        ({"model": "gpt-5", "max_cost": Decimal("0.1" + 40 * "2")}, "max_cost", "38 digits"),
        ({"model": "gpt-5", "max_cost": Decimal("1e-200")}, "max_cost", "38 digits"),
        ({"model": "gpt-5", "temperature": Decimal("0.1" + 40 * "2")}, "temperature", "38 digits"),
        (
            {"policy": "weighted", "candidates": [{"model": "gpt-5", "weight": Decimal("0.1" + 40 * "2")}]},
            "candidates",
            "38 digits",
        ),
        ({"model": "gpt-5", "expires_at": "tomorrow"}, "expires_at", "epoch"),
        ({"model": "gpt-5", "max_tokens": 0}, "max_tokens", "at least 1"),
        ({"model": "gpt-5", "temperature": float("nan")}, "temperature", "temperature"),
        ({"fallbacks": ["gpt-5"]}, "model", "is missing"),
        ({"modle": "gpt-5"}, "modle", "no field"),
        ({"version": 5}, "version", "no field"),
        ({}, "model", "missing"),
    ],
)
def test_set_refuses_what_makes_no_sense(dynamodb, store, values, field, says):
    put(dynamodb, "models", model="dead", provider="openai", enabled=False, replaced_by="gpt-5-mini")
    with pytest.raises(RouteInvalid, match=says) as caught:
        set_(store, values)
    assert caught.value.details[0]["field"] == field
    assert store.rows("w") == []


def test_set_refuses_odd_steps_and_long_reasons(store):
    with pytest.raises(RouteInvalid, match="step"):
        set_(store, {"model": "gpt-5"}, step="")
    with pytest.raises(RouteInvalid, match="reason"):
        set_(store, {"model": "gpt-5"}, reason="x" * 501)


def test_an_unpriced_model_can_be_forced(store):
    assert set_(store, {"model": "openai:house"}, force=True)["model"] == "openai:house"


def test_versions_are_compared(store):
    with pytest.raises(VersionConflict, match="version 0"):
        set_(store, {"model": "gpt-5"}, expected_version=1)
    set_(store, {"model": "gpt-5"}, expected_version=0)
    with pytest.raises(VersionConflict, match="version 1, not 0"):
        set_(store, {"model": "gpt-5-mini"}, expected_version=0)
    with pytest.raises(VersionConflict):
        store.unset("w", "writer", expected_version=7, updated_by="ann", reason="")


@pytest.mark.parametrize("version", ["x", Decimal("1.5"), Decimal(-3), Decimal("9" * 38), [1]])
def test_a_version_by_hand_that_one_cannot_count_on_from_is_none(store, dynamodb, version):
    put(dynamodb, "routes", workflow="w", step="writer", model="gpt-5", version=version)
    with pytest.raises(VersionConflict, match="version 0"):
        set_(store, {"model": "gpt-5-mini"}, expected_version=1)
    assert set_(store, {"model": "gpt-5-mini"}, expected_version=0)["version"] == 1
    assert set_(store, {"model": "gpt-5"})["version"] == 2


def test_a_row_with_numbers_that_are_written_out_is_replaced(store, dynamodb):
    # As DynamoDB returns 1E+40: 41 characters, one digit that counts.
    row = {"model": {"S": "gpt-5"}, "max_tokens": {"N": "1" + "0" * 40}, "note": {"N": "12" + "0" * 60}}
    dynamodb.put_item(TableName="routes", Item={"workflow": {"S": "w"}, "step": {"S": "writer"}, **row})
    assert set_(store, {"model": "gpt-5-mini"})["model"] == "gpt-5-mini"


@pytest.mark.parametrize("edit", [{"model": "gpt-5-nano"}, {"max_tokens": 3}, {"version": "x"}, None])
def test_an_edit_by_hand_in_between_is_never_overwritten(dynamodb, clock, edit):
    """Also one that leaves the version as it was: the whole row is compared."""

    class Slow:
        exceptions = dynamodb.exceptions

        def __getattr__(self, name):
            return getattr(dynamodb, name)

        def put_item(self, **arguments):
            row = {"workflow": "w", "step": "writer", "model": "gpt-5", "version": 1}
            if edit is None:
                dynamodb.delete_item(TableName="routes", Key=dynamo.to_item({"workflow": "w", "step": "writer"}))
            else:
                put(dynamodb, "routes", **row | edit)
            return dynamodb.put_item(**arguments)

    set_(RouteStore(CONFIG, dynamodb, clock), {"model": "gpt-5"})
    with pytest.raises(VersionConflict, match="in between"):
        set_(RouteStore(CONFIG, Slow(), clock), {"model": "gpt-5-mini"})


def test_a_row_of_rubbish_can_be_replaced_and_removed(dynamodb, store):
    rubbish = {"model": [1], "version": "many", "fallbacks": {"a": None}, "expires_at": True, "else": b"x"}
    put(dynamodb, "routes", workflow="w", step="writer", **rubbish)
    assert set_(store, {"model": "gpt-5"})["version"] == 1
    empty = {"workflow": {"S": "w"}, "step": {"S": "writer"}, "model": {"NULL": True}, "pin": {"NULL": True}}
    dynamodb.put_item(TableName="routes", Item=empty)
    assert set_(store, {"model": "gpt-5"})["version"] == 1
    put(dynamodb, "routes", workflow="w", step="writer", **rubbish)
    assert store.unset("w", "writer", updated_by="ann", reason="rubbish")
    assert store.rows("w") == []


def test_unset_says_who_and_why_before_the_row_goes(dynamodb, store):
    set_(store, {"model": "gpt-5"})
    written = []

    class Watching:
        exceptions = dynamodb.exceptions

        def __getattr__(self, name):
            return getattr(dynamodb, name)

        def put_item(self, **arguments):
            written.append(dynamo.from_item(arguments["Item"]))
            return dynamodb.put_item(**arguments)

    watched = RouteStore(CONFIG, Watching(), Clock())
    assert watched.unset("w", "writer", updated_by="bob", reason="enough", expected_version=1)
    assert (written[0]["version"], written[0]["updated_by"], written[0]["reason"]) == (2, "bob", "enough")
    assert "model" not in written[0]
    assert store.get("w", "writer") is None
    assert not store.unset("w", "writer", updated_by="bob", reason="again")


def test_twenty_writers_one_wins_each_version(dynamodb, clock):
    results, start = [], threading.Barrier(20)

    def write(number):
        store = RouteStore(CONFIG, dynamodb, clock)
        start.wait()
        try:
            results.append(set_(store, {"model": "gpt-5", "max_tokens": number + 1}, expected_version=0)["version"])
        except VersionConflict:
            results.append(None)

    threads = [threading.Thread(target=write, args=(number,)) for number in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(results, key=str).count(1) == 1
    assert results.count(None) == 19


def test_names_that_may_be_read_too_cost_no_call_of_their_own(dynamodb, monkeypatch):
    monkeypatch.setattr(routing_table, "BATCH", 4)
    table = routing_table.ModelTable("models", lambda: dynamodb, 5)
    table.catalog(["corp:a", "corp:b", "corp:c"], 0.0, ["corp:d"])  # with the models' health a whole batch
    assert dynamodb.taken() == {"batch_get_item": 1}
    table.catalog(["corp:d", "corp:e"], 0.0, ["corp:f", "corp:g"])
    assert dynamodb.taken() == {"batch_get_item": 1}
    table.catalog(["corp:f", "corp:g"], 0.0)
    assert dynamodb.taken() == {}
