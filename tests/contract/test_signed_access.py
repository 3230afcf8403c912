"""A known wire format behind another kind of access: Chat Completions, signed with AWS's Signature Version 4.

No key and no secret are involved. Dialect, access and provider stand here alone: the product is not touched.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from email.message import Message as Headers

import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials as AwsKeys
from support.dialects import OpenAIDialect
from support.dialects.base import adapter_of
from support.wire_server import Reply, Request, WireServer

from loopllama import providers
from loopllama.catalog.providers import KNOWN, Known
from loopllama.errors import CredentialsRejected
from loopllama.llm.types import ModelRequest, Provider
from loopllama.providers.credentials import Credentials
from loopllama.providers.openai import OpenAI
from loopllama.settings import Settings
from loopllama_cli.local import refusals, signatures
from loopllama_cli.local.credentials import Credentials as LocalKeys

KEY, SECRET = "AKIDEXAMPLE", "a-secret-of-forty-characters-or-so-000001"
DIALECT = OpenAIDialect()


class RoleCredentials(Credentials):
    """Credentials that nobody set as a secret."""

    __slots__ = ()

    def remedy(self) -> str:
        return "Look at the function's role"


class Signature:
    """The function's role, in a signature over the request."""

    def __init__(self, url: str) -> None:
        self._url = url
        self.rejections = 0

    def credentials(self, provider: str, settings: Settings, model: str) -> Credentials:
        return RoleCredentials(provider, f"{self._url}/openai/v1", "", "the function's role")

    def headers(self, credentials: Credentials, url: str, body: bytes) -> Mapping[str, str]:
        request = AWSRequest("POST", url, {"content-type": "application/json"}, body)
        SigV4Auth(AwsKeys(KEY, SECRET), "bedrock", "eu-central-1").add_auth(request)
        return dict(request.headers.items())

    def rejected(self, provider: str, settings: Settings) -> None:
        self.rejections += 1


@pytest.fixture
def access(server: WireServer) -> Signature:
    return Signature(server.url)


@pytest.fixture
def adapter(access: Signature, monkeypatch: pytest.MonkeyPatch) -> Provider:
    class Signed(OpenAI):
        pass

    Signed.access = access
    monkeypatch.setitem(providers.DIALECTS, "signed", providers.Dialect(lambda: Signed, own_servers=False))
    monkeypatch.setitem(KNOWN, "house", Known(dialect="signed", keyless=True, by_role=True))
    return adapter_of("house")


@pytest.fixture
def dialect() -> OpenAIDialect:
    return DIALECT


def checked(request: Request) -> None:
    """Fail unless the request is signed as it came."""
    headers = Headers()
    for name, value in request.headers.items():
        headers[name] = value
    asked = signatures.Asked("POST", request.path, headers, request.body)
    keys = LocalKeys(KEY, SECRET)
    signatures.check(asked, signatures.claim(asked, keys), keys, datetime.now(UTC))


def test_the_request_is_signed_as_it_goes_out(
    server: WireServer, adapter: Provider, make_call: Callable[..., ModelRequest]
) -> None:
    server.script(Reply(200, DIALECT.answer("ok")))
    assert adapter.complete(make_call()).text == "ok"
    [request] = server.requests
    assert request.path == "/openai/v1/chat/completions"
    checked(request)
    changed = Request(request.path, request.headers, request.body + b" ", request.connection)
    with pytest.raises(refusals.Refused):
        checked(changed)


def test_what_is_said_where_it_is_refused(
    access: Signature, server: WireServer, adapter: Provider, make_call: Callable[..., ModelRequest]
) -> None:
    server.script(DIALECT.error(401, "UnrecognizedClientException", "The security token is invalid."))
    with pytest.raises(CredentialsRejected, match="Look at the function's role"):
        adapter.complete(make_call())
    assert access.rejections == 1
