"""What the pages show is run: every shell block, in order, page by page, in one bash whose `loopllama`, `aws` and
`curl` are the real ones and reach the local stack. `sam` and `make` are asked whether they would know what to do. What
a page says that a block prints, the block prints."""

from __future__ import annotations

import os
import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.account import Account
from support.api_client import FINAL, Client
from support.shell import Programs, Shell

from loopllama_cli.local import credentials

ROOT = Path(__file__).parents[2]
_FENCE = re.compile(
    r"^(<!-- not run here: (?P<why>.+?) -->\n)?```(?P<kind>\w*)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL
)
PAGES = [
    page
    for page in sorted([ROOT / "README.md", *(ROOT / "docs").glob("*.md"), *(ROOT / "examples").rglob("*.md")])
    if "```bash" in page.read_text("utf-8")
]
_PROGRAMS = ("loopllama ", "aws ", "sam ", "make ", "curl ", "export ", "pip ", "pipx ", "git ")


_ELSEWHERE = """
make() { command make -n -C "$PROJECT" "$@"; }
# Version 1 of the AWS CLI has an address of its own for SQS.
aws() { command aws --endpoint-url "$AWS_ENDPOINT_URL" "$@"; }
# The stack reads its routes at each step, so nobody has to wait.
sleep() { command sleep 0.1; }
"""


@pytest.fixture(scope="module")
def programs() -> Iterator[Programs]:
    with Programs() as programs:
        yield programs


@pytest.fixture(scope="module")
def product(tidy_product: Any) -> Any:
    """The product in which there are no other tests' workflows to make copies of."""
    return tidy_product


@pytest.fixture
def shell(programs: Programs, product: Any, api: Client, tmp_path: Path) -> Iterator[Shell]:
    """A shell in a folder with the project's examples, as somebody called ada has it. The stack has no workflows,
    routes, models and secrets but those that were there before."""
    shutil.copytree(ROOT / "examples", tmp_path / "examples")
    python = str(Path(sys.executable).parent)
    environment = {
        "HOME": str(tmp_path), "LOGNAME": "ada", "COLUMNS": "100", "LANG": "C.UTF-8", "PROJECT": str(ROOT),
        "PATH": f"{python}{os.pathsep}{os.environ['PATH']}",
        "LOOPLLAMA_LOCAL": product.stack.aws_endpoint_url, **product.stack.environment(),
        "API": api.url, "KEY": api.key,
        **dict.fromkeys(("ANTHROPIC_API_KEY", "OPENAI_API_KEY", "VLLM_API_KEY"), "no-key"),
    }  # fmt: skip
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOME", str(tmp_path))
        credentials.keep(product.stack.aws_endpoint_url, product.stack.credentials)
    before = _state(product)
    with Shell(programs, environment, tmp_path) as shell:
        shell.run(_ELSEWHERE)
        yield shell
    for workflow in _state(product)["workflows"] - before["workflows"]:
        for run in api.get(f"/v1/workflows/{workflow}/runs"):
            if run["status"] not in FINAL:
                api.raw("POST", f"/v1/runs/{run['id']}/cancel")
        api.raw("DELETE", f"/v1/workflows/{workflow}")
    after = _state(product)
    for workflow, step in after["routes"] - before["routes"]:
        key = {"workflow": {"S": workflow}, "step": {"S": step}}
        product.client("dynamodb").delete_item(TableName=product.outputs["RoutesTableName"], Key=key)
    for model in after["models"] - before["models"]:
        product.client("dynamodb").delete_item(
            TableName=product.outputs["ModelsTableName"], Key={"model": {"S": model}}
        )
    for tool in after["tools"] - before["tools"]:
        product.client("dynamodb").delete_item(TableName=product.outputs["ToolsTableName"], Key={"tool": {"S": tool}})
    for secret in after["secrets"] - before["secrets"]:
        product.client("secretsmanager").delete_secret(SecretId=secret, ForceDeleteWithoutRecovery=True)


def _state(product: Any) -> dict[str, set[Any]]:
    def keys(output: str, *names: str) -> list[tuple[str, ...]]:
        items = product.client("dynamodb").scan(TableName=product.outputs[output])["Items"]
        return [
            tuple(next(iter(item[name].values())) for name in names) for item in items if "deleted" not in str(item)
        ]

    return {
        "workflows": {one for (one,) in keys("WorkflowsTableName", "workflow_id")},
        "routes": set(keys("RoutesTableName", "workflow", "step")),
        "models": {one for (one,) in keys("ModelsTableName", "model")},
        "tools": {one for (one,) in keys("ToolsTableName", "tool")},
        "secrets": {one["Name"] for one in product.client("secretsmanager").list_secrets()["SecretList"]},
    }


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_blocks_run_and_print_what_the_page_says(page: Path, shell: Shell, product: Any) -> None:
    said = ""
    if "local --export" in page.read_text("utf-8"):
        shell.run("unset ${!AWS_@}")
    if page.name == "operations.md":
        shell.run("loopllama workflows push examples/code_review/workflow.yaml")  # something to keep a copy of
    for block in _FENCE.finditer(page.read_text("utf-8")):
        if block["kind"] == "bash":
            commands = block["text"].replace("http://127.0.0.1:4599", product.stack.aws_endpoint_url)
            commands = commands.replace("http://127.0.0.1:4600", product.stack.api_url).replace(
                "--stack NAME", "--stack loopllama"
            )
            said = "" if block["why"] else shell.run(commands)
        elif block["kind"] == "text":
            printed = _plain(said)
            for line in block["text"].splitlines():
                assert _plain(line) in printed, f"{line!r} is not in\n{said}"


def test_the_removal_takes_exactly_one_stack_and_works_again(product: Any, shell: Shell) -> None:
    blocks = [one["text"] for one in _FENCE.finditer((ROOT / "docs/deploy.md").read_text()) if one["kind"] == "bash"]
    removal = next(text for text in blocks if text.startswith("STACK=NAME\n"))
    account = Account("us-east-1", product.client)

    def things() -> set[tuple[str, str]]:
        return {one for one in account.things() if "gone" in one[1].lower()}

    owned: dict[str, set[tuple[str, str]]] = {}
    for stack in ("Gone", "Gone-prod", "Gone2", "gone"):
        before = things()
        account.deploy(stack)
        owned[stack] = things() - before
        assert len(owned[stack]) == 22
    for stack in list(owned):
        shell.run(removal.replace("STACK=NAME", f"STACK={stack}"))
        del owned[stack]
        assert things() == set().union(*owned.values())
        again = shell.run(removal.replace("STACK=NAME", f"STACK={stack}"))
        assert f"There is nothing of a stack {stack} " in again


@pytest.mark.parametrize(
    "page", sorted([ROOT / "README.md", *(ROOT / "docs").glob("*.md")]), ids=lambda page: str(page.relative_to(ROOT))
)
def test_no_command_stands_in_a_block_that_is_not_run(page: Path) -> None:
    for block in _FENCE.finditer(page.read_text("utf-8")):
        if block["kind"] != "bash":
            assert not block["text"].startswith(_PROGRAMS), block["text"]


def _plain(text: str) -> str:
    """What is the same whenever and wherever it runs: no ids, no times, no line breaks."""
    text = re.sub(r"\b(run|ll_live)_[0-9A-Za-z]+", r"\1_", text.replace("…\n", "").replace("…", ""))
    text = re.sub(r"\b\d[\d.,]*m? ?(ms|s)\b|\d{4}-\d\d-\d\d|\d\d:\d\d(:\d\d)?", "T", text)
    text = re.sub(r"\b[0-9a-f]{16}\b", "ID", re.sub(r"─+", "─", text))
    return " ".join(text.split())
