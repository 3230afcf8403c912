"""`pin: run`: chains as they stood when the run started."""

from __future__ import annotations

from decimal import Decimal

from support.routing_tables import attempt_order, put, request

from loopllama.aws import dynamo
from loopllama.catalog.catalog import bundled
from loopllama.routing.pins import pin_routes

SMALL = bundled().aliases()["small"]
CREW = {
    "crew": [
        {"name": "writer", "role": "Writer", "model": "small", "fallbacks": ["gpt-5-mini"]},
        {"name": "editor", "role": "Editor"},
    ]
}


def pins(router, definition=CREW, run_models=None, run_pin=None, run_id="r"):
    made = pin_routes(router, "w", definition, run_models or {}, run_pin=run_pin, run_id=run_id)
    return {step: dynamo.from_item(dynamo.to_item(record)) for step, record in made.items()}


def test_nothing_is_pinned_unless_somebody_says_so(router, dynamodb):
    assert pins(router) == {}
    assert dynamodb.taken() == {"query": 1}


def test_who_may_pin(router, dynamodb, clock):
    assert set(pins(router, run_pin="run")) == {"writer", "editor"}
    assert set(pins(router, CREW | {"pin": "run"})) == {"writer", "editor"}
    put(dynamodb, "routes", workflow="w", step="editor", pin="run")
    clock.now += 5
    assert set(pins(router)) == {"editor"}
    put(dynamodb, "routes", workflow="w", step="*", pin="run", expires_at=int(clock.now) + 6)
    clock.now += 5
    assert set(pins(router)) == {"writer", "editor"}
    clock.now += 5
    assert set(pins(router)) == {"editor"}


def test_a_pinned_run_keeps_models_aliases_and_numbers(router, dynamodb, clock):
    put(dynamodb, "routes", workflow="w", step="editor", model="small", max_tokens=50, version=3)
    kept = pins(router, run_pin="run")
    put(dynamodb, "routes", workflow="w", step="editor", model="gpt-5", max_tokens=60)
    put(dynamodb, "routes", workflow="w", step="writer", model="gpt-5")
    put(dynamodb, "models", model="small", alias_of="gpt-5-nano")
    clock.now += 100
    free = router.decide(request("editor"))
    assert (attempt_order(free), free.max_tokens) == (["gpt-5"], 60)
    for step, expected in (("writer", [SMALL, "gpt-5-mini"]), ("editor", [SMALL])):
        decided = router.decide(request(step, pinned=kept[step]))
        assert attempt_order(decided) == expected
        assert decided.pinned
        assert decided.to_record()["pinned"] is True
    assert (decided.source, decided.route_version, decided.max_tokens) == ("step-override", 3, 50)
    assert router.restore(decided.to_record()) == decided


def test_a_weighted_choice_is_pinned_as_it_fell(router, dynamodb):
    put(dynamodb, "routes", workflow="w", step="editor", policy="weighted", candidates=["gpt-5", "gpt-5-mini"])
    for number in range(10):
        kept = pins(router, run_pin="run", run_id=f"run{number}")["editor"]
        decided = router.decide(request("editor", run_id=f"run{number}", pinned=kept))
        assert attempt_order(decided) == kept["attempt_order"]
        assert decided.policy == "weighted"


def test_the_kill_switch_acts_on_pinned_runs_too(router, dynamodb, clock):
    kept = pins(router, run_pin="run")["writer"]
    put(dynamodb, "models", model=SMALL, enabled=False, replaced_by="gpt-5")
    clock.now += 5
    decided = router.decide(request("writer", pinned=kept))
    assert attempt_order(decided) == ["gpt-5", "gpt-5-mini"]
    assert decided.ignored[0]["reason"] == "disabled; replaced by gpt-5"
    put(dynamodb, "models", model=SMALL, enabled=False)
    put(dynamodb, "models", model="gpt-5-mini", enabled=False)
    clock.now += 5
    decided = router.decide(request("writer", model="gpt-5", pinned=kept))
    assert (attempt_order(decided), decided.source, decided.pinned) == (["gpt-5"], "agent", False)


def test_a_step_without_a_model_is_left_to_its_start(router, dynamodb):
    put(dynamodb, "models", model=SMALL, enabled=False)
    assert pins(router, {"crew": [{"name": "a", "role": "A", "temperature": Decimal(1)}]}, run_pin="run") == {}


def test_pinning_a_crew_reads_its_models_at_once(router, dynamodb):
    crew = [{"name": f"s{n}", "role": "S", "model": f"openai:m{n}"} for n in range(30)]
    assert len(pins(router, {"crew": crew}, run_pin="run")) == 30
    assert dynamodb.taken() == {"query": 1, "batch_get_item": 1}
