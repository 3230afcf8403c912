"""docs/deploy.md says what template.yaml says."""

from __future__ import annotations

import re

from template.project import ROOT, template


def test_parameters_and_defaults_are_documented() -> None:
    text = (ROOT / "docs/deploy.md").read_text()
    table = text.split("## Parameters")[1].split("\n## ")[0]
    documented = dict(re.findall(r"^\| `(\w+)` \| (?:`(.*?)`)? *\|", table, re.MULTILINE))
    assert documented == {name: str(one["Default"]) for name, one in template()["Parameters"].items()}
