"""A finding of the doctor, and AWS's errors in words."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal, NamedTuple

from loopllama.aws import errors

Status = Literal["ok", "warn", "fail"]


class Check(NamedTuple):
    """One finding: `what` was looked at, what was `found`, and what to do about it (empty where nothing)."""

    what: str
    status: Status
    found: str
    todo: str = ""


_DENIED = ("AccessDenied", "AccessDeniedException", "UnauthorizedOperation", "403")
MISSING = ("ResourceNotFoundException", "NoSuchBucket", "NotFound", "404", "StateMachineDoesNotExist")
_REFUSED = (
    *("InvalidClientTokenId", "UnrecognizedClientException", "SignatureDoesNotMatch", "AuthFailure"),
    *("ExpiredToken", "ExpiredTokenException", "RequestExpired"),
)
_LONGEST = 600
"""Of what a service said: a proxy in between may say a page of HTML."""
SIGN_IN = "sign in (`aws sso login`, `aws configure`), or name a profile: --profile NAME, AWS_PROFILE"
GONE = "deploy the stack again, or restore it from a backup"


def looked(subject: str, look: Callable[[], str], action: str) -> Check:
    """Return what a look at AWS found, or what its error means and what to do. `action` is the permission that it
    takes."""
    try:
        return Check(subject, "ok", look())
    except Exception as error:
        trouble = errors.trouble(error)
        if trouble is None:
            raise
        code, name = code_of(error), type(error).__name__
        todo = "check the network, the region and AWS's health, and try again"
        if code in _DENIED:
            todo = f"allow {action} for who you are"
        elif code in MISSING:
            todo = GONE
        elif code in _REFUSED or "Credential" in name or "Token" in name:
            todo = SIGN_IN
        return Check(subject, "fail", " ".join(str(trouble).split())[:_LONGEST], todo)


def code_of(error: Exception) -> str:
    """AWS's code of an error; empty for one that has none."""
    response = getattr(error, "response", None)
    return str(response.get("Error", {}).get("Code", "")) if isinstance(response, Mapping) else ""
