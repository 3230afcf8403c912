"""A copy of one stack's workflows, routes, models and tools, restored in another that is empty: both say the same, and
run."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from typer.testing import CliRunner

from loopllama.aws import dynamo
from loopllama.core import exact_json
from loopllama_cli.local import LocalStack
from loopllama_cli.main import app

ROOT = Path(__file__).parents[2]
EXAMPLES = sorted((ROOT / "examples").glob("*/workflow.yaml"))
OF_A_WRITE = {"created_at", "updated_at", "updated_by", "reason", "version", "current_version"}
"""What says who wrote an item and when, and which of how many times."""

Program = Callable[..., str]


def program(stack: LocalStack) -> Program:
    """The command line for a stack; returns what it prints."""

    def run(*arguments: object, code: int = 0) -> str:
        done = CliRunner().invoke(app, [*map(str, arguments), "--local", stack.aws_endpoint_url])
        assert done.exit_code == code, (done.stdout, done.stderr, done.exception)
        return done.stdout

    return run


@pytest.fixture(scope="module")
def stacks() -> Iterator[tuple[Any, Any]]:
    parameters = {"SimulatedProviders": "*", "SimulatedSpeed": "50", "RouteCacheSeconds": "0"}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_PROFILE", "nowhere")
        before = dict(os.environ)
        with LocalStack(ROOT, parameters) as one, LocalStack(ROOT, parameters) as other:
            yield one, other
        os.environ.clear()
        os.environ.update(before)


def content(stack: LocalStack, current: bool = False) -> dict[str, Any]:
    """What the tables of workflows, routes, models and tools hold; with `current` without earlier versions."""
    client = boto3.client("dynamodb", **_reach(stack))
    found: dict[str, Any] = {}
    for name in ("WorkflowsTableName", "RoutesTableName", "ModelsTableName", "ToolsTableName"):
        items = [dynamo.from_item(item) for item in client.scan(TableName=stack.outputs[name])["Items"]]
        kept = [item for item in items if not current or not item.get("version") or name != "WorkflowsTableName"]
        found[name] = sorted(
            ({key: value for key, value in item.items() if key not in OF_A_WRITE} for item in kept), key=str
        )
    return found


def _reach(stack: LocalStack) -> dict[str, Any]:
    environment = stack.environment()
    return {
        "endpoint_url": stack.aws_endpoint_url,
        "region_name": environment["AWS_DEFAULT_REGION"],
        "aws_access_key_id": environment["AWS_ACCESS_KEY_ID"],
        "aws_secret_access_key": environment["AWS_SECRET_ACCESS_KEY"],
    }


def test_what_one_stack_has_another_gets(stacks: tuple[Any, Any], tmp_path: Path) -> None:
    first, second = map(program, stacks)
    first("tools", "push", ROOT / "examples" / "research_brief" / "tools.json")
    for path in EXAMPLES:
        first("workflows", "push", path)
        first("workflows", "push", path, "--id", f"{path.parent.name}_copy")
    first("workflows", "pause", "code_review_copy")
    first("workflows", "rollback", "code_review", code=3)
    first("models", "set", "house/tuned", "--provider", "openai", "--provider-model", "tuned", "--context-window", 9000)
    first("models", "alias", "cheap", "house/tuned", "--yes")
    first("models", "disable", "gpt-5-mini", "--use", "small", "--reason", "slow", "--yes")
    first("routes", "set", "support_reply", "draft", "cheap", "--force")
    first(
        "routes",
        "set",
        "code_review",
        "*",
        "--policy",
        "weighted",
        "--candidate",
        "small=1",
        "--candidate",
        "balanced=2.5",
    )
    first("routes", "set", "code_review", "*", "small", "--expires-in", "7d", "--max-cost", "0.015", "--pin")

    folder = tmp_path / "backup"
    files = first("workflows", "export", "--all", folder).split()
    assert len(files) == 2 + 2 * len(EXAMPLES) + 2
    empty = content(stacks[1])
    assert not any(empty.values())
    told = exact_json.loads(second("workflows", "push", folder, "--json"))
    assert [one for one in told if one["error"]] == []
    assert content(stacks[1], current=True) == content(stacks[0], current=True)

    # What was restored is exported as the same files, and pushing it again writes nothing.
    again = tmp_path / "again"
    second("workflows", "export", "--all", again)
    assert {path.relative_to(again): path.read_bytes() for path in again.rglob("*.*")} == {
        path.relative_to(folder): path.read_bytes() for path in folder.rglob("*.*")
    }
    before = content(stacks[1])
    second("workflows", "push", folder)
    assert content(stacks[1]) == before

    # And it runs; the paused one does not.
    run = exact_json.loads(
        second("run", "support_reply", "-i", f"@{ROOT}/examples/support_reply/input.txt", "--no-wait", "--json")
    )
    assert run["workflow_version"] == 1
    assert "paused" in _error(stacks[1], "run", "code_review_copy", "-i", "x")


def _error(stack: LocalStack, *arguments: str) -> str:
    done = CliRunner().invoke(app, [*arguments, "--local", stack.aws_endpoint_url])
    assert done.exit_code == 4
    return done.stderr
