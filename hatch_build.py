"""Puts the project that the local stack runs and that `sam` deploys into the wheel (not into editable installs, which
find it in the checkout: `loopllama_cli.project`)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

FILES = ("template.yaml", "functions", "state_machines", "shared", "examples")


class ProjectFiles(BuildHookInterface[Any]):
    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        if version == "editable":
            return
        missing = [name for name in FILES if not Path(self.root, name).exists()]
        if missing:
            raise FileNotFoundError(f"The wheel needs {', '.join(missing)}")
        build_data["force_include"].update({name: f"loopllama_cli/_project/{name}" for name in FILES})
