"""Bedrock's errors, and its inference profiles."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from loopllama.aws import clients
from loopllama.catalog.model import at_region
from loopllama.errors import (
    CredentialsRejected,
    InvalidModelResponse,
    ModelError,
    ModelNotAvailable,
    ModelRequestRejected,
    ModelThrottled,
    ModelTimeout,
    ModelUnavailable,
)
from loopllama.providers import error_mapping, waits
from loopllama.providers.bedrock import access

CODES: Mapping[str, type[ModelError]] = {
    "AccessDeniedException": ModelNotAvailable,
    "ResourceNotFoundException": ModelNotAvailable,
    "ValidationException": ModelRequestRejected,
    "ThrottlingException": ModelThrottled,
    "TooManyRequestsException": ModelThrottled,
    "ServiceQuotaExceededException": ModelThrottled,
    "ModelNotReadyException": ModelUnavailable,
    "ModelErrorException": ModelUnavailable,
    "ModelTimeoutException": ModelTimeout,
    "InternalServerException": ModelUnavailable,
    "InternalFailure": ModelUnavailable,
    "ServiceUnavailableException": ModelUnavailable,
    "ServiceUnavailable": ModelUnavailable,
    "RequestExpired": ModelUnavailable,
    "UnrecognizedClientException": CredentialsRejected,
    "InvalidSignatureException": CredentialsRejected,
    "InvalidClientTokenId": CredentialsRejected,
    "IncompleteSignature": CredentialsRejected,
    "IncompleteSignatureException": CredentialsRejected,
    "SignatureDoesNotMatch": CredentialsRejected,
    "MissingAuthenticationToken": CredentialsRejected,
    "MissingAuthenticationTokenException": CredentialsRejected,
    "ExpiredTokenException": CredentialsRejected,
    "ExpiredToken": CredentialsRejected,
    "NotAuthorized": CredentialsRejected,
    "OptInRequired": CredentialsRejected,
}
"""Converse's errors, and those that any AWS service may give.
https://docs.aws.amazon.com/bedrock/latest/APIReference/CommonErrors.html"""

ROLE = "The credentials are those of the function's role (or of AWS_BEARER_TOKEN_BEDROCK); no secret is used"


def aws_failure(error: Exception, who: str, model: str = "", region: str | None = None) -> ModelError:
    """Return what a `ClientError` or `BotoCoreError` of Converse stands for. `who` begins the message, which says what
    to do where the account lacks access to `model`, called in `region` (by default this process's own)."""
    from botocore import exceptions

    if isinstance(error, exceptions.ClientError):
        code, detail = _code_and_detail(error)
        headers = error.response.get("ResponseMetadata", {}).get("HTTPHeaders", {})
        wait = waits.asked(headers, detail)
        kind = error_mapping.kind_of(_status(error), [code], detail, CODES)
        label = f"HTTP {_status(error)}" if code == str(_status(error)) else f"HTTP {_status(error)}, {code}"
        message = f"{who} ({label}): {detail}"
        if kind is CredentialsRejected:
            message = f"{message}. {ROLE}"
        elif kind in (ModelRequestRejected, ModelNotAvailable) and (
            remedy := access.explain(code, detail, model, region or clients.region())
        ):
            kind, message = ModelNotAvailable, f"{who} ({label}): {remedy}. AWS says: {detail}"
        unusable = kind is InvalidModelResponse
        made = kind(message, retry_after=wait if kind.later else None, status=_status(error), repeatable=unusable)
        return error_mapping.judged(made, [code], detail)
    if isinstance(
        error,
        exceptions.NoCredentialsError
        | exceptions.PartialCredentialsError
        | exceptions.CredentialRetrievalError
        | exceptions.TokenRetrievalError
        | exceptions.UnauthorizedSSOTokenError
        | exceptions.ProfileNotFound,
    ):
        return CredentialsRejected(f"{who}: no AWS credentials: {error}. {ROLE}")
    return ModelRequestRejected(f"{who}: the request cannot be made: {error}")


def underlying_model(identifier: str) -> str:
    """Return the foundation model's id behind an id or ARN, so that it can be priced: of a foundation model or a
    cross-region profile the id in the ARN, of an application inference profile the model that
    bedrock:GetInferenceProfile names (asked once per process). Anything else is returned as it is, without the region
    to call it in.

    Raises `ModelRequestRejected` where the profile may not be read or does not exist, `ModelUnavailable` where Bedrock
    does not answer."""
    _, identifier = at_region(identifier)
    if not identifier.startswith("arn:"):
        return identifier
    kind, _, name = identifier.split(":", 5)[-1].partition("/")
    if kind == "application-inference-profile":
        return _model_of_profile(identifier)
    return name if kind in ("foundation-model", "inference-profile") else identifier


@lru_cache(maxsize=256)
def _model_of_profile(arn: str) -> str:
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        client = clients.client("bedrock", read_seconds=3, attempts=2, region=at_region(arn)[0])
        models = client.get_inference_profile(inferenceProfileIdentifier=arn).get("models")
    except ClientError as error:
        code, detail = _code_and_detail(error)
        kind = error_mapping.kind_of(_status(error), [code], detail, CODES)
        raise kind(f"inference profile {arn} cannot be resolved ({code}): {detail}", status=_status(error)) from error
    except BotoCoreError as error:
        raise ModelUnavailable(f"inference profile {arn} cannot be resolved: {error}") from error
    if not models:
        raise ModelRequestRejected(f"inference profile {arn} names no model")
    return str(models[0].get("modelArn", "")).rpartition("/")[2]


def _code_and_detail(error: Any) -> tuple[str, str]:
    fields = error.response.get("Error", {})
    return str(fields.get("Code") or "unknown"), str(fields.get("Message") or "no explanation")[:500]


def _status(error: Any) -> int:
    return int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode") or 500)
