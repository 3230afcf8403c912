"""What only Bedrock has: inference profiles, guardrails, families of models with ways of their own, AWS credentials."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from support.dialects.bedrock import BedrockDialect, start_afresh
from support.wire_server import Reply, WireServer

from loopllama import providers
from loopllama.catalog.catalog import bundled
from loopllama.catalog.model import Model
from loopllama.errors import CredentialsRejected, ModelRequestRejected, ModelUnavailable
from loopllama.llm.types import Message, ModelRequest, Provider, ToolSpec
from loopllama.providers.bedrock import service
from loopllama.providers.bedrock.service import underlying_model

ACCOUNT = "arn:aws:bedrock:eu-central-1:123456789012"
PROFILE = f"{ACCOUNT}:application-inference-profile/abc123def456"
CLAUDE = "anthropic.claude-haiku-4-5-20251001-v1:0"
TOOL = ToolSpec("give", "", {"type": "object", "properties": {"a": {"type": "string"}}})


@pytest.fixture
def dialect() -> BedrockDialect:
    return BedrockDialect()


@pytest.fixture
def adapter(dialect: BedrockDialect, server: WireServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[Provider]:
    monkeypatch.setenv("AWS_ENDPOINT_URL_BEDROCK", server.url)
    service._model_of_profile.cache_clear()
    yield dialect.adapter(server.url, monkeypatch)
    service._model_of_profile.cache_clear()


def profile(*models: str) -> Reply:
    """GetInferenceProfile's answer, checked against botocore's model of it."""
    import botocore.session
    from botocore.validate import ParamValidator

    body = {
        "inferenceProfileName": "support",
        "inferenceProfileArn": PROFILE,
        "inferenceProfileId": "abc123def456",
        "models": [{"modelArn": f"arn:aws:bedrock:eu-west-1::foundation-model/{model}"} for model in models],
        "status": "ACTIVE",
        "type": "APPLICATION",
    }
    operation = botocore.session.get_session().get_service_model("bedrock").operation_model("GetInferenceProfile")
    assert operation.output_shape is not None
    report = ParamValidator().validate(body, operation.output_shape)
    assert not report.has_errors(), report.generate_report()
    return Reply(200, body)


@pytest.mark.parametrize(
    ("identifier", "model"),
    [
        (CLAUDE, CLAUDE),
        (f"eu.{CLAUDE}", f"eu.{CLAUDE}"),
        (f"arn:aws:bedrock:eu-west-1::foundation-model/{CLAUDE}", CLAUDE),
        (f"{ACCOUNT}:inference-profile/eu.{CLAUDE}", f"eu.{CLAUDE}"),
        (f"{ACCOUNT}:provisioned-model/xyz", f"{ACCOUNT}:provisioned-model/xyz"),
    ],
)
def test_ids_that_say_what_they_are(identifier: str, model: str) -> None:
    assert underlying_model(identifier) == model


def test_an_application_inference_profile_is_asked_for_once(adapter: Provider, server: WireServer) -> None:
    server.script(profile(CLAUDE, CLAUDE))
    assert [underlying_model(PROFILE) for _ in range(3)] == [CLAUDE] * 3
    assert len(server.requests) == 1


def test_it_is_priced_as_the_model_it_stands_for(adapter: Provider, server: WireServer) -> None:
    server.script(profile(CLAUDE))
    model = bundled().resolve(PROFILE)
    assert model.prices == ()
    priced = providers.behind_profile(model, bundled().resolve)
    base = bundled().resolve(f"bedrock:{CLAUDE}")
    assert (priced.prices, priced.capabilities, priced.context_window) == (
        base.prices,
        base.capabilities,
        base.context_window,
    )
    assert (priced.id, priced.provider_model) == (model.id, PROFILE)
    assert base.prices


@pytest.mark.parametrize("status", [403, 404, 500])
def test_a_profile_that_cannot_be_read_stays_unpriced(adapter: Provider, server: WireServer, status: int) -> None:
    code = {403: "AccessDeniedException", 404: "ResourceNotFoundException", 500: "InternalServerException"}[status]
    reply = Reply(status, {"message": "no"}, {"x-amzn-ErrorType": code})
    server.script(*[reply] * (4 if status == 500 else 2))
    with pytest.raises(ModelUnavailable if status == 500 else ModelRequestRejected, match=code):
        underlying_model(PROFILE)
    model = bundled().resolve(PROFILE)
    assert providers.behind_profile(model, bundled().resolve) is model


def test_other_models_are_left_alone() -> None:
    for model in (Model("m", "openai", "arn:aws:m"), bundled().resolve("small"), Model("m", "bedrock", CLAUDE)):
        assert providers.behind_profile(model, bundled().resolve) is model


def test_an_arn_is_called_as_it_is(
    dialect: BedrockDialect, adapter: Provider, server: WireServer, make_call: Callable[..., ModelRequest]
) -> None:
    server.script(Reply(200, dialect.answer("ok")))
    adapter.complete(make_call(model=PROFILE))
    assert dialect.seen(server.requests[0]).model == PROFILE


@pytest.mark.parametrize(
    ("model", "sent", "region"),
    [
        ("us.amazon.nova-lite-v1:0", "us.amazon.nova-lite-v1:0", "us-east-1"),
        ("eu-central-1/eu.amazon.nova-lite-v1:0", "eu.amazon.nova-lite-v1:0", "eu-central-1"),
        ("us-gov-west-1/amazon.nova-lite-v1:0", "amazon.nova-lite-v1:0", "us-gov-west-1"),
        (PROFILE, PROFILE, "eu-central-1"),
    ],
)
def test_a_model_is_called_in_the_region_that_its_id_names(
    dialect: BedrockDialect,
    adapter: Provider,
    server: WireServer,
    make_call: Callable[..., ModelRequest],
    model: str,
    sent: str,
    region: str,
) -> None:
    server.script(Reply(200, dialect.answer("ok")))
    adapter.complete(make_call(model=model))
    assert dialect.seen(server.requests[0]).model == sent
    assert f"/{region}/bedrock/aws4_request" in server.requests[0].headers["authorization"]


def test_a_call_goes_out_once_however_many_regions_were_called_before(
    dialect: BedrockDialect, adapter: Provider, server: WireServer, make_call: Callable[..., ModelRequest]
) -> None:
    for number in [*range(12), 0, 0]:
        server.script(Reply(200, dialect.answer("Here.")))
        model = f"us-gov-{number}/amazon.nova-lite-v1:0"
        assert adapter.complete(make_call(model=model)).text == "Here."
    assert len(server.requests) == 14


def test_options(
    dialect: BedrockDialect, adapter: Provider, server: WireServer, make_call: Callable[..., ModelRequest]
) -> None:
    guardrail = {"guardrailIdentifier": "gr123456", "guardrailVersion": "1", "trace": "enabled"}
    server.script(Reply(200, dialect.answer("ok")))
    options: dict[str, Any] = {
        "guardrailConfig": guardrail,
        "inferenceProfile": PROFILE,
        "requestMetadata": {"team": "support"},
        "performanceConfig": {"latency": "optimized"},
    }
    adapter.complete(make_call(options=options))
    seen = dialect.seen(server.requests[0])
    assert seen.model == PROFILE
    body = server.requests[0].json
    assert body["guardrailConfig"] == guardrail
    assert body["requestMetadata"] == {"team": "support"}
    assert body["performanceConfig"] == {"latency": "optimized"}


def test_an_option_that_converse_does_not_know(
    adapter: Provider, server: WireServer, make_call: Callable[..., ModelRequest]
) -> None:
    with pytest.raises(ModelRequestRejected, match="guardrail_config"):
        adapter.complete(make_call(options={"guardrail_config": {}}))
    assert server.requests == []


@pytest.mark.parametrize(
    ("model", "choice"),
    [
        (CLAUDE, {"tool": {"name": "give"}}),
        ("us.amazon.nova-lite-v1:0", {"tool": {"name": "give"}}),
        ("mistral.mistral-large-2407-v1:0", {"any": {}}),
        ("us.meta.llama4-scout-17b-instruct-v1:0", None),
    ],
)
def test_how_a_tool_is_forced(
    dialect: BedrockDialect,
    adapter: Provider,
    server: WireServer,
    make_call: Callable[..., ModelRequest],
    model: str,
    choice: Any,
) -> None:
    server.script(Reply(200, dialect.answer("ok")))
    adapter.complete(make_call(model=model, tools=(TOOL,), forced_tool="give"))
    assert server.requests[0].json["toolConfig"].get("toolChoice") == choice
    dialect.seen(server.requests[0])


def test_no_credentials(
    dialect: BedrockDialect, adapter: Provider, monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    for name in ("AWS_SHARED_CREDENTIALS_FILE", "AWS_CONFIG_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "none"))
    start_afresh()
    call = ModelRequest(CLAUDE, "claude", "", (Message("user", "hi"),), 5.0)
    with pytest.raises(CredentialsRejected, match="no AWS credentials"):
        adapter.complete(call)
    start_afresh()


def test_no_region(dialect: BedrockDialect, adapter: Provider, monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    for name in ("AWS_DEFAULT_REGION", "AWS_REGION"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    start_afresh()
    with pytest.raises(ModelRequestRejected, match="region"):
        adapter.complete(ModelRequest(CLAUDE, "claude", "", (Message("user", "hi"),), 5.0))
    start_afresh()


def test_an_api_key_of_bedrock(
    dialect: BedrockDialect, adapter: Provider, server: WireServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_BEARER_TOKEN_BEDROCK", "bedrock-api-key-1")
    start_afresh()
    server.script(Reply(200, dialect.answer("ok")))
    adapter.complete(ModelRequest(CLAUDE, "claude", "", (Message("user", "hi"),), 5.0))
    assert server.requests[0].headers["authorization"] == "Bearer bedrock-api-key-1"
    assert json.loads(server.requests[0].body)["messages"]


def test_what_an_inference_profile_stands_for_says_what_it_takes(
    server: WireServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The ARN of an application inference profile does not name its model, which may refuse `temperature`."""
    arn = "arn:aws:bedrock:us-east-1:111122223333:application-inference-profile/abc123"
    dialect = BedrockDialect()
    adapter = dialect.adapter(server.url, monkeypatch)
    for model, sent in (("us.anthropic.claude-opus-4-7", False), ("us.anthropic.claude-sonnet-4-5", True)):
        monkeypatch.setattr("loopllama.providers.bedrock.service._model_of_profile", lambda _, model=model: model)
        server.script(Reply(200, dialect.answer("ok")))
        adapter.complete(ModelRequest(arn, arn, "", (Message("user", "hi"),), 5.0, temperature=0.2))
        assert ("temperature" in server.requests[-1].json.get("inferenceConfig", {})) is sent
