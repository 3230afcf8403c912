"""The Tools table: what is written, and what is kept of it in a process."""

from __future__ import annotations

from typing import Any

import pytest
from support.deployment import Deployment
from support.tool_rows import by_hand

from loopllama.aws import dynamo, versioned
from loopllama.core import exact_json
from loopllama.errors import InvalidRequest, ToolInvalid, VersionConflict
from loopllama.tools import store as tool_store
from loopllama.tools.reading import read
from loopllama.tools.store import KeptTools, ToolStore

LOOKUP = {"type": "lambda", "function": "shop-lookup", "description": "Looks an order up: größer"}
PAGES = {"type": "http_get", "hosts": ["example.com"]}


@pytest.fixture
def store(live: Deployment) -> ToolStore:
    return ToolStore(live.settings)


def write(store: ToolStore, reason: str = "", **definitions: Any) -> list[tuple[str, str, int]]:
    written = store.write(definitions, updated_by="ann", reason=reason)
    return [(one["tool"], one["change"], one["version"]) for one in written]


def test_what_is_written_is_there_with_who_and_why_and_the_same_again_writes_nothing(store: ToolStore) -> None:
    assert write(store, "new", lookup=LOOKUP, pages=PAGES) == [("lookup", "created", 1), ("pages", "created", 1)]
    first, _ = store.rows()
    assert exact_json.loads(str(first["definition"])) == LOOKUP
    assert (first["tool"], first["version"], first["updated_by"], first["reason"]) == ("lookup", 1, "ann", "new")
    assert write(store, "again", lookup=LOOKUP, pages={**PAGES, "hosts": ["a.example"]}) == [
        ("lookup", "unchanged", 1),
        ("pages", "changed", 2),
    ]
    assert store.rows()[0] == first
    assert read(store.named(["pages"])["pages"]).spec.description.endswith("a.example.")


def test_an_order_of_parameters_and_every_digit_of_a_number_stay(store: ToolStore) -> None:
    parameters = '{"type":"object","properties":{"z":{"minimum":0.12345678901234567890123},"a":{}}}'
    text = f'{{"type":"lambda","function":"f","description":"d","parameters":{parameters}}}'
    write(store, lookup=exact_json.loads(text))
    assert store.rows()[0]["definition"] == text


def test_nothing_is_written_where_one_definition_is_invalid(store: ToolStore) -> None:
    large = {**LOOKUP, "parameters": {"type": "object", "description": "x" * 65_536}}
    for wrong, says in (
        ({"spoilt": {"type": "lambda"}}, "spoilt.function is missing"),
        ({"now": LOOKUP}, "is the name of a built-in tool"),
        ({"a b": LOOKUP}, "the tool name 'a b'"),
        ({"large": large}, "at most 65,536 bytes"),
    ):
        with pytest.raises(ToolInvalid, match=says):
            write(store, lookup=LOOKUP, **wrong)
    with pytest.raises(InvalidRequest, match="reason: must have at most 500 characters"):
        write(store, "x" * 501, lookup=LOOKUP)
    assert store.rows() == []


def test_a_definition_of_just_the_most_is_taken(store: ToolStore) -> None:
    parameters = {"type": "object", "description": ""}
    size = len(exact_json.dumps({**LOOKUP, "parameters": parameters}, ascii_only=False).encode())
    largest = {**LOOKUP, "parameters": {**parameters, "description": "x" * (65_536 - size)}}
    assert write(store, lookup=largest) == [("lookup", "created", 1)]
    assert read(store.rows()[0]).spec.parameters["description"].startswith("x")


def test_a_row_that_was_edited_by_hand_is_written_anew(live: Deployment, store: ToolStore) -> None:
    live.put_tool({**by_hand("lookup", "{"), "version": "x", "note": [1]})  # type: ignore[typeddict-unknown-key]
    with pytest.raises(ToolInvalid):
        read(store.named(["lookup"])["lookup"])
    assert write(store, lookup=LOOKUP) == [("lookup", "changed", 1)]
    assert "note" not in store.rows()[0]
    # One that says the same, but that nobody has checked, is checked from then on.
    live.put_tool(by_hand("lookup", store.rows()[0]["definition"]))
    assert write(store, lookup=LOOKUP) == [("lookup", "changed", 1)]


@pytest.mark.parametrize("act", ["write", "remove"])
def test_of_two_who_write_at_once_one_is_told(live: Deployment, act: str) -> None:
    other = {**LOOKUP, "description": "other"}

    class Slower(ToolStore):
        def named(self, names: Any) -> Any:
            seen = super().named(names)
            ToolStore(live.settings).write({"lookup": other}, updated_by="bob", reason="")
            return seen

    write(ToolStore(live.settings), lookup=LOOKUP)
    slower = Slower(live.settings)
    acts = {
        "write": lambda: write(slower, lookup=PAGES),
        "remove": lambda: slower.remove("lookup", updated_by="ann", reason=""),
    }
    with pytest.raises(VersionConflict, match="somebody changed the tool 'lookup' in between"):
        acts[act]()
    assert exact_json.loads(str(ToolStore(live.settings).rows()[0]["definition"])) == other


def test_who_deleted_a_tool_is_in_the_row_before_it_is_gone(store: ToolStore, monkeypatch: pytest.MonkeyPatch) -> None:
    write(store, lookup=LOOKUP)
    put, rows = versioned.Rows.put, []
    monkeypatch.setattr(versioned.Rows, "put", lambda self, row, *rest: (rows.append(row), put(self, row, *rest)))
    assert store.remove("lookup", updated_by="bob", reason="unused")
    assert store.rows() == []
    ((last),) = rows
    assert {name: last[name] for name in last if name != "updated_at"} == {
        "tool": "lookup",
        "version": 2,
        "updated_by": "bob",
        "reason": "unused",
    }
    assert not store.remove("lookup", updated_by="bob", reason="")


def test_names_that_nobody_can_define_are_not_asked_for(store: ToolStore, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []
    monkeypatch.setattr(dynamo, "batch_get", lambda *_, **__: asked.append(1) or {})
    assert store.named(["now", "calculator", "ask_human", "", "x" * 5000, "a b"]) == {}
    assert asked == []


def test_a_process_keeps_rows_for_a_while_and_asks_for_what_is_not_defined(
    live: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[list[str]] = []
    get = dynamo.batch_get

    def noted(client: Any, table: str, keys: Any, **how: Any) -> Any:
        asked.append([key["tool"] for key in keys])
        return get(client, table, keys, **how)

    monkeypatch.setattr(dynamo, "batch_get", noted)
    live.define_tools(lookup=LOOKUP)
    object.__setattr__(live.settings, "route_cache_seconds", 5.0)
    kept = KeptTools(live.settings)
    assert kept.named(["lookup", "lookup", "now"], 100.0).keys() == {"lookup"}
    assert kept.named(["lookup"], 104.9).keys() == {"lookup"}
    assert asked == [["lookup"]]
    # Within the time a change is not seen; then it is.
    live.define_tools(lookup={**LOOKUP, "description": "new"})
    assert "new" not in str(kept.named(["lookup"], 104.9))
    assert "new" in str(kept.named(["lookup"], 105.0))
    # What is not there is asked for again, so that it counts once it is.
    assert kept.named(["lookup", "pages"], 106.0).keys() == {"lookup"}
    live.define_tools(pages=PAGES)
    assert kept.named(["lookup", "pages"], 106.0).keys() == {"lookup", "pages"}
    assert asked == [["lookup"], ["lookup"], ["pages"], ["pages"]]
    # And what is gone is gone.
    ToolStore(live.settings).remove("pages", updated_by="ann", reason="")
    asked.clear()
    assert kept.named(["pages"], 120.0) == {}
    # It does not grow without end.
    monkeypatch.setattr(tool_store, "MAX_KEPT", 2)
    live.define_tools(one=PAGES, two=PAGES, three=PAGES)
    assert kept.named(["one", "two", "three"], 130.0).keys() == {"one", "two", "three"}
    assert len(kept._rows) == 2
