"""What the doctor and `loopllama deploy` say of Bedrock: the region, quotas, policies that deny, better models."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from support.doctor import BALANCED, FRONTIER, OTHERS, PLENTY, SMALL, USABLE, checks, denied, quota
from typer.testing import CliRunner, Result

from loopllama.aws import clients
from loopllama.catalog.catalog import bundled
from loopllama_cli.commands import deploy
from loopllama_cli.doctor import access
from loopllama_cli.main import app

pytestmark = pytest.mark.usefixtures("quotas")
NEVER = "http://127.0.0.1:9"


# The region


def test_a_region_with_bedrock(stack: Callable[..., str], bedrock: Any) -> None:
    bedrock()
    found = checks("--stack", stack(OTHERS), code=0)["bedrock"]
    assert (found["status"], found["found"]) == ("ok", "3 text models in us-east-1")


@pytest.mark.parametrize(
    ("region", "near"), [("ap-east-1", "ap-northeast-1"), ("us-west-9", "us-east-1"), ("af-north-1", "us-east-1")]
)
def test_a_region_without_bedrock_is_told_at_once(monkeypatch: pytest.MonkeyPatch, region: str, near: str) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_BEDROCK", NEVER)
    found = checks("--region", region, code=0)["bedrock"]
    assert (found["status"], found["found"]) == ("warn", f"{region} has no Bedrock")
    other, *aliases, own, _ = found["todo"].splitlines()
    assert f"--parameter DefaultModel=bedrock:{near}/" in other
    for alias, line in zip(("frontier", "balanced", "small"), aliases, strict=True):
        model = line.rpartition(" ")[2]
        assert line.endswith(f"models alias {alias} {model}")
        assert bundled(region).resolve(model).prices
    assert "providers set anthropic" in own


def test_a_region_that_has_bedrock_and_does_not_answer_is_no_region_without(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_BEDROCK", NEVER)
    found = checks("--region", "eu-west-1", code=0)["bedrock"]
    assert found["status"] == "warn"
    assert "has no Bedrock" not in found["found"]


def test_who_may_not_look_at_bedrock_is_warned(answering: Any) -> None:
    answering("BEDROCK", denied("bedrock:ListFoundationModels"))
    found = checks(code=0)["bedrock"]
    assert (found["status"], found["todo"]) == ("warn", "allow bedrock:ListFoundationModels for who you are")
    said = "User: x is not authorized to perform: bedrock:ListFoundationModels with an explicit deny in a service "
    answering(
        "BEDROCK", lambda _: (403, {"__type": "AccessDeniedException", "message": f"{said}control policy: arn:p"})
    )
    found = checks(code=0)["bedrock"]
    assert found["status"] == "warn"
    assert "a service control policy forbids to look" in found["todo"]


# A policy that denies


def test_a_policy_that_denies_a_call_is_told_apart_from_missing_access(
    stack: Callable[..., str], bedrock: Any, answering: Any
) -> None:
    bedrock()
    said = (
        f"User: arn:aws:sts::1:assumed-role/x/y is not authorized to perform: bedrock:InvokeModel on resource: "
        f"arn:aws:bedrock:us-east-2::foundation-model/{SMALL.partition('.')[2]} with an explicit deny in a service "
        "control policy: arn:aws:organizations::1:policy/o-1/service_control_policy/p-1"
    )
    answering("BEDROCK_RUNTIME", lambda _: (403, {"__type": "AccessDeniedException", "message": said}))
    name = stack(OTHERS)
    found = checks("--stack", name, "--call", code=1)
    assert found[f"model bedrock:{SMALL}"]["status"] == "ok"
    call = found[f"call bedrock:{SMALL}"]
    assert "a service control policy of the AWS organization denies bedrock:InvokeModel in us-east-2" in call["found"]
    assert f"get-inference-profile --region us-east-1 --inference-profile-identifier {SMALL}" in call["todo"]
    assert "bedrock:amazon.nova-pro-v1:0" in call["todo"]


# The best models that can be called


CLAUDE = (
    "global.anthropic.claude-opus-5-5",
    "us.anthropic.claude-opus-5-5",
    "us.anthropic.claude-opus-5",
    "us.anthropic.claude-sonnet-5",
    "global.anthropic.claude-haiku-5-5",
)


def test_claude_is_offered_where_it_can_be_called(stack: Callable[..., str], bedrock: Any) -> None:
    lacks = {**USABLE, "agreementAvailability": {"status": "NOT_AVAILABLE"}, "authorizationStatus": "NOT_AUTHORIZED"}
    bedrock({"anthropic.claude-opus-5-5": lacks}, CLAUDE)
    name = stack(OTHERS)
    found = checks("--stack", name, code=0)
    command = f"loopllama --stack {name} models alias"
    # The newest generation before older ones, a geography's profile before the global one.
    frontier = found["alias frontier"]
    offered, agree = frontier["todo"].splitlines()
    assert offered == f"{command} frontier bedrock:us.anthropic.claude-opus-5"
    assert agree.startswith("for bedrock:us.anthropic.claude-opus-5-5: aws bedrock create-foundation-model-agreement")
    assert "its agreement in AWS Marketplace is not made" in frontier["found"]
    assert "a million tokens of prompt" in frontier["found"]
    assert found["alias balanced"]["todo"] == f"{command} balanced bedrock:us.anthropic.claude-sonnet-5"
    assert found["alias small"]["todo"] == f"{command} small bedrock:global.anthropic.claude-haiku-5-5"
    assert {found[f"alias {alias}"]["status"] for alias in ("frontier", "balanced", "small")} == {"ok"}


def test_where_claude_cannot_be_called_the_alias_stays(stack: Callable[..., str], bedrock: Any) -> None:
    bedrock()
    found = checks("--stack", stack(OTHERS), code=0)["alias frontier"]
    assert (found["status"], found["todo"]) == ("ok", "")
    assert found["found"].startswith(f"stands for bedrock:{FRONTIER} ")


def test_an_alias_that_cannot_be_called_is_offered_another_of_amazons(stack: Callable[..., str], bedrock: Any) -> None:
    bedrock({FRONTIER.partition(".")[2]: {**USABLE, "authorizationStatus": "NOT_AUTHORIZED"}})
    name = stack(OTHERS)
    found = checks("--stack", name, code=0)["alias frontier"]
    assert found["status"] == "warn"
    assert "which cannot be called: the account is not authorised" in found["found"]
    assert found["todo"] == f"loopllama --stack {name} models alias frontier bedrock:{BALANCED}"


def test_a_model_with_a_quota_of_nothing_is_not_offered(stack: Callable[..., str], bedrock: Any, quotas: Any) -> None:
    bedrock(None, ("us.anthropic.claude-sonnet-5",))
    quotas(*PLENTY, quota("Cross-region model inference tokens per minute for Anthropic Claude Sonnet 5", 0, "L-9"))
    found = checks("--stack", stack(OTHERS), code=0)["alias balanced"]
    assert found["found"].startswith(f"stands for bedrock:{BALANCED} ")
    assert "bedrock:us.anthropic.claude-sonnet-5 is better, and cannot be called: it has a quota of 0" in found["found"]


def test_who_may_not_look_at_profiles_is_warned(stack: Callable[..., str], answering: Any) -> None:
    answering("BEDROCK", denied("bedrock:ListInferenceProfiles"))
    found = checks("--stack", stack(OTHERS), code=0)["aliases"]
    assert found["status"] == "warn"
    assert "bedrock:ListInferenceProfiles" in found["todo"]


# Deploying


@pytest.fixture
def deployed(
    stack: Callable[..., str], product: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Iterator[Callable[..., tuple[str, Result, list[str]]]]:
    """Deploy a stack that stands already, with a SAM CLI that does nothing; returns its name, what was printed, and
    what SAM was asked."""
    monkeypatch.chdir(tmp_path)
    sam = tmp_path / "bin" / "sam"
    sam.parent.mkdir()
    sam.write_text(f"#!{sys.executable}\nimport sys\nprint(sys.argv[1], file=open('calls', 'a'))\n")
    sam.chmod(0o755)
    monkeypatch.setenv("PATH", str(sam.parent))

    def make(*options: str, answers: str | None = None, stack_there: bool = True) -> tuple[str, Result, list[str]]:
        name = stack(OTHERS) if stack_there else "gone"
        monkeypatch.setattr(deploy, "_is_somebody_there", lambda: answers is not None)
        (tmp_path / "samconfig.toml").write_text(f'[default.global.parameters]\nstack_name = "{name}"\n')
        done = CliRunner().invoke(app, ["deploy", *options], input=answers)
        calls = tmp_path / "calls"
        return name, done, calls.read_text().split() if calls.exists() else []

    yield make
    for alias in ("frontier", "balanced", "small"):
        product.client("dynamodb").delete_item(
            TableName=product.outputs["ModelsTableName"], Key={"model": {"S": alias}}
        )


def aliases(product: Any) -> dict[str, str]:
    """The aliases of the Models table."""
    rows = product.client("dynamodb").scan(TableName=product.outputs["ModelsTableName"])["Items"]
    return {row["model"]["S"]: row["alias_of"]["S"] for row in rows if "alias_of" in row}


def test_tools_are_defined_in_the_stack_that_was_deployed(
    deployed: Any, bedrock: Any, product: Any, tmp_path: Path
) -> None:
    bedrock(None, CLAUDE)
    (tmp_path / "tools.json").write_text('{"doctor_pages": {"type": "http_get", "hosts": ["example.com"]}}')
    table, key = product.outputs["ToolsTableName"], {"tool": {"S": "doctor_pages"}}
    try:
        _, done, asked = deployed("--no-confirm", "--tools", "tools.json")
        assert (done.exit_code, asked) == (0, ["build", "deploy"]), done.output
        item = product.client("dynamodb").get_item(TableName=table, Key=key)["Item"]
        assert item["definition"] == {"S": '{"type":"http_get","hosts":["example.com"]}'}
    finally:
        product.client("dynamodb").delete_item(TableName=table, Key=key)
    _, done, asked = deployed("--no-confirm", "--tools", "tools.json", stack_there=False)
    assert (done.exit_code, "its tools were not written" in done.stderr) == (1, True)


def test_a_person_is_offered_the_best_models_after_deploying(deployed: Any, bedrock: Any, product: Any) -> None:
    bedrock(None, CLAUDE)
    name, done, asked = deployed(answers="y\nn\ny\n")
    assert (done.exit_code, asked) == (0, ["build", "deploy"]), done.output
    assert aliases(product) == {
        "frontier": "bedrock:us.anthropic.claude-opus-5-5",
        "small": "bedrock:global.anthropic.claude-haiku-5-5",
    }
    assert f"back: loopllama --stack {name} models remove frontier" in done.stderr
    # What was chosen is offered no more.
    clients.client.cache_clear()
    found = checks("--stack", name, code=0)["alias frontier"]
    assert (found["todo"], "by the Models table" in found["found"]) == ("", True)


@pytest.mark.parametrize(("options", "answers"), [((), None), (("--no-confirm",), "y\ny\ny\n")])
def test_without_a_person_the_commands_are_printed(
    deployed: Any, bedrock: Any, product: Any, options: tuple[str, ...], answers: str | None
) -> None:
    bedrock(None, CLAUDE)
    name, done, _ = deployed(*options, answers=answers)
    assert done.exit_code == 0
    assert f"loopllama --stack {name} models alias balanced bedrock:us.anthropic.claude-sonnet-5" in done.stderr
    assert aliases(product) == {}


def test_a_deployment_that_succeeded_never_fails_by_a_look(
    deployed: Any, bedrock: Any, answering: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    bedrock(None, CLAUDE)
    _, done, asked = deployed(answers="", stack_there=False)
    assert (done.exit_code, asked) == (0, ["build", "deploy"]), done.output
    assert "Which models can be called was not found" in done.stderr
    _, done, _ = deployed(answers="")  # the terminal ends while it asks
    assert done.exit_code == 0
    answering("BEDROCK", denied("bedrock:ListFoundationModels"))
    _, done, _ = deployed(answers=None)
    assert done.exit_code == 0
    monkeypatch.setattr(access, "profiles", lambda: 1 / 0)
    assert deployed(answers="y\n")[1].exit_code == 0


def test_deploying_into_a_region_without_bedrock_is_asked_about_before_anything_is_built(
    deployed: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_BEDROCK", NEVER)
    _, done, asked = deployed("--region", "ap-east-1", answers="n\n")
    assert (done.exit_code, asked) == (1, [])
    assert "ap-east-1 has no Bedrock" in done.stderr
    assert "deploy --parameter DefaultModel=bedrock:ap-northeast-1/" in done.stderr
    # Other providers' models need none: who says so, or is not there to ask, deploys.
    assert deployed("--region", "ap-east-1", answers="y\n")[2] == ["build", "deploy"]
    _, done, asked = deployed("--region", "ap-east-1", "--no-confirm")
    assert (done.exit_code, asked[-2:]) == (0, ["build", "deploy"])
