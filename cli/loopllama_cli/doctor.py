"""What `loopllama doctor` looks at: this machine, the account, a stack's parts, the models in use and their access.

Every check yields what it found and, unless all is well, what to do. Nothing is changed; only `call` costs anything.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Literal, NamedTuple

from loopllama import __version__, aws
from loopllama.errors import ModelError, ModelUnknown
from loopllama.settings import Settings

from .target import Choice, Target, TargetMissing, TargetUnreachable, connect

Status = Literal["ok", "warn", "fail"]


class Check(NamedTuple):
    """One finding: `what` was looked at, what was `found`, and what to do about it (empty where nothing)."""

    what: str
    status: Status
    found: str
    todo: str = ""


_TABLES = ("workflows", "routes", "route_history", "models", "runs", "usage", "api_keys")
_DENIED = ("AccessDenied", "AccessDeniedException", "UnauthorizedOperation", "403")
_MISSING = ("ResourceNotFoundException", "NoSuchBucket", "NotFound", "404", "StateMachineDoesNotExist")
_REFUSED = (
    *("InvalidClientTokenId", "UnrecognizedClientException", "SignatureDoesNotMatch", "AuthFailure"),
    *("ExpiredToken", "ExpiredTokenException", "RequestExpired"),
)
_SIGN_IN = "sign in (`aws sso login`, `aws configure`), or name a profile: --profile NAME, AWS_PROFILE"


def examine(choice: Choice, call: bool = False) -> Iterator[Check]:
    """All checks in their order; those that need what failed before them are left out. `call`: every model in use is
    asked for one word, at its price. Raises `TargetMissing` for a choice of two stacks."""
    local = choice.local is not None or bool(not choice.stack and os.environ.get("LOOPLLAMA_LOCAL"))
    yield _python()
    if not local:
        yield _sam()
        for check in account(choice):
            yield check
            if check.status == "fail":
                return
    try:
        target = connect(choice)
    except TargetMissing as missing:
        if choice.stack:
            raise
        yield Check("stack", "warn", "none was named", str(missing))
        return
    except TargetUnreachable as error:
        todo = "start one: loopllama local" if local else "check --stack and --region, or deploy it: loopllama deploy"
        yield Check("stack", "fail", str(error), todo)
        return
    yield Check("stack", "ok", f"{target.name}{' (local)' if target.local else ''}")
    parts = list(_parts(target))
    yield from parts
    yield _api(target)
    if all(check.status != "fail" for check in parts):
        try:
            yield from _keys(target)
            yield from _models(target, call)
        except Exception as error:
            trouble = aws.trouble(error)
            if trouble is None:
                raise
            yield Check(
                "tables", "fail", str(trouble), "allow reading the stack's tables: dynamodb:Query, Scan, GetItem"
            )


# This machine and the account


def _python() -> Check:
    version = ".".join(map(str, sys.version_info[:3]))
    good = (3, 11) <= sys.version_info < (3, 15)
    return Check(
        "python", "ok" if good else "fail", f"{version}, loopllama {__version__}", "" if good else "3.11 to 3.14"
    )


def _sam() -> Check:
    from .commands.deploy import SamMissing, find_sam

    try:
        return Check("sam", "ok", find_sam())
    except SamMissing:
        return Check("sam", "warn", "AWS's SAM CLI is not here", "to deploy: pipx install aws-sam-cli")


def account(choice: Choice) -> Iterator[Check]:
    """Whether there are credentials that AWS takes, whose they are, and for which region."""
    import boto3
    from botocore.exceptions import ProfileNotFound

    try:
        session = boto3.Session(profile_name=choice.profile, region_name=choice.region)
    except ProfileNotFound as error:
        yield Check("credentials", "fail", str(error), _SIGN_IN)
        return
    if not session.region_name:
        yield Check(
            "region", "fail", "none is set", "say --region NAME, or set AWS_DEFAULT_REGION or the profile's region"
        )
        return
    make: Any = session.client
    yield _looked(
        "credentials",
        lambda: str(make("sts", region_name=session.region_name).get_caller_identity()["Arn"]),
        "sts:GetCallerIdentity",
    )
    yield Check("region", "ok", session.region_name)


# The stack


def _parts(target: Target) -> Iterator[Check]:
    """Its tables, bucket, state machine and event bus: there, and ours to read."""
    settings = target.settings
    dynamodb = aws.client("dynamodb")
    for name in _TABLES:
        table = getattr(settings, f"{name}_table")
        yield _looked(f"table {name}", lambda: _read_table(dynamodb, table), "dynamodb:Scan")  # noqa: B023 - called here
    bucket = settings.values_bucket
    yield _looked("bucket", lambda: aws.client("s3").head_bucket(Bucket=bucket) and bucket, "s3:ListBucket")
    machine = settings.state_machine_arn
    yield _looked(
        "state machine",
        lambda: aws.client("stepfunctions").describe_state_machine(stateMachineArn=machine)["name"],
        "states:DescribeStateMachine",
    )
    bus = settings.event_bus_name
    yield _looked(
        "event bus", lambda: aws.client("events").describe_event_bus(Name=bus)["Name"], "events:DescribeEventBus"
    )


def _read_table(dynamodb: Any, table: str) -> str:
    dynamodb.scan(TableName=table, Limit=1)
    return table


def _api(target: Target) -> Check:
    import httpx

    url = target.outputs.get("ApiUrl", "")
    try:
        answer = httpx.get(f"{url}/healthz", timeout=10)
        theirs = str(answer.json()["version"])
    except (httpx.HTTPError, httpx.InvalidURL, ValueError, KeyError, TypeError) as error:
        return Check("api", "fail", f"{url} does not answer as it should: {error}", "look at the function Api's log")
    if theirs != __version__:
        todo = "loopllama deploy brings the stack to this version; pipx upgrade loopllama this program"
        return Check("api", "warn", f"{url} runs version {theirs}, this program is {__version__}", todo)
    return Check("api", "ok", f"{url}, version {theirs}")


def _keys(target: Target) -> Iterator[Check]:
    from loopllama.api.keys import KeyStore

    valid = [key["name"] for key in KeyStore(target.settings).all() if not key.get("revoked_at")]
    if valid:
        yield Check("api keys", "ok", f"{len(valid)} ({', '.join(sorted(set(valid))[:5])})")
    else:
        yield Check("api keys", "warn", "none, so nobody can use the HTTP API", "loopllama keys create NAME")


# The models


def _models(target: Target, call: bool) -> Iterator[Check]:
    """For each model in use: it is known and enabled, and its provider lets us in."""
    from loopllama.catalog_store import CatalogStore

    settings = target.settings
    catalog = CatalogStore(settings).catalog()
    for problem in catalog.problems:
        todo = "mend the row (loopllama models set) or delete it"
        yield Check(f"model {problem['model']}", "warn", f"its row is passed over: {problem['reason']}", todo)
    found: dict[str, Any] = {}
    for name, users in sorted(_names_in_use(settings).items()):
        try:
            model = catalog.resolve(name)
        except ModelUnknown as error:
            yield Check(f"model {name}", "fail", f"{error} Used by {users}.", "name another one there")
            continue
        if not model.enabled:
            other = f", {model.replaced_by} answers" if model.replaced_by else ""
            yield Check(f"model {name}", "warn", f"disabled{other}; used by {users}", "loopllama models enable MODEL")
        else:
            found.setdefault(model.id, model)
    providers = sorted({model.provider for model in found.values()})
    refused = set()
    for provider in providers:
        if provider != "bedrock" or _simulated(provider, settings):
            check = _provider(provider, target)
            refused |= {provider} if check.status == "fail" else set()
            yield check
    for model in found.values():
        usable = model.provider not in refused
        if model.provider == "bedrock" and not _simulated("bedrock", settings):
            check = _bedrock(model)
            usable = check.status != "fail"
            yield check
        if call and usable:
            yield _called(model, settings)


def _names_in_use(settings: Settings) -> dict[str, str]:
    """The models that definitions and routes name, and the deployment's default, with who names them."""
    from loopllama.definitions import DefinitionStore

    users: dict[str, set[str]] = {settings.default_model: {"DefaultModel"}}

    def add(part: Mapping[str, Any], user: str) -> None:
        named = [part.get("model"), *(part.get("candidates") or ()), *(part.get("fallbacks") or ())]
        for one in named:
            name = one.get("model") if isinstance(one, Mapping) else one
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
    pages = aws.client("dynamodb").get_paginator("scan").paginate(TableName=settings.routes_table)
    for row in (aws.from_item(item) for page in pages for item in page["Items"]):
        add(row, f"the route {row['workflow']}/{row['step']}")
    return {name: ", ".join(sorted(who)[:3]) + (" and others" if len(who) > 3 else "") for name, who in users.items()}


def _simulated(provider: str, settings: Settings) -> bool:
    from loopllama.providers import is_simulated

    return is_simulated(provider, settings)


def _provider(provider: str, target: Target) -> Check:
    """Whether a provider is simulated, needs no key, or has one in Secrets Manager (whose content is not read)."""
    from loopllama.providers.known import KNOWN, Known, variables_of

    what, settings = f"provider {provider}", target.settings
    if _simulated(provider, settings):
        if target.local and provider == "bedrock":
            return Check(what, "ok", "simulated: the local stack has no AWS account")
        if target.local:
            key = f"{variables_of(provider)[0]}_API_KEY"
            return Check(what, "ok", f"simulated; for the real one start `loopllama local` with {key} set")
        return Check(what, "warn", "simulated: nothing it says is real", "take it out of SimulatedProviders")
    if KNOWN.get(provider, Known()).keyless:
        return Check(what, "ok", "needs no key")
    name = settings.provider_secrets_prefix + provider
    check = _looked(
        what,
        lambda: aws.client("secretsmanager").describe_secret(SecretId=name)["Name"],
        "secretsmanager:DescribeSecret",
    )
    if check.status == "fail" and check.todo == _GONE:
        return Check(what, "fail", f"has no key: there is no secret {name}", f"loopllama providers set {provider}")
    return check


_ANOTHER = "use a model of this region: loopllama routes set, DefaultModel"


def _bedrock(model: Any) -> Check:
    """Whether the account may use a model on Bedrock: its agreement, its authorisation, its region."""
    from loopllama.providers.bedrock_aws import underlying_model

    what, identifier = f"model {model.id}", str(model.provider_model)
    client = aws.client("bedrock", read_seconds=10, attempts=2)
    try:
        base = underlying_model(identifier)
        if not base.startswith("arn:"):
            # A profile's id is the model's behind a geography: us.anthropic.claude-…
            geography, _, rest = base.partition(".")
            if rest.count(".") and geography in ("us", "eu", "apac", "au", "ca", "jp", "us-gov", "global", "sa", "me"):
                client.get_inference_profile(inferenceProfileIdentifier=base)
                base = rest
            told = client.get_foundation_model_availability(modelId=base)
            wrong = [
                said
                for said, good in (
                    ("the model is not in this region", told.get("regionAvailability") == "AVAILABLE"),
                    ("the account is not authorised", told.get("authorizationStatus") == "AUTHORIZED"),
                    (
                        "its agreement is not made",
                        (told.get("agreementAvailability") or {}).get("status") == "AVAILABLE",
                    ),
                    ("the account is not entitled", told.get("entitlementAvailability") == "AVAILABLE"),
                )
                if not good
            ]
            if wrong:
                return Check(what, "fail", "; ".join(wrong), f"ask for it in Bedrock's console, or {_ANOTHER}")
    except Exception as error:
        if _code(error) in (*_MISSING, "ValidationException"):
            return Check(what, "fail", f"Bedrock does not know it in this region: {error}", _ANOTHER)
        if not isinstance(error, ModelError) and aws.trouble(error) is None:
            raise
        todo = "allow bedrock:GetInferenceProfile and bedrock:GetFoundationModelAvailability, or try --call"
        return Check(what, "warn", f"whether it may be used cannot be seen: {error}", todo)
    return Check(what, "ok", "Bedrock lets this account use it")


def _called(model: Any, settings: Settings) -> Check:
    """One word from the model, with the credentials of who asks: the functions have their own."""
    from loopllama.providers import provider_for
    from loopllama.providers.base import Message, ModelCall

    what, began = f"call {model.id}", time.monotonic()
    request = ModelCall(
        model=model.provider_model,
        catalog_id=model.id,
        system="Answer with one word.",
        messages=[Message("user", "Say the word ready.")],
        timeout=60,
        max_tokens=64,
        options=model.options or {},
    )
    try:
        answer = provider_for(model, settings).complete(request)
    except ModelError as error:
        return Check(what, "fail", f"{type(error).__name__}: {error}", "see docs/providers.md, or use another model")
    took = round((time.monotonic() - began) * 1000)
    tokens = answer.usage.input_tokens + answer.usage.output_tokens
    by = ", simulated" if answer.simulated else ""
    return Check(what, "ok", f"answered in {took} ms, {tokens} tokens{by}")


# AWS's errors in words

_GONE = "deploy the stack again, or restore it from a backup"


def _looked(what: str, look: Callable[[], str], action: str) -> Check:
    """What a look at AWS found, or what its error means and what to do. `action` is the permission that it takes."""
    try:
        return Check(what, "ok", look())
    except Exception as error:
        trouble = aws.trouble(error)
        if trouble is None:
            raise
        code, name = _code(error), type(error).__name__
        todo = "check the network, the region and AWS's health, and try again"
        if code in _DENIED:
            todo = f"allow {action} for who you are"
        elif code in _MISSING:
            todo = _GONE
        elif code in _REFUSED or "Credential" in name or "Token" in name:
            todo = _SIGN_IN
        return Check(what, "fail", str(trouble), todo)


def _code(error: Exception) -> str:
    response = getattr(error, "response", None)
    return str(response.get("Error", {}).get("Code", "")) if isinstance(response, Mapping) else ""
