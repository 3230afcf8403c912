"""`loopllama doctor` against the product, and against set-ups that are broken on purpose."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from support.doctor import PARTS, USABLE, checks, denied, run

from loopllama.aws import clients, dynamo
from loopllama.catalog.catalog import bundled


def test_a_good_local_stack(product: Any, api: Any) -> None:
    found = checks("--local", product.stack.aws_endpoint_url, code=0)
    assert {check["status"] for check in found.values()} == {"ok"}
    assert {"python", "stack", *PARTS, "bucket", "state machine", "event bus", "api", "api keys"} <= found.keys()
    assert "no AWS account" in found["provider bedrock"]["found"]
    assert "credentials" not in found


def test_a_deployed_stack_whose_models_are_called(stack: Callable[..., str]) -> None:
    found = checks("--stack", stack("*"), "--call", code=0)
    assert found["credentials"]["found"].startswith("arn:aws:sts::123456789012:")
    assert found["region"]["found"] == "us-east-1"
    small = bundled().resolve("small").id
    assert found[f"call {small}"]["status"] == "ok"
    assert found[f"call {small}"]["found"].endswith("tokens, simulated")
    assert found["provider bedrock"]["status"] == "warn"


def test_a_person_reads_a_line_each_and_what_to_do(stack: Callable[..., str]) -> None:
    done = run("--stack", stack("*", RunsTableName="gone"))
    assert done.exit_code == 1
    lines = done.stdout.splitlines()
    assert all(line.startswith(("ok   ", "warn ", "fail ", "     → ")) for line in lines)
    (at,) = (number for number, line in enumerate(lines) if line.startswith("fail table runs: "))
    assert lines[at + 1] == "     → deploy the stack again, or restore it from a backup"
    assert not any("provider" in line for line in lines)


def test_no_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    found = checks("--stack", "crews", code=1)
    assert found["credentials"]["status"] == "fail"
    assert "Unable to locate credentials" in found["credentials"]["found"]
    assert "aws configure" in found["credentials"]["todo"]
    assert "stack" not in found


def test_a_profile_that_is_not_there() -> None:
    assert "nowhere" in checks("--stack", "crews", "--profile", "nowhere", code=1)["credentials"]["found"]


def test_credentials_that_have_expired(answering: Any) -> None:
    error = "<ErrorResponse><Error><Code>ExpiredToken</Code><Message>It is expired</Message></Error></ErrorResponse>"
    answering("STS", lambda _: (403, error))
    assert "aws sso login" in checks("--stack", "crews", code=1)["credentials"]["todo"]


@pytest.mark.parametrize(("limit", "status"), [(10, "warn"), (99, "warn"), (100, "ok"), (1000, "ok")])
def test_how_many_functions_the_account_may_run_at_once(
    stack: Callable[..., str], answering: Any, limit: int, status: str
) -> None:
    asked = answering("LAMBDA", lambda _: (200, {"AccountLimit": {"ConcurrentExecutions": limit}}))
    found = checks("--stack", stack("*"), code=0)["functions at once"]
    assert asked == ["/2016-08-19/account-settings"] or asked == ["/2016-08-19/account-settings/"]
    assert (found["status"], found["found"]) == (status, str(limit))
    assert ("--quota-code L-B99A9384 --desired-value 1000" in found["todo"]) == (status == "warn")


def test_who_may_not_look_at_the_limit_of_functions_is_told(stack: Callable[..., str], answering: Any) -> None:
    answering("LAMBDA", denied("lambda:GetAccountSettings"))
    found = checks("--stack", stack("*"), code=0)["functions at once"]
    assert (found["status"], found["todo"]) == ("warn", "allow lambda:GetAccountSettings for who you are")


def test_no_region_and_the_wrong_one(product: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    found = checks("--stack", "loopllama", "--region", "eu-west-3", code=1)
    assert "There is no stack loopllama in region eu-west-3 of account" in found["stack"]["found"]
    assert "--region" in found["stack"]["todo"]
    for name in ("AWS_DEFAULT_REGION", "AWS_REGION"):
        monkeypatch.delenv(name, raising=False)
    assert "AWS_DEFAULT_REGION" in checks("--stack", "loopllama", code=1)["region"]["todo"]


def test_a_local_stack_that_does_not_run() -> None:
    found = checks("--local", "http://127.0.0.1:9", code=1)
    assert found["stack"]["todo"] == "start one: loopllama local"


def test_no_stack_named_is_a_warning() -> None:
    assert checks(code=0)["stack"]["status"] == "warn"
    assert run("--stack", "x", "--local").exit_code == 2


def test_tables_that_may_not_be_read(stack: Callable[..., str], answering: Any) -> None:
    answering("DYNAMODB", denied("dynamodb:Scan"))
    found = checks("--stack", stack("*"), code=1)
    assert {found[part]["status"] for part in PARTS} == {"fail"}
    assert found[PARTS[0]]["todo"] == "allow dynamodb:Scan for who you are"
    assert found["bucket"]["status"] == "ok"
    assert "api keys" not in found


def test_a_provider_without_a_key_and_one_with(stack: Callable[..., str], product: Any) -> None:
    name = stack("bedrock", ProviderSecretsPrefix="doctor/providers/", DefaultModelIsHere="x")
    product.client("secretsmanager").create_secret(Name="doctor/providers/anthropic", SecretString="{}")
    routes = product.client("dynamodb")
    rows = [
        ("claude-sonnet-4-5", "a"),
        ("mistral-large-2512", "b"),
        ("no-such-model", "c"),
        ("retired", "d"),
        ("ollama:m", "e"),
    ]
    retired = {"model": "retired", "alias_of": "claude-opus-4-5", "enabled": False, "replaced_by": "gemini-2.5-pro"}
    product.client("dynamodb").put_item(TableName=product.outputs["ModelsTableName"], Item=dynamo.to_item(retired))
    keys = [{"workflow": {"S": "doctor"}, "step": {"S": step}} for _, step in rows]
    try:
        for (model, _), key in zip(rows, keys, strict=True):
            row = {**key, "model": {"S": model}, "candidates": {"N": "7"}}
            routes.put_item(TableName=product.outputs["RoutesTableName"], Item=row)
        found = checks("--stack", name, code=1)
    finally:
        for key in keys:
            routes.delete_item(TableName=product.outputs["RoutesTableName"], Key=key)
        routes.delete_item(TableName=product.outputs["ModelsTableName"], Key={"model": {"S": "retired"}})
    assert found["provider anthropic"]["status"] == "ok"
    assert found["provider mistral"]["todo"] == f"loopllama --stack {name} providers set mistral"
    assert found["provider ollama"]["todo"] == f"loopllama --stack {name} providers set ollama --base-url URL"
    assert found["provider ollama"]["found"] == "has no address: there is no secret doctor/providers/ollama"
    assert found["model retired"]["found"] == "disabled, gemini-2.5-pro answers; used by the route doctor/d"
    assert found["provider google"]["todo"] == f"loopllama --stack {name} providers set google"
    assert "the route doctor/c" in found["model no-such-model"]["found"]


def test_what_bedrock_says_of_access(stack: Callable[..., str], answering: Any) -> None:
    name, model = stack("anthropic,openai,mistral,google,deepseek"), bundled().resolve("small")
    base = model.provider_model.partition(".")[2]
    told = dict(USABLE)
    asked = answering("BEDROCK", lambda path: (200, told if "availability" in path else {}))
    found = checks("--stack", name, code=0)
    assert found[f"model {model.id}"]["status"] == "ok"
    assert f"/inference-profiles/{model.provider_model}" in asked
    assert f"/foundation-model-availability/{base}" in asked
    # Amazon's models are not sold through AWS Marketplace: there is no agreement to make.
    told |= {"agreementAvailability": {"status": "NOT_AVAILABLE"}, "regionAvailability": "NOT_AVAILABLE"}
    assert checks("--stack", name, code=0)[f"model {model.id}"]["status"] == "ok"
    told |= {"authorizationStatus": "NOT_AUTHORIZED"}
    found = checks("--stack", name, code=1)
    assert found[f"model {model.id}"]["found"] == "the account is not authorised"
    assert "AWS Support" in found[f"model {model.id}"]["todo"]


@pytest.fixture
def claude(product: Any) -> Iterator[str]:
    """A model of a third party that is in use, by a route."""
    client, table = product.client("dynamodb"), product.outputs["RoutesTableName"]
    key = {"workflow": {"S": "doctor"}, "step": {"S": "claude"}}
    client.put_item(TableName=table, Item={**key, "model": {"S": "bedrock:us.anthropic.claude-opus-5"}})
    yield "model bedrock:us.anthropic.claude-opus-5"
    client.delete_item(TableName=table, Key=key)


AGREE = (
    "aws bedrock create-foundation-model-agreement --region us-east-1 --model-id anthropic.claude-opus-5 --offer-token "
    '"$(aws bedrock list-foundation-model-agreement-offers --region us-east-1 --model-id anthropic.claude-opus-5'
    " --query 'offers[0].offerToken' --output text)\""
)


def test_the_commands_that_get_access_to_a_model_of_the_marketplace(
    stack: Callable[..., str], answering: Any, claude: str
) -> None:
    form: dict[str, Any] = {"__type": "ResourceNotFoundException", "message": "none"}
    told = {**USABLE, "authorizationStatus": "NOT_AUTHORIZED", "agreementAvailability": {"status": "NOT_AVAILABLE"}}

    def answers(path: str) -> tuple[int, Any]:
        if "use-case" in path:
            return (404 if "__type" in form else 200), form
        return 200, told if "availability/anthropic" in path else USABLE

    asked = answering("BEDROCK", answers)
    name = stack("anthropic,openai,mistral,google,deepseek")
    found = checks("--stack", name, code=1)[claude]
    assert found["status"] == "fail"
    assert "use case form has not been sent; its agreement in AWS Marketplace is not made" in found["found"]
    sent, agreed, other = found["todo"].splitlines()
    assert sent.startswith(
        "aws bedrock put-use-case-for-model-access --region us-east-1 --form-data fileb://use-case.json"
    )
    assert '"intendedUsers"' in sent
    assert agreed.startswith(AGREE)
    assert "frontier, balanced, small" in other
    done = run("--stack", name).stdout.splitlines()
    (at,) = (number for number, line in enumerate(done) if line.startswith(f"fail {claude}"))
    assert [line.removeprefix("     → ") for line in done[at + 1 : at + 4]] == found["todo"].splitlines()
    # What was done is asked for no more, and nothing is done here.
    del form["__type"]
    assert checks("--stack", name, code=1)[claude]["todo"].startswith(AGREE)
    told["agreementAvailability"] = {"status": "PENDING"}
    assert "15 minutes" in checks("--stack", name, code=1)[claude]["todo"]
    told |= USABLE
    assert checks("--stack", name, code=0)[claude]["status"] == "ok"
    assert not [path for path in asked if "offers" in path or path.startswith("/create")]


def test_a_model_that_is_called_in_another_region(
    stack: Callable[..., str], answering: Any, product: Any, claude: str
) -> None:
    client, table = product.client("dynamodb"), product.outputs["RoutesTableName"]
    model = "bedrock:eu-central-1/eu.amazon.nova-pro-v1:0"
    client.put_item(TableName=table, Item={"workflow": {"S": "doctor"}, "step": {"S": "claude"}, "model": {"S": model}})
    asked = answering("BEDROCK", lambda path: (200, USABLE if "availability" in path else {}))
    found = checks("--stack", stack("anthropic,openai,mistral,google,deepseek"), code=0)
    assert "called in eu-central-1" in found[f"model {model}"]["found"]
    assert "/inference-profiles/eu.amazon.nova-pro-v1:0" in asked
    assert "/foundation-model-availability/amazon.nova-pro-v1:0" in asked
    model = "arn:aws:bedrock:us_east_1:123456789012:application-inference-profile/abc"
    client.put_item(TableName=table, Item={"workflow": {"S": "doctor"}, "step": {"S": "claude"}, "model": {"S": model}})
    found = checks("--stack", stack("anthropic,openai,mistral,google,deepseek"), code=1)
    (wrong,) = (check for what, check in found.items() if what.endswith(model))
    assert (wrong["status"], "'us_east_1'" in wrong["found"]) == ("fail", True)
    assert found[f"model {bundled().resolve('small').id}"]["status"] == "ok"


def test_bedrock_in_a_region_without_the_model_and_where_nobody_may_look(
    stack: Callable[..., str], answering: Any
) -> None:
    name, model = stack(""), f"model {bundled().resolve('small').id}"
    answering("BEDROCK", lambda _: (404, {"__type": "ResourceNotFoundException", "message": "not found"}))
    assert "does not know it in us-east-1" in checks("--stack", name, code=1)[model]["found"]
    answering("BEDROCK", denied("bedrock:GetInferenceProfile"))
    clients.client.cache_clear()
    found = checks("--stack", name, code=0)
    assert found[model]["status"] == "warn"
    assert "--call" in found[model]["todo"]
