"""Whose requests the local stack's AWS endpoint takes: those that AWS's own SDK signs with its credentials, and none of
which anything was changed afterwards."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.message import Message
from functools import cache
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError
from support.loopback import Handler, serving

from loopllama_cli.local import signatures
from loopllama_cli.local.credentials import Credentials
from loopllama_cli.local.refusals import Refused
from loopllama_cli.local.signatures import Asked

OWN = Credentials.new()
ENDPOINT = "http://127.0.0.1:4599"
OLD, NEW = Config(), Config(signature_version="s3v4")
"""Links of S3 are signed by version 2 unless a client is told otherwise."""


def check(asked: Asked, credentials: Credentials = OWN, seconds: float = 0) -> None:
    """Raise `Refused` unless the request is the owner's, `seconds` from now."""
    now = datetime.now(UTC) + timedelta(seconds=seconds)
    signatures.check(asked, signatures.claim(asked, credentials), credentials, now)


def headers_of(**given: str) -> Message:
    made = Message()
    for name, value in given.items():
        made[name.replace("_", "-")] = value
    return made


@cache
def client(service: str, config: Config = OLD, credentials: Credentials = OWN, endpoint: str = ENDPOINT) -> Any:
    session: Any = boto3.Session
    make = session(**credentials.as_json(), region_name="us-east-1").client
    return make(service, endpoint_url=endpoint, config=config)


class Catching(Handler):
    protocol_version = "HTTP/1.1"  # or the SDK waits a second for "100 Continue"
    caught: list[Asked]

    def serve(self) -> None:
        self.caught.append(Asked(self.command, self.path, self.headers, self.body()))
        self.answer(404, "<Error/>" if "json" not in self.headers.get("Content-Type", "") else "{}")

    do_PUT = serve  # noqa: N815


@pytest.fixture(scope="module")
def sent() -> Iterator[Callable[..., Asked]]:
    """Makes a call with the SDK; gives the request as it arrives."""
    caught: list[Asked] = []
    with serving(Catching, caught=caught) as url:

        def send(service: str, operation: str, credentials: Credentials = OWN, **parameters: Any) -> Asked:
            with pytest.raises(ClientError):
                getattr(client(service, OLD, credentials, url), operation)(**parameters)
            return caught[-1]

        yield send


def link(config: Config, operation: str = "get_object", seconds: int = 600, **parameters: str) -> Asked:
    url = client("s3", config).generate_presigned_url(
        operation, Params={"Bucket": "bucket", "Key": "a b/ü~(1)+=&.txt", **parameters}, ExpiresIn=seconds
    )
    method = {"get_object": "GET", "put_object": "PUT"}[operation]
    return Asked(method, url.removeprefix(ENDPOINT), headers_of(Host="127.0.0.1:4599"))


CALLS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "json": ("secretsmanager", "list_secrets", {}),
    "json with text": ("dynamodb", "get_item", {"TableName": "table", "Key": {"id": {"S": "→"}}}),
    "query": ("sns", "publish", {"TopicArn": "arn:aws:sns:us-east-1:1:t", "Message": "a + b = c & d"}),
    "rest with an arn in its path": ("lambda", "get_policy", {"FunctionName": "arn:aws:lambda:us-east-1:1:function:f"}),
    "rest with a query": ("lambda", "list_functions", {"Marker": "a/b c+d=="}),
    "s3 object": (
        "s3", "put_object", {"Bucket": "bucket", "Key": "a b/ü~(1)//../+=&", "Body": b"x", "Metadata": {"a_b": "c  d"}},
    ),
    "s3 file": ("s3", "put_object", {"Bucket": "bucket", "Key": "k", "Body": io.BytesIO(b"x" * 100_000)}),
    "s3 listing": ("s3", "list_objects_v2", {"Bucket": "bucket", "Prefix": "a b/+&="}),
}  # fmt: skip


@pytest.mark.parametrize(("service", "operation", "parameters"), CALLS.values(), ids=CALLS)
def test_what_the_sdk_signs_is_taken(sent: Any, service: str, operation: str, parameters: dict[str, Any]) -> None:
    asked = sent(service, operation, **parameters)
    check(asked)
    check(asked, seconds=14 * 60)
    for seconds in (-16 * 60, 16 * 60):
        with pytest.raises(Refused, match=r"Signature (expired|not yet current)"):
            check(asked, seconds=seconds)


def test_other_credentials_are_refused(sent: Any) -> None:
    other = Credentials.new()
    assert other != OWN
    assert (len(other.aws_access_key_id), len(other.aws_secret_access_key)) == (20, 40)
    assert other.aws_secret_access_key not in repr(other)
    with pytest.raises(Refused, match="security token included in the request is invalid"):
        check(sent("secretsmanager", "list_secrets", other))
    with pytest.raises(Refused, match="does not match the signature"):
        check(sent("secretsmanager", "list_secrets", replace(OWN, aws_secret_access_key="x" * 40)))
    for config in (OLD, NEW):
        with pytest.raises(Refused, match="security token included in the request is invalid"):
            check(link(config), other)


CHANGES: dict[str, Callable[[Asked], Asked]] = {
    "method": lambda asked: replace(asked, method="DELETE"),
    "path": lambda asked: replace(asked, target="/other" + asked.target),
    "query": lambda asked: replace(asked, target=asked.target + ("&" if "?" in asked.target else "?") + "x=1"),
    "body": lambda asked: replace(asked, body=asked.body + b" "),
    "host": lambda asked: with_header(asked, "Host", "127.0.0.1:4600"),
    "time": lambda asked: with_header(
        asked, "X-Amz-Date", f"{datetime.now(UTC) - timedelta(minutes=1):%Y%m%dT%H%M%SZ}"
    ),
    "operation": lambda asked: with_header(asked, "X-Amz-Target", "DynamoDB_20120810.DeleteTable"),
    "hash": lambda asked: with_header(asked, "X-Amz-Content-SHA256", "UNSIGNED-PAYLOAD"),
    "region": lambda asked: with_authorization(asked, "us-east-1", "eu-west-1"),
    "service": lambda asked: with_authorization(asked, "/aws4_request", "x/aws4_request"),
    "day": lambda asked: with_authorization(asked, f"{datetime.now(UTC):/%Y}", "/2020"),
    "signed headers": lambda asked: with_authorization(asked, "host;", ""),
    "signature": lambda asked: with_authorization(asked, "Signature=", "Signature=0"),
    "no signature": lambda asked: with_authorization(asked, ", Signature", ", Sig"),
    "two authorizations": lambda asked: with_header(asked, "Authorization", asked.headers["Authorization"], keep=True),
    "a link's signature too": lambda asked: replace(asked, target=asked.target + "?X-Amz-Signature=0"),
    "a session token": lambda asked: with_header(asked, "X-Amz-Security-Token", "token"),
    "none": lambda asked: without(asked, "Authorization"),
}


def without(asked: Asked, name: str) -> Asked:
    headers = Message()
    for key, value in asked.headers.items():
        if key.lower() != name.lower():
            headers[key] = value
    return replace(asked, headers=headers)


def with_header(asked: Asked, name: str, value: str, keep: bool = False) -> Asked:
    changed = without(asked, "" if keep else name)
    changed.headers[name] = value
    return changed


def with_authorization(asked: Asked, old: str, new: str) -> Asked:
    assert old in asked.headers["Authorization"]
    return with_header(asked, "Authorization", asked.headers["Authorization"].replace(old, new))


@pytest.mark.parametrize("call", ["json with text", "s3 object"])
@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_request_that_was_changed_is_refused(sent: Any, call: str, change: Callable[[Asked], Asked]) -> None:
    service, operation, parameters = CALLS[call]
    asked = sent(service, operation, **parameters)
    check(asked)
    with pytest.raises(Refused):
        check(change(with_header(asked, "X-Amz-Date", asked.headers["X-Amz-Date"])))


@pytest.mark.parametrize("config", [OLD, NEW], ids=["version 2", "version 4"])
def test_links_of_s3(config: Config) -> None:
    asked = link(config, ResponseContentType="text/plain; charset=utf-8")
    assert ("X-Amz-Signature" in asked.target) == (config is NEW)
    check(asked)
    check(asked, seconds=9 * 60)
    with pytest.raises(Refused, match="expired"):
        check(asked, seconds=11 * 60)
    changes: list[Asked] = [
        replace(asked, method="PUT"),
        replace(asked, target=asked.target.replace("a%20b", "b")),
        replace(asked, target=asked.target.replace("text%2Fplain", "text%2Fhtml")),
        replace(asked, target=asked.target.replace("Expires=", "Expires=9")),
        replace(asked, target=asked.target + "&Signature=x"),
        replace(asked, target=asked.target.replace("Signature=", "Signature=0")),
        with_header(asked, "X-Amz-Acl", "public-read"),
    ]
    for changed in changes:
        assert changed != asked
        with pytest.raises(Refused):
            check(changed)


@pytest.mark.parametrize("config", [OLD, NEW], ids=["version 2", "version 4"])
def test_links_to_upload_by(config: Config) -> None:
    asked = replace(link(config, "put_object", ContentType="text/plain"), body=b"what the link's owner did not know")
    check(with_header(asked, "Content-Type", "text/plain"))
    with pytest.raises(Refused):
        check(with_header(asked, "Content-Type", "text/html"))


EXAMPLE = Credentials("AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY")
LENGTHS = (65536, 1024, 0)


def streamed(kind: str, signed: str, seed: str, chunks: list[str], end: str, **more: str) -> Asked:
    """An upload in chunks, of AWS's published examples."""
    scope = f"Credential={EXAMPLE.aws_access_key_id}/20130524/us-east-1/s3/aws4_request"
    headers = headers_of(
        Host="s3.amazonaws.com", x_amz_date="20130524T000000Z", x_amz_storage_class="REDUCED_REDUNDANCY",
        x_amz_content_sha256=kind, Content_Encoding="aws-chunked", x_amz_decoded_content_length="66560",
        Content_Length="66824", **more,
        Authorization=f"AWS4-HMAC-SHA256 {scope},SignedHeaders={signed},Signature={seed}",
    )  # fmt: skip
    parts = [
        f"{length:x};chunk-signature={signature}\r\n{'a' * length}" + ("\r\n" if length or not more else "")
        for length, signature in zip(LENGTHS, chunks, strict=True)
    ]
    return Asked("PUT", "/examplebucket/chunkObject.txt", headers, ("".join(parts) + end).encode())


PLAIN = streamed(
    "STREAMING-AWS4-HMAC-SHA256-PAYLOAD",
    "content-encoding;content-length;host;x-amz-content-sha256;x-amz-date;x-amz-decoded-content-length;x-amz-storage-class",
    "4f232c4386841ef735655705268965c44a0e4690baa4adea153f7db9fa80a0a9",
    [
        "ad80c730a21e5b8d04586a2213dd63b9a0e99e0e2307b0ade35a65485a288648",
        "0055627c9e194cb4542bae2aa5492e3c1575bbb81b612b7d234b86a503ef5497",
        "b6c6ea8a5354eaf15b3cb7646744f4275b71ea724fed81ceb9323e279d449df9",
    ],
    "",
)
"""https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-streaming.html"""
TRAILED = streamed(
    "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER",
    "content-encoding;host;x-amz-content-sha256;x-amz-date;x-amz-decoded-content-length;x-amz-storage-class;x-amz-trailer",
    "106e2a8a18243abcf37539882f36619c00e2dfc72633413f02d3b74544bfeb8e",
    [
        "b474d8862b1487a5145d686f57f013e54db672cee1c953b3010fb58501ef5aa2",
        "1c1344b170168f8e65b41376b44b20fe354e373826ccbbe2c1d40a8cae51e5c7",
        "2ca2aba2005185cf7159c6277faf83795951dd77a3a99e6e65d5c9f85863f992",
    ],
    "x-amz-checksum-crc32c:sOO8/Q==\r\n"
    "x-amz-trailer-signature:d81f82fc3505edab99d459891051a732e8730629a2e4a59689829ca17fe2e435\r\n\r\n",
    x_amz_trailer="x-amz-checksum-crc32c",
)
"""https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-streaming-trailers.html"""


@pytest.mark.parametrize("asked", [PLAIN, TRAILED], ids=["plain", "with a trailer"])
def test_uploads_in_signed_chunks(asked: Asked) -> None:
    def at_its_time(one: Asked) -> None:
        signatures.check(one, signatures.claim(one, EXAMPLE), EXAMPLE, datetime(2013, 5, 24, tzinfo=UTC))

    at_its_time(asked)
    bodies = [
        asked.body.replace(b"a" * 99 + b"\r", b"a" * 98 + b"b\r"),
        asked.body[: len(asked.body) // 2],
        b"",
        b"x" * 99,
    ]
    bodies += [asked.body.replace(b"sOO8", b"sOO9")] if asked is TRAILED else []
    for body in bodies:
        assert body != asked.body
        with pytest.raises(Refused):
            at_its_time(replace(asked, body=body))


def test_a_body_that_was_not_signed_is_for_s3_only(sent: Any) -> None:
    asked = sent("dynamodb", "list_tables")
    headers = with_header(asked, "X-Amz-Content-SHA256", "UNSIGNED-PAYLOAD")
    with pytest.raises(Refused, match="x-amz-content-sha256"):
        check(with_authorization(headers, "x-amz-date", "x-amz-content-sha256;x-amz-date"))
