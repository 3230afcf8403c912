"""`make test-aws STACK=…`: deploys to the account that the environment names, runs the end-to-end tests on what was
deployed, and removes everything that came of it, also where something failed on the way.

The stack's name must be new: what this removes is what it made.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

TESTS = Path(__file__).parent
sys.path[:0] = [str(TESTS)]

from support.system import DEPLOYED_PARAMETERS, ROOT, TOOLS  # noqa: E402 - found through the line before

from loopllama.aws import clients  # noqa: E402
from loopllama_cli import removal  # noqa: E402
from loopllama_cli.doctor import account  # noqa: E402
from loopllama_cli.target import Choice  # noqa: E402

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9-]{0,39}")


def main(stack: str, **by_name: str) -> int:
    """Deploy, test, remove; the tests have `by_name` in their environment, too. Returns the exit code: that of the
    tests, 1 where the deployment failed or something could not be removed, 2 before anything was done."""
    refused = _refused(stack)
    if refused:
        _say(f"make test-aws: {refused}; nothing was done")
        return 2
    code = 1
    try:
        if deploy(stack) == 0:
            code = run_tests(stack, **by_name)
    finally:
        _say(f"Removing {stack}")
        left = [*removal.remove(removal.find(stack))]
    if left:
        _say("Not removed, do it by hand:", *left)
    return code or bool(left)


def _refused(stack: str) -> str:
    """Why nothing may be begun; empty where all is well."""
    if not _NAME.fullmatch(stack):
        return "say STACK=NAME, the name of a stack that does not exist yet (letters, digits, -; at most 40)"
    checks = [*account(Choice())]
    problem = next((check for check in checks if check.status == "fail"), None)
    if problem:
        return f"{problem.what}: {problem.found}: {problem.todo}"
    client = clients.client("cloudformation")
    try:
        client.describe_stacks(StackName=stack)
    except client.exceptions.ClientError as error:
        if "does not exist" in str(error):
            _say(f"Deploying {stack} as {checks[0].found} in {checks[-1].found}")
            return ""
        return str(error)
    return f"there is a stack {stack} already, and what is tested is removed afterwards: choose another name"


def deploy(stack: str) -> int:
    """Deploy what the tests need. Returns the exit code."""
    given = [part for name, value in DEPLOYED_PARAMETERS.items() for part in ("--parameter", f"{name}={value}")]
    command = [
        sys.executable,
        "-m",
        "loopllama_cli",
        "deploy",
        "--stack",
        stack,
        "--no-confirm",
        "--tools",
        str(TOOLS),
        *given,
    ]
    # In a folder of its own, where no samconfig.toml says otherwise.
    with tempfile.TemporaryDirectory() as folder:
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT / "shared"), str(ROOT / "cli")])}
        return subprocess.run(command, cwd=folder, env=environment, check=False).returncode


def run_tests(stack: str, *options: str, **by_name: str) -> int:
    """The tests that are marked `aws`, on a deployed stack."""
    command = [sys.executable, "-m", "pytest", "-q", "-n", "0", *(options or [str(TESTS / "integration")])]
    environment = {**os.environ, **by_name, "LOOPLLAMA_TEST_STACK": stack}
    return subprocess.run(command, cwd=ROOT, env=environment, check=False).returncode


def _say(*lines: str) -> None:
    sys.stderr.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1] if len(sys.argv) > 1 else ""))
