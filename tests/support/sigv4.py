"""AWS's Signature Version 4 as a service checks it, from its description and without the SDK that makes it.

https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html
"""

from __future__ import annotations

import hmac
import re
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from urllib.parse import parse_qsl, quote

from support.wire_server import Request

_HEADER = re.compile(
    r"AWS4-HMAC-SHA256 Credential=(?P<key>[^/]+)/(?P<day>\d{8})/(?P<region>[^/]+)/(?P<service>[^/]+)/aws4_request, "
    r"SignedHeaders=(?P<signed>[a-z0-9;-]+), Signature=(?P<signature>[0-9a-f]{64})"
)


def fault(request: Request, key: str, secret: str, token: str, service: str, region: str) -> str | None:
    """Return what is wrong with a request's signature, in AWS's words; `None` where it is right."""
    match = _HEADER.fullmatch(request.headers.get("authorization", ""))
    if match is None:
        return "Missing Authentication Token"
    if match["key"] != key or request.headers.get("x-amz-security-token", "") != token:
        return "The security token included in the request is invalid."
    if match["service"] != service:
        return f"Credential should be scoped to correct service: '{service}'."
    if match["region"] != region:
        return "Credential should be scoped to a valid region."
    stamp = request.headers.get("x-amz-date", "")
    when = datetime.strptime(stamp, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    if abs(datetime.now(UTC) - when) > timedelta(minutes=5) or match["day"] != stamp[:8]:
        return f"Signature expired: {stamp}"
    names = match["signed"].split(";")
    if "host" not in names or any(name.startswith("x-amz-") and name not in names for name in request.headers):
        return "'Host' or 'x-amz-*' must be a 'SignedHeader' in the AWS Authorization."
    path, _, query = request.path.partition("?")
    pairs = sorted((quote(n, safe="-_.~"), quote(v, safe="-_.~")) for n, v in parse_qsl(query, keep_blank_values=True))
    canonical = "\n".join(
        (
            "POST",
            quote(path, safe="/-_.~"),
            "&".join("=".join(pair) for pair in pairs),
            *(f"{name}:{' '.join(request.headers[name].split())}" for name in names),
            "",
            match["signed"],
            sha256(request.body).hexdigest(),
        )
    )
    scope = f"{match['day']}/{region}/{service}/aws4_request"
    text = "\n".join(("AWS4-HMAC-SHA256", stamp, scope, sha256(canonical.encode()).hexdigest()))
    step = f"AWS4{secret}".encode()
    for part in (match["day"], region, service, "aws4_request"):
        step = hmac.digest(step, part.encode(), "sha256")
    if hmac.new(step, text.encode(), "sha256").hexdigest() != match["signature"]:
        return "The request signature we calculated does not match the signature you provided."
    return None
