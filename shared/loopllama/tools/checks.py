"""What a definition of a workflow says of tools, against the tools that the deployment has: checked when it is
pushed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import TYPE_CHECKING

from loopllama.errors import ToolInvalid, WorkflowInvalid
from loopllama.tools import reading

if TYPE_CHECKING:
    from loopllama.tools.store import ToolStore
    from loopllama.workflows.types import CrewStep

MAX_PROBLEMS = 50
"""So many problems are told at most."""


def check_names(crew: Sequence[CrewStep], tools: ToolStore) -> None:
    """Raise `WorkflowInvalid`, with each place and the closest name, where steps of a definition name tools that the
    deployment does not have. One BatchGetItem; a Scan where something is missing."""
    from loopllama.core.names import closest

    places = list(_places(crew))
    defined = {*tools.named(name for _, name in places), *reading.KNOWN_TO_ALL}
    missing = [(field, name) for field, name in places if name not in defined]
    if not missing:
        return
    known = sorted({*(row["tool"] for row in tools.rows()), *reading.KNOWN_TO_ALL})
    more = "(what there is: `loopllama tools list`; `loopllama tools push FILE.json` defines more)"
    raise WorkflowInvalid.of_all(
        [
            {"field": field, "message": f"this deployment has no tool '{name[:64]}'{closest(name, known)} {more}"}
            for field, name in missing[:MAX_PROBLEMS]
        ]
    )


def invalid(crew: Sequence[CrewStep], tools: ToolStore) -> list[dict[str, object]]:
    """Return the places where steps of a definition name tools whose row is invalid, as `{"field", "message"}`: such
    steps fail."""
    places = list(_places(crew))
    rows = tools.named(name for _, name in places)
    wrong: dict[str, str] = {}
    for name, row in rows.items():
        try:
            reading.read(row)
        except ToolInvalid as error:
            wrong[name] = f"a step that uses it fails: {error}"
    found = ((field, wrong[name]) for field, name in places if name in wrong)
    return [{"field": field, "message": message} for field, message in islice(found, MAX_PROBLEMS)]


def _places(crew: Sequence[CrewStep]) -> Iterator[tuple[str, str]]:
    """Yield the fields of a definition that name tools, each with the name."""
    for position, step in enumerate(crew):
        for place, name in enumerate(step.get("tools") or ()):
            yield f"crew.{position}.tools.{place}", name
