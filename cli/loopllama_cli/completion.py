"""What a shell completes beside commands and options: the stack's own workflows, steps, runs, models and tools.

Nothing is printed here and nothing fails: a shell that completes can show neither.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable

import typer

from loopllama.settings import Settings
from loopllama_cli import target

Completion = Callable[[typer.Context, str], list[str]]
NEWEST = 100
"""So many workflows and runs are offered."""


def _of(names: Callable[[typer.Context, Settings], Iterable[str]]) -> Completion:
    """Return a completion by what a stack has; by nothing where it cannot be reached."""

    def completed(ctx: typer.Context, incomplete: str) -> list[str]:
        given = ctx.find_root().params
        choice = target.Choice(**{name: given.get(name) for name in ("stack", "local", "region", "profile")})
        try:
            return [name for name in names(ctx, target.connect(choice).settings) if name.startswith(incomplete)]
        except Exception:
            return []

    return completed


def _workflows(_: typer.Context, settings: Settings) -> list[str]:
    from loopllama.workflows.store import DefinitionStore

    items, _cursor = DefinitionStore(settings).list(limit=NEWEST)
    return [item["workflow_id"] for item in items]


def _runs(_: typer.Context, settings: Settings) -> list[str]:
    from loopllama.queries.runs import RunReader

    runs, _cursor = RunReader(settings).list(limit=NEWEST)
    return ["last", *(str(run["id"]) for run in runs)]


def _steps(ctx: typer.Context, settings: Settings) -> list[str]:
    """Return the steps of the workflow that the line names, or whose run it names."""
    from loopllama.queries.runs import RunReader
    from loopllama.workflows.store import DefinitionStore

    workflow = ctx.params.get("workflow")
    if not workflow:  # after an option without its value yet, no argument has been read
        typed = f"{os.environ.get('_TYPER_COMPLETE_ARGS', '')} {os.environ.get('COMP_WORDS', '')}".split()
        runs = [word for word in typed if word.startswith("run_")]
        named = [RunReader(settings).get(runs[0])["workflow_id"]] if runs else _workflows(ctx, settings)
        workflow = next(name for name in named if runs or name in typed)
    return [agent["name"] for agent in DefinitionStore(settings).get(str(workflow))["definition"]["crew"]]


def _models(_: typer.Context, settings: Settings) -> list[str]:
    from loopllama.catalog.store import CatalogStore

    catalog = CatalogStore(settings).catalog()
    return [*catalog.aliases(), *(model.id for model in catalog.models())]


def _tools(_: typer.Context, settings: Settings) -> list[str]:
    from loopllama.tools.store import ToolStore

    return [row["tool"] for row in ToolStore(settings).rows()]


workflows, runs, models, tools = _of(_workflows), _of(_runs), _of(_models), _of(_tools)
steps = _of(lambda ctx, settings: [*_steps(ctx, settings), "*"])


def providers(ctx: typer.Context, incomplete: str) -> list[str]:  # noqa: ARG001 - Typer's shape
    """Return the providers that are known by name."""
    from loopllama.catalog.providers import KNOWN

    return [name for name in sorted(KNOWN) if name.startswith(incomplete)]


def step_models(ctx: typer.Context, incomplete: str) -> list[str]:
    """Return what `STEP=MODEL` may become: a step's name first, then a model's."""
    step, equals, model = incomplete.partition("=")
    if equals:
        return [f"{step}={name}" for name in models(ctx, model)]
    return [f"{name}=" for name in steps(ctx, step)]
