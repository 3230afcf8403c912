"""Where the project's files are: template.yaml, functions/, state_machines/, shared/, examples/."""

from __future__ import annotations

from pathlib import Path

PACKAGE = Path(__file__).resolve().parent


def project_root() -> Path:
    """Return the checkout that this package is installed from, else the copy of the project that the wheel carries.

    Raises `FileNotFoundError` where neither is there."""
    for root in (PACKAGE.parents[1], PACKAGE / "_project"):
        if (root / "template.yaml").is_file() and (root / "functions").is_dir():
            return root
    raise FileNotFoundError(
        f"The project's files (template.yaml, functions/) are neither in {PACKAGE.parents[1]} nor in {PACKAGE}. "
        "Install loopllama again."
    )
