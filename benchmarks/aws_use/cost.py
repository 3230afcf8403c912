"""From what runs ask of AWS to what AWS asks for it: pure arithmetic over `prices`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal

from .prices import DAYS_A_MONTH, LAMBDA_VCPU_MB, USD

CALL_MS = 5.0
"""What a call of DynamoDB is taken to last from a function: AWS promises single-digit milliseconds.
https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/Introduction.html"""
KEPT_MONTHS = Decimal(1)
"""How long records and logs are kept: about the template's RetentionDays and LogRetentionDays."""
GB = Decimal(10**9)
_SCHEDULED = 24 * 60
"""Invocations a day of ReconcileRuns."""
_SCHEDULED_SECONDS = Decimal("0.1")


@dataclass(frozen=True)
class Use:
    """What something asks of AWS: a run, a step of it, or the part of a run that does not grow with its steps."""

    amounts: Mapping[str, float]
    """`transitions`, `writes`, `reads` (units), `stored_bytes`, `log_bytes`, `events`, `api_requests`."""
    invocations: Mapping[str, float]
    """By function."""
    cpu_ms: Mapping[str, float]
    """Processor time of one invocation on a whole processor, by function."""
    wait_ms: Mapping[str, float]
    """What one invocation waits for AWS and models, by function."""

    def plus(self, other: Use, times: float) -> Use:
        """Both together, the other so many times. An invocation lasts as long as this one's."""

        def together(mine: Mapping[str, float], theirs: Mapping[str, float]) -> dict[str, float]:
            return {name: mine[name] + times * theirs.get(name, 0) for name in mine}

        amounts, invocations = together(self.amounts, other.amounts), together(self.invocations, other.invocations)
        return Use(amounts, invocations, self.cpu_ms, self.wait_ms)

    def over(self, parts: float) -> Use:
        """One of so many equal parts."""
        amounts, invocations = (
            {name: amount / parts for name, amount in counts.items()} for counts in (self.amounts, self.invocations)
        )
        return Use(amounts, invocations, self.cpu_ms, self.wait_ms)


def billed_seconds(cpu_ms: float, wait_ms: float, memory_mb: int) -> Decimal:
    """How long an invocation lasts: its own work on the memory's share of a processor, and what it waits for."""
    share = min(1.0, memory_mb / LAMBDA_VCPU_MB)
    return Decimal(round(cpu_ms / share + wait_ms) + 1) / 1000


def lambda_usd(count: float, seconds: Decimal, memory_mb: int, architecture: str = "arm64") -> Decimal:
    """Of `count` invocations."""
    gb_seconds = seconds * Decimal(memory_mb) / 1024
    return Decimal(str(round(count, 6))) * (
        USD["lambda_request"] + gb_seconds * USD[f"lambda_gb_second_{architecture}"]
    )


def of_use(use: Use, memory: Mapping[str, int]) -> dict[str, Decimal]:
    """USD by service. `memory` is the functions' in MB."""
    amounts = {name: Decimal(str(round(amount, 6))) for name, amount in use.amounts.items()}
    lambdas = {
        name: lambda_usd(count, billed_seconds(use.cpu_ms[name], use.wait_ms[name], memory[name]), memory[name])
        for name, count in use.invocations.items()
    }
    step = lambdas.pop("RunStep", Decimal(0))
    stored, logs = amounts["stored_bytes"] / GB * KEPT_MONTHS, amounts["log_bytes"] / GB
    return {
        "Step Functions": amounts["transitions"] * USD["states_transition"],
        "Lambda, steps": step,
        "Lambda, the rest": sum(lambdas.values(), Decimal(0)),
        "DynamoDB, writes": amounts["writes"] * USD["dynamodb_write_unit"],
        "DynamoDB, reads": amounts["reads"] * USD["dynamodb_read_unit"],
        "DynamoDB, storage": stored * (USD["dynamodb_gb_month"] + USD["dynamodb_backup_gb_month"]),
        "CloudWatch Logs": logs * (USD["logs_ingested_gb"] + USD["logs_gb_month"] * KEPT_MONTHS),
        "EventBridge": amounts["events"] * USD["eventbridge_event"],
        "API Gateway": amounts["api_requests"] * USD["http_api_request"],
    }


def of_day(metrics: int, secrets: int = 1) -> dict[str, Decimal]:
    """USD a day that a deployment by the template's defaults costs whatever runs on it, its workflows' metrics among
    it."""
    month = {
        "CloudWatch metrics": metrics * USD["metric_month"],
        "CloudWatch dashboard": USD["dashboard_month"],
        "Secrets Manager": secrets * USD["secret_month"],
    }
    return {
        **{name: usd / DAYS_A_MONTH for name, usd in month.items()},
        "Schedules": lambda_usd(_SCHEDULED, _SCHEDULED_SECONDS, 512),
    }


def plain_step(model_ms: float, memory_mb: int, log_bytes: float) -> Decimal:
    """USD of a step of a plain Standard workflow: a transition and an invocation that calls the model, and nothing
    else: no record, no routing, no budget, no repeat that costs nothing."""
    usd = lambda_usd(1, billed_seconds(0, model_ms, memory_mb), memory_mb) + USD["states_transition"]
    return usd + Decimal(str(log_bytes)) / GB * USD["logs_ingested_gb"]


def proxy_day() -> Decimal:
    """USD a day of LiteLLM's proxy on the smallest pair of Fargate tasks (0.25 vCPU, 0.5 GB, arm64, a public address
    each) behind a load balancer with its smallest bill. What runs the crew, and the proxy's database, come on top."""
    task = USD["fargate_vcpu_hour_arm64"] / 4 + USD["fargate_gb_hour_arm64"] / 2 + USD["ipv4_hour"]
    # A load balancer has an address in each of two zones.
    return 24 * (2 * task + USD["alb_hour"] + USD["alb_unit_hour"] + 2 * USD["ipv4_hour"])


def per_thousand(usd: Mapping[str, Decimal], steps: float) -> dict[str, Decimal]:
    """USD for 1,000 steps, by what costs it."""
    return {name: value * 1000 / Decimal(str(steps)) for name, value in usd.items()}


def added(*parts: tuple[Mapping[str, Decimal], float]) -> dict[str, Decimal]:
    """Sums of USD by name, each part so many times."""
    names = dict.fromkeys(name for part, _ in parts for name in part)
    return {
        name: sum((part.get(name, Decimal(0)) * Decimal(str(times)) for part, times in parts), Decimal(0))
        for name in names
    }
