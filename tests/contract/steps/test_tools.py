"""Tools within a step: called side by side, repeated under the same key, refused at the start."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytest
from support.deployment import Killed
from support.loopback import Handler, serving
from support.step_dialects import every_dialect
from support.step_here import USAGE, Here, cost_of
from support.wire_server import Reply

from loopllama.runs.step_writer import StepWriter

WAIT_SECONDS = 20.0


# Tools


@dataclass
class ToolServer:
    """An HTTP API on loopback: the tool that calls it, and the idempotency keys that came, by path."""

    definition: dict[str, Any]
    keys: dict[str, list[str]]


@contextmanager
def tool_server(together: int = 1) -> Iterator[ToolServer]:
    """It runs while the context lives. `together` requests must be there at once before any is answered."""
    barrier, lock = threading.Barrier(together), threading.Lock()
    keys: dict[str, list[str]] = {}

    class Orders(Handler):
        def serve(self) -> None:
            with lock:
                keys.setdefault(self.path, []).append(self.headers["idempotency-key"])
            status, body = 200, f'{{"of": "{self.path}"}}'
            try:
                barrier.wait(WAIT_SECONDS)
            except threading.BrokenBarrierError:
                status, body = 504, "nobody else came"
            if "broken" in self.path:
                status, body = 500, "the warehouse is on fire"
            self.answer(status, body)

    with serving(Orders) as url:
        definition = {
            "type": "http",
            "url": f"{url}/orders/{{order_id}}",
            "description": "Finds an order.",
            "parameters": {
                "type": "object",
                "properties": {"order_id": {"type": "string"}},
                "required": ["order_id"],
            },
            "allow_private": True,
        }
        yield ToolServer(definition, keys)


@every_dialect
def test_the_tool_calls_of_one_answer_run_side_by_side(here: Here) -> None:
    with tool_server(together=3) as api:
        here.live.define_tools(order=api.definition)
        orders = ("a", "broken", "c")
        calls = [(f"call_{one}", "order", {"order_id": one}) for one in orders]
        here.first.script(
            Reply(200, here.dialect.answer("", calls, "tools")), Reply(200, here.dialect.answer("All found."))
        )
        run_id, work = here.start(tools=["order", "now"])
        # None is answered before all three are there.
        assert here.live.step(work)["outcome"] == "done"
    step = here.read(run_id)
    assert step["output"] == "All found."
    assert [(one["outcome"], one["arguments"]["order_id"]) for one in step["tool_calls"]] == [
        ("ok", "a"),
        ("failed", "broken"),
        ("ok", "c"),
    ]
    # Its failure is text that the model can act on, in the order in which it asked.
    results = [content for role, _, content in here.dialect.seen(here.first.requests[1]).messages if role == "tool"]
    assert [identifier for identifier, _ in results] == ["call_a", "call_broken", "call_c"]
    assert results[0][1] == '{"of": "/orders/a"}'
    assert "500" in results[1][1]
    assert "the warehouse is on fire" in results[1][1]
    # Each call has a key of its own.
    keys = [key for found in api.keys.values() for key in found]
    assert len(keys) == len(set(keys)) == 3
    assert set(here.dialect.seen(here.first.requests[0]).tools) == {"order", "now"}


def test_a_tool_call_is_repeated_under_the_same_key_when_its_process_died(
    here: Here, monkeypatch: pytest.MonkeyPatch
) -> None:
    with tool_server() as api:
        here.live.define_tools(order=api.definition)
        calls = [("call_1", "order", {"order_id": "a"}), ("call_2", "order", {"order_id": "b"})]
        here.first.script(
            Reply(200, here.dialect.answer("", calls, "tools")), Reply(200, here.dialect.answer("Found."))
        )
        run_id, work = here.start(tools=["order"])
        settle = StepWriter.settle

        def die_before_the_second_tool(self: StepWriter, key: str, entry: Any) -> None:
            if key == "tool_0000_01":
                raise Killed
            settle(self, key, entry)

        with monkeypatch.context() as patch:
            patch.setattr(StepWriter, "settle", die_before_the_second_tool)
            with pytest.raises(Killed):
                here.live.step(work, "first")
        here.live.wait(60)
        assert here.live.step(work, "second")["outcome"] == "done"
    # The call that was settled is not made again; the open one is, and its API can tell.
    assert len(api.keys["/orders/a"]) == 1
    [first, second] = api.keys["/orders/b"]
    assert first == second != api.keys["/orders/a"][0]
    assert first == f"{run_id}/STEP#reply#0#0/tool_0000_01"
    assert len(here.first.requests) == 2
    step = here.read(run_id)
    assert [one["outcome"] for one in step["tool_calls"]] == ["ok", "ok"]
    assert step["cost_usd"] == 2 * cost_of(*USAGE)
