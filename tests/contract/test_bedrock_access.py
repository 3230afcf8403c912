"""What a step records where the account lacks access to a model on Bedrock, and what it says to do.

AWS's words are those of the reports that `providers/bedrock_access.py` names.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
from support.dialects import BedrockDialect
from support.wire_server import Reply, WireServer

from loopllama.errors import ModelRequestRejected
from loopllama.llm.types import ModelRequest, Provider
from loopllama.providers.bedrock.access import agreement_command, explain, use_case_command

OPUS = "anthropic.claude-opus-5"
DENIED, INVALID, MISSING = (
    (403, "AccessDeniedException"),
    (400, "ValidationException"),
    (404, "ResourceNotFoundException"),
)
MARKETPLACE = (
    "Model access is denied due to IAM user or service role is not authorized to perform the required AWS Marketplace "
    "actions (aws-marketplace:ViewSubscriptions, aws-marketplace:Subscribe) to enable access to this model. Refer to "
    "the Amazon Bedrock documentation for further details. Your AWS Marketplace subscription for this model cannot be "
    "completed at this time. If you recently fixed this issue, try again after 5 minutes."
)
VIEW = (
    "Model access is denied due to User: arn:aws:sts::1:assumed-role/x/y is not authorized to perform: "
    "aws-marketplace:ViewSubscriptions on resource: * because no identity-based policy allows the "
    "aws-marketplace:ViewSubscriptions action."
)
NO_ACCESS = "You don't have access to the model with the specified model ID."
FORM = (
    "Model use case details have not been submitted for this account. Fill out the Anthropic use case details form "
    "before using the model. If you have already filled out the form, try again in 15 minutes."
)
OTHER_FORM = "You have not filled out the required use-case form for this model."
ON_DEMAND = (
    f"Invocation of model ID {OPUS} with on-demand throughput isn\u2019t supported. Retry your request with the ID or "
    "ARN of an inference profile that contains this model."
)
UNKNOWN = "The provided model identifier is invalid."
LEGACY = (
    "Access denied. This Model is marked by provider as Legacy and you have not been actively using the model in the "
    "last 15 days. Please upgrade to an active model on Amazon Bedrock"
)
ROLE = "User: arn:aws:sts::1:assumed-role/x/y is not authorized to perform: bedrock:InvokeModel on resource: z"
POLICY = f"{ROLE} with an explicit deny in a service control policy"


def denied(region: str, why: str) -> str:
    """AWS's words for a call of Opus that was sent to `region`."""
    return ROLE.replace("resource: z", f"resource: arn:aws:bedrock:{region}::foundation-model/{OPUS} {why}")


SCP = "with an explicit deny in a service control policy: arn:aws:organizations::1:policy/o-1/p-1"
ELSEWHERE = denied("us-east-2", SCP)
ANYWHERE = denied("", SCP)
NOT_ALLOWED = denied("eu-west-3", "because no service control policy allows the bedrock:InvokeModel action")
BOUNDARY = denied("us-east-1", "with an explicit deny in a permissions boundary")
OWN_POLICY = denied("us-east-1", "with an explicit deny in an identity-based policy")
NO_ROLE = denied("us-east-2", "because no identity-based policy allows the bedrock:InvokeModel action")
PROFILE = "aws bedrock get-inference-profile --region us-east-1 --inference-profile-identifier"
AGREE = "aws bedrock create-foundation-model-agreement --region {} --model-id anthropic.claude-opus-5"
SEND = "aws bedrock put-use-case-for-model-access --region us-east-1 --form-data fileb://use-case.json"


@pytest.fixture
def adapter(server: WireServer, monkeypatch: pytest.MonkeyPatch) -> Provider:
    return BedrockDialect().adapter(server.url, monkeypatch)


@pytest.mark.parametrize(
    ("error", "said", "model", "told"),
    [
        (DENIED, MARKETPLACE, f"us.{OPUS}", ["AWS Marketplace", "loopllama doctor", AGREE.format("us-east-1")]),
        (DENIED, MARKETPLACE, f"eu-west-1/eu.{OPUS}", [AGREE.format("eu-west-1")]),
        (DENIED, VIEW, f"us.{OPUS}", ["AWS Marketplace", "aws-marketplace:Subscribe"]),
        (DENIED, NO_ACCESS, f"us.{OPUS}", ["AWS Marketplace", "frontier, balanced, small"]),
        (DENIED, NO_ACCESS, "us.amazon.nova-pro-v1:0", ["loopllama doctor", "GovCloud"]),
        (MISSING, FORM, f"us.{OPUS}", ["use case form", "model access", SEND, "companyName"]),
        (INVALID, OTHER_FORM, f"us.{OPUS}", [SEND]),
        (INVALID, ON_DEMAND, OPUS, ["inference profile", "list-inference-profiles --region us-east-1"]),
        (INVALID, UNKNOWN, f"eu.{OPUS}", ["cannot be used in us-east-1", "frontier, balanced, small"]),
        (MISSING, LEGACY, f"us.{OPUS}", ["name another model"]),
        (INVALID, "Operation not allowed", f"us.{OPUS}", ["AWS Support"]),
        (DENIED, POLICY, "sa-east-1/x", ["a service control policy of", "called in sa-east-1"]),
        (DENIED, ELSEWHERE, f"us.{OPUS}", ["denies bedrock:InvokeModel in us-east-2", f"{PROFILE} us.{OPUS}"]),
        (DENIED, ELSEWHERE, f"us.{OPUS}", ["us-east-1 answers alone: bedrock:amazon.nova-pro-v1:0 or bedrock:"]),
        (DENIED, ELSEWHERE, f"us-west-1/us.{OPUS}", ["list-foundation-models --region us-west-1", "REGION/ID"]),
        (DENIED, ANYWHERE, f"global.{OPUS}", ["in no region that AWS names", "aws:RequestedRegion `unspecified`"]),
        (DENIED, NOT_ALLOWED, f"eu-west-1/eu.{OPUS}", ["a service control policy of the AWS", "eu-west-3"]),
        (DENIED, BOUNDARY, f"us.{OPUS}", ["a permissions boundary denies"]),
        (DENIED, OWN_POLICY, OPUS, ["an identity-based policy denies bedrock:InvokeModel in us-east-1"]),
        (DENIED, NO_ROLE, f"us.{OPUS}", ["function's role needs bedrock:InvokeModel"]),
        (DENIED, ROLE, f"us.{OPUS}", ["function's role needs bedrock:InvokeModel"]),
    ],
)
def test_what_to_do_where_the_account_lacks_access(
    adapter: Provider,
    server: WireServer,
    make_call: Callable[..., ModelRequest],
    error: tuple[int, str],
    said: str,
    model: str,
    told: list[str],
) -> None:
    status, code = error
    server.script(Reply(status, {"message": said}, {"x-amzn-ErrorType": code}))
    with pytest.raises(ModelRequestRejected) as caught:
        adapter.complete(make_call(model=model))
    for words in (*told, f"(HTTP {status}, {code})", said[:60]):
        assert words in str(caught.value)
    if said not in (ROLE, NO_ROLE):
        assert "function's role needs" not in str(caught.value)


def test_a_command_to_type_holds_no_other_command() -> None:
    told = agreement_command("us.anthropic.x$(id);id", "us-east-1", "my profile")
    assert told.count("--region us-east-1 --profile 'my profile' --model-id 'anthropic.x$(id);id'") == 2
    assert "--profile '$HOME'" in use_case_command("us-east-1", "$HOME")


def test_other_refusals_say_what_aws_says(
    adapter: Provider, server: WireServer, make_call: Callable[..., ModelRequest]
) -> None:
    said = "Malformed input request: temperature is out of range"
    server.script(Reply(400, {"message": said}, {"x-amzn-ErrorType": "ValidationException"}))
    with pytest.raises(ModelRequestRejected) as caught:
        adapter.complete(make_call())
    assert str(caught.value).endswith(f"(HTTP 400, ValidationException): {said}")


@pytest.mark.parametrize(
    ("action", "arn"),
    [
        ("bedrock:InvokeModel", "arn:aws:bedrock:us-east-1:123456789012:provisioned-model/abc123def456"),
        ("bedrock:InvokeModel", "arn:aws:bedrock:us-east-1:123456789012:imported-model/abc123def456"),
        ("bedrock:ApplyGuardrail", "arn:aws:bedrock:us-east-1:210987654321:guardrail/gr1"),
    ],
)
def test_a_model_of_ones_own_names_the_parameter_that_permits_it(action: str, arn: str) -> None:
    message = (
        f"User: arn:aws:sts::123456789012:assumed-role/x/y is not authorized to perform: {action} on resource: {arn} "
        f"because no identity-based policy allows the {action} action"
    )
    said = explain("AccessDeniedException", message, "us.amazon.nova-pro-v1:0", "us-east-1")
    assert said is not None
    assert "BedrockArns" in said
