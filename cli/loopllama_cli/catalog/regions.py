"""What the aliases stand for in each region: Amazon's own models on Bedrock, which need no key and no subscription.

Third parties' models are subscribed to through AWS Marketplace at their first use, with the rights of whoever calls;
Amazon's are not (docs.aws.amazon.com/bedrock/latest/userguide/model-access.html). From where each Nova model can be
called, and by which inference profile, stands in AWS's "Regional availability" (models-region-compatibility.html) and
"Supported Regions and models for inference profiles" (inference-profiles-support.html), both of that guide, in copies
that others kept in 2026. The newer page leaves out the `apac.` profiles; `ListInferenceProfiles` still gave them as
ACTIVE in 2026-09.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

ALIASES = {
    "frontier": ("amazon.nova-pro-v1:0", "amazon.nova-2-lite-v1:0", "amazon.nova-lite-v1:0"),
    "balanced": ("amazon.nova-2-lite-v1:0", "amazon.nova-pro-v1:0", "amazon.nova-lite-v1:0"),
    "small": ("amazon.nova-lite-v1:0", "amazon.nova-2-lite-v1:0"),
}
"""Alias to the models that it may stand for, the one wanted most first. Nova Premier reached its end on 2026-09-14."""

_US = "us-east-1 us-east-2 us-west-1 us-west-2"
_EU = "eu-central-1 eu-north-1 eu-south-1 eu-south-2 eu-west-1 eu-west-3"
_APAC = (
    "ap-east-2 ap-northeast-1 ap-northeast-2 ap-south-1 ap-southeast-1 ap-southeast-2 ap-southeast-3 ap-southeast-4 "
    "ap-southeast-5 ap-southeast-7 me-central-1"
)
_CA = "ca-central-1 ca-west-1"

PROFILES: Mapping[str, Mapping[str, str]] = {
    "amazon.nova-pro-v1:0": {
        "us": _US,
        "eu": f"{_EU} il-central-1",
        "": "us-east-1 us-gov-west-1 eu-west-2 ap-southeast-2 ap-southeast-3 me-central-1",
        "apac": _APAC,
    },
    "amazon.nova-lite-v1:0": {
        "us": _US,
        "eu": f"{_EU} il-central-1",
        "ca": _CA,
        "": "us-east-1 us-gov-west-1 eu-north-1 eu-west-2 ap-northeast-1 ap-southeast-2 ap-southeast-3 me-central-1",
        "apac": _APAC,
    },
    "amazon.nova-2-lite-v1:0": {
        "us": f"{_US} {_CA}",
        "eu": _EU,
        "jp": "ap-northeast-1",
        "global": f"{_US} {_CA} {_EU} eu-west-2 {_APAC} ap-southeast-6 il-central-1",
    },
}
"""Model to prefix of its inference profile to the regions from which that can be called; `""` is the model itself, in
the region alone. In the order in which they are preferred: what both pages know first, and `global`, which lets any
region of the world answer, last."""

NEAREST = {
    "af-south-1": "eu-west-1",
    "ap-northeast-3": "ap-northeast-1",
    "ap-south-2": "ap-south-1",
    "eu-central-2": "eu-central-1",
    "me-south-1": "eu-central-1",
    "mx-central-1": "us-east-1",
    "sa-east-1": "us-east-1",
    "us-gov-east-1": "us-gov-west-1",
}
"""Regions that have Bedrock and no Nova model, each with a region near by that has, is in the same partition, and is
enabled in every account."""

ELSEWHERE = "bedrock:global.amazon.nova-2-lite-v1:0"
"""For a region that is newer than this table."""


def aliases() -> dict[str, dict[str, str]]:
    """Region to alias to the catalog's id; `""` is any region that is not listed."""
    regions = {region for places in PROFILES.values() for listed in places.values() for region in listed.split()}
    by_region = {region: {alias: f"bedrock:{_here(alias, region)}" for alias in ALIASES} for region in regions}
    for region, near in NEAREST.items():
        by_region[region] = {alias: f"bedrock:{near}/{_here(alias, near)}" for alias in ALIASES}
    return {"": dict.fromkeys(ALIASES, ELSEWHERE), **dict(sorted(by_region.items()))}


def in_region() -> dict[str, list[str]]:
    """Region to the catalog's ids of the models that are answered in that region alone, the best first."""
    here: dict[str, list[str]] = {}
    for model, places in PROFILES.items():
        for region in places.get("", "").split():
            here.setdefault(region, []).append(f"bedrock:{model}")
    return dict(sorted(here.items()))


def _here(alias: str, region: str) -> str:
    """Return the id by which Bedrock answers for an alias in a region: of the models within the region's geography the
    one wanted most, else a global profile."""
    for ids in (_ids(alias, region, within=True), _ids(alias, region, within=False)):
        for provider_model in ids:
            return provider_model
    raise LookupError(f"no model of {alias} can be called from {region}")


def _ids(alias: str, region: str, *, within: bool) -> Iterator[str]:
    for model in ALIASES[alias]:
        for prefix, regions in PROFILES[model].items():
            if within is (prefix != "global") and region in regions.split():
                yield f"{prefix}.{model}" if prefix else model
