"""Bedrock's OpenAI-compatible endpoints: where a model is called, who signs for it, and what a refusal says to do.

The server on loopback checks each signature from AWS's description of it (`support.sigv4`).
"""

from __future__ import annotations

import json
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest
from botocore.credentials import Credentials, RefreshableCredentials
from support import sigv4
from support.deployment import Deployment
from support.dialects import KEY, BedrockChatDialect, BedrockResponsesDialect
from support.dialects.bedrock_openai import ACCESS_KEY, TOKEN
from support.wire_server import Reply, Request, WireServer

from loopllama import providers
from loopllama.aws import clients
from loopllama.catalog.catalog import bundled
from loopllama.catalog.model import Model
from loopllama.errors import CredentialsRejected, ModelError, ModelNotAvailable, ModelRequestRejected
from loopllama.llm.types import Message, ModelRequest, Provider, ToolSpec
from loopllama.providers.bedrock.openai_endpoints import Role
from loopllama.settings import Settings

Make = Callable[..., ModelRequest]
CHAT, RESPONSES = BedrockChatDialect(), BedrockResponsesDialect()
NOW = ToolSpec("now", "The time.", {"type": "object", "properties": {}})


@pytest.fixture
def dialect() -> BedrockChatDialect:
    return CHAT


@pytest.mark.parametrize(
    ("model", "url", "service", "region"),
    [
        ("openai.gpt-5.5", "@mantle/openai/v1", "bedrock-mantle", "us-east-1"),
        ("us-east-2/openai.gpt-5.5", "@mantle/openai/v1", "bedrock-mantle", "us-east-2"),
        ("openai.gpt-6.1-sol", "@mantle/openai/v1", "bedrock-mantle", "us-east-1"),
        ("xai.grok-4.3", "@mantle/openai/v1", "bedrock-mantle", "us-east-1"),
        ("google.gemma-4-31b", "@mantle/openai/v1", "bedrock-mantle", "us-east-1"),
        ("google.gemma-3-27b-it", "@mantle/v1", "bedrock-mantle", "us-east-1"),
        ("openai.gpt-oss-120b", "@mantle/v1", "bedrock-mantle", "us-east-1"),
        ("zai.glm-5", "@mantle/v1", "bedrock-mantle", "us-east-1"),
        ("us.openai.gpt-5.6-sol", "@runtime/openai/v1", "bedrock", "us-east-1"),
        ("eu-west-1/global.openai.gpt-6-sol", "@runtime/openai/v1", "bedrock", "eu-west-1"),
        ("openai.gpt-oss-20b-1:0", "@runtime/openai/v1", "bedrock", "us-east-1"),
        (
            "arn:aws:bedrock:us-west-2:123456789012:application-inference-profile/abc",
            "@runtime/openai/v1",
            "bedrock",
            "us-west-2",
        ),
    ],
)
def test_where_a_model_is_called(model: str, url: str, service: str, region: str) -> None:
    found = Role().credentials("bedrock-openai", Settings(), model)
    url = url.replace("@mantle", f"https://bedrock-mantle.{region}.api.aws")
    url = url.replace("@runtime", f"https://bedrock-runtime.{region}.amazonaws.com")
    assert (found.base_url, found.service, found.region, found.api_key) == (url, service, region, "")


def test_the_signature_covers_the_body_the_time_and_the_sessions_token(
    server: WireServer, adapter: Provider, make_call: Make
) -> None:
    server.script(Reply(200, CHAT.answer("ok")))
    assert adapter.complete(make_call()).text == "ok"
    [request] = server.requests
    assert request.headers["x-amz-security-token"] == TOKEN
    assert KEY not in str(request.headers)
    assert CHAT.fault(request) is None
    headers = dict(request.headers)
    for changed in (
        Request(request.path, headers, request.body + b" ", 1),
        Request("/v1/other", headers, request.body, 1),
        Request(request.path, {**headers, "x-amz-date": "20200101T000000Z"}, request.body, 1),
        Request(request.path, {**headers, "content-type": "text/plain"}, request.body, 1),
        Request(request.path, {**headers, "host": "elsewhere.example"}, request.body, 1),
        Request(request.path, {**headers, "x-amz-security-token": "other"}, request.body, 1),
        Request(request.path, {name: text for name, text in headers.items() if name != "authorization"}, b"", 1),
    ):
        assert sigv4.fault(changed, ACCESS_KEY, KEY, TOKEN, "bedrock-mantle", "us-east-1")
    assert sigv4.fault(request, ACCESS_KEY, "other", TOKEN, "bedrock-mantle", "us-east-1")
    assert sigv4.fault(request, ACCESS_KEY, KEY, TOKEN, "bedrock", "us-east-1")


def test_a_signature_that_is_refused(
    server: WireServer, adapter: Provider, make_call: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "of-somebody-else")
    with pytest.raises(
        CredentialsRejected, match=r"does not match the signature you provided.*function's role"
    ) as told:
        adapter.complete(make_call())
    assert (server.refused, told.value.status, told.value.next_model) == (1, 401, True)
    assert "of-somebody-else" not in str(told.value)


def test_no_credentials_at_all(
    server: WireServer, adapter: Provider, make_call: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name)
    with pytest.raises(CredentialsRejected, match="no AWS credentials"):
        adapter.complete(make_call())
    assert server.requests == []


def test_credentials_that_are_about_to_end_are_replaced(
    server: WireServer, adapter: Provider, make_call: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []

    def refresh() -> dict[str, str]:
        asked.append(1)
        return {
            "access_key": ACCESS_KEY,
            "secret_key": KEY,
            "token": TOKEN,
            "expiry_time": "2020-01-01T00:00:00Z" if len(asked) == 1 else "2999-01-01T00:00:00Z",
        }

    class Session:
        kept = RefreshableCredentials.create_from_metadata(refresh(), refresh, "test")

        def get_credentials(self) -> Credentials:
            return self.kept

    monkeypatch.setattr(clients, "_session", lambda _: Session())
    server.script(*[Reply(200, CHAT.answer("ok"))] * 2)
    for _ in range(2):
        adapter.complete(make_call())
    assert (len(asked), server.refused) == (2, 0)


def test_a_bearer_token_goes_as_the_sdk_would_send_it(
    server: WireServer, adapter: Provider, make_call: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_BEARER_TOKEN_BEDROCK", "bedrock-api-key-123")
    server.refuses = lambda _: None
    server.script(CHAT.error(401, "", "bedrock-api-key-123 is over"))
    with pytest.raises(CredentialsRejected, match=r"\*\*\* is over"):
        adapter.complete(make_call())
    [request] = server.requests
    assert request.headers["authorization"] == "Bearer bedrock-api-key-123"
    assert "x-amz-date" not in request.headers


def test_the_region_in_a_models_name_is_ours(
    server: WireServer, adapter: Provider, make_call: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = BedrockChatDialect()
    elsewhere.region = "us-east-2"
    server.refuses = elsewhere.guard
    server.script(Reply(200, CHAT.answer("ok")))
    adapter.complete(make_call(model="us-east-2/zai.glm-5"))
    assert (server.requests[0].json["model"], server.refused) == ("zai.glm-5", 0)


def test_a_model_that_is_served_under_the_other_path(server: WireServer, adapter: Provider, make_call: Make) -> None:
    """What AWS adds tomorrow: no list of its says the path, only a refusal does."""

    def guard(request: Request) -> Reply | None:
        said = f"model `{request.json['model']}` isn't supported on this route"
        return None if request.path == "/openai/v1/chat/completions" else CHAT.error(400, "validation_error", said)

    server.refuses = guard
    server.script(*[Reply(200, CHAT.answer("ok"))] * 2)
    for _ in range(2):
        assert adapter.complete(make_call(model="newcomer.model-1")).text == "ok"
    # It is learned once.
    assert [request.path.split("/chat")[0] for request in server.requests] == ["/v1", "/openai/v1", "/openai/v1"]

    server.refuses = lambda request: CHAT.error(400, "validation_error", "model isn't supported on this route")
    for _ in range(2):
        with pytest.raises(ModelRequestRejected):
            adapter.complete(make_call(model="nowhere.model-1"))
    assert [request.path.split("/chat")[0] for request in server.requests[3:]] == ["/v1", "/openai/v1"] * 2


@pytest.mark.parametrize(
    ("model", "status", "code", "said", "told"),
    [
        (
            "openai.gpt-5.5",
            401,
            "access_denied",
            "User: arn:aws:sts::1:assumed-role/x/y is not authorized to perform: bedrock-mantle:CreateInference on "
            "resource: arn:aws:bedrock-mantle:us-east-1:1:project/default",
            "the function's role needs bedrock-mantle:CreateInference",
        ),
        ("google.gemma-4-31b", 401, "access_denied", "it is not enabled for this account.", "bedrock-mantle:CreateInf"),
        (
            "us.openai.gpt-5.6-sol",
            403,
            "AccessDeniedException",
            "User: x is not authorized to perform: bedrock:InvokeModel on resource: y",
            "the function's role needs bedrock:InvokeModel",
        ),
        (
            "us.openai.gpt-5.6-sol",
            403,
            "AccessDeniedException",
            "Model access is denied due to IAM user or service role is not authorized to perform the required AWS "
            "Marketplace actions (aws-marketplace:ViewSubscriptions, aws-marketplace:Subscribe)",
            "create-foundation-model-agreement --region us-east-1 --model-id openai.gpt-5.6-sol",
        ),
        (
            "openai.gpt-oss-120b-1:0",
            400,
            "ValidationException",
            "Invocation of model ID x with on-demand throughput isn\u2019t supported. Retry your request with the ID "
            "of an inference profile",
            "list-inference-profiles --region us-east-1",
        ),
    ],
)
def test_what_to_do_where_the_account_or_the_role_lacks_access(
    server: WireServer, adapter: Provider, make_call: Make, model: str, status: int, code: str, said: str, told: str
) -> None:
    server.refuses = lambda _: CHAT.error(status, code, said)
    with pytest.raises(ModelNotAvailable) as caught:
        adapter.complete(make_call(model=model))
    assert told in str(caught.value)
    assert f"(HTTP {status}, {code})" in str(caught.value)
    assert said[:60] in str(caught.value)
    assert (caught.value.status, caught.value.next_model, caught.value.later) == (status, True, False)


def test_an_error_of_the_gateway_before_it_in_awss_own_form(
    server: WireServer, adapter: Provider, make_call: Make
) -> None:
    body = {"__type": "com.amazon.coral.service#ThrottlingException", "Message": "Rate exceeded"}
    server.refuses = lambda _: Reply(400, body)
    with pytest.raises(ModelError) as caught:
        adapter.complete(make_call())
    assert (type(caught.value).__name__, "Rate exceeded" in str(caught.value)) == ("ModelThrottled", True)


def test_openais_own_models_are_asked_by_responses(
    server: WireServer, live: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A whole step with tools, on a model of the bundled catalog that Converse does not serve."""
    RESPONSES.adapter(server.url, monkeypatch)
    server.refuses = RESPONSES.guard
    asked = RESPONSES.answer("Let me look.", [("call_1", "now", {})], "tools")
    server.script(Reply(200, asked), Reply(200, RESPONSES.answer("Noon.")))
    crew = [{"name": "reply", "model": "bedrock-openai:openai.gpt-5.5", "tools": ["now"]}]
    run_id = live.accept(live.push(crew, name="Bedrock's Responses"), "When?")
    live.play(run_id)
    [step] = live.read(run_id)["steps"]
    assert (step["status"], step["output"], step["cost_basis"]) == ("completed", "Noon.", "measured")
    assert step["cost_usd"] == (2 * 21 * Decimal("5.5") + 2 * 7 * 33) / 10**6
    assert server.refused == 0
    assert {request.path for request in server.requests} == {"/openai/v1/responses"}
    assert {json.loads(request.body)["model"] for request in server.requests} == {"openai.gpt-5.5"}


@pytest.mark.parametrize(
    ("name", "price"),
    [
        ("bedrock-openai:openai.gpt-5.5", ("5.5", "33")),
        ("bedrock-openai:us-east-2/openai.gpt-5.5", ("5.5", "33")),
        ("bedrock-openai:us.openai.gpt-6.1-sol", ("2.2", "11")),
        ("bedrock-openai:openai.gpt-6.1-sol", ("2.2", "11")),
        ("bedrock-openai:eu-west-1/global.openai.gpt-6.1-sol", ("2", "10")),
        ("bedrock-openai:xai.grok-4.3", ("1.25", "2.5")),
    ],
)
def test_what_its_models_cost(name: str, price: tuple[str, str]) -> None:
    last = bundled().resolve(name).prices[-1]
    assert (str(last.input), str(last.output)) == price


def test_each_model_has_the_adapter_of_its_api(server: WireServer, monkeypatch: pytest.MonkeyPatch) -> None:
    CHAT.adapter(server.url, monkeypatch)
    made: dict[str, Any] = {
        name: type(providers.provider_for(Model(name, "bedrock-openai", name), Settings())).__name__
        for name in ("openai.gpt-5.4", "us.openai.gpt-5.6-sol", "openai.gpt-oss-120b", "xai.grok-4.3", "zai.glm-5")
    }
    assert list(made.values()) == ["BedrockResponses"] * 2 + ["BedrockChat"] * 3
    server.refuses = RESPONSES.guard
    server.script(Reply(200, RESPONSES.answer("ok")))
    adapter = providers.provider_for(Model("m", "bedrock-openai", "us.openai.gpt-5.6-sol"), Settings())
    adapter.complete(ModelRequest("us.openai.gpt-5.6-sol", "m", "", (Message("user", "Go."),), 5.0, tools=(NOW,)))
    assert (server.requests[0].path, server.refused) == ("/openai/v1/responses", 0)
