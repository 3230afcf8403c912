"""Commands on workflows: what they write, what they print, how they end."""

import pytest
from support.command_line import CREW, answer, invoke

from loopllama.aws import clients, dynamo
from loopllama.engine import lifecycle

# Workflows


def test_push_makes_a_version_for_each_change(crew):
    assert invoke("workflows", "push", crew).stdout == "support_reply version 1\n"
    assert answer("workflows", "push", crew)["version"] == 1
    crew.write_text(CREW.replace("Sort", "Judge"))
    assert answer("workflows", "push", crew)["version"] == 2
    assert answer("workflows", "push", crew, "--id", "other")["id"] == "other"


def test_workflows_are_listed_and_shown(pushed):
    listed = answer("workflows", "list")
    assert [workflow["id"] for workflow in listed] == ["support_reply"]
    assert listed == [answer("workflows", "show", pushed)]
    assert [agent["name"] for agent in listed[0]["crew"]] == ["triage", "writer"]
    assert all(agent["systemPrompt"] and "system_prompt" not in agent for agent in listed[0]["crew"])
    assert listed[0]["description"] is None
    earlier = answer("workflows", "show", pushed, "--version", 1)
    times = {name: listed[0][name] for name in ("created_at", "updated_at")}  # a version has its own
    assert {**earlier, **times} == {**listed[0], "status": None}
    for text in (invoke("workflows", "list").stdout, invoke("workflows", "show", pushed).stdout):
        assert "support_reply" in text


def test_an_unknown_workflow_is_3():
    for arguments in (
        ("workflows", "show", "x"),
        ("routes", "list", "x"),
        ("run", "x", "--input", "y"),
        ("runs", "list", "x"),
    ):
        assert "x" in invoke(*arguments, code=3).stderr


def test_a_wrong_file_is_2_with_line_and_field(crew):
    crew.write_text(CREW.replace("role: Triage", "rolle: Triage"))
    for command in ("push", "validate"):
        stderr = invoke("workflows", command, crew, code=2).stderr
        assert "line 4" in stderr
        assert "role" in stderr
    told = answer("workflows", "validate", crew, code=2)
    assert told["valid"] is False
    assert {detail["line"] for detail in told["details"]} == {4}
    assert "cannot be read" in invoke("workflows", "validate", crew.parent / "none.yaml", code=2).stderr


def test_a_right_file_is_valid(crew):
    assert "triage, writer" in invoke("workflows", "validate", crew).stdout
    told = answer("workflows", "validate", crew)
    assert told["valid"] is True
    assert all("systemPrompt" in agent for agent in told["definition"]["crew"])


# Operating them


def test_pause_and_resume(pushed):
    assert invoke("workflows", "pause", pushed).stdout == "support_reply: paused\n"
    assert answer("workflows", "show", pushed)["status"] == "paused"
    assert answer("workflows", "resume", pushed)["status"] == "active"
    for command in ("pause", "resume", "delete", "rollback", "export"):
        assert "nobody" in invoke("workflows", command, "nobody", code=3).stderr


def test_delete_asks_and_takes_the_routes_along(pushed, monkeypatch):
    invoke("routes", "set", pushed, "writer", "small")
    assert "add --yes" in invoke("workflows", "delete", pushed, code=2).stderr
    monkeypatch.setattr("loopllama_cli.commands.common.is_a_terminal", lambda: True)
    monkeypatch.setattr("typer.confirm", lambda *_, **__: False)
    invoke("workflows", "delete", pushed, code=1)
    assert answer("workflows", "show", pushed)["id"] == pushed
    monkeypatch.setattr("typer.confirm", lambda *_, **__: True)
    assert invoke("workflows", "delete", pushed).stdout == "support_reply: deleted\n"
    invoke("workflows", "show", pushed, code=3)
    assert clients.client("dynamodb").scan(TableName="Routes")["Items"] == []


def test_delete_is_refused_while_runs_are_active(pushed, monkeypatch):
    monkeypatch.setattr(lifecycle, "active_runs", lambda *_: ["run_1"])
    assert "run_1" in invoke("workflows", "delete", pushed, "--yes", code=4).stderr
    assert answer("workflows", "show", pushed)["status"] == "active"


def test_rollback_makes_a_new_version_of_an_earlier_one(crew, pushed):
    for number in (2, 3):
        crew.write_text(CREW.replace("Sort", f"Sort {number}"))
        invoke("workflows", "push", crew)
    first = answer("workflows", "show", pushed, "--version", 1)["crew"]
    assert invoke("workflows", "rollback", pushed).stdout == "support_reply version 4\n"
    assert answer("workflows", "show", pushed)["crew"][0]["systemPrompt"].startswith("Sort 2")
    back = answer("workflows", "rollback", pushed, "--to", 1)
    assert (back["version"], back["crew"]) == (5, first)
    assert answer("workflows", "rollback", pushed, "--to", 5)["version"] == 5
    assert "has no version 9" in invoke("workflows", "rollback", pushed, "--to", 9, code=3).stderr
    invoke("workflows", "delete", pushed, "--yes")
    crew.write_text(CREW)
    invoke("workflows", "push", crew)
    assert "no version before 6" in invoke("workflows", "rollback", pushed, code=3).stderr


def test_what_was_exported_or_shown_is_pushed_back_unchanged(crew, pushed, tmp_path):
    exported, shown = tmp_path / "e.yaml", tmp_path / "s.json"
    exported.write_text(invoke("workflows", "export", pushed).stdout)
    shown.write_text(invoke("workflows", "show", pushed, "--json").stdout)
    for file in (exported, shown):
        assert answer("workflows", "push", file)["version"] == 1
        assert invoke("workflows", "validate", file).stdout
        assert answer("workflows", "push", file, "--id", "copy")["id"] == "copy"
    assert answer("workflows", "show", "copy")["version"] == 1
    # An id that is not the slug of the name, as after a change of name.
    crew.write_text(CREW.replace("Support reply", "Another"))
    assert answer("workflows", "push", crew, "--id", pushed)["version"] == 2
    exported.write_text(invoke("workflows", "export", pushed, "--version", 1).stdout)
    assert answer("workflows", "push", exported)["version"] == 3
    assert [one["id"] for one in answer("workflows", "list")] == [pushed, "copy"]


def test_a_copy_of_all_is_restored(crew, pushed, tmp_path):
    crew.write_text(CREW.replace("Support reply", "Second").replace("model: frontier\n", ""))
    second = answer("workflows", "push", crew)["id"]
    invoke("workflows", "pause", second)
    invoke("models", "set", "house/tuned", "--provider", "google", "--provider-model", "tuned")
    invoke("models", "alias", "a-first", "house/tuned", "--yes")
    invoke("routes", "set", pushed, "writer", "house/tuned", "--force", "--reason", "cheaper")
    invoke("routes", "set", second, "*", "small")
    folder = tmp_path / "copy"
    files = invoke("workflows", "export", "--all", folder).stdout.split()
    assert [file.removeprefix(f"{folder}/") for file in files] == [
        "models.yaml", "routes/second.yaml", "routes/support_reply.yaml", "tools.json", "workflows/second.yaml",
        "workflows/support_reply.yaml",
    ]  # fmt: skip

    def state():
        return {
            table: [dynamo.from_item(item) for item in clients.client("dynamodb").scan(TableName=table)["Items"]]
            for table in ("Workflows", "Routes", "Models")
        }

    before = state()
    again = answer("workflows", "push", folder)
    assert all(one["error"] is None for one in again)
    assert state() == before  # nothing is written that is there already

    for table, keys in (
        ("Workflows", ("workflow_id", "version")),
        ("Routes", ("workflow", "step")),
        ("Models", ("model",)),
    ):
        for item in clients.client("dynamodb").scan(TableName=table)["Items"]:
            clients.client("dynamodb").delete_item(TableName=table, Key={name: item[name] for name in keys})
    told = answer("workflows", "push", folder)
    assert [(one["kind"], one["id"], one["error"]) for one in told] == [
        ("model", "house/tuned", None), ("model", "a-first", None),
        ("workflow", "second", None), ("workflow", "support_reply", None),
        ("route", "second", None), ("route", "support_reply", None),
    ]  # fmt: skip

    def content(tables):
        own = ("updated_at", "created_at", "updated_by", "reason", "version", "current_version")
        return {
            table: sorted(({k: v for k, v in item.items() if k not in own} for item in items), key=str)
            for table, items in tables.items()
        }

    assert content(state()) == content(before)
    assert answer("workflows", "show", second)["status"] == "paused"
    assert answer("workflows", "show", second)["model_is_default"] is True

    # A later export leaves nothing of what is gone.
    invoke("workflows", "delete", second, "--yes")
    invoke("workflows", "export", "--all", folder)
    assert sorted(path.name for path in folder.rglob("*.yaml")) == [
        "models.yaml",
        "support_reply.yaml",
        "support_reply.yaml",
    ]


def test_what_a_copy_cannot_restore_is_told_and_the_rest_is_there(pushed, tmp_path):
    folder = tmp_path / "copy"
    invoke("workflows", "export", "--all", folder)
    (folder / "models.yaml").write_text("models: {lost: {alias_of: nowhere}}\n")
    (folder / "workflows" / "bad.yaml").write_text("name: Bad\ncrew: [{role: R}]\n")
    (folder / "routes" / "gone.yaml").write_text("workflow: gone\nroutes: {'*': {model: small}}\n")
    result = invoke("workflows", "push", folder, code=1)
    assert "workflow support_reply version 1" in result.stdout
    assert "model lost: alias_of" in result.stdout
    assert "line 2" in result.stdout
    assert "3 of 4 were not stored" in result.stderr
    assert f"workflows push {folder}" in result.stderr


@pytest.mark.parametrize("options", [(), ("w", "--all", "x"), ("--all", "x", "--version", "1")])
def test_an_export_of_nothing_or_of_two_things_is_2(options):
    assert invoke("workflows", "export", *options, code=2).stderr.startswith("error: ")


def test_a_folder_that_is_no_copy_is_left_alone(pushed, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    for arguments in (("export", "--all", tmp_path), ("push", tmp_path), ("push", tmp_path, "--strict")):
        assert invoke("workflows", *arguments, code=2).stderr.startswith("error: ")
    assert [path.name for path in tmp_path.iterdir() if path.name != "crew.yaml"] == ["notes.txt"]


def test_a_push_tells_what_it_replaces_and_which_routes_then_do_nothing(crew, pushed):
    assert "replaces" not in invoke("workflows", "push", crew, "--id", "another").stderr
    assert "nothing was stored" in invoke("workflows", "push", crew).stderr
    invoke("routes", "set", pushed, "writer", "small")
    invoke("routes", "set", pushed, "*", "small")
    text = crew.read_text().replace("Sort the ticket.", "Sort it.").replace("role: Writer", "role: Author")
    crew.write_text(text.replace("model: frontier", "model: small\ndescription: Replies"))
    said = " ".join(invoke("workflows", "push", crew, "--stack", "prod").stderr.split())
    assert (
        "It replaces version 1: description, model; step triage: systemPrompt; step author is new; "
        "step writer is gone. Runs keep theirs. Undo: loopllama --stack prod workflows rollback support_reply --to 1"
    ) in said
    assert "the override of step 'writer' does nothing: the crew has no such step" in said
    assert "remove it: loopllama --stack prod routes unset support_reply writer" in said
    assert "step '*'" not in said
    crew.write_text(crew.read_text().replace("Sort it.", "Sort."))
    told = answer("workflows", "push", crew)
    assert told["replaced"] == {"version": 2, "changes": ["step triage: systemPrompt"]}
    assert [one["field"] for one in told["warnings"]] == ["crew.1.model", "routes.writer"]
    invoke("routes", "unset", pushed, "writer")
    assert answer("workflows", "push", crew)["replaced"] is None
