"""What pages show fits what there is: steps of the examples, files that are built, what a shell keeps."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from loopllama import __version__
from loopllama_cli import workflow_files

ROOT = Path(__file__).parents[2]
PAGES = {page.name: page.read_text("utf-8") for page in [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]}
EXAMPLES = {
    path.parent.name: [step["name"] for step in workflow_files.load(path).to_definition()["crew"]]
    for path in sorted(ROOT.glob("examples/*/workflow.yaml"))
}
_ROW = re.compile(r'"workflow": \{"S": "(\w+)"\}, "step": \{"S": "([\w*]+)"\}')
_COMMAND = re.compile(r"\bloopllama .*?(?:routes (?:set|unset|history|diff|rollback)) (\w+) ([\w*']+)")


def test_pages_name_steps_that_the_examples_have() -> None:
    named = [
        (page, workflow, step.strip("'"))
        for page, text in PAGES.items()
        for workflow, step in [*_ROW.findall(text), *_COMMAND.findall(text)]
        if workflow in EXAMPLES
    ]
    assert len(named) > 3
    assert [one for one in named if one[2] not in (*EXAMPLES[one[1]], "*")] == []


@pytest.mark.parametrize("page", [page for page, text in PAGES.items() if 'eval "$(loopllama local --export)"' in text])
def test_who_exports_the_local_stack_is_told_how_to_take_that_back(page: str) -> None:
    after = PAGES[page].split('eval "$(loopllama local --export)"', 1)[1]
    assert re.search(r"unset AWS_ENDPOINT_URL AWS_ACCESS_KEY_ID AWS_SECRET_ACCESS_KEY AWS_REGION", after)


def test_the_wheel_is_called_what_the_page_says() -> None:
    assert set(re.findall(r"loopllama-[\w.-]+\.whl", PAGES["deploy.md"])) == {
        f"loopllama-{__version__}-py3-none-any.whl"
    }


def test_a_choice_that_nobody_made_has_no_default() -> None:
    (line,) = [line for line in PAGES["cli.md"].splitlines() if "`--approve / --reject`" in line]
    assert "Default" not in line
