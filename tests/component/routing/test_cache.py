"""Reading the tables: how often, how fresh, how much is kept, and how rows are written."""

import threading
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.routing_tables import CONFIG, Clock, chain, put, tables

from loopllama.aws import dynamo
from loopllama.catalog.catalog import bundled
from loopllama.errors import AwsUnavailable, ModelUnknown, NoModelLeft, RouteInvalid, VersionConflict
from loopllama.routing import cache as routing_table
from loopllama.routing import router as routing_router
from loopllama.routing.decision import RouteRequest
from loopllama.routing.router import Router
from loopllama.routing.store import RouteStore
from loopllama.settings import Settings

SMALL = bundled().aliases()["small"]


@pytest.fixture
def dynamodb(monkeypatch):
    yield from tables(monkeypatch)


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def router(dynamodb, clock):
    return Router(CONFIG, dynamodb, clock)


@pytest.fixture
def store(dynamodb, clock):
    return RouteStore(CONFIG, dynamodb, clock)


def request(step="writer", workflow="w", *, run_models=None, prompt_tokens=0, model=None, run_id="r", **fields):
    agent: Any = {"name": step, "role": step} | fields
    return RouteRequest(workflow, model, agent, run_models or {}, frozenset(), prompt_tokens, run_id)


def test_cold_costs_one_query_and_one_batch_and_warm_nothing(dynamodb, router, clock):
    put(dynamodb, "routes", workflow="w", step="writer", model="gpt-5", fallbacks=["gpt-5-mini", "small"])
    put(dynamodb, "routes", workflow="w", step="editor", model="claude-opus-5")
    decided = router.decide(request())
    assert (decided.source, chain(decided)) == ("step", ["gpt-5", "gpt-5-mini", SMALL])
    assert dynamodb.taken() == {"query": 1, "batch_get_item": 1}
    for _ in range(3):
        assert router.decide(request(run_id="another")) is decided
    assert chain(router.decide(request("editor"))) == ["claude-opus-5"]
    assert chain(router.decide(request("reviewer"))) == [SMALL]
    assert dynamodb.taken() == {}
    clock.now += 4.9
    router.decide(request())
    assert dynamodb.taken() == {}
    clock.now += 0.1
    router.decide(request())
    assert dynamodb.taken() == {"query": 1, "batch_get_item": 1}


def test_a_step_that_names_another_model_costs_one_batch_at_most(dynamodb, router):
    router.decide(request())
    dynamodb.taken()
    router.decide(request("other", model="gpt-5", max_tokens=5))
    assert dynamodb.taken() == {"batch_get_item": 1}
    router.decide(request("third", model="gpt-5"))
    assert dynamodb.taken() == {}


def test_other_workflows_share_what_is_known_of_models(dynamodb, router):
    router.decide(request(workflow="a"))
    dynamodb.taken()
    router.decide(request(workflow="b"))
    assert dynamodb.taken() == {"query": 1}


def test_a_changed_row_acts_within_the_cache_time(dynamodb, router, clock):
    assert router.decide(request()).source == "deployment"
    put(dynamodb, "routes", workflow="w", step="*", model="gpt-5")
    assert router.decide(request()).source == "deployment"
    clock.now += 5
    assert router.decide(request()).source == "workflow"


def test_the_kill_switch_acts_within_the_cache_time_on_every_workflow(dynamodb, router, clock):
    for workflow in ("a", "b"):
        assert chain(router.decide(request(workflow=workflow, model="gpt-5"))) == ["gpt-5"]
        clock.now += 3
    put(dynamodb, "models", model="gpt-5", enabled=False, replaced_by="gpt-5-mini")
    clock.now += 5
    for workflow in ("a", "b"):
        decided = router.decide(request(workflow=workflow, model="gpt-5"))
        assert chain(decided) == ["gpt-5-mini"]
        assert decided.ignored[0]["reason"] == "disabled; replaced by gpt-5-mini"
    dynamodb.delete_item(TableName="models", Key={"model": {"S": "gpt-5"}})
    clock.now += 5
    assert chain(router.decide(request(workflow="a", model="gpt-5"))) == ["gpt-5"]


def test_models_read_earlier_by_another_workflow_do_not_stay_longer(dynamodb, router, clock):
    router.decide(request(workflow="a", model="gpt-5"))
    clock.now += 4
    router.decide(request(workflow="b", model="gpt-5"))
    put(dynamodb, "models", model="gpt-5", enabled=False, replaced_by="gpt-5-mini")
    clock.now += 1
    assert chain(router.decide(request(workflow="b", model="gpt-5"))) == ["gpt-5-mini"]
    # The rows are still good; the model is read again, and then what replaces it.
    assert dynamodb.taken() == {"batch_get_item": 2}


def test_a_row_expires_while_it_is_kept(dynamodb, router, clock):
    put(dynamodb, "routes", workflow="w", step="writer", model="gpt-5", expires_at=int(clock.now) + 2)
    assert router.decide(request()).source == "step"
    dynamodb.taken()
    clock.now += 2
    decided = router.decide(request())
    assert decided.source == "deployment"
    assert "expired" in decided.ignored[0]["reason"]
    assert dynamodb.taken() == {}


def test_an_alias_moved_in_the_table_moves_every_step_and_is_learned(dynamodb, router, clock):
    put(dynamodb, "models", model="small", alias_of="gpt-5-nano")
    put(dynamodb, "models", model="gpt-5-nano", enabled=False, replaced_by="gpt-5-mini")
    assert chain(router.decide(request())) == ["gpt-5-mini"]
    # Alias, its target and the target's replacement were each unknown before the one before was read.
    assert dynamodb.taken() == {"query": 1, "batch_get_item": 3}
    clock.now += 5
    assert chain(router.decide(request())) == ["gpt-5-mini"]
    assert dynamodb.taken() == {"query": 1, "batch_get_item": 1}
    assert chain(router.decide(request(workflow="another"))) == ["gpt-5-mini"]
    assert dynamodb.taken() == {"query": 1}


def test_a_bundled_alias_and_its_model_are_read_at_once(dynamodb, router):
    put(dynamodb, "models", model=SMALL, enabled=False, replaced_by="gpt-5-mini")
    put(dynamodb, "routes", workflow="w", step="writer", model="openai:gpt-5-nano")
    put(dynamodb, "models", model="gpt-5-nano", context_window=7)
    assert router.decide(request()).chain[0].context_window == 7
    assert router.decide(request("other")).chain[0].id == "gpt-5-mini"


def test_more_than_a_hundred_models_are_all_read(dynamodb, router, monkeypatch):
    names = [f"openai:m{i}" for i in range(150)]
    for start in range(0, 150, 15):
        put(
            dynamodb,
            "routes",
            workflow="w",
            step=f"s{start}",
            model=names[start],
            fallbacks=names[start + 1 : start + 15],
        )
    put(dynamodb, "models", model="openai:m149", enabled=False)
    assert len(router.decide(request("s0")).chain) == 15
    assert dynamodb.taken() == {"query": 1, "batch_get_item": 1}
    assert len(router.decide(request("s135")).chain) == 14
    monkeypatch.setattr(routing_table, "BATCH", 4)
    assert len(Router(CONFIG, dynamodb, Clock()).decide(request("s135")).chain) == 14


def test_unprocessed_keys_are_asked_for_again(dynamodb, clock):
    class Busy:
        def __init__(self, refusals):
            self.refusals = refusals

        def __getattr__(self, name):
            return getattr(dynamodb, name)

        def batch_get_item(self, RequestItems):  # noqa: N803 - botocore's name
            if self.refusals:
                self.refusals -= 1
                return {"Responses": {}, "UnprocessedKeys": RequestItems}
            return dynamodb.batch_get_item(RequestItems=RequestItems)

    put(dynamodb, "models", model="gpt-5", context_window=7)
    assert Router(CONFIG, Busy(4), clock).model("gpt-5").context_window == 7
    with pytest.raises(AwsUnavailable, match="unprocessed 5 times"):
        Router(CONFIG, Busy(5), clock).model("gpt-5")


def test_a_long_prompt_is_decided_for_itself(dynamodb, router):
    put(dynamodb, "routes", workflow="w", step="writer", model="gpt-4o", fallbacks=["gpt-4.1"])
    assert chain(router.decide(request(prompt_tokens=500_000))) == ["gpt-4.1"]
    short = router.decide(request(prompt_tokens=10))
    assert chain(short) == ["gpt-4o", "gpt-4.1"]
    assert router.decide(request(prompt_tokens=128_000)) is short
    assert chain(router.decide(request(prompt_tokens=128_001))) == ["gpt-4.1"]


def test_each_input_of_a_decision_counts(router):
    models = {"*": "gpt-5"}
    assert router.decide(request(run_models=models)).source == "run"
    assert router.decide(request()).source == "deployment"
    assert chain(router.decide(request(model="gpt-5-mini"))) == ["gpt-5-mini"]
    assert router.decide(request(max_tokens=5)).max_tokens == 5
    assert router.decide(request(max_tokens=6)).max_tokens == 6
    models["*"] = "gpt-5-nano"
    assert chain(router.decide(request(run_models=models))) == ["gpt-5-nano"]


def test_what_is_kept_is_bounded(dynamodb, router, monkeypatch):
    monkeypatch.setattr(routing_table, "MAX_WORKFLOWS", 10)
    monkeypatch.setattr(routing_table, "MAX_MODELS", 20)
    monkeypatch.setattr(routing_router, "MAX_DECISIONS", 5)
    for number in range(50):
        router.decide(request(f"step{number}", workflow=f"w{number % 25}", model=f"openai:m{number}"))
        router.decide(request(f"step{number}", workflow="w", model="gpt-5", max_tokens=number + 1))
        router.decide(request("writer", workflow="w", model="gpt-5", max_tokens=number + 1))
    assert len(router._routes._workflows) == 10
    assert len(router._models._items) <= 20
    kept = router._routes._workflows["w"].decisions
    assert len(kept) <= 5
    assert max(len(decisions) for decisions in kept.values()) <= 4


def test_without_tables_the_bundled_catalog_decides(clock):
    router = Router(Settings(default_model="balanced"), dynamodb=object(), clock=clock)
    assert chain(router.decide(request())) == [bundled().aliases()["balanced"]]
    assert router.model("small").id == SMALL


def test_nothing_left_raises_and_is_not_kept(dynamodb, router, clock):
    put(dynamodb, "models", model=SMALL, enabled=False)
    with pytest.raises(NoModelLeft, match=r"deployment \(.*\): disabled"):
        router.decide(request())
    dynamodb.delete_item(TableName="models", Key={"model": {"S": SMALL}})
    clock.now += 5
    assert chain(router.decide(request())) == [SMALL]


def test_a_model_by_id_has_its_table_entry(dynamodb, router):
    put(dynamodb, "models", model="gpt-5", context_window=7)
    assert router.model("openai:gpt-5").context_window == 7
    assert router.catalog_for("w").resolve("gpt-5").context_window == 7
    with pytest.raises(ModelUnknown):
        router.model("nosuch")


def test_a_recorded_decision_is_kept_until_a_model_of_it_is_disabled_or_gone(dynamodb, router, clock):
    put(dynamodb, "models", model="house", provider="openai", provider_model="llama")
    put(dynamodb, "routes", workflow="w", step="writer", model="house", fallbacks=["small", "gpt-5"])
    decided = router.decide(request())
    record = dynamo.from_item(dynamo.to_item(decided.to_record()))
    put(dynamodb, "routes", workflow="w", step="writer", model="gpt-5")
    clock.now += 5
    dynamodb.taken()
    assert router.restore(record) == decided
    assert dynamodb.taken() == {"batch_get_item": 1}
    put(dynamodb, "models", model="gpt-5", enabled=False)
    clock.now += 5
    assert router.restore(record) is None
    dynamodb.delete_item(TableName="models", Key={"model": {"S": "gpt-5"}})
    dynamodb.delete_item(TableName="models", Key={"model": {"S": "house"}})
    clock.now += 5
    assert router.restore(record) is None


def test_explain_tells_what_each_step_uses(dynamodb, router):
    put(dynamodb, "routes", workflow="w", step="writer", model="gpt-5", fallbacks=["small"], version=3)
    put(dynamodb, "routes", workflow="w", step="editor", model="nosuch")
    put(dynamodb, "models", model="mute", provider="openai", capabilities=["images"])
    crew: list[Any] = [
        {"name": "planner", "role": "Planner", "model": "claude-opus-5"},
        {"name": "writer", "role": "Writer"},
        {"name": "editor", "role": "Editor", "tools": ["now"], "model": "mute"},
    ]
    planner, writer, editor = router.explain("w", {"model": "gpt-5-mini", "crew": crew})
    assert (planner["step"], planner["model"], planner["source"]) == ("planner", "claude-opus-5", "agent")
    assert (writer["model"], writer["source"], writer["route_version"], writer["fallbacks"]) == (
        "gpt-5",
        "step",
        3,
        [SMALL],
    )
    assert (editor["model"], editor["source"]) == ("gpt-5-mini", "default")
    assert [entry["layer"] for entry in editor["ignored"]] == ["step", "agent"]
    put(dynamodb, "models", model=SMALL, enabled=False)
    (told,) = Router(CONFIG, dynamodb, Clock()).explain("other", {"crew": crew[1:2]})
    assert told["model"] is None
    assert "disabled" in told["error"]


scalars = st.one_of(
    st.none(), st.booleans(), st.integers(-5, 10**12), st.decimals(-9, 9, places=3), st.text(max_size=6),
    st.binary(min_size=1, max_size=3),
    st.sampled_from(["gpt-5", "loop", "fixed", "run", "weighted", "cheapest", "fastest"]),
)  # fmt: skip
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["model", "weight"]), inner),
    max_leaves=5,
)
names = [
    "model",
    "policy",
    "candidates",
    "fallbacks",
    "max_cost",
    "max_latency",
    "max_tokens",
    "temperature",
    "pin",
    "expires_at",
    "version",
]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60, deadline=None)
@given(row=st.dictionaries(st.sampled_from(names), values), entry=st.dictionaries(st.sampled_from(
    ["alias_of", "enabled", "replaced_by", "prices", "context_window"]), values))  # fmt: skip
def test_no_row_that_dynamodb_holds_breaks_a_decision(dynamodb, row, entry):
    for step in ("writer", "*"):
        put(dynamodb, "routes", workflow="w", step=step, **row)
    for model in ("gpt-5", "loop"):
        put(dynamodb, "models", model=model, **entry)
    router = Router(CONFIG, dynamodb, Clock())
    decided = router.decide(request())
    assert decided.chain
    if row.get("model") is not None and decided.source == "deployment":
        assert decided.ignored


# Writing


def set_(store, values, step="writer", **options):
    return store.set("w", step, values, **({"updated_by": "ann", "reason": "cheaper"} | options))


def test_set_stores_a_row_that_acts(dynamodb, store, router, clock):
    row = set_(store, {"model": "gpt-5", "fallbacks": ["small"], "temperature": 0.3})
    assert store.rows("w") == [row]
    assert (row["version"], row["updated_by"], row["reason"]) == (1, "ann", "cheaper")
    assert row["updated_at"] == "2027-01-15T08:00:00.000Z"
    decided = router.decide(request())
    assert (decided.source, decided.route_version, decided.temperature) == ("step", 1, Decimal("0.3"))
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
