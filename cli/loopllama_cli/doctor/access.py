"""Whether the account may use a model on Bedrock, and the commands for what is missing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from loopllama.aws import clients, errors
from loopllama.catalog.catalog import regions
from loopllama.catalog.model import at_region, foundation_model
from loopllama.errors import ModelError
from loopllama_cli.doctor.findings import MISSING, Check, code_of

ANOTHER = "use a model of this region: loopllama routes set, DefaultModel, or an alias (frontier, balanced, small)"
_PAGES = 3


class Access:
    """What Bedrock says of models; each is asked for once. `profile` is the one that the command line names, for the
    commands that are told."""

    def __init__(self, profile: str | None = None) -> None:
        self._profile = profile
        self._said: dict[str, tuple[list[str], str]] = {}

    def examine(self, model: Any) -> Check:
        """Return whether the account may use a model: its agreement, its authorisation, its region."""
        subject, (elsewhere, _) = f"model {model.id}", at_region(str(model.provider_model))
        region = elsewhere or clients.region()
        try:
            wrong, todo = self.missing(str(model.provider_model))
        except ValueError as error:  # botocore's InvalidRegionError
            return Check(subject, "fail", f"its region is none: {error}", f"write its id or ARN anew, or {ANOTHER}")
        except Exception as error:
            if code_of(error) in (*MISSING, "ValidationException"):
                return Check(subject, "fail", f"Bedrock does not know it in {region}: {error}", ANOTHER)
            if type(error).__name__ == "EndpointConnectionError" and region not in regions():
                return Check(subject, "fail", f"{region} has no Bedrock", _without_bedrock(region))
            if not isinstance(error, ModelError) and errors.trouble(error) is None:
                raise
            todo = "allow bedrock:GetInferenceProfile and bedrock:GetFoundationModelAvailability, or try --call"
            return Check(subject, "warn", f"whether it may be used cannot be seen: {error}", todo)
        if wrong:
            return Check(subject, "fail", "; ".join(wrong), todo)
        where = f"; it is called in {region}, not in this stack's region" if region != clients.region() else ""
        return Check(subject, "ok", f"Bedrock lets this account use it{where}")

    def missing(self, provider_model: str) -> tuple[list[str], str]:
        """Return what keeps the account from a model, by its id or ARN, and what to do, a command a line. Raises what
        the SDK raises, and `ModelError` for an application inference profile that cannot be read."""
        if provider_model not in self._said:
            self._said[provider_model] = self._missing(provider_model)
        return self._said[provider_model]

    def _missing(self, provider_model: str) -> tuple[list[str], str]:
        from loopllama.providers.bedrock.service import underlying_model

        elsewhere, _ = at_region(provider_model)
        client = _client(elsewhere)
        named = underlying_model(provider_model)
        if named.startswith("arn:"):
            return [], ""
        base = foundation_model(named)
        if base != named:
            client.get_inference_profile(inferenceProfileIdentifier=named)
        said = client.get_foundation_model_availability(modelId=base)
        where = elsewhere or clients.region()
        return _lacks(client, base, said, where, self._profile, in_profile=base != named)


def profiles() -> dict[str, list[str]]:
    """Return the cross-Region inference profiles that can be called in this region, by their foundation model: those of
    a geography before the `global.` one."""
    found: dict[str, list[str]] = {}
    pages = (
        _client(None)
        .get_paginator("list_inference_profiles")
        .paginate(typeEquals="SYSTEM_DEFINED", PaginationConfig={"MaxItems": 1000 * _PAGES, "PageSize": 1000})
    )
    for page in pages:
        for profile in page.get("inferenceProfileSummaries", ()):
            identifier = str(profile["inferenceProfileId"])
            if profile.get("status") == "ACTIVE" and foundation_model(identifier) != identifier:
                found.setdefault(foundation_model(identifier), []).append(identifier)
    return {base: sorted(listed, key=lambda one: one.startswith("global.")) for base, listed in found.items()}


def _client(region: str | None) -> Any:
    return clients.client("bedrock", read_seconds=10, attempts=2, region=region)


def _without_bedrock(region: str) -> str:
    from loopllama_cli.doctor.region import remedies

    return "\n".join(remedies(region))


def _lacks(
    client: Any, base: str, availability: Mapping[str, Any], region: str, profile: str | None, *, in_profile: bool
) -> tuple[list[str], str]:
    """Return what keeps the account from a foundation model, by what Bedrock tells of it, and what to do, a command a
    line.

    Models that are not sold through AWS Marketplace have no agreement to make
    (https://docs.aws.amazon.com/bedrock/latest/userguide/model-access.html).
    """
    from loopllama.providers.bedrock.access import (
        USE_CASE,
        agreement_command,
        is_anthropic,
        needs_agreement,
        use_case_command,
    )

    wrong: list[str] = []
    todo: list[str] = []
    if availability.get("regionAvailability") != "AVAILABLE" and not in_profile:
        return [f"the model is not in {region}"], ANOTHER
    agreement = availability.get("agreementAvailability") or {}
    missing = needs_agreement(base) and agreement.get("status") != "AVAILABLE"
    if missing and is_anthropic(base) and not _form_sent(client):
        wrong.append("Anthropic's use case form has not been sent")
        todo.append(f"{use_case_command(region, profile)}    # use-case.json: {USE_CASE}")
    if missing and agreement.get("status") == "PENDING":
        wrong.append("its agreement in AWS Marketplace is being made")
        todo.append("wait; it takes up to 15 minutes")
    elif missing:
        error = f" ({agreement['errorMessage']})" if agreement.get("errorMessage") else ""
        wrong.append(f"its agreement in AWS Marketplace is not made{error}")
        todo.append(f"{agreement_command(base, region, profile)}    # it accepts the vendor's terms")
    blocked = [
        reason
        for reason, key, good in (
            ("the account is not authorised", "authorizationStatus", "AUTHORIZED"),
            ("the account is not entitled", "entitlementAvailability", "AVAILABLE"),
        )
        if availability.get(key) != good
    ]
    if blocked and not todo:
        # Otherwise it follows from the agreement that is missing.
        console = "enable it on the Model access page of Bedrock's console" if region.startswith("us-gov-") else ""
        todo.append(console or f"ask whoever governs the AWS organization, or AWS Support; or {ANOTHER}")
    if wrong:
        todo.append(f"or {ANOTHER}")
    return wrong + blocked, "\n".join(todo)


def _form_sent(client: Any) -> bool:
    """Return whether Anthropic's use case form was sent for this account, as far as one may see."""
    try:
        client.get_use_case_for_model_access()
    except Exception as error:
        if errors.trouble(error) is None:
            raise
        return code_of(error) not in MISSING
    return True
