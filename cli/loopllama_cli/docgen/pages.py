"""`make docs`: the parts of docs/ that follow from the code, written anew where they stand.

A page says where a part goes, between two comments, and everything else on it is written by hand:

    <!-- make docs: errors -->
    …
    <!-- end -->
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from loopllama_cli.docgen import commands, errors, infrastructure, metrics, policies, schemas, takes
from loopllama_cli.project import project_root

_PART = re.compile(r"(?<=<!-- make docs: )([a-z-]+)( -->\n).*?(?=<!-- end -->)", re.DOTALL)
_MAKERS: Mapping[str, Callable[[], str]] = {
    "options": commands.options,
    "exit-codes": commands.exit_codes,
    "commands": commands.sections,
    "routes": schemas.routes,
    "workflow-fields": schemas.workflow_fields,
    "events": schemas.events,
    "errors": errors.table,
    "metrics": metrics.table,
    "policies": policies.table,
    "refusals": takes.rules,
    "schema-subsets": takes.schemas,
    "parameters": infrastructure.parameters,
    "outputs": infrastructure.outputs,
    "tables": infrastructure.tables,
    "alarms": infrastructure.alarms,
    "queues": infrastructure.queues,
}


def stale(root: Path) -> dict[Path, str]:
    """Return the pages of `root`'s docs/ that are not what the code says, with the text that they should have.

    Raises `ValueError` where a page asks for a part that nothing makes, and where no page asks for a part that is
    made."""
    changed: dict[Path, str] = {}
    asked: set[str] = set()
    for page in sorted((root / "docs").glob("*.md")):
        text = page.read_text("utf-8")
        names = [match[1] for match in _PART.finditer(text)]
        if unknown := set(names) - set(_MAKERS):
            raise ValueError(f"{page.name} asks for {', '.join(sorted(unknown))}; there are {', '.join(_MAKERS)}")
        asked.update(names)
        fresh = _PART.sub(lambda match: f"{match[1]}{match[2]}{_MAKERS[match[1]]()}\n", text)
        if fresh != text:
            changed[page] = fresh
    if missing := set(_MAKERS) - asked:
        raise ValueError(f"no page has a place for {', '.join(sorted(missing))}: restore it from git, then `make docs`")
    return changed


def main(arguments: list[str] | None = None) -> int:
    """Run the program; return the exit code."""
    parser = argparse.ArgumentParser(prog="make docs", description="Write what docs/ takes from the code.")
    parser.add_argument("--check", action="store_true", help="only say which pages are stale")
    options = parser.parse_args(arguments)
    pages = stale(project_root())
    for page, text in pages.items():
        if options.check:
            sys.stderr.write(f"docs/{page.name} is not what the code says: run `make docs`\n")
        else:
            page.write_text(text, "utf-8")
            sys.stderr.write(f"docs/{page.name} is written anew\n")
    return int(options.check and bool(pages))
