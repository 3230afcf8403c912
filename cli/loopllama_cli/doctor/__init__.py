"""What `loopllama doctor` looks at: this machine, the account, a stack's parts, the models in use and their access,
and how the stack runs.

Every check yields what it found and, unless all is well, what to do. Nothing is changed; only `call` costs anything.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from typing import Any

from loopllama import __version__
from loopllama.aws import clients, errors
from loopllama_cli.doctor.access import Access
from loopllama_cli.doctor.aliases import Offer, examine_aliases
from loopllama_cli.doctor.findings import SIGN_IN, Check, looked
from loopllama_cli.doctor.models import examine_models, simulated
from loopllama_cli.doctor.quotas import Limits
from loopllama_cli.doctor.region import examine_region
from loopllama_cli.doctor.running import examine_running
from loopllama_cli.doctor.use import examine_rows, examine_tools, in_use
from loopllama_cli.target import Choice, Target, TargetMissing, TargetUnreachable, connect, next_command

_ENOUGH_FUNCTIONS = 100
"""That run at once: the lists of two runs, and the API beside them."""
_TABLES = ("workflows", "routes", "route_history", "models", "tools", "runs", "usage", "api_keys", "key_use")


def examine(choice: Choice, call: bool = False) -> Iterator[Check]:
    """Yield all checks in their order; those that need what failed before them are left out. `call`: every model in use
    is asked for one word, at its price. Raises `TargetMissing` for a choice of two stacks."""
    stack = choice.stack or os.environ.get("LOOPLLAMA_STACK")
    local = choice.local is not None or bool(not stack and os.environ.get("LOOPLLAMA_LOCAL"))
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
        deploy_it = f"check --stack and --region, or deploy it: {next_command('deploy')}"
        todo = "start one: loopllama local" if local else deploy_it
        yield Check("stack", "fail", str(error), todo)
        return
    yield Check("stack", "ok", f"{target.name}{' (local)' if target.local else ''}")
    parts = list(_parts(target))
    yield from parts
    yield _api(target)
    if all(check.status != "fail" for check in parts):
        try:
            yield from _keys(target)
            use = in_use(target.settings)
            yield from examine_rows(use)
            yield from examine_tools(use, target.settings)
            access, limits = Access(choice.profile), Limits(choice.profile)
            yield from examine_models(target, use, call, access, limits)
            yield from (offer.check for offer in offers(target, access, limits))
            yield from examine_running(target)
        except Exception as error:
            trouble = errors.trouble(error)
            if trouble is None:
                raise
            todo = "allow reading the stack's tables: dynamodb:Query, Scan, GetItem"
            yield Check("tables", "fail", str(trouble), todo)


def offers(target: Target, access: Access, limits: Limits) -> list[Offer]:
    """Return what the aliases may be pointed at; nothing where the models on Bedrock are simulated."""
    from loopllama.catalog.store import CatalogStore

    if simulated("bedrock", target.settings):
        return []
    store = CatalogStore(target.settings)
    return examine_aliases(store.catalog(), store.items(), access, limits)


# This machine and the account


def _python() -> Check:
    version = ".".join(map(str, sys.version_info[:3]))
    good = (3, 11) <= sys.version_info < (3, 15)
    versions = f"{version}, loopllama {__version__}"
    return (
        Check("python", "ok", versions)
        if good
        else Check("python", "fail", versions, "install loopllama with 3.11 to 3.14")
    )


def _sam() -> Check:
    from loopllama_cli.commands.deploy import SamMissing, find_sam

    try:
        return Check("sam", "ok", find_sam())
    except SamMissing:
        return Check("sam", "warn", "AWS's SAM CLI is not here", "to deploy: pipx install aws-sam-cli")


def account(choice: Choice) -> Iterator[Check]:
    """Yield whether there are credentials that AWS takes, whose they are, and for which region."""
    import boto3
    from botocore.exceptions import ProfileNotFound

    try:
        session = boto3.Session(profile_name=choice.profile, region_name=choice.region)
    except ProfileNotFound as error:
        yield Check("credentials", "fail", str(error), SIGN_IN)
        return
    if not session.region_name:
        yield Check(
            "region", "fail", "none is set", "say --region NAME, or set AWS_DEFAULT_REGION or the profile's region"
        )
        return
    make: Any = session.client
    yield looked(
        "credentials",
        lambda: str(make("sts", region_name=session.region_name).get_caller_identity()["Arn"]),
        "sts:GetCallerIdentity",
    )
    yield Check("region", "ok", session.region_name)
    yield examine_region(session.region_name, make)
    yield _concurrency(make("lambda", region_name=session.region_name))


def _concurrency(functions: Any) -> Check:
    """Look how many functions the account may run at once there: ten where it is new."""

    def look() -> str:
        return str(functions.get_account_settings()["AccountLimit"]["ConcurrentExecutions"])

    check = looked("functions at once", look, "lambda:GetAccountSettings")
    if check.status == "fail":
        return check._replace(status="warn")
    if int(check.found) >= _ENOUGH_FUNCTIONS:
        return check
    ask = "aws service-quotas request-service-quota-increase --service-code lambda"
    todo = f"long lists are slow, and the API waits with them; ask for more: {ask} --quota-code L-B99A9384"
    return check._replace(status="warn", todo=f"{todo} --desired-value 1000")


# The stack


def _parts(target: Target) -> Iterator[Check]:
    """Its tables, bucket, state machine and event bus: there, and ours to read."""
    settings = target.settings
    dynamodb = clients.client("dynamodb")
    for name in _TABLES:
        table = getattr(settings, f"{name}_table")
        yield looked(f"table {name}", lambda: _read_table(dynamodb, table), "dynamodb:Scan")  # noqa: B023 - called here
    bucket = settings.values_bucket
    yield looked("bucket", lambda: clients.client("s3").head_bucket(Bucket=bucket) and bucket, "s3:ListBucket")
    machine = settings.state_machine_arn
    yield looked(
        "state machine",
        lambda: clients.client("stepfunctions").describe_state_machine(stateMachineArn=machine)["name"],
        "states:DescribeStateMachine",
    )
    bus = settings.event_bus_name
    yield looked(
        "event bus", lambda: clients.client("events").describe_event_bus(Name=bus)["Name"], "events:DescribeEventBus"
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
        todo = f"{next_command('deploy')} brings the stack to this version; pipx upgrade loopllama this program"
        return Check("api", "warn", f"{url} runs version {theirs}, this program is {__version__}", todo)
    return Check("api", "ok", f"{url}, version {theirs}")


def _keys(target: Target) -> Iterator[Check]:
    from loopllama.api.auth import KeyStore

    valid = [key["name"] for key in KeyStore(target.settings).all() if not key.get("revoked_at")]
    if valid:
        yield Check("api keys", "ok", f"{len(valid)} ({', '.join(sorted(set(valid))[:5])})")
    else:
        yield Check("api keys", "warn", "none, so nobody can use the HTTP API", next_command("keys create NAME"))
