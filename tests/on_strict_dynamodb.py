"""`make test-strict`: the tests that work on tables, with ministack's DynamoDB in moto's place."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

TESTS = Path(__file__).parent
sys.path[:0] = [str(TESTS)]

from foreign import emulator  # noqa: E402 - found through the line before


def main(python: str, *arguments: str) -> int:
    """Run pytest with these arguments. Returns its exit code."""
    with emulator.running(python, AUTH="false") as foreign:
        command = [sys.executable, "-m", "pytest", "-q", "-p", "foreign.strict_dynamodb"]
        environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join(str(TESTS.parent / folder) for folder in ("tests", "shared", "cli")),
            "LOOPLLAMA_STRICT_DYNAMODB": str(foreign.port),
            "LOOPLLAMA_STRICT_CERTIFICATE": str(foreign.folder / emulator.CERTIFICATE),
        }
        return subprocess.run([*command, *arguments], cwd=TESTS.parent, env=environment, check=False).returncode


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
