"""The models in use: known, enabled, and within reach of their keys and of the account."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from typing import Any

from loopllama.aws import clients, dynamo, errors
from loopllama.catalog.model import at_region, foundation_model
from loopllama.errors import ModelError, ModelUnknown
from loopllama.settings import Settings
from loopllama_cli.doctor.findings import GONE, MISSING, Check, code_of, looked
from loopllama_cli.target import Target, next_command


def examine_models(target: Target, call: bool, profile: str | None = None) -> Iterator[Check]:
    """Yield for each model in use: it is known and enabled, and its provider lets us in. `profile` is for the commands
    that are told."""
    from loopllama.catalog.store import CatalogStore

    settings = target.settings
    catalog = CatalogStore(settings).catalog()
    for problem in catalog.problems:
        remove_it = next_command("models remove", str(problem["model"]))
        todo = f"fix the row ({next_command('models set')}) or delete it: {remove_it}"
        yield Check(f"model {problem['model']}", "warn", f"its row is skipped: {problem['reason']}", todo)
    models: dict[str, Any] = {}
    names = sorted(_names_in_use(settings).items())
    seen = {name for name, _ in names}
    for name, users in names:
        try:
            model = catalog.resolve(name)
        except ModelUnknown as error:
            yield Check(f"model {name}", "fail", f"{error} Used by {users}.", "name another one there")
            continue
        if model.enabled:
            models.setdefault(model.id, model)
            continue
        other = f", {model.replaced_by} answers" if model.replaced_by else ""
        yield Check(
            f"model {name}", "warn", f"disabled{other}; used by {users}", next_command("models enable", model.id)
        )
        if model.replaced_by and model.replaced_by not in seen:
            seen.add(model.replaced_by)
            names.append((model.replaced_by, f"what used {model.id}"))
    providers = sorted({model.provider for model in models.values()})
    refused = set()
    for provider in providers:
        if provider != "bedrock" or _simulated(provider, settings):
            check = _provider(provider, target)
            refused |= {provider} if check.status == "fail" else set()
            yield check
    for model in models.values():
        usable = model.provider not in refused
        if model.provider == "bedrock" and not _simulated("bedrock", settings):
            check = _bedrock(model, profile)
            usable = check.status != "fail"
            yield check
        if call and usable:
            yield _called(model, settings)


def _names_in_use(settings: Settings) -> dict[str, str]:
    """Return the models that definitions and routes name, and the deployment's default, with who names them."""
    from loopllama.workflows.store import DefinitionStore

    users: dict[str, set[str]] = {settings.default_model: {"DefaultModel"}}

    def add(part: Mapping[str, Any], user: str) -> None:
        lists = (part.get("candidates"), part.get("fallbacks"))  # in a row they may be anything
        for entry in (part.get("model"), *(entry for listed in lists if isinstance(listed, list) for entry in listed)):
            name = entry.get("model") if isinstance(entry, Mapping) else entry
            if isinstance(name, str) and name:
                users.setdefault(name, set()).add(user)

    store, cursor = DefinitionStore(settings), None
    while True:
        page, cursor = store.list(100, cursor)
        for item in page:
            for part in (item["definition"], *item["definition"]["crew"]):
                add(part, str(item["workflow_id"]))
        if cursor is None:
            break
    pages = clients.client("dynamodb").get_paginator("scan").paginate(TableName=settings.routes_table)
    for row in (dynamo.from_item(item) for page in pages for item in page["Items"]):
        add(row, f"the route {row['workflow']}/{row['step']}")
    return {name: ", ".join(sorted(who)[:3]) + (" and others" if len(who) > 3 else "") for name, who in users.items()}


def _simulated(provider: str, settings: Settings) -> bool:
    from loopllama.providers import is_simulated

    return is_simulated(provider, settings)


def _provider(provider: str, target: Target) -> Check:
    """Return whether a provider is simulated, needs no key, or has one, or its address, in Secrets Manager (whose
    content is not read)."""
    from loopllama.catalog.providers import KNOWN, Known, variables_of

    subject, settings = f"provider {provider}", target.settings
    if _simulated(provider, settings):
        if target.local and KNOWN.get(provider, Known()).by_role:
            return Check(subject, "ok", "simulated: the local stack has no AWS account")
        if target.local:
            key = f"{variables_of(provider)[0]}_API_KEY"
            return Check(subject, "ok", f"simulated; for the real one start `loopllama local` with {key} set")
        return Check(subject, "warn", "simulated: nothing it says is real", "take it out of SimulatedProviders")
    known = KNOWN.get(provider, Known())
    if known.by_role:
        return Check(subject, "ok", "needs no key")
    name = settings.provider_secrets_prefix + provider
    check = looked(
        subject,
        lambda: clients.client("secretsmanager").describe_secret(SecretId=name)["Name"],
        "secretsmanager:DescribeSecret",
    )
    if check.status == "fail" and check.todo == GONE:
        missing, url = ("address", " --base-url URL") if known.local_server else ("key", "")
        todo = next_command("providers set", provider) + url
        return Check(subject, "fail", f"has no {missing}: there is no secret {name}", todo)
    return check


_ANOTHER = "use a model of this region: loopllama routes set, DefaultModel, or an alias (frontier, balanced, small)"


def _bedrock(model: Any, profile: str | None) -> Check:
    """Return whether the account may use a model on Bedrock: its agreement, its authorisation, its region; and the
    commands for what is missing. `profile` is the one that the command line names."""
    from loopllama.providers.bedrock.service import underlying_model

    subject, (elsewhere, _) = f"model {model.id}", at_region(str(model.provider_model))
    region = elsewhere or clients.region()
    try:
        client = clients.client("bedrock", read_seconds=10, attempts=2, region=elsewhere)
    except ValueError as error:  # botocore's InvalidRegionError
        return Check(subject, "fail", f"its region is none: {error}", f"write its id or ARN anew, or {_ANOTHER}")
    try:
        named = underlying_model(str(model.provider_model))
        if not named.startswith("arn:"):
            base = foundation_model(named)
            if base != named:
                client.get_inference_profile(inferenceProfileIdentifier=named)
            availability = client.get_foundation_model_availability(modelId=base)
            wrong, todo = _missing(client, base, availability, region, profile, in_profile=base != named)
            if wrong:
                return Check(subject, "fail", "; ".join(wrong), todo)
    except Exception as error:
        if code_of(error) in (*MISSING, "ValidationException"):
            return Check(subject, "fail", f"Bedrock does not know it in {region}: {error}", _ANOTHER)
        if not isinstance(error, ModelError) and errors.trouble(error) is None:
            raise
        todo = "allow bedrock:GetInferenceProfile and bedrock:GetFoundationModelAvailability, or try --call"
        return Check(subject, "warn", f"whether it may be used cannot be seen: {error}", todo)
    where = f"; it is called in {region}, not in this stack's region" if region != clients.region() else ""
    return Check(subject, "ok", f"Bedrock lets this account use it{where}")


def _missing(
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
        return [f"the model is not in {region}"], _ANOTHER
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
        todo.append(console or f"ask whoever governs the AWS organization, or AWS Support; or {_ANOTHER}")
    if wrong:
        todo.append(f"or {_ANOTHER}")
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


def _called(model: Any, settings: Settings) -> Check:
    """One word from the model, with the credentials of who asks: the functions have their own."""
    from loopllama.llm.types import Message, ModelRequest
    from loopllama.providers import provider_for

    subject, began = f"call {model.id}", time.monotonic()
    request = ModelRequest(
        model=model.provider_model,
        catalog_id=model.id,
        system="Answer with one word.",
        messages=[Message("user", "Say the word ready.")],
        timeout=60,
        max_tokens=64,
        options=model.options or {},
        effort=model.effort or "",
        service_tier=model.service_tier or "",
    )
    try:
        answer = provider_for(model, settings).complete(request)
    except ModelError as error:
        return Check(subject, "fail", f"{type(error).__name__}: {error}", "see docs/providers.md, or use another model")
    took = round((time.monotonic() - began) * 1000)
    tokens = answer.usage.input_tokens + answer.usage.output_tokens
    by = ", simulated" if answer.simulated else ""
    return Check(subject, "ok", f"answered in {took} ms, {tokens} tokens{by}")
