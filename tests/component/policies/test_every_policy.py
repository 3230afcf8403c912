"""What holds for every registered policy, at each place that asks its object."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from support.policies import spelled
from support.routing_tables import CONFIG, Clock, Counting, attempt_order, put, request, tables

from loopllama.aws import dynamo
from loopllama.errors import WorkflowInvalid
from loopllama.policies.registry import POLICIES, Policy
from loopllama.routing.overrides import ChoiceInvalid, parse_choice
from loopllama.routing.router import Router
from loopllama.routing.store import RouteStore
from loopllama.workflows.schema import Workflow

MODELS = ["gpt-5", "gpt-5-mini", "gpt-5-nano"]
EVERY = pytest.mark.parametrize("policy", POLICIES.values(), ids=lambda policy: policy.name)
CHOOSING = pytest.mark.parametrize(
    "policy", [one for one in POLICIES.values() if one.chooses], ids=lambda policy: policy.name
)


@pytest.fixture
def dynamodb(monkeypatch: pytest.MonkeyPatch) -> Iterator[Counting]:
    yield from tables(monkeypatch)


def row(policy: Policy) -> Any:
    """What people write for the policy."""
    models = {"candidates": spelled(policy, *MODELS)} if policy.chooses else {"model": MODELS[0], "fallbacks": MODELS}
    return {"policy": policy.name, **models}


def refused(values: Any) -> str:
    """The attribute that the routes table refuses."""
    with pytest.raises(ChoiceInvalid) as caught:
        parse_choice(values)
    return caught.value.field


def file_of(**agent: Any) -> Workflow:
    """A workflow file of one agent."""
    return Workflow.model_validate({"name": "x", "crew": [{"role": "W", "systemPrompt": "Write.", **agent}]})


@EVERY
def test_routes_and_workflow_files_take_what_it_chooses_among(policy: Policy) -> None:
    (step,) = file_of(**row(policy)).to_definition()["crew"]
    said: tuple[Any, ...] = (row(policy), step)
    for values in said:
        choice = parse_choice(values)
        assert choice is not None
        assert choice.policy is policy
        assert set(choice.names()) == set(MODELS)


@CHOOSING
def test_routes_and_workflow_files_refuse_a_policy_that_has_nothing_to_choose_among(policy: Policy) -> None:
    alone = {"policy": policy.name, "model": "gpt-5"}
    assert refused(alone) == "candidates"
    with pytest.raises(WorkflowInvalid, match=f"policy {policy.name} chooses among them"):
        file_of(**alone)
    with pytest.raises(WorkflowInvalid, match=rf"are for the policies .*\b{policy.name}\b"):
        file_of(candidates=["gpt-5"])


@CHOOSING
def test_only_a_policy_that_takes_weights_is_given_some(policy: Policy) -> None:
    weights = [{"model": model, "weight": place} for place, model in enumerate(MODELS)]
    nothing = [{"model": model, "weight": 0} for model in MODELS]
    if policy.takes_weights:
        assert refused({"policy": policy.name, "candidates": nothing}) == "candidates"
        assert file_of(policy=policy.name, candidates=weights).crew[0].candidates
        for wrong in (nothing, MODELS):
            with pytest.raises(WorkflowInvalid):
                file_of(policy=policy.name, candidates=wrong)
    else:
        with pytest.raises(WorkflowInvalid, match="without weights"):
            file_of(policy=policy.name, candidates=weights)
        assert file_of(policy=policy.name, candidates=MODELS).crew[0].candidates


@EVERY
def test_a_decision_tries_every_model_and_asks_for_the_figures_that_it_needs(
    policy: Policy, dynamodb: Counting
) -> None:
    put(dynamodb, "routes", workflow="w", step="writer", **row(policy))
    router = Router(CONFIG, dynamodb, Clock())
    decided = router.decide(request())
    assert (decided.policy, decided.source, decided.ignored) == (policy.name, "step-override", ())
    assert sorted(attempt_order(decided)) == MODELS
    assert attempt_order(router.decide(request())) == attempt_order(decided)  # a retry
    written = dynamodb.taken().get("update_item", 0)
    item = dynamodb.get_item(TableName="models", Key={"model": {"S": "observed#w#writer"}}).get("Item")
    assert written == bool(item) == bool(policy.needs)
    if item is not None:
        assert dynamo.from_item(item)["latency_of"] == (MODELS if "latency" in policy.needs else [])


@EVERY
def test_a_pinned_run_keeps_its_choice(policy: Policy, dynamodb: Counting) -> None:
    put(dynamodb, "routes", workflow="w", step="writer", **row(policy))
    router = Router(CONFIG, dynamodb, Clock())
    decided = router.decide(request())
    record: Any = dynamo.from_item(dynamo.to_item(decided.to_record()))
    put(dynamodb, "routes", workflow="w", step="writer", model="claude-sonnet-5")
    kept = Router(CONFIG, dynamodb, Clock()).decide(request(pinned=record))
    assert (kept.policy, attempt_order(kept)) == (policy.name, attempt_order(decided))
    restored = router.restore(record)
    assert restored is not None
    assert (restored.policy, restored.attempt_order) == (policy.name, decided.attempt_order)


@CHOOSING
def test_what_a_row_would_change_is_predicted_for_one_model_only(policy: Policy, dynamodb: Counting) -> None:
    assert RouteStore(CONFIG, dynamodb).expected_change("w", "writer", row(policy) | {"model": "gpt-5"}) is None
    assert not dynamodb.taken()
