"""Whether a request is signed with the local stack's own credentials, as AWS would judge it.

botocore signs: what it makes of a request with these credentials is compared with what the request brings. Sources:
https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv.html,
https://docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-authenticating-requests.html and, for signed links of S3 in the
form that boto3 and the AWS CLI make by default, https://docs.aws.amazon.com/AmazonS3/latest/userguide/RESTAuthentication.html
"""

from __future__ import annotations

import hmac
import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.message import Message
from email.utils import parsedate_to_datetime
from functools import cached_property
from hashlib import sha256
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from botocore.auth import HmacV1QueryAuth, S3SigV4Auth, SigV4Auth
from botocore.awsrequest import AWSRequest, HTTPHeaders
from botocore.credentials import Credentials as Keys

from loopllama_cli.local import refusals
from loopllama_cli.local.credentials import Credentials

SKEW = timedelta(minutes=15)
MAX_LINK_SECONDS = 7 * 24 * 3600
TIMESTAMP = "%Y%m%dT%H%M%SZ"
EMPTY = sha256(b"").hexdigest()

_SCOPE = r"(?P<key>[\w-]+)/(?P<day>\d{8})/(?P<region>[a-z0-9-]+)/(?P<service>[a-z0-9-]+)/aws4_request"
_HEADER = re.compile(
    rf"AWS4-HMAC-SHA256\s+Credential={_SCOPE}\s*,\s*SignedHeaders=(?P<signed>[^,\s]+)\s*,\s*Signature=(?P<signature>\w+)",
    re.ASCII,
)


@dataclass(frozen=True, slots=True)
class Claim:
    """Who a request says that it is from, and by which signature."""

    key: str
    service: str
    region: str
    day: str
    signed: tuple[str, ...]
    """The headers that the signature covers, in lower case."""
    signature: str
    form: str
    """`header`, `link` (version 4 in the query) or `old link` (version 2, of S3 only)."""

    @property
    def authorization(self) -> str:
        """The beginning of the header that says the same."""
        return f"AWS4-HMAC-SHA256 Credential={self.key}/{self.day}/{self.region}/{self.service}/aws4_request, "


@dataclass(frozen=True)
class Asked:
    """A request as it came: `target` is its path and query, encoded; `headers` as they were sent."""

    method: str
    target: str
    headers: Message
    body: bytes = b""

    @cached_property
    def query(self) -> list[tuple[str, str]]:
        """The parts of the query, decoded."""
        return parse_qsl(self.target.partition("?")[2], keep_blank_values=True)


class _AsAsked:
    """Signs the headers that the request names, no other, and the body that it tells of."""

    def headers_to_sign(self, request: AWSRequest) -> HTTPHeaders:
        return request.headers

    def payload(self, request: AWSRequest) -> str:
        return str(request.context["payload"])


class _Signer(_AsAsked, SigV4Auth):
    pass


class _S3Signer(_AsAsked, S3SigV4Auth):
    pass


def claim(asked: Asked, credentials: Credentials) -> Claim:
    """Return what a request claims, without looking at its body. Raises `Refused` where it claims nothing that could
    be true."""
    query = asked.query
    values = dict(query)
    given = asked.headers.get_all("Authorization", [])
    if len(given) + sum(name in ("X-Amz-Signature", "Signature") for name, _ in query) > 1:
        raise refusals.incomplete("The request is signed twice: sign it by the header Authorization or by its query.")
    if given:
        match = _HEADER.fullmatch(given[0].strip())
        if not match:
            raise refusals.incomplete("The header Authorization is not one of Signature Version 4 (AWS4-HMAC-SHA256).")
        claimed = Claim(
            match["key"], match["service"], match["region"], match["day"],
            tuple(match["signed"].lower().split(";")), match["signature"], "header",
        )  # fmt: skip
    elif "X-Amz-Signature" in values:
        match = re.fullmatch(_SCOPE, values.get("X-Amz-Credential", ""), re.ASCII)
        if not match or values.get("X-Amz-Algorithm") != "AWS4-HMAC-SHA256":
            raise refusals.incomplete("The query is not signed by Signature Version 4 (AWS4-HMAC-SHA256).")
        signed = tuple(values.get("X-Amz-SignedHeaders", "").lower().split(";"))
        claimed = Claim(
            match["key"], match["service"], match["region"], match["day"], signed, values["X-Amz-Signature"], "link"
        )
    elif "Signature" in values and "AWSAccessKeyId" in values:
        claimed = Claim(values["AWSAccessKeyId"], "s3", "us-east-1", "", (), values["Signature"], "old link")
    else:
        raise refusals.missing()
    if not _same(claimed.key, credentials.aws_access_key_id):
        raise refusals.unknown()
    if "X-Amz-Security-Token" in asked.headers or any(name.lower() == "x-amz-security-token" for name in values):
        raise refusals.unknown("The local stack's credentials have none: unset AWS_SESSION_TOKEN.")
    return claimed


def check(asked: Asked, claim: Claim, credentials: Credentials, now: datetime) -> None:
    """Raise `Refused` unless the request is signed as it claims, with these credentials, and at this time."""
    keys = Keys(credentials.aws_access_key_id, credentials.aws_secret_access_key)
    if claim.form == "old link":
        _check_old_link(asked, claim, keys, now)
        return
    unsigned = [
        name.lower()
        for name in asked.headers
        if (name.lower() == "host" or name.lower().startswith("x-amz-")) and name.lower() not in claim.signed
    ]
    if unsigned:
        raise refusals.wrong(
            f"The signature does not cover these headers of the request: {', '.join(unsigned)}.", "AccessDenied"
        )
    headers = HTTPHeaders()
    for name in claim.signed:
        if name not in asked.headers:
            raise refusals.wrong(f"The request lacks the header {name}, which its signature covers.")
        for value in asked.headers.get_all(name, []):
            headers.add_header(name, value)
    make: Any = AWSRequest  # the stubs know fewer types
    request = make(
        method=asked.method,
        url=f"http://local{asked.target.partition('?')[0]}",
        headers=headers,
        params=[(name, value) for name, value in asked.query if claim.form == "header" or name != "X-Amz-Signature"],
    )
    payload = _checked_payload(asked, claim)
    request.context.update(timestamp=_checked_time(asked, claim, now), payload=payload)
    signer: Any = (_S3Signer if claim.service == "s3" else _Signer)(keys, claim.service, claim.region)
    signature = signer.signature(signer.string_to_sign(request, signer.canonical_request(request)), request)
    if not _same(signature, claim.signature):
        raise refusals.wrong()
    if payload.startswith("STREAMING-AWS4-HMAC-SHA256-PAYLOAD"):
        _check_chunks(asked.body, claim, signer, request, trailer=payload.endswith("-TRAILER"))


def _checked_time(asked: Asked, claim: Claim, now: datetime) -> str:
    """Return the request's time as its signature has it. Raises `Refused` where it is not about now, or the link is
    over."""
    values = dict(asked.query)
    try:
        text = values["X-Amz-Date"] if claim.form == "link" else asked.headers.get("X-Amz-Date")
        if text is None:
            when = parsedate_to_datetime(asked.headers["Date"]).astimezone(UTC)
        else:
            when = datetime.strptime(text, TIMESTAMP).replace(tzinfo=UTC)
        lasts = timedelta(seconds=int(values["X-Amz-Expires"])) if claim.form == "link" else SKEW
    except (KeyError, OverflowError, TypeError, ValueError):
        raise refusals.incomplete("The request has no time in the form of Signature Version 4: X-Amz-Date.") from None
    stamp, today = when.strftime(TIMESTAMP), now.strftime(TIMESTAMP)
    if claim.form == "link" and not timedelta(0) < lasts <= timedelta(seconds=MAX_LINK_SECONDS):
        raise refusals.incomplete(f"X-Amz-Expires is a number of seconds from 1 to {MAX_LINK_SECONDS}.")
    if claim.day != stamp[:8]:
        raise refusals.wrong(
            f"Date in Credential scope does not match YYYYMMDD from the request's time: {claim.day}, {stamp}."
        )
    if when - now > SKEW:
        raise refusals.wrong(f"Signature not yet current: {stamp} is still later than {today}.", "RequestTimeTooSkewed")
    if now - when > lasts:
        s3 = "AccessDenied" if claim.form == "link" else "RequestTimeTooSkewed"
        raise refusals.wrong(f"Signature expired: {stamp} is too long before {today}.", s3)
    return stamp


def _checked_payload(asked: Asked, claim: Claim) -> str:
    """Return what the signature says of the body: its hash, or one of S3's words. Raises `Refused` where that is not
    so."""
    stated_hash = asked.headers.get("X-Amz-Content-Sha256", "")
    if claim.service == "s3":
        if stated_hash in ("UNSIGNED-PAYLOAD", "STREAMING-UNSIGNED-PAYLOAD-TRAILER") or (
            stated_hash in ("STREAMING-AWS4-HMAC-SHA256-PAYLOAD", "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER")
            and claim.form == "header"
        ):
            return stated_hash
        if claim.form == "link" and not stated_hash:
            return "UNSIGNED-PAYLOAD"
    computed = sha256(asked.body).hexdigest()
    if stated_hash and not _same(stated_hash.lower(), computed):
        raise refusals.wrong(
            "The provided 'x-amz-content-sha256' header does not match what was computed.", "XAmzContentSHA256Mismatch"
        )
    return computed


def _check_chunks(body: bytes, claim: Claim, signer: Any, request: AWSRequest, trailer: bool) -> None:
    """Raise `Refused` unless each chunk of an upload is signed, one upon the other.
    https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-streaming.html and …/sigv4-streaming-trailers.html"""

    def step(kind: str, before: str, *hashes: str) -> str:
        parts = (kind, request.context["timestamp"], signer.credential_scope(request), before, *hashes)
        return str(signer.signature("\n".join(parts), request))

    before, rest, size = claim.signature, body, -1
    while size:
        head, _, rest = rest.partition(b"\r\n")
        match = re.fullmatch(rb"([0-9a-fA-F]{1,16});chunk-signature=([0-9a-f]{64})", head)
        if not match:
            raise refusals.incomplete("The body is not made of signed chunks.")
        size = int(match[1], 16)
        data = rest[:size]
        signature = step("AWS4-HMAC-SHA256-PAYLOAD", before, EMPTY, sha256(data).hexdigest())
        if len(data) < size or not _same(signature, match[2].decode()):
            raise refusals.wrong()
        before, rest = signature, rest[size:]
        if size or not trailer:
            rest = rest.removeprefix(b"\r\n")
    if trailer:
        lines = [line.strip() for line in rest.split(b"\n") if line.strip()]
        trailer_signature = lines.pop() if lines else b""
        text = b"".join(line + b"\n" for line in lines)
        signature = step("AWS4-HMAC-SHA256-TRAILER", before, sha256(text).hexdigest())
        if not _same(f"x-amz-trailer-signature:{signature}", trailer_signature.decode("latin-1")):
            raise refusals.wrong()


class _OldSigner(HmacV1QueryAuth):
    def __init__(self, keys: Keys, expires: str) -> None:
        super().__init__(keys)
        self._until = expires

    def _get_date(self) -> str:
        return self._until


def _check_old_link(asked: Asked, claim: Claim, keys: Keys, now: datetime) -> None:
    """Raise `Refused` unless a link of S3 is signed by version 2, and not over."""
    values = dict(asked.query)
    expires = values.get("Expires", "")
    if not re.fullmatch(r"\d{1,12}", expires, re.ASCII):
        raise refusals.incomplete("A signed link needs Expires, in seconds since 1970.")
    if now.timestamp() > int(expires):
        raise refusals.wrong(
            f"Request has expired: Expires is {expires}, it is {int(now.timestamp())}.", "AccessDenied"
        )
    headers = HTTPHeaders()
    # What was a header when the link was made may stand in its query.
    for name, value in [*asked.headers.items(), *(pair for pair in values.items() if pair[0] not in asked.headers)]:
        if name.lower() in ("content-md5", "content-type") or name.lower().startswith("x-amz-"):
            headers.add_header(name.lower(), value)
    signer: Any = _OldSigner(keys, expires)
    text = signer.canonical_string(asked.method, urlsplit(f"http://local{asked.target}"), headers)
    if not _same(signer.sign_string(text), claim.signature):
        raise refusals.wrong()


def _same(text: str, other: str) -> bool:
    return hmac.compare_digest(text.encode("utf-8", "replace"), other.encode("utf-8", "replace"))
