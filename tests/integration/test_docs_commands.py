"""What the pages show is run: every shell block, in order, page by page, in one bash whose `loopllama`, `aws` and
`curl` are the real ones and reach the local stack. `sam` and `make` are asked whether they would know what to do. What
a page says that a block prints, the block prints."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.api_client import Client
from support.shell import Shell

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


@pytest.fixture
def shell(product: object, api: Client, tmp_path: Path) -> Iterator[Shell]:
    """A shell in a folder with the project's examples, as somebody called ada has it who exported nothing but what the
    pages say."""
    stack = product.stack  # type: ignore[attr-defined]
    shutil.copytree(ROOT / "examples", tmp_path / "examples")
    environment = {
        "HOME": str(tmp_path), "LOGNAME": "ada", "COLUMNS": "100", "LANG": "C.UTF-8", "PROJECT": str(ROOT),
        "LOOPLLAMA_LOCAL": stack.aws_endpoint_url, "AWS_ENDPOINT_URL": stack.aws_endpoint_url,
        "AWS_ACCESS_KEY_ID": "local", "AWS_SECRET_ACCESS_KEY": "local", "AWS_DEFAULT_REGION": "us-east-1",
        "API": api.url, "KEY": api.key, "ANTHROPIC_API_KEY": "not-a-key",
    }  # fmt: skip
    with Shell(environment, tmp_path) as shell:
        # The stack reads its routes at each step, so nobody has to wait.
        shell.run('make() { command make -n -C "$PROJECT" "$@"; }; sleep() { command sleep 0.1; }')
        yield shell
    client = product.client("secretsmanager")  # type: ignore[attr-defined]
    for secret in client.list_secrets()["SecretList"]:
        if client.get_secret_value(SecretId=secret["Name"])["SecretString"].find("not-a-key") >= 0:
            client.delete_secret(SecretId=secret["Name"], ForceDeleteWithoutRecovery=True)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_blocks_run_and_print_what_the_page_says(page: Path, shell: Shell, product: object) -> None:
    stack = product.stack  # type: ignore[attr-defined]
    said = ""
    for block in _FENCE.finditer(page.read_text("utf-8")):
        if block["kind"] == "bash":
            commands = block["text"].replace("http://127.0.0.1:4599", stack.aws_endpoint_url)
            commands = commands.replace("http://127.0.0.1:4600", stack.api_url).replace(
                "--stack NAME", "--stack loopllama"
            )
            said = "" if block["why"] else shell.run(commands)
        elif block["kind"] == "text":
            printed = _plain(said)
            for line in block["text"].splitlines():
                assert _plain(line) in printed, f"{line!r} is not in\n{said}"


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
    text = re.sub(r"─+", "─", text)
    return " ".join(text.split())
