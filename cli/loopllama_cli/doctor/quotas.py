"""Bedrock's quotas of models, as Service Quotas applies them to this account.

New accounts have reduced ones, often 0, with which each call is throttled however long one waits ("Too many tokens per
day"). A quota is found by its name, which says how the model is called (on demand, through a profile of a geography,
through a global one), what is counted and for which model: "Cross-region model inference tokens per minute for
Anthropic Claude Opus 4.6 V1", "Model invocation max tokens per day for Amazon Nova Pro (doubled for cross-region
calls)", and with `InvokeModel` for `model inference` as the guide writes them
(https://docs.aws.amazon.com/bedrock/latest/userguide/quotas-runtime.html). Not every model has each of them.

Calls of the OpenAI-compatible endpoint at bedrock-runtime count against the same quotas. The one at bedrock-mantle has
its own, "Bedrock Mantle input tokens per minute for …" and the same of output tokens, for few models so far, and none
of requests or of a day (https://docs.aws.amazon.com/bedrock/latest/userguide/quotas-mantle.html, read in November
2026).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from shlex import quote
from typing import Any, NamedTuple

from loopllama.aws import clients, errors
from loopllama.catalog.model import at_region, foundation_model
from loopllama.providers.bedrock.openai_endpoints import by_runtime
from loopllama_cli.doctor.findings import Check, looked

_PAGES = 25
"""Of 100 quotas, the most that Service Quotas gives at once; Bedrock has more than a thousand."""
ITEMS, TOKENS = 100, 4_000
"""A list to say what a quota means for: its items, and the tokens of each one's prompt and answer."""
_NAME = re.compile(
    r"(?:(?P<how>on-demand|cross-region|global cross-region) (?:model inference|InvokeModel)|"
    r"(?P<day>model invocation max)|InvokeModel|bedrock (?P<mantle>mantle)) "
    r"(?P<what>requests|(?:input |output )?tokens) per (?P<period>minute|day) for (?P<model>.+?)(?: \([^()]*\))?",
    re.IGNORECASE,
)
_WHOLE_ACCOUNT = re.compile(r"cross-model .*tokens per day", re.IGNORECASE)
_VERSION = re.compile(r"(?:[ -]v1\b(?:[.:]0\b)?|-\d{8}(?=-|$)|:\d+$)", re.IGNORECASE)
_SUPPORT = (
    "open a case with AWS Support (account and billing): https://console.aws.amazon.com/support/home#/case/create"
)


_MANTLE = "mantle"
_FREE = "Service Quotas lists none: bedrock-mantle lets through what it has room for, and the rest is tried again"


class Quota(NamedTuple):
    """One quota: a `what` is requests or tokens (of prompts, of answers or of both), a `period` minute or day. `how` is
    how the model is called, empty for any way."""

    how: str
    what: str
    period: str
    model: str
    value: float
    code: str
    adjustable: bool


class Quotas:
    """The applied quotas of Bedrock in a region. `profile` is for the commands that are told."""

    def __init__(self, region: str, listed: Iterable[Quota], profile: str | None = None) -> None:
        self.region, self._profile = region, profile
        self._by_model: dict[str, list[Quota]] = {}
        for quota in listed:
            self._by_model.setdefault(quota.model, []).append(quota)

    def of(self, provider_model: str, *, by_mantle: bool = False) -> list[Quota]:
        """Return the quotas that hold for calls of a model, by its id as Bedrock knows it, at bedrock-runtime or
        bedrock-mantle."""
        base = foundation_model(provider_model)
        if by_mantle:
            return [quota for name in _names(base) for quota in self._by_model.get(name, ()) if quota.how == _MANTLE]
        how = "on-demand" if base == provider_model else "cross-region"
        if provider_model.startswith("global."):
            how = "global cross-region"
        mine = [quota for name in _names(base) for quota in self._by_model.get(name, ())]
        apply = [quota for quota in mine if quota.how in ("", how)]
        if how == "global cross-region" and any(quota.period == "day" and quota.how for quota in apply):
            apply = [quota for quota in apply if quota.period != "day" or quota.how]
        return apply + self._by_model.get("", [])

    def exhausted(self, provider_model: str) -> list[Quota]:
        """Return those that are 0."""
        return [quota for quota in self.of(provider_model) if not quota.value]

    def examine(self, model: Any) -> Check:
        """Return whether a model's quotas let it be called, and what they mean for a list."""
        subject = f"quota {model.id}"
        identifier = at_region(str(model.provider_model))[1]
        by_mantle = model.provider == "bedrock-openai" and not by_runtime(identifier)
        mine = self.of(identifier, by_mantle=by_mantle)
        if not mine:
            return Check(subject, "ok", _FREE if by_mantle else "Service Quotas lists none under its name")
        zero = [quota for quota in mine if not quota.value]
        if zero:
            told = ", ".join(_said(quota) for quota in zero)
            return Check(subject, "fail", f"{told}: each call is throttled", self._ask(zero, mine))
        told = ", ".join(_said(quota) for quota in mine)
        a_day = [quota for quota in mine if quota.period == "day" and quota.value < _needs(quota)]
        slowest = min((quota for quota in mine if quota.period == "minute"), key=_share, default=None)
        limit = a_day[0] if a_day else slowest
        if limit is None or _share(limit) >= 1:
            return Check(subject, "ok", told)
        usual = self._default(limit)
        less = usual is not None and usual > limit.value
        told += f" (usual are {usual:,.0f})" if less else ""
        todo = self._ask([limit], mine) if less else ""
        if a_day:
            fails = f"a list of {ITEMS} items of {TOKENS:,} tokens is more than a day's: the rest fails that day"
            return Check(subject, "warn", f"{told}: {fails}", todo or "use another model for long lists")
        takes = f"a list of {ITEMS} items of {TOKENS:,} tokens takes about {1 / _share(limit):,.0f} minutes"
        return Check(subject, "ok", f"{told}: {takes}, and completes", todo)

    def _ask(self, wanted: list[Quota], mine: list[Quota]) -> str:
        """Return the commands that ask for the usual values, a line each. Where a quota cannot be asked for, AWS raises
        it with the tokens a minute of the same model, which mostly can
        (https://docs.aws.amazon.com/bedrock/latest/userguide/quotas-runtime.html)."""
        if wanted[0].how == _MANTLE:  # quotas-mantle.html: Service Quotas takes no request
            names = " and ".join(f"{quota.what} per {quota.period}" for quota in wanted)
            return f"{_SUPPORT}, and name bedrock-mantle, the region, the model, and {names}"
        asked = [quota for quota in wanted if quota.adjustable]
        if len(asked) < len(wanted):
            asked += [q for q in mine if q.adjustable and (q.what, q.period) == ("tokens", "minute") and q not in asked]
        lines = []
        for quota in asked:
            value = self._default(quota)
            more = f"{value:.0f}" if value else "NUMBER"
            where = f" --region {quote(self.region)}" + (f" --profile {quote(self._profile)}" if self._profile else "")
            lines.append(
                f"aws service-quotas request-service-quota-increase{where} --service-code bedrock --quota-code "
                f"{quote(quota.code)} --desired-value {more}    # {quota.what} per {quota.period}"
            )
        if len([quota for quota in wanted if quota.adjustable]) < len(wanted):
            also = "; name the quotas per day there too" if lines else ""
            lines.append(f"{'or ' if lines else 'this cannot be asked for there: '}{_SUPPORT}{also}")
        return "\n".join(lines)

    def _default(self, quota: Quota) -> float | None:
        """Return what AWS gives an account usually; `None` where that cannot be seen."""
        try:
            client = clients.client("service-quotas", read_seconds=10, attempts=2, region=self.region)
            answer = client.get_aws_default_service_quota(ServiceCode="bedrock", QuotaCode=quota.code)
            return float(answer["Quota"]["Value"])
        except Exception as error:
            if errors.trouble(error) is None:
                raise
            return None


class Limits:
    """Bedrock's quotas, read once for each region when a model there is first looked at."""

    def __init__(self, profile: str | None = None) -> None:
        self._profile = profile
        self._read: dict[str, Quotas | Check] = {}

    def examine(self, model: Any) -> Iterator[Check]:
        """Yield what the quotas mean for a model, and once that they cannot be seen."""
        region = at_region(str(model.provider_model))[0] or clients.region()
        new = region not in self._read
        found = self._in(region)
        if isinstance(found, Quotas):
            yield found.examine(model)
        elif new:
            yield found

    def exhausted(self, provider_model: str) -> bool:
        """Return whether a model has a quota of 0, as far as one may see."""
        region, identifier = at_region(provider_model)
        found = self._in(region or clients.region())
        return isinstance(found, Quotas) and bool(found.exhausted(identifier))

    def _in(self, region: str) -> Quotas | Check:
        if region not in self._read:
            self._read[region] = read(region, self._profile)
        return self._read[region]


def read(region: str, profile: str | None = None) -> Quotas | Check:
    """Return Bedrock's applied quotas in a region, or why they cannot be seen (a warning)."""
    listed: list[Quota] = []

    def look() -> str:
        client = clients.client("service-quotas", read_seconds=10, attempts=3, region=region)
        pages = client.get_paginator("list_service_quotas").paginate(
            ServiceCode="bedrock", PaginationConfig={"MaxItems": 100 * _PAGES, "PageSize": 100}
        )
        listed.extend(quota for page in pages for raw in page["Quotas"] if (quota := _quota(raw)))
        return ""

    check = looked("quotas", look, "servicequotas:ListServiceQuotas")
    return Quotas(region, listed, profile) if check.status == "ok" else check._replace(status="warn")


def _quota(raw: Mapping[str, Any]) -> Quota | None:
    name, value = str(raw.get("QuotaName", "")), raw.get("Value")
    if not isinstance(value, int | float):
        return None
    code, adjustable = str(raw.get("QuotaCode", "")), bool(raw.get("Adjustable"))
    if _WHOLE_ACCOUNT.fullmatch(name):
        return Quota("", "tokens", "day", "", value, code, adjustable)
    match = _NAME.fullmatch(name)
    if match is None:
        return None
    how, what, period = (str(match[part] or "").lower() for part in ("how", "what", "period"))
    how = how or str(match["mantle"] or "").lower()
    return Quota(how, what, period, _plain(match["model"]), value, code, adjustable)


def _names(base: str) -> list[str]:
    """Return what a foundation model may be called in the name of a quota, with and without its vendor."""
    vendor, _, name = base.partition(".")
    return [_plain(f"{before}{name}") for before in ("", f"{vendor} ", f"{vendor} ai ")]


def _plain(name: str) -> str:
    """Return a name without its first version, its date and what stands between words and figures."""
    return re.sub(r"[^a-z0-9]", "", _VERSION.sub("", name.lower()))


def _said(quota: Quota) -> str:
    whose = "" if quota.model else " of all models together"
    return f"{quota.value:,.0f} {quota.what}{whose} a {quota.period}"


def _needs(quota: Quota) -> int:
    """Return what the list needs of a quota."""
    return ITEMS if quota.what == "requests" else ITEMS * TOKENS


def _share(quota: Quota) -> float:
    """Return how much of the list a quota lets through at once."""
    return quota.value / _needs(quota)
