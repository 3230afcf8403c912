"""What the AWS endpoint says to whom it does not answer, as AWS's services say it."""

from __future__ import annotations

import json
import re
from email.message import Message
from xml.sax.saxutils import escape

_HOW = 'The credentials change at each start of the local stack: eval "$(loopllama local --export)".'


class Refused(Exception):
    """A request is not answered. `codes` are those of AWS's JSON protocols, its query protocol and S3."""

    def __init__(self, codes: tuple[str, str, str], message: str) -> None:
        super().__init__(message)
        self.codes = codes


def denied(message: str) -> Refused:
    """Return the refusal of what is allowed to nobody."""
    return Refused(("AccessDeniedException", "AccessDenied", "AccessDenied"), message)


def missing() -> Refused:
    """Return the refusal of a request that nobody signed."""
    codes = ("MissingAuthenticationTokenException", "MissingAuthenticationToken", "MissingAuthenticationToken")
    return Refused(codes, f"Missing Authentication Token. {_HOW}")


def unknown(how: str = _HOW) -> Refused:
    """Return the refusal of other credentials."""
    codes = ("UnrecognizedClientException", "InvalidClientTokenId", "InvalidAccessKeyId")
    return Refused(codes, f"The security token included in the request is invalid. {how}")


def incomplete(message: str) -> Refused:
    """Return the refusal of what is no signature."""
    codes = ("IncompleteSignatureException", "IncompleteSignature", "AuthorizationHeaderMalformed")
    return Refused(codes, message)


def wrong(message: str = "", s3: str = "SignatureDoesNotMatch") -> Refused:
    """Return the refusal of a signature that is not the request's, or not of now."""
    message = message or (
        "The request signature we calculated does not match the signature you provided. Check your AWS Secret Access "
        f"Key and signing method. {_HOW}"
    )
    return Refused(("InvalidSignatureException", "SignatureDoesNotMatch", s3), message)


def no_account() -> Refused:
    """Return the refusal of a call of a model on Bedrock: it is known at once that no later try is answered."""
    code = "ResourceNotFoundException"
    return Refused(
        (code, code, code),
        "The local stack has no AWS account, so none of Bedrock's models answers here (frontier, balanced and small "
        "stand for some), and --no-simulate forbids the stand-in. Name a model of another provider and give its key "
        "before the start (export OPENAI_API_KEY=KEY), or start without: loopllama local",
    )


def answer(refused: Refused, target: str, headers: Message) -> tuple[int, dict[str, str], bytes]:
    """Return status, headers and body of a refusal, in the form of the service that was asked."""
    kind = headers.get("Content-Type", "").partition(";")[0].strip().lower()
    in_json, in_query, in_s3 = refused.codes
    text = str(refused)
    if "X-Amz-Target" in headers or "json" in kind:
        form = "json"
    elif kind == "application/x-www-form-urlencoded" or re.search(r"[?&]Action=", target):
        form = "query"
    else:
        scope = re.search(r"/([a-z0-9-]+)/aws4_request", headers.get("Authorization", ""))
        form = "s3" if scope is None or scope[1] == "s3" else "json"
    if form == "json":
        body = json.dumps({"__type": in_json, "message": text, "Message": text})
        given = {"Content-Type": "application/x-amz-json-1.1", "x-amzn-ErrorType": in_json}
    elif form == "query":
        body = f"<Error><Type>Sender</Type><Code>{in_query}</Code><Message>{escape(text)}</Message></Error>"
        body = f"<ErrorResponse>{body}<RequestId>local</RequestId></ErrorResponse>"
        given = {"Content-Type": "text/xml"}
    else:
        body = f"<Error><Code>{in_s3}</Code><Message>{escape(text)}</Message></Error>"
        body = f'<?xml version="1.0" encoding="UTF-8"?>\n{body}'
        given = {"Content-Type": "application/xml"}
    return 403, given, body.encode()
