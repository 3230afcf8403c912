"""A workflow as a file, and back: the same definition, whatever is in it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st

from loopllama.core import exact_json
from loopllama.errors import WorkflowInvalid
from loopllama.workflows.presenter import view
from loopllama.workflows.schema import Workflow
from loopllama_cli import workflow_files, yaml_text

EXAMPLES = sorted((Path(__file__).parents[3] / "examples").glob("*/workflow.yaml"))
YAML, JSON = Path("x.yaml"), Path("x.json")


def item(workflow: Workflow, **more: Any) -> Any:
    """An item of the Workflows table."""
    return {
        "workflow_id": "an_id",
        "version": 0,
        "current_version": 3,
        "status": "active",
        "name": workflow.name,
        "description": workflow.description,
        "definition": workflow.to_definition(),
        "created_at": "2026-11-28T00:00:00.000Z",
        "updated_at": "2026-11-28T00:00:00.000Z",
        **more,
    }


def assert_same(workflow: Workflow) -> None:
    """What `export` and `show --json` give is read as the same workflow."""
    right = (workflow.name, workflow.description, json.dumps(workflow.to_definition()))
    shown = exact_json.dumps(view(item(workflow), "balanced"))
    for text, path in ((workflow_files.dump(item(workflow)), YAML), (shown, JSON), (shown, YAML)):
        file = workflow_files.parse_file(text, path)
        found = (file.workflow.name, file.workflow.description, json.dumps(file.workflow.to_definition()))
        assert found == right, path
        assert (file.workflow_id, file.paused) == ("an_id", False)


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.parent.name)
def test_every_example_comes_back(path: Path) -> None:
    assert_same(workflow_files.load(path))


TEXTS = st.text(min_size=1, max_size=60).filter(str.strip)
WORDS = st.sampled_from(
    [
        *("no", "1e5", "0x1f", "1:20", "~", "null", "2026-11-28", "<<", "=", "- a", "#x", " lead", "trail ", "a: b"),
        *("1_000", "\n", "\n\n x\n", "tab\tend\n", "x\n\n", "\x85\u2028", "a\r\nb", "\ufeffbom", "\U0001f600\n\u0301"),
        *("%", "---\n...", "'\""),
    ]
)
ANY = st.one_of(TEXTS, WORDS)
VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-(2**53), 2**53), st.floats(-1e9, 1e9, width=32), ANY),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(ANY, inner, max_size=3),
    max_leaves=6,
)


@st.composite
def workflows(draw: Any) -> dict[str, Any]:
    """A workflow with whatever texts and schemas people could have sent over the API."""
    crew = []
    for number in range(draw(st.integers(1, 3))):
        agent: dict[str, Any] = {"name": f"s{number}", "role": "R", "systemPrompt": draw(ANY)}
        if draw(st.booleans()):
            agent["outputSchema"] = {
                "type": "object",
                "properties": {"a": {"enum": draw(st.lists(VALUES, max_size=3))}},
            }
        if draw(st.booleans()):
            agent |= {"candidates": ["small", {"model": "b", "weight": draw(st.floats(0, 1e6))}], "policy": "weighted"}
        if draw(st.booleans()):
            agent |= {"temperature": draw(st.floats(0, 2)), "maxTokens": draw(st.integers(1, 10**6)), "retries": 0}
        if draw(st.booleans()):
            agent |= {"approval": {"start": True, "timeoutSeconds": 90}, "fallbacks": ["frontier"], "needs": []}
        crew.append(agent)
    budget = {"maxCostUsd": draw(st.decimals("0.01", 1000, places=2)), "daily": {"maxSteps": 9}, "allowUnpriced": True}
    more = {"model": "small", "pin": "run", "budget": budget} if draw(st.booleans()) else {}
    return {"name": "N", "description": draw(st.text(max_size=60) | WORDS), "crew": crew, **more}


@settings(max_examples=150, deadline=None)
@given(workflows())
@example({"name": "N", "crew": [{"role": "R", "systemPrompt": "1e5"}]})
def test_every_definition_comes_back(body: dict[str, Any]) -> None:
    try:
        workflow = Workflow.model_validate(body)
    except WorkflowInvalid:
        return  # such as a schema that no provider takes
    assert_same(workflow)


@settings(max_examples=200, deadline=None)
@given(VALUES)
def test_other_programs_read_the_same_texts(value: Any) -> None:
    """YAML 1.1 takes more words for numbers, dates and booleans than we do."""
    text = yaml_text.dump({"value": value})
    assert _texts(yaml.safe_load(text)["value"]) == _texts(value)


def _texts(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _texts(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_texts(inner) for inner in value]
    return value if isinstance(value, str | bool) or value is None else "a number"


def test_a_long_prompt_is_a_block_that_people_can_read() -> None:
    workflow = Workflow.model_validate({"name": "N", "crew": [{"role": "R", "systemPrompt": "One.\nTwo: three.\n"}]})
    assert "  systemPrompt: |\n    One.\n    Two: three.\n" in workflow_files.dump(item(workflow))


def test_the_deployments_model_stays_the_deployments() -> None:
    workflow = Workflow.model_validate({"name": "N", "crew": [{"role": "R", "systemPrompt": "x"}]})
    shown = view(item(workflow), "balanced")
    assert (shown["model"], shown["model_is_default"]) == ("balanced", True)
    assert workflow_files.parse(json.dumps(shown), JSON).model is None
    named = Workflow.model_validate({**workflow.model_dump(), "model": "balanced"})
    assert workflow_files.parse(json.dumps(view(item(named), "balanced")), JSON).model == "balanced"


def test_a_paused_workflow_says_so_and_an_id_is_checked() -> None:
    workflow = Workflow.model_validate({"name": "N", "crew": [{"role": "R", "systemPrompt": "x"}]})
    text = workflow_files.dump(item(workflow, status="paused"))
    assert workflow_files.parse_file(text, YAML).paused
    for wrong, line, field in (
        ("id: An Id", 1, "id"),
        ("id: a\nstatus: stopped", 2, "status"),
        ("version: 2", 1, "version"),
    ):
        with pytest.raises(WorkflowInvalid) as caught:
            workflow_files.parse_file(f"{wrong}\nname: N\n", YAML)
        assert [(one["line"], one["field"]) for one in caught.value.details] == [(line, field)]
