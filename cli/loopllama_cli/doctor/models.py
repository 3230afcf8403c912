"""The models in use: known, enabled, and within reach of their keys and of the account."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

from loopllama.aws import clients
from loopllama.catalog.model import at_region
from loopllama.errors import ModelError, ModelUnknown
from loopllama.settings import Settings
from loopllama_cli.doctor.access import Access
from loopllama_cli.doctor.findings import GONE, Check, looked
from loopllama_cli.doctor.quotas import Limits
from loopllama_cli.doctor.use import Use
from loopllama_cli.target import Target, next_command


def examine_models(target: Target, use: Use, call: bool, access: Access, limits: Limits) -> Iterator[Check]:
    """Yield for each model in use: it is known and enabled, its provider lets us in, its quotas let it be called."""
    from loopllama.catalog.store import CatalogStore

    settings = target.settings
    catalog = CatalogStore(settings).catalog()
    for problem in catalog.problems:
        remove_it = next_command("models remove", str(problem["model"]))
        todo = f"fix the row ({next_command('models set')}) or delete it: {remove_it}"
        yield Check(f"model {problem['model']}", "warn", f"its row is skipped: {problem['reason']}", todo)
    for name, way in catalog.replacement_circles().items():
        todo = f"name another one, or none: {next_command('models enable', name)}"
        yield Check(f"model {name}", "warn", f"its replaced_by goes round in a circle: {way}", todo)
    models: dict[str, Any] = {}
    names = sorted(use.models.items())
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
        if provider != "bedrock" or simulated(provider, settings):
            check = _provider(provider, target)
            refused |= {provider} if check.status == "fail" else set()
            yield check
    for model in models.values():
        usable = model.provider not in refused
        if model.provider == "bedrock" and not simulated("bedrock", settings):
            check = access.examine(model)
            usable = check.status != "fail"
            yield check
        if usable and model.provider in ("bedrock", "bedrock-openai") and not simulated(model.provider, settings):
            yield from limits.examine(model)
        if call and usable:
            yield _called(model, settings)


def simulated(provider: str, settings: Settings) -> bool:
    """Return whether the deployment's stand-in answers for a provider."""
    from loopllama.providers import is_simulated

    return is_simulated(provider, settings)


def _provider(provider: str, target: Target) -> Check:
    """Return whether a provider is simulated, needs no key, or has one, or its address, in Secrets Manager (whose
    content is not read)."""
    from loopllama.catalog.providers import KNOWN, Known, variables_of

    subject, settings = f"provider {provider}", target.settings
    if simulated(provider, settings):
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
        todo = _after_denial(error, model) or "see docs/providers.md, or use another model"
        return Check(subject, "fail", f"{type(error).__name__}: {error}", todo)
    took = round((time.monotonic() - began) * 1000)
    tokens = answer.usage.input_tokens + answer.usage.output_tokens
    by = ", simulated" if answer.simulated else ""
    return Check(subject, "ok", f"answered in {took} ms, {tokens} tokens{by}")


def _after_denial(error: ModelError, model: Any) -> str:
    """Return what to do where a policy denies a model of Bedrock; empty where none does."""
    from loopllama.providers.bedrock.denials import denial, remedy

    if model.provider != "bedrock" or (denied := denial(str(error))) is None:
        return ""
    region, identifier = at_region(str(model.provider_model))
    return remedy(denied, identifier, region or clients.region())
