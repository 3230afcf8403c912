"""Commands on workflows: what they write, what they print, how they end."""

from support.command_line import CREW, answer, invoke

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
