"""`loopllama tools`: what it writes, what it prints, how it ends."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from support.command_line import SETTINGS, answer, invoke
from support.tool_rows import by_hand

from loopllama.aws import clients, dynamo
from loopllama.core import exact_json
from loopllama.routing.change_log import History, entry_of
from loopllama.tools.store import ToolStore

LOOKUP = {"type": "lambda", "function": "shop-lookup", "description": "Looks an order up."}
PAGES = {"type": "http_get", "hosts": ["example.com"]}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    made = tmp_path / "tools.json"
    made.write_text(json.dumps({"lookup": LOOKUP, "pages": PAGES}))
    return made


def test_a_file_is_pushed_listed_and_shown(file: Path) -> None:
    done = invoke("tools", "push", file, "--reason", "new")
    assert done.stdout.splitlines() == ["lookup version 1: created", "pages version 1: created"]
    assert "acts within 5 s" in done.stderr
    file.write_text(json.dumps({"lookup": {**LOOKUP, "description": "Finds it."}}))
    assert answer("tools", "push", file) == [{"tool": "lookup", "change": "changed", "version": 2}]
    done = invoke("tools", "push", file)
    assert (done.stdout, done.stderr) == ("lookup version 2: unchanged\n", "")

    listed = answer("tools", "list")
    assert [tool["name"] for tool in listed] == ["ask_human", "calculator", "lookup", "now", "pages"]
    text = invoke("tools", "list").stdout
    assert "Finds it." in text
    assert "http_get" in text

    shown = answer("tools", "show", "pages")
    assert (shown["name"], shown["definition"], shown["version"], shown["reason"]) == ("pages", PAGES, 1, "new")
    # What is shown is a file that can be pushed.
    done = invoke("tools", "show", "lookup")
    file.write_text(done.stdout)
    assert answer("tools", "push", file)[0]["change"] == "unchanged"
    assert "version 2" in done.stderr


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{", "tools.json: "),
        ("[]", "tools.json must hold a JSON object of name to definition"),
        ('{"lookup": {"type": "lambda"}}', "tools.json: lookup.function is missing"),
        ('{"lookup": {"type": "http_get", "hosts": ["example.com"], "timeout_seconds": 1e400}}', "$.lookup.timeout_se"),
        (
            '{"fine": {"type": "http_get", "hosts": ["a.example"]}, "lookup": {"type": "lambda", "function": "f", '
            '"description": "d", "parameters": {"type": "object", "properties": {"a": {"type": "nonsense"}}}}}',
            "tools.json: lookup.parameters: no valid JSON Schema",
        ),
    ],
)
def test_an_invalid_file_writes_nothing(file: Path, text: str, says: str) -> None:
    file.write_text(text)
    done = invoke("tools", "push", file, code=2)
    assert says in " ".join(done.stderr.split())
    assert ToolStore(SETTINGS).rows() == []


def test_a_row_that_was_spoilt_by_hand_is_listed_and_shown_with_what_is_wrong(file: Path) -> None:
    put(by_hand("lookup", '{"type": '))
    put({"tool": "odd", "definition": {"type": "lambda"}})
    assert "lookup is no valid JSON" in " ".join(invoke("tools", "list").stdout.split())
    shown = answer("tools", "show", "lookup")
    assert (shown["definition"], shown["version"]) == ('{"type": ', None)
    assert shown["problem"].startswith("lookup is no valid JSON")
    done = invoke("tools", "show", "lookup")
    assert done.stdout == '{"type": \n'
    assert "! lookup is no valid JSON" in " ".join(done.stderr.split())
    assert answer("tools", "show", "odd")["definition"] == {"type": "lambda"}
    assert answer("tools", "push", file)[0] == {"tool": "lookup", "change": "changed", "version": 1}


def test_deleting_a_tool_says_which_steps_will_fail(file: Path, tmp_path: Path) -> None:
    invoke("tools", "push", file)
    crew = tmp_path / "crew.yaml"
    crew.write_text(
        "name: Desk\ncrew:\n  - {role: A, name: first, systemPrompt: x, tools: [lookup, now]}\n"
        "  - {role: B, name: second, systemPrompt: x}\n"
    )
    invoke("workflows", "push", crew)
    done = invoke("tools", "delete", "lookup", code=2)
    assert "desk/first uses it, and will fail" in done.stderr
    assert "add --yes" in done.stderr
    assert [row["tool"] for row in ToolStore(SETTINGS).rows()] == ["lookup", "pages"]
    assert answer("tools", "delete", "lookup", "--yes") == {
        "name": "lookup",
        "deleted": True,
        "used_by": ["desk/first"],
    }
    assert invoke("tools", "delete", "pages", "--yes").stdout == "pages: deleted\n"
    assert ToolStore(SETTINGS).rows() == []


def test_a_tool_that_is_not_there() -> None:
    for words in (("show", "lookup"), ("delete", "lookup", "--yes"), ("history", "lookup"), ("show", "now")):
        done = invoke("tools", *words, code=3)
        assert "not found; what there is: loopllama tools list" in " ".join(done.stderr.split())


def test_its_history(file: Path) -> None:
    definitions = [exact_json.dumps(LOOKUP), exact_json.dumps({**LOOKUP, "description": "Finds it."})]
    keys = dynamo.to_item({"tool": "lookup"})
    for number, (before, after) in enumerate([(None, definitions[0]), (definitions[0], definitions[1])], start=1):
        images: dict[str, Any] = {"NewImage": row(after, number)}
        if before:
            images["OldImage"] = row(before, number - 1)
        entry = entry_of({"dynamodb": {"Keys": keys, "SequenceNumber": str(number), **images}})
        assert entry is not None
        History(SETTINGS).put(entry)
    newest, first = answer("tools", "history", "lookup")
    assert (newest["tool"], newest["version"], newest["updated_by"]) == ("lookup", 2, "ann")
    assert first["before"] is None
    assert [one["field"] for one in newest["differences"]] == ["definition"]
    assert "Finds it." in " ".join(invoke("tools", "history", "lookup").stdout.split())


def row(definition: str, version: int) -> dict[str, Any]:
    stamp = {"version": version, "updated_by": "ann", "reason": "better"}
    return dynamo.to_item({"tool": "lookup", "definition": definition, **stamp})


def put(row: Any) -> None:
    clients.client("dynamodb").put_item(TableName="Tools", Item=dynamo.to_item(row))


def test_a_copy_of_a_stack_has_its_tools(file: Path, tmp_path: Path) -> None:
    invoke("tools", "push", file)
    put(by_hand("spoilt", "{"))
    folder = tmp_path / "copy"
    invoke("workflows", "export", "--all", folder)
    kept = json.loads((folder / "tools.json").read_text())
    assert kept == {"lookup": LOOKUP, "pages": PAGES, "spoilt": "{"}
    for name in kept:
        clients.client("dynamodb").delete_item(TableName="Tools", Key=dynamo.to_item({"tool": name}))
    done = invoke("workflows", "push", folder, "--json", code=1)
    told = {one["id"]: one for one in exact_json.loads(done.stdout)}
    assert {name: told[name]["version"] for name in kept} == {"lookup": 1, "pages": 1, "spoilt": None}
    assert told["spoilt"]["error"].startswith("spoilt must be an object")
    assert told["spoilt"]["kind"] == "tool"
    (folder / "tools.json").unlink()  # a copy of an earlier version
    assert answer("workflows", "push", folder) == []
