"""Addresses of a local stack: the one that is not meant is told as such."""

from __future__ import annotations

import pytest
from support.loopback import Handler, serving

from loopllama.aws import clients
from loopllama_cli import target
from loopllama_cli.local.credentials import Credentials

SET = (
    *("AWS_ENDPOINT_URL", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_REGION", "AWS_DEFAULT_REGION"),
    *("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", "AWS_EC2_METADATA_DISABLED"),
)
"""What `connect_local` sets in the environment."""


class Api(Handler):
    """The local stack's API, to those who have no key."""

    def serve(self) -> None:
        if self.path == "/healthz":
            self.answer(200, '{"status":"ok","version":"0.1.0"}', content_type="application/json")
        else:
            self.answer(401, '{"error": "Missing Bearer token"}', content_type="application/json")


class Other(Handler):
    """Anything else that somebody runs."""

    def serve(self) -> None:
        self.answer(200, "hello", content_type="text/plain")


@pytest.mark.parametrize("known", [False, True])
def test_the_address_of_the_api_is_told_as_such(monkeypatch: pytest.MonkeyPatch, known: bool) -> None:
    """With and without credentials in the environment, which `loopllama local --export` sets."""
    with serving(Api) as url, monkeypatch.context() as environment:
        for name in SET:
            environment.setenv(name, "")
        with pytest.raises(target.TargetUnreachable) as refused:
            target.connect_local(url, Credentials("AKIA", "secret") if known else None)
        assert f"{url} is the address of a local stack's API" in str(refused.value)
        assert "the aws_endpoint_url that `loopllama local` printed" in str(refused.value)
        clients.client.cache_clear()


@pytest.mark.parametrize("known", [False, True])
def test_another_server_is_not_mistaken_for_it(monkeypatch: pytest.MonkeyPatch, known: bool) -> None:
    with serving(Other) as url, monkeypatch.context() as environment:
        for name in SET:
            environment.setenv(name, "")
        why = "what answers there is not AWS's CloudFormation" if known else "none of yours has its AWS endpoint there"
        with pytest.raises(target.TargetUnreachable, match=why):
            target.connect_local(url, Credentials("AKIA", "secret") if known else None)
        clients.client.cache_clear()
