"""Steps and the Tools table: who reads it, when a change acts, and what a broken row stops."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from support.deployment import Deployment
from support.tool_rows import by_hand

from loopllama.aws import clients
from loopllama.core import clock
from loopllama.engine.step import StepRunner
from loopllama.llm.types import ModelResponse, ToolCall, Usage

LOOKUP = {"type": "lambda", "function": "shop-lookup", "description": "Looks an order up."}


@pytest.fixture
def reads(live: Deployment) -> Iterator[list[list[str]]]:
    """The tools that each request to the Tools table names."""
    found: list[list[str]] = []

    def note(params: Any, **_: Any) -> None:
        if "ToolsTable" in params.get("RequestItems", {}):
            found.append([key["tool"]["S"] for key in params["RequestItems"]["ToolsTable"]["Keys"]])

    events = clients.client("dynamodb").meta.events
    events.register("provide-client-params.dynamodb", note)
    yield found
    events.unregister("provide-client-params.dynamodb", note)


def crews(live: Deployment, *tools: list[str]) -> list[Any]:
    """Start a run of one step for each list of tools; the works."""
    works = []
    for place, names in enumerate(tools):
        run_id = live.accept(live.push([{"name": "one", "tools": names}], name=f"Crew {place}"))
        works.append(live.map(live.start(run_id))[0])
    return works


def test_only_steps_with_tools_of_the_deployment_read_the_table(live: Deployment, reads: list[Any]) -> None:
    live.define_tools(lookup=LOOKUP, other=LOOKUP)
    without, built_in, human, with_two = crews(
        live, [], ["now", "calculator"], ["ask_human"], ["lookup", "now", "other"]
    )
    reads.clear()
    for work in (without, built_in, human):
        assert live.step(work)["outcome"] == "done"
    assert reads == []
    assert live.step(with_two)["outcome"] == "done"
    assert reads == [["lookup", "other"]]


def test_a_process_reads_a_tool_again_only_when_its_routes_are_too_old(
    live: Deployment, reads: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    live.define_tools(lookup=LOOKUP)
    works = crews(live, *[["lookup"]] * 4)
    live.settings = replace(live.settings, route_cache_seconds=5)
    runner = StepRunner(live.settings)
    moment = clock.now_seconds()
    reads.clear()
    for place, (work, later) in enumerate(zip(works, (0.0, 4.0, 6.0, 7.0), strict=True)):
        monkeypatch.setattr(clock, "now_seconds", lambda later=later: moment + later)
        assert runner.run_step(work, f"invocation-{place}", 60_000)["outcome"] == "done"
    assert reads == [["lookup"]] * 2


def test_a_change_acts_on_the_next_step_of_a_run_that_is_under_way(live: Deployment) -> None:
    """In one process, which is never started anew."""
    live.define_tools(lookup=LOOKUP)
    run_id = live.accept(live.push([{"name": "one", "tools": ["lookup"]}, {"name": "two", "tools": ["lookup"]}]))
    runner = StepRunner(live.settings)
    live.functions["RunStep"] = lambda payload: runner.run_step(payload, "the process", 60_000)

    def script(call: Any) -> str:
        live.define_tools(lookup={**LOOKUP, "description": "Looks it up in the new system."})
        return "found"

    live.provider.script = script
    live.play(run_id)
    assert [call.tools[0].description for call in live.provider.calls] == [
        "Looks an order up.",
        "Looks it up in the new system.",
    ]


BROKEN = {
    "no JSON": (by_hand("spoilt", "{"), "spoilt is no valid JSON"),
    "no definition": (
        by_hand("spoilt", {"type": "http", "url": "ftp://x", "description": "d"}),
        "spoilt.url is no URL",
    ),
    "no text": ({"tool": "spoilt", "definition": {"type": "lambda"}}, "spoilt.definition: must be a text"),
    "nothing": ({"tool": "spoilt"}, "spoilt.definition: must be a text"),
    "no schema": (
        by_hand("spoilt", {**LOOKUP, "parameters": {"type": "object", "properties": {"a": {"type": "nonsense"}}}}),
        "spoilt.parameters: no valid JSON Schema",
    ),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_a_broken_row_fails_the_steps_that_use_it_and_no_others(live: Deployment, kind: str) -> None:
    row, says = BROKEN[kind]
    live.put_tool(row)  # type: ignore[arg-type]
    live.define_tools(lookup=LOOKUP)
    uses = live.accept(live.push([{"name": "one", "tools": ["lookup", "spoilt"]}], name="Uses it"))
    does_not = live.accept(live.push([{"name": "one", "tools": ["lookup", "now"]}], name="Does not"))
    (work,) = live.map(live.start(uses))
    assert live.step(work)["outcome"] == "failed"
    error = live.read(uses)["steps"][0]["error"]
    assert error.startswith(f"ToolInvalid: {says}")
    assert "row 'spoilt' of the Tools table: `loopllama tools show spoilt`" in error
    assert live.provider.calls == []
    live.play(does_not)
    assert live.read(does_not)["status"] == "completed"


def test_a_tool_that_is_gone_fails_the_step_with_the_commands_that_help(live: Deployment) -> None:
    live.define_tools(lookup=LOOKUP)
    (work,) = crews(live, ["lookup", "now"])
    clients.client("dynamodb").delete_item(TableName="ToolsTable", Key={"tool": {"S": "lookup"}})
    assert live.step(work)["outcome"] == "failed"
    error = live.read(work["run_id"])["steps"][0]["error"]
    assert error.startswith("WorkflowInvalid: tools that this deployment does not define: 'lookup'")
    assert "`loopllama tools push FILE.json` defines more" in error


def test_a_turn_keeps_the_tools_that_it_began_with(live: Deployment) -> None:
    live.define_tools(pages={"type": "http_get", "hosts": ["one.example"]})
    (work,) = crews(live, ["pages"])

    def script(call: Any) -> Any:
        if len(live.provider.calls) > 1:
            return "read"
        live.define_tools(pages={"type": "http_get", "hosts": ["two.example"]})
        asked = ToolCall("call_1", "pages", {"url": "https://two.example/"})
        return ModelResponse("", Usage(1, 1), "tool_calls", (asked,))

    live.provider.script = script
    assert live.step(work)["outcome"] == "done"
    (call,) = live.read(work["run_id"])["steps"][0]["tool_calls"]
    assert "it may read https URLs of: one.example" in call["result"]
