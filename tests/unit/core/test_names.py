"""What somebody may have meant: one way of looking, for models, steps, tools and fields."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from loopllama.catalog.catalog import bundled
from loopllama.core.names import closest, near
from loopllama.errors import WorkflowInvalid
from loopllama.workflows.schema import Workflow

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("writr", ["writer"]),
        ("WRITER", ["writer"]),
        ("web search", ["web-search"]),
        ("web_serch", ["web-search"]),
        ("zebra", []),
    ],
)
def test_case_and_hyphens_do_not_count(name: str, found: list[str]) -> None:
    assert near(name, ["writer", "web-search", 4]) == found


def test_what_a_message_says() -> None:
    assert closest("writr", ["reader", "writer"]) == "; did you mean writer?"
    assert closest("zebra", ["reader", "writer"]) == "; there are: reader, writer"
    assert closest("zebra", []) == "; there are: none"


def test_models_and_fields_are_looked_for_in_the_same_way() -> None:
    assert bundled().near("GPT_5")[0] == "gpt-5"
    with pytest.raises(WorkflowInvalid, match=r"crew\.0\.outputschema: is unknown; did you mean outputSchema\?"):
        Workflow.model_validate({"name": "w", "crew": [{"role": "r", "systemPrompt": "s", "outputschema": {}}]})


def test_nobody_else_compares_names() -> None:
    users = [
        path.relative_to(ROOT).as_posix()
        for package in ("shared", "cli", "functions")
        for path in (ROOT / package).rglob("*.py")
        if re.search(r"\bdifflib\b", path.read_text())
    ]
    assert users == ["shared/loopllama/core/names.py"]
