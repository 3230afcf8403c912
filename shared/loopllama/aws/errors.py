"""What an error of an AWS service means."""

from __future__ import annotations

from loopllama.errors import AwsRefused, AwsUnavailable, LoopLlamaError

_REFUSALS = frozenset(
    {
        *("AccessDenied", "AccessDeniedException", "KMS.DisabledException", "KMS.NotFoundException", "NoSuchBucket"),
        *("NoSuchKey", "ResourceNotFoundException", "SerializationException", "StateMachineDoesNotExist"),
        *("UnauthorizedOperation", "ValidationError", "ValidationException"),
    }
)
"""Codes of errors that the same call would get again. Any other is taken for one that passes: the cost of a mistake
is four tries, and not a run that failed for nothing."""


def trouble(error: Exception) -> LoopLlamaError | None:
    """Return an error of the SDK as ours: `AwsRefused` where the same call would fail again, else `AwsUnavailable`;
    `None` for any other error. A call that the SDK refuses is told by its kind alone: the message quotes what was
    handed in."""
    if isinstance(error, AwsUnavailable | AwsRefused):
        return error
    if not type(error).__module__.startswith(("botocore", "boto3")):
        return None
    name = type(error).__name__
    if name == "ParamValidationError":
        return AwsRefused(name)
    code = (getattr(error, "response", None) or {}).get("Error", {}).get("Code")
    return (AwsRefused if code in _REFUSALS else AwsUnavailable)(f"{name}: {error}")
