"""What an API key needs for each route: one of four scopes, and that the workflow is one of its own.

| scope | what it opens |
|---|---|
| `read` | workflows, routes, models, tools, runs with all that was written in them, events, usage |
| `run` | start, answer, cancel, redrive and replay runs |
| `tune` | routes and catalog entries: which models are used |
| `admin` | definitions of workflows, and all that the others open |

Keys without `scopes`, as all were made before there were any, have all four. `NEEDS` names every route of the API: a
route that it lacks is refused, and a test compares it with the router.
"""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Final, Literal, NamedTuple, get_args

if TYPE_CHECKING:
    from loopllama.api.auth import Caller

Scope = Literal["read", "run", "tune", "admin"]
SCOPES: Final[tuple[Scope, ...]] = get_args(Scope)
About = Literal["workflow", "run", "list", "nothing", "everything"]
"""What of a request says which workflows it is about: the path's workflow or run, a list whose rows are looked through
(`only_workflow`), nothing because no workflow's data is in the answer, or nothing because every workflow is meant."""


class Need(NamedTuple):
    """What a route needs; `scope` `None`: any key, or none at all where the address is open."""

    scope: Scope | None
    about: About


NEEDS: Final[dict[tuple[str, str], Need]] = {
    ("GET", "/"): Need(None, "nothing"),
    ("GET", "/healthz"): Need(None, "nothing"),
    ("GET", "/openapi.json"): Need(None, "nothing"),
    ("GET", "/docs"): Need(None, "nothing"),
    ("GET", "/v1/workflows"): Need("read", "list"),
    ("POST", "/v1/workflows"): Need("admin", "everything"),
    ("GET", "/v1/workflows/<workflow_id>"): Need("read", "workflow"),
    ("PUT", "/v1/workflows/<workflow_id>"): Need("admin", "workflow"),
    ("PATCH", "/v1/workflows/<workflow_id>"): Need("admin", "workflow"),
    ("DELETE", "/v1/workflows/<workflow_id>"): Need("admin", "workflow"),
    ("POST", "/v1/workflows/<workflow_id>/rollback"): Need("admin", "workflow"),
    ("GET", "/v1/workflows/<workflow_id>/advice"): Need("read", "workflow"),
    ("GET", "/v1/workflows/<workflow_id>/runs"): Need("read", "workflow"),
    ("POST", "/v1/workflows/<workflow_id>/runs"): Need("run", "workflow"),
    ("GET", "/v1/runs"): Need("read", "list"),
    ("GET", "/v1/runs/<run_id>"): Need("read", "run"),
    ("GET", "/v1/runs/<run_id>/events"): Need("read", "run"),
    ("POST", "/v1/runs/<run_id>/cancel"): Need("run", "run"),
    ("POST", "/v1/runs/<run_id>/respond"): Need("run", "run"),
    ("POST", "/v1/runs/<run_id>/redrive"): Need("run", "run"),
    ("POST", "/v1/runs/<run_id>/replay"): Need("run", "run"),
    ("GET", "/v1/workflows/<workflow_id>/routes"): Need("read", "workflow"),
    ("GET", "/v1/workflows/<workflow_id>/routes/<step>"): Need("read", "workflow"),
    ("PUT", "/v1/workflows/<workflow_id>/routes/<step>"): Need("tune", "workflow"),
    ("DELETE", "/v1/workflows/<workflow_id>/routes/<step>"): Need("tune", "workflow"),
    ("GET", "/v1/workflows/<workflow_id>/routes/<step>/history"): Need("read", "workflow"),
    ("POST", "/v1/workflows/<workflow_id>/routes/<step>/rollback"): Need("tune", "workflow"),
    ("GET", "/v1/models"): Need("read", "nothing"),
    ("GET", "/v1/models/<model_id>"): Need("read", "nothing"),
    ("PUT", "/v1/models/<model_id>"): Need("tune", "everything"),
    ("DELETE", "/v1/models/<model_id>"): Need("tune", "everything"),
    ("GET", "/v1/tools"): Need("read", "nothing"),
    ("GET", "/v1/tools/<name>"): Need("read", "nothing"),
    ("GET", "/v1/usage"): Need("read", "list"),
}
"""By method and path, as the router has them."""


class Forbidden(Exception):
    """The key does not open what was asked for; the message says what it lacks, and the command that makes one."""


def check_scope(caller: Caller, method: str, path: str, need: Need) -> None:
    """Raise `Forbidden` unless the key has the scope that the route needs."""
    if need.scope is not None and not {need.scope, "admin"} & caller.scopes:
        raise Forbidden(
            f"This API key lacks the scope '{need.scope}', which {method} {path.translate(_BRACES)} needs; make one "
            f"that has it: {_command(caller, need.scope)}"
        )
    if need.about == "everything" and caller.workflows is not None:
        raise Forbidden(
            f"{_limited(caller)}, and {method} {path.translate(_BRACES)} is about all of them; make a key without that "
            f"limit: {_command(caller, need.scope, everywhere=True)}"
        )


def check_workflow(caller: Caller, workflow_id: str) -> None:
    """Raise `Forbidden` for a workflow that the key does not reach, whether there is one or not."""
    if caller.workflows is not None and workflow_id not in caller.workflows:
        raise Forbidden(
            f"{_limited(caller)}; make one that reaches this one too: {_command(caller, workflow=workflow_id)}"
        )


def only_workflow(caller: Caller, asked: str | None) -> str | None:
    """Return the workflow that a list is about, `None` for all: the one that was asked for, or the only one that the
    key reaches. Raises `Forbidden` where that is another one, or one of several has to be named."""
    if caller.workflows is None:
        return asked
    if asked is not None:
        check_workflow(caller, asked)
        return asked
    if len(caller.workflows) == 1:
        return next(iter(caller.workflows))
    raise Forbidden(f"{_limited(caller)}: name one of them, as in ?workflow={min(caller.workflows, default='ID')}")


_BRACES = str.maketrans("<>", "{}")
_LISTED = 10


def _limited(caller: Caller) -> str:
    workflows = sorted(caller.workflows or ())
    more = f" and {len(workflows) - _LISTED} more" if len(workflows) > _LISTED else ""
    return f"This API key is limited to the workflows {', '.join(workflows[:_LISTED]) or '(none)'}{more}"


def _command(caller: Caller, scope: str | None = None, workflow: str | None = None, *, everywhere: bool = False) -> str:
    """Return the command that makes a key like this one which reaches more."""
    words = ["loopllama keys create NAME"]
    if scope is not None or len(caller.scopes) < len(SCOPES):
        words += [f"--scope {name}" for name in SCOPES if name in caller.scopes or name == scope]
    if caller.workflows is not None and not everywhere:
        ids = sorted({*caller.workflows, *([workflow] if workflow else [])})
        words += [f"--workflow {shlex.quote(name[:128])}" for name in ids]
    return " ".join(words)
