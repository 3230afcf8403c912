"""docs/deploy.md has the questions that SAM's guide asks of this template, as the installed SAM asks them."""

from __future__ import annotations

import re
from pathlib import Path

from samcli.commands.deploy import guided_context
from samcli.commands.deploy.auth_utils import auth_per_resource
from samcli.lib.providers.sam_stack_provider import SamLocalStackProvider

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/deploy.md").read_text("utf-8")
TABLE = PAGE[PAGE.index("| it asks | answer |") : PAGE.index("A new AWS account runs")]
ELSEWHERE = {"Parameter", "Capabilities", "Do you want to sign your code?", "{resource} has no authentication"}
"""Of parameters, of who says no to roles, and of templates with images or signed code."""
BESIDE = {"SAM configuration file", "SAM configuration environment"}
"""The row of the configuration file speaks of them."""


def test_every_question_of_the_guide() -> None:
    source = Path(guided_context.__file__).read_text("utf-8")
    asked = re.findall(r"\{(?:self\.)?start_bold\}([^{]+)", source)
    questions = {text.strip() for text in asked if "ECR" not in text and "repositor" not in text} - ELSEWHERE - BESIDE
    assert {"Stack Name", "AWS Region", "Disable rollback"} <= questions
    assert not [question for question in questions if f"`{question}`" not in TABLE]


def test_who_has_no_authentication() -> None:
    stacks, _ = SamLocalStackProvider.get_stacks(str(ROOT / "template.yaml"))
    open_ones = [name for name, authorized in auth_per_resource(stacks) if not authorized]
    assert open_ones == ["Api"] * 8 + ["ReadEvents"] * 2
    assert "`Api has no authentication. Is this okay?`, eight times, then twice the same of `ReadEvents`" in TABLE
    assert "`y`, nine times" in TABLE
    assert "the nine without authentication" in PAGE
    assert "`y` the nine times" in (ROOT / "README.md").read_text("utf-8")
