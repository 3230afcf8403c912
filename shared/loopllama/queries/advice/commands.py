"""The commands that advice names, as somebody can type them; `--stack` or `--local` is added by who prints them."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import Any

from loopllama.core import tags


def command(*words: str) -> str:
    """Return a command of this program, quoted for a shell."""
    return shlex.join(["loopllama", *words])


def whatif(workflow_id: str, models: Mapping[str, str]) -> str:
    """Return the command that prices recorded runs under these models."""
    sets = [word for step, model in models.items() for word in ("--set", tags.text_of(step, model))]
    return command("whatif", workflow_id, *sets)


def replay(run_id: str | None, step: str, model: str) -> str | None:
    """Return the command that tries a model on a recorded run: it makes calls, and costs what they cost."""
    if run_id is None:
        return None
    return command("runs", "replay", run_id, "--from-step", step, "--model", tags.text_of(step, model))


def routes_set(workflow_id: str, step: str, row: Mapping[str, Any] | None, **changes: Any) -> str:
    """Return the command that writes a step's override with `changes`. It replaces the row as a whole, so what the row
    says now is written again, but for what chooses the model where `changes` names one."""
    values = {**(row or {}), **changes}
    if "model" in changes:
        values = {name: value for name, value in values.items() if name not in _CHOOSING}
    words = ["routes", "set", workflow_id, step]
    if values.get("model") is not None:
        words.append(str(values["model"]))
    for name, option in _OPTIONS.items():
        if values.get(name) is not None:
            words += [option, str(values[name])]
    for candidate in values.get("candidates") or ():
        named = candidate if isinstance(candidate, Mapping) else {"model": candidate}
        weight = named.get("weight")
        words += ["--candidate", f"{named['model']}{'' if weight is None else f'={weight}'}"]
    for fallback in values.get("fallbacks") or ():
        words += ["--fallback", str(fallback)]
    if values.get("pin") == "run":
        words.append("--pin")
    return command(*words)


_CHOOSING = ("policy", "candidates", "max_cost", "max_latency")
_OPTIONS = {
    "policy": "--policy",
    "max_tokens": "--max-tokens",
    "temperature": "--temperature",
    "max_cost": "--max-cost",
    "max_latency": "--max-latency",
    "expires_in": "--expires-in",
}
