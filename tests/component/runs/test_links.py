"""Signed links to values: the host and the signature that every region takes."""

from __future__ import annotations

from urllib.parse import parse_qs, urlsplit

import pytest

from loopllama.aws import clients
from loopllama.runs.value_store import ValueStore
from loopllama.settings import Settings

HOSTS = {
    "us-east-1": "s3.us-east-1.amazonaws.com",
    "us-west-2": "s3.us-west-2.amazonaws.com",
    "eu-west-1": "s3.eu-west-1.amazonaws.com",
    "eu-central-1": "s3.eu-central-1.amazonaws.com",
    "sa-east-1": "s3.sa-east-1.amazonaws.com",
    "ap-southeast-5": "s3.ap-southeast-5.amazonaws.com",
    "us-gov-west-1": "s3.us-gov-west-1.amazonaws.com",
    "cn-north-1": "s3.cn-north-1.amazonaws.com.cn",
}


def link(monkeypatch: pytest.MonkeyPatch, region: str) -> str:
    for name, value in {"ACCESS_KEY_ID": "a", "SECRET_ACCESS_KEY": "b", "SESSION_TOKEN": "t"}.items():
        monkeypatch.setenv(f"AWS_{name}", value)
    monkeypatch.setenv("AWS_REGION", region)
    monkeypatch.setenv("AWS_DEFAULT_REGION", region)
    clients.client.cache_clear()
    try:
        made = ValueStore(Settings(values_bucket="stack-valuesbucket-1")).link({"$s3": "runs/r/1"}, 60)
    finally:
        clients.client.cache_clear()
    assert made is not None
    return made


@pytest.mark.parametrize("region", HOSTS)
def test_a_link_is_signed_for_the_buckets_own_region(monkeypatch: pytest.MonkeyPatch, region: str) -> None:
    monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)
    url = urlsplit(link(monkeypatch, region))
    query = parse_qs(url.query)
    assert (url.scheme, url.hostname) == ("https", f"stack-valuesbucket-1.{HOSTS[region]}")
    assert url.path == "/runs/r/1"
    assert query["X-Amz-Algorithm"] == ["AWS4-HMAC-SHA256"]
    assert query["X-Amz-Credential"][0].split("/")[2:] == [region, "s3", "aws4_request"]
    assert query["X-Amz-Expires"] == ["60"]
    assert query["X-Amz-Security-Token"] == ["t"]


def test_an_endpoint_that_is_an_address_keeps_the_bucket_in_the_path(monkeypatch: pytest.MonkeyPatch) -> None:
    """The local stack's."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:4566")
    url = urlsplit(link(monkeypatch, "eu-west-1"))
    assert (url.netloc, url.path) == ("127.0.0.1:4566", "/stack-valuesbucket-1/runs/r/1")
