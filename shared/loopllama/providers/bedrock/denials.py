"""Policies that deny a call of a model: which one it is, where, and what to do; told apart from missing access.

A cross-Region inference profile sends a call to one of several regions, of a `global.` profile to any, and the policy
of the AWS organization has to allow it there: in each region of the profile, and for a `global.` one also where
`aws:RequestedRegion` is `unspecified`. The error names the model in the region to which the call was sent, which need
not be the one that was called (docs.aws.amazon.com/bedrock/latest/userguide/cross-region-inference.html; reported in
github.com aws-samples/sample-badgers 33 and aws-solutions/innovation-sandbox-on-aws 74). How IAM words a denial:
docs.aws.amazon.com/IAM/latest/UserGuide/troubleshoot_access-denied.html.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from shlex import quote

from loopllama.catalog.model import foundation_model
from loopllama.core.patterns import late

_DENIAL = late(
    r"not authorized to perform: (?P<action>[\w-]+:\w+)(?: on resource: (?P<resource>\S+))? "
    r"(?:with an explicit deny in (?:an? )?|because no (?=service control|resource control))"
    r"(?P<policy>(?:service control|resource control|VPC endpoint|session|identity-based|resource-based) policy|"
    r"permissions boundary)",
    re.IGNORECASE,
)
_FROM_ABOVE = ("service control policy", "resource control policy")


@dataclass(frozen=True, slots=True)
class Denial:
    """What was denied by which kind of policy. `region` is the one to which the call was sent, `""` where AWS names
    none, as it does for a `global.` profile."""

    policy: str
    action: str
    region: str


def denial(message: str) -> Denial | None:
    """Return what a refusal of AWS says of the policy that denies; `None` where it says nothing of one."""
    match = _DENIAL.search(message)
    if match is None:
        return None
    arn = (match["resource"] or "").split(":")
    return Denial(match["policy"], match["action"], arn[3] if len(arn) > 3 else "")


def remedy(denied: Denial, model: str, region: str) -> str:
    """Return what to do about a denied call of `model`, an id as Bedrock knows it, in `region`."""
    crossed = foundation_model(model) != model
    sent = f"in {denied.region}" if denied.region else "in no region that AWS names"
    owner = " of the AWS organization" if denied.policy.lower() in _FROM_ABOVE else ""
    told = f"a {denied.policy}{owner} denies {denied.action} {sent} ({model}, called in {region}); "
    told = told.replace("a identity", "an identity", 1)
    if not crossed:
        return f"{told}have it allowed, or name a model in a region where calls are allowed: bedrock:REGION/ID"
    unspecified = ", and for aws:RequestedRegion `unspecified`" if model.startswith("global.") else ""
    named = f"--region {quote(region)} --inference-profile-identifier {quote(model)}"
    listed = f"aws bedrock get-inference-profile {named}"
    return (
        f"{told}access to the model is not what is missing: its inference profile lets several regions answer. Have "
        f"{denied.action} allowed in all of them{unspecified} ({listed} lists them), or {instead(region)}"
    )


def instead(region: str) -> str:
    """Return how to name a model that a region answers alone."""
    from loopllama.catalog.catalog import answered_in

    ids = answered_in(region)
    if ids:
        return f"use a model that {region} answers alone: {' or '.join(ids)}"
    listed = f"aws bedrock list-foundation-models --region {quote(region)} --by-inference-type ON_DEMAND"
    return f"use a model that {region} answers alone ({listed}), or one of a region that is allowed: bedrock:REGION/ID"
