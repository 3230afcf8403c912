"""OpenAI's two formats at Bedrock's endpoints, which check who signed each request, and for what."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, ClassVar

import pytest

from loopllama import providers
from loopllama.catalog.model import Model
from loopllama.errors import (
    CredentialsRejected,
    ModelNotAvailable,
    ModelRequestRejected,
    ModelThrottled,
    ModelUnavailable,
)
from loopllama.llm.types import Provider
from loopllama.providers.bedrock import openai_endpoints
from loopllama.settings import Settings
from support import sigv4
from support.dialects.base import KEY, Documented
from support.dialects.bedrock import start_afresh
from support.dialects.openai import OpenAIDialect
from support.dialects.openai_responses import ResponsesDialect
from support.wire_server import Reply, Request

ACCESS_KEY, TOKEN = "ASIDEXAMPLE", "a-session-token/of+the=role"
_BY_RUNTIME = re.compile(r"(us|eu|global)\.|.*:\d+$|arn:")
DOCUMENTED: Documented = (
    # github.com/strands-agents/harness-sdk, issue 3654; github.com/BerriAI/litellm, pull request 31476;
    # https://docs.aws.amazon.com/bedrock/latest/APIReference/CommonErrors.html
    (401, "access_denied", ModelNotAvailable),
    (403, "access_denied", ModelNotAvailable),
    (400, "validation_error", ModelRequestRejected),
    (404, "model_not_found", ModelNotAvailable),
    (429, "rate_limit_exceeded", ModelThrottled),
    (500, "internal_server_error", ModelUnavailable),
    (403, "ExpiredTokenException", CredentialsRejected),
    (403, "InvalidSignatureException", CredentialsRejected),
)


class _Signed:
    """What both share."""

    name = "bedrock-openai"
    own_format = False
    remedy = "role"
    region = "us-east-1"
    model: str
    unauthorized = (401, "", "Credential should be scoped to correct service: 'bedrock-mantle'.")
    unknown_model = (404, "model_not_found", "The model 'none' does not exist.")
    documented: ClassVar[Documented] = DOCUMENTED

    def adapter(self, url: str, patch: pytest.MonkeyPatch) -> Provider:
        for name, value in {
            "AWS_ACCESS_KEY_ID": ACCESS_KEY,
            "AWS_SECRET_ACCESS_KEY": KEY,
            "AWS_SESSION_TOKEN": TOKEN,
            "AWS_ENDPOINT_URL_BEDROCK_MANTLE": url,
            "AWS_ENDPOINT_URL_BEDROCK_RUNTIME": url,
            "AWS_EC2_METADATA_DISABLED": "true",
        }.items():
            patch.setenv(name, value)
        for name in ("AWS_PROFILE", "AWS_BEARER_TOKEN_BEDROCK"):
            patch.delenv(name, raising=False)
        start_afresh()
        openai_endpoints._other_path.clear()
        providers._adapters.clear()
        return providers.provider_for(Model(f"{self.name}:{self.model}", self.name, self.model), Settings())

    def seen(self, request: Request) -> Any:
        return self.seen_body(request.json)  # type: ignore[attr-defined]

    def fault(self, request: Request) -> str | None:
        """Return what is wrong with the signature."""
        service = "bedrock" if _BY_RUNTIME.match(request.json["model"]) else "bedrock-mantle"
        return sigv4.fault(request, ACCESS_KEY, KEY, TOKEN, service, self.region)

    def has_key(self, request: Request) -> bool:
        return self.fault(request) is None

    def error(self, status: int, code: str, message: str, headers: Mapping[str, str] | None = None) -> Reply:
        if code.endswith("Exception"):
            return Reply(status, {"message": message}, {"x-amzn-ErrorType": f"{code}:http://aws/", **(headers or {})})
        body = {"error": {"code": code or None, "message": message, "param": None, "type": "invalid_request_error"}}
        return Reply(status, body, headers or {})

    def guard(self, request: Request) -> Reply | None:
        if said := self.fault(request):
            return self.error(401, "", said)
        model = request.json["model"]
        path = "/openai/v1" if _BY_RUNTIME.match(model) or re.match(r"openai\.gpt-\d|xai\.", model) else "/v1"
        if not request.path.startswith(f"{path}/"):
            return self.error(400, "validation_error", f"model `{model}` isn't supported on this route")
        return self.refusal(request)  # type: ignore[attr-defined]


class BedrockChatDialect(_Signed, OpenAIDialect):
    """Models that bedrock-mantle has by Chat Completions."""

    model = "zai.glm-5"
    path = "/v1"


class BedrockResponsesDialect(_Signed, ResponsesDialect):
    """OpenAI's own models, which it has by Responses."""

    model = "openai.gpt-5.5"
    has_temperature = False
    path = "/openai/v1"
