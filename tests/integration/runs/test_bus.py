"""What a deployed stack tells by its event bus, and notes of its steps, with the permissions that it has there."""

from __future__ import annotations

import uuid

import pytest
from support.follower import Follower
from support.system import System

from loopllama.aws import dynamo
from loopllama.routing.store import RouteStore

pytestmark = pytest.mark.aws


def test_the_bus_tells_of_runs_and_of_routes(system: System) -> None:
    workflow = system.push("On the bus", [{"name": "only"}])
    with Follower(system) as follower:
        run_id = system.run(workflow)["id"]
        RouteStore(system.settings).set(workflow, "only", {"model": "small"}, updated_by="ann", reason="told")
        system.until(lambda: len(follower.of(run_id)) == 3)
        assert [event["type"] for event in follower.of(run_id)] == ["RunStarted", "StepCompleted", "RunCompleted"]

        def changes() -> list[str]:
            mine = [detail for kind, detail in follower.all() if kind == "RouteChanged"]
            return [detail["step"] for detail in mine if detail["workflow"] == workflow]

        system.until(changes)
        assert changes() == ["only"]


def test_what_is_known_of_a_step_comes_from_its_calls(system: System) -> None:
    # Not what an earlier run of this test on the same stack has left.
    workflow = system.push(f"Observed {uuid.uuid4().hex[:8]}", [{"name": "writer"}])
    system.put(
        "RoutesTableName", {"workflow": workflow, "step": "writer", "policy": "fastest", "candidates": ["small"]}
    )
    assert system.run(workflow)["status"] == "completed"
    key = dynamo.to_item({"model": f"observed#{workflow}#writer"})
    table = system.outputs["ModelsTableName"]
    read = system.client("dynamodb").get_item
    # The step itself writes that it wants them.
    system.until(lambda: "samples" in read(TableName=table, Key=key).get("Item", {}))
