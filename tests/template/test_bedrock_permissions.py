"""What RunStep may call on Bedrock: what the aliases stand for, the OpenAI-compatible endpoints, guardrails, prompt
routers, and models of one's own that are named."""

from __future__ import annotations

import fnmatch
import re
from typing import Any

import pytest
from template.project import FUNCTIONS, listed, statements, template

from loopllama.aws import clients
from loopllama.catalog.model import at_region, foundation_model
from loopllama.providers.bedrock.openai_endpoints import Role
from loopllama.settings import Settings
from loopllama_cli.catalog.regions import aliases


def test_run_step_may_call_what_the_aliases_stand_for_in_every_region() -> None:
    (call,) = (one for one in statements("RunStep") if one["Sid"] == "CallBedrock")
    allowed = [
        one["Fn::Sub"].replace("${AWS::AccountId}", "123456789012").replace("${AWS::Partition}", "aws*")
        for one in listed(call["Resource"])
    ]
    for region, places in aliases().items():
        for name in places.values():
            elsewhere, identifier = at_region(name.removeprefix("bedrock:"))
            model = foundation_model(identifier)
            wanted = [f"arn:aws:bedrock:{where}::foundation-model/{model}" for where in ("", region, "us-west-2")]
            if identifier != model:
                # Bedrock asks for the profile, and for the model in whichever region it sends the call to; of a global
                # profile also for the model in no region.
                wanted.append(f"arn:aws:bedrock:{elsewhere or region}:123456789012:inference-profile/{identifier}")
            for arn in wanted:
                assert any(fnmatch.fnmatchcase(arn, pattern) for pattern in allowed), arn


@pytest.mark.parametrize("name", ["openai.gpt-5.5", "us-east-2/openai.gpt-5.5", "us.openai.gpt-6-sol", "zai.glm-5"])
def test_run_step_alone_may_call_what_bedrocks_openai_endpoints_serve(name: str) -> None:
    """The service that a call is signed for is the one whose action it needs."""
    signed = Role().credentials("bedrock-openai", Settings(), name)
    model = at_region(name)[1]
    if signed.service == "bedrock-mantle":
        action, arn = f"{signed.service}:CreateInference", f"arn:aws:bedrock-mantle:{signed.region}:1:project/default"
    else:
        action, arn = f"{signed.service}:InvokeModel", f"arn:aws:bedrock:{signed.region}:1:inference-profile/{model}"
    may = {
        function: [
            str(resource["Fn::Sub"]).replace("${AWS::AccountId}", "1").replace("${AWS::Partition}", "aws")
            for one in statements(function)
            if action in listed(one["Action"])
            for resource in listed(one["Resource"])
            if "Fn::Sub" in resource
        ]
        for function in FUNCTIONS
    }
    assert [function for function, resources in may.items() if resources] == ["RunStep"]
    assert any(fnmatch.fnmatchcase(arn, pattern) for pattern in may["RunStep"])
    assert not any(fnmatch.fnmatchcase(arn.replace(":1:", ":2:"), pattern) for pattern in may["RunStep"])


OWN = (
    *("provisioned-model/abc123def456", "imported-model/abc123def456", "custom-model-deployment/abc123def456"),
    *("guardrail/gr1", "guardrail-profile/us.guardrail.v1:0", "default-prompt-router/anthropic.claude:1"),
    *("prompt-router/abc123def456", "foundation-model/amazon.nova-pro-v1:0"),
)


def _run_step_statements() -> list[Any]:
    (policy,) = template()["Resources"]["RunStepRole"]["Properties"]["Policies"]
    found: list[Any] = policy["PolicyDocument"]["Statement"]
    return found


@pytest.mark.parametrize("kind", OWN)
def test_models_of_ones_own_are_named_and_guardrails_need_not_be(kind: str) -> None:
    """Each kind of ARN that Converse takes (botocore's pattern of `modelId` and of guardrails)."""
    owner = "" if kind.startswith("foundation-model") else "123456789012"
    arn = f"arn:aws:bedrock:us-east-1:{owner}:{kind}"
    action = "bedrock:ApplyGuardrail" if kind.startswith("guardrail") else "bedrock:InvokeModel"
    always, named, conditional = [], [], _run_step_statements()
    for one in conditional:
        statement, parameter = (one["Fn::If"][1], one["Fn::If"][0]) if "Fn::If" in one else (one, "")
        if action in listed(statement["Action"]):
            (named if parameter else always).extend(listed(statement["Resource"]))
    patterns = [
        one["Fn::Sub"].replace("${AWS::AccountId}", "123456789012").replace("${AWS::Partition}", "aws")
        for one in always
    ]
    assert named == [{"Fn::Split": [",", {"Ref": "BedrockArns"}]}]
    is_named = kind.startswith(("provisioned", "imported", "custom"))
    assert any(fnmatch.fnmatchcase(arn, pattern) for pattern in patterns) is not is_named
    elsewhere = arn.replace(":123456789012:", ":210987654321:")
    assert owner == "" or not any(fnmatch.fnmatchcase(elsewhere, pattern) for pattern in patterns)
    takes = template()["Parameters"]["BedrockArns"]["AllowedPattern"]
    assert bool(re.fullmatch(takes, arn)) is (is_named or kind.startswith("guardrail"))
    assert re.fullmatch(takes, "")
    assert bool(re.fullmatch(takes, f"{arn},{arn}")) is (is_named or kind.startswith("guardrail"))


def test_every_kind_of_model_that_converse_takes_is_decided_on() -> None:
    shape = clients.client("bedrock-runtime").meta.service_model.shape_for("ConversationalModelId")
    kinds = set(re.findall(r"[:|(](default-\)\?prompt-router|[a-z-]+)/\[", shape.metadata["pattern"]))
    assert kinds >= {"imported-model", "provisioned-model", "custom-model-deployment", "foundation-model"}
    # A custom model is called through its deployment or provisioned throughput. The others are no models of Bedrock's.
    refused = {"custom-model", "prompt", "endpoint"}
    decided = {kind.partition("/")[0] for kind in OWN} | {"inference-profile", "application-inference-profile"}
    assert {kind for kind in kinds if "router" not in kind and "profile" not in kind} - refused <= decided
