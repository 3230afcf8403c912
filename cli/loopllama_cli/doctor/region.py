"""Whether a region has Bedrock: asked before anything is deployed there, and what to do where it has none."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from loopllama.catalog.catalog import bundled, regions
from loopllama.catalog.model import at_region
from loopllama_cli.doctor.findings import Check, code_of, looked
from loopllama_cli.target import next_command

ALIASES = ("frontier", "balanced", "small")
_WITH_A_KEY = "claude-sonnet-5"
_IN_EVERY_ACCOUNT = "us-east-1"


def examine_region(region: str, client: Callable[..., Any]) -> Check:
    """Return whether Bedrock answers in a region; `client` makes a client of a service, as boto3's session does. Only
    a region that neither answers nor is known to have Bedrock has none; what cannot be seen is a warning."""
    from botocore.config import Config
    from botocore.exceptions import BotoCoreError

    quickly = Config(connect_timeout=5, read_timeout=10, retries={"total_max_attempts": 1})

    def look() -> str:
        answer = client("bedrock", region_name=region, config=quickly).list_foundation_models(byOutputModality="TEXT")
        return f"{len(answer.get('modelSummaries', ()))} text models in {region}"

    try:
        found = look()
    except BotoCoreError as error:
        if type(error).__name__ == "EndpointConnectionError" and not _known(region):
            return Check("bedrock", "warn", f"{region} has no Bedrock", "\n".join(remedies(region)))
        check = looked("bedrock", _raise(error), "bedrock:ListFoundationModels")
    except Exception as error:
        check = looked("bedrock", _raise(error), "bedrock:ListFoundationModels")
        if (forbidden := _forbidden(error)) is not None:
            check = check._replace(todo=forbidden)
        elif code_of(error) in ("UnrecognizedClientException", "OptInRequired"):
            check = check._replace(todo=f"enable {region} for the account, or sign in again")
    else:
        return Check("bedrock", "ok", found)
    return check._replace(status="warn")


def has_none(check: Check) -> bool:
    """Return whether a check of `examine_region` found a region without Bedrock."""
    return check.found.endswith(" has no Bedrock")


def remedies(region: str) -> list[str]:
    """Return what to do for models in a region without Bedrock, a line each."""
    deploy, key = next_command("deploy"), next_command("providers set", "anthropic")
    own = f"use a provider with a key: {key}, and {deploy} --parameter DefaultModel={_WITH_A_KEY}"
    if region.startswith("cn-"):
        return [own]
    near = _near(region)
    there = {alias: _placed(target, near) for alias, target in bundled(near).aliases().items() if alias in ALIASES}
    lines = [f"use models of another region: {deploy} --parameter DefaultModel={there['balanced']}"]
    lines += [f"and, once it is deployed: {next_command('models alias', alias, there[alias])}" for alias in ALIASES]
    return [*lines, f"or {own}", f"or deploy to a region that has Bedrock: loopllama deploy --region {near}"]


def _known(region: str) -> bool:
    import botocore.session

    listed: Any = botocore.session.get_session().get_available_regions
    return region in regions() or any(
        region in listed("bedrock", partition_name=name) for name in ("aws", "aws-us-gov", "aws-cn")
    )


def _near(region: str) -> str:
    """Return a region with Bedrock that is enabled in every account, near by as far as its name says: those that the
    catalog's aliases name for regions without a model of their own."""
    named = {at_region(target.removeprefix("bedrock:"))[0] for one in regions() for target in _targets(one)}
    first = region.partition("-")[0]
    like = sorted(one for one in named if one and one.partition("-")[0] == first and "-gov-" not in one)
    return like[0] if like else _IN_EVERY_ACCOUNT


def _targets(region: str) -> list[str]:
    return [target for alias, target in bundled(region).aliases().items() if alias in ALIASES]


def _placed(target: str, region: str) -> str:
    """Return the id of a model as it is called in a region, from anywhere."""
    elsewhere, model = at_region(target.removeprefix("bedrock:"))
    return f"bedrock:{elsewhere or region}/{model}"


def _forbidden(error: Exception) -> str | None:
    from loopllama.providers.bedrock.denials import denial

    denied = denial(str(error))
    if denied is None:
        return None
    return f"a {denied.policy} forbids to look; whether it forbids calls too says: {next_command('doctor --call')}"


def _raise(error: Exception) -> Callable[[], str]:
    def again() -> str:
        raise error

    return again
