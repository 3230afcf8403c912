"""Bedrock's OpenAI-compatible endpoints: Chat Completions and Responses, signed by the function's role.

There are two, and the model's id says which one serves it
(https://docs.aws.amazon.com/bedrock/latest/userguide/endpoints.html):

- `bedrock-runtime.REGION.amazonaws.com/openai/v1` takes cross-Region inference profiles (`us.openai.gpt-5.6-terra`),
  ARNs and ids with a version (`openai.gpt-oss-120b-1:0`). Its calls are signed for `bedrock` and need
  bedrock:InvokeModel.
- `bedrock-mantle.REGION.api.aws` takes the other ids (`openai.gpt-5.5`, `xai.grok-4.3`, `zai.glm-5`), and no profiles.
  Its calls are signed for `bedrock-mantle` and need bedrock-mantle:CreateInference on the account's default project
  (https://docs.aws.amazon.com/service-authorization/latest/reference/list_bedrock-mantle.html). It serves each model
  under one of two paths, which only the model's card tells, and refuses it under the other: "isn't supported on this
  route" (github.com/strands-agents/harness-sdk, issue 3654; github.com/maximhq/bifrost, pull request 7063).

Which models need Responses: `catalog.takes.needs_responses`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from loopllama.aws import clients
from loopllama.catalog.model import at_region, foundation_model
from loopllama.core.patterns import late
from loopllama.errors import ModelError, ModelNotAvailable, ModelRequestRejected
from loopllama.llm.types import ModelRequest
from loopllama.providers.bedrock import access, service
from loopllama.providers.credentials import Credentials
from loopllama.providers.http import Reply
from loopllama.providers.http_adapter import Access, HttpAdapter
from loopllama.settings import Settings

_OF_RUNTIME = late(r"arn:|.+:\d+$")
_UNDER_OPENAI = late(r"openai\.(gpt-\d|o\d)|xai\.grok-|google\.gemma-([4-9]|\d\d)")
"""Ids of bedrock-mantle that it serves under `/openai/v1`; the others, gpt-oss and Gemma 3 among them, under `/v1`."""
_OTHER_PATH = late(r"isn't supported on this route|does not support the '/\S* API", re.IGNORECASE)

CODES: Mapping[str, type[ModelError]] = {**service.CODES, "access_denied": ModelNotAvailable}
"""AWS's, and bedrock-mantle's own for a role or an account that may not use a model."""

_other_path: set[str] = set()
"""Ids that bedrock-mantle serves under the other path than `_UNDER_OPENAI` says, as this process has learned."""


@dataclass(frozen=True, slots=True)
class RoleCredentials(Credentials):
    """Where one model is served, and for which service and region its calls are signed. `api_key` is
    AWS_BEARER_TOKEN_BEDROCK, which AWS's own SDK prefers to a signature too."""

    service: str = ""
    region: str = ""

    def remedy(self) -> str:
        """Return what a person does about credentials that are refused."""
        return service.ROLE


class Role:
    """The function's role, in a signature over each request."""

    def credentials(self, provider: str, settings: Settings, model: str) -> RoleCredentials:  # noqa: ARG002
        """Return the address that serves the model, and what its calls are signed for."""
        named, identifier = at_region(model)
        region = named or clients.region()
        if by_runtime(identifier):
            host = clients.endpoint("BEDROCK_RUNTIME", f"https://bedrock-runtime.{region}.amazonaws.com")
            base, signed_for = f"{host}/openai/v1", "bedrock"
        else:
            host = clients.endpoint("BEDROCK_MANTLE", f"https://bedrock-mantle.{region}.api.aws")
            under_openai = bool(_UNDER_OPENAI.match(identifier)) != (identifier in _other_path)
            base, signed_for = f"{host}/openai/v1" if under_openai else f"{host}/v1", "bedrock-mantle"
        token = os.environ.get("AWS_BEARER_TOKEN_BEDROCK", "").strip()
        return RoleCredentials(provider, base, token, "the function's role", service=signed_for, region=region)

    def headers(self, credentials: Credentials, url: str, body: bytes) -> Mapping[str, str]:
        """Return the signature's headers. Raises `CredentialsRejected` where this process has no credentials."""
        from botocore.exceptions import BotoCoreError

        from loopllama.aws import signing

        if credentials.api_key or not isinstance(credentials, RoleCredentials):
            return {"authorization": f"Bearer {credentials.api_key}"}
        try:
            return signing.signed(url, body, credentials.service, credentials.region)
        except BotoCoreError as error:
            raise service.aws_failure(error, credentials.provider) from error

    def rejected(self, provider: str, settings: Settings) -> None:
        """Do nothing: credentials that end are replaced before they do."""


class AtBedrock(HttpAdapter):
    """What a wire format of OpenAI's is at Bedrock, before that format's own class."""

    access: ClassVar[Access] = Role()

    def body(self, call: ModelRequest) -> Mapping[str, Any]:
        """Return the request's body. The region in a model's id is ours."""
        return super().body(replace(call, model=at_region(call.model)[1]))  # type: ignore[safe-super]

    def send(self, call: ModelRequest, until: float) -> Mapping[str, Any]:
        """Make the POST of a call, and another where the model is served under the other path: a refusal costs
        nothing."""
        identifier = at_region(call.model)[1]
        try:
            return super().send(call, until)
        except ModelRequestRejected as error:
            if by_runtime(identifier) or not _OTHER_PATH.search(str(error)):
                raise
        _other_path.symmetric_difference_update({identifier})
        try:
            return super().send(call, until)
        except ModelRequestRejected as error:
            if _OTHER_PATH.search(str(error)):
                _other_path.symmetric_difference_update({identifier})
            raise

    def failure(self, call: ModelRequest, credentials: Credentials, url: str, reply: Reply) -> ModelError:
        """Return the error, with what to do where the account or the role lacks access to the model."""
        error = super().failure(call, credentials, url, reply)
        if type(error) not in (ModelRequestRejected, ModelNotAvailable):
            return error
        codes, detail = self.read_error(reply)
        region, model = at_region(call.model)
        code = codes[0] if codes else ""
        remedy = access.explain(code, detail, model, region or clients.region())
        if remedy is None:
            return error
        label = f"HTTP {reply.status}, {code}" if code else f"HTTP {reply.status}"
        said = f"{self.who(call)} ({label}): {remedy}. AWS says: {detail[:500]}"
        return ModelNotAvailable(said, status=reply.status)


def by_runtime(identifier: str) -> bool:
    """Return whether bedrock-runtime serves a model, by its id without a region; else bedrock-mantle does."""
    return bool(_OF_RUNTIME.match(identifier)) or foundation_model(identifier) != identifier
