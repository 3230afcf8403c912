"""AWS's default quotas in one region that the way of a run meets, on which docs/scale.md stands.

As they stood on `AS_OF` in us-east-1, the region with the highest of them. Accounts differ, and new ones begin far
lower (Lambda: 10 at once; Step Functions: fewer transitions): the console's Service Quotas says what yours are, and
raises them. Those of Lambda, of DynamoDB's tables, of API Gateway and Step Functions' open executions are the same in
copies of AWS's pages and in quotations of them that were read in November 2026; the others were not read again.
"""

from __future__ import annotations

from dataclasses import dataclass

REGION = "us-east-1"
AS_OF = "2025-06-30"

KEY_WRITES, KEY_READS = 1000, 3000
"""Units a second that one partition gives, and so at most one key of a table or index.
https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/bp-partition-key-design.html"""


@dataclass(frozen=True)
class Quota:
    """A limit, a second unless it says `at once`; `load` names what runs put against it (`scale.loads`)."""

    name: str
    limit: float
    load: str
    fix: str
    """What to do when it binds."""
    source: str


_DOCS = "https://docs.aws.amazon.com"
QUOTAS = (
    Quota(
        "the template's own throttle of the HTTP API",
        50,
        "api_requests",
        "the parameter `ApiRequestsPerSecond`; runs that events start do not meet it",
        f"{_DOCS}/apigateway/latest/developerguide/http-api-throttling.html",
    ),
    Quota(
        "Lambda, functions at once",
        1000,
        "concurrency",
        "ask for as many as the table above says",
        f"{_DOCS}/lambda/latest/dg/gettingstarted-limits.html",
    ),
    Quota(
        "DynamoDB, writes of a table that is new",
        4000,
        "runs_writes",
        "it doubles by itself within 30 minutes of load; set a warm throughput before a sudden start",
        f"{_DOCS}/amazondynamodb/latest/developerguide/on-demand-capacity-mode.html",
    ),
    Quota(
        "Step Functions, StartExecution",
        300,
        "runs",
        "ask for more; 1,300 more at once fit into the bucket",
        f"{_DOCS}/step-functions/latest/dg/service-quotas.html",
    ),
    Quota(
        "Step Functions, state transitions",
        5000,
        "transitions",
        "ask for more, or raise `StepsPerInvocation`; over it AWS slows executions down and loses none",
        f"{_DOCS}/step-functions/latest/dg/service-quotas.html",
    ),
    Quota(
        "DynamoDB, writes of a table",
        40_000,
        "runs_writes",
        "ask for more",
        f"{_DOCS}/amazondynamodb/latest/developerguide/ServiceQuotas.html",
    ),
    Quota(
        "DynamoDB, reads of a table",
        40_000,
        "runs_reads",
        "ask for more",
        f"{_DOCS}/amazondynamodb/latest/developerguide/ServiceQuotas.html",
    ),
    Quota(
        "EventBridge, PutEvents entries",
        10_000,
        "events",
        "ask for more; until then the stream's consumer waits and sends later",
        f"{_DOCS}/eventbridge/latest/userguide/eb-quota.html",
    ),
    Quota(
        "CloudWatch Logs, PutLogEvents, at most one an invocation",
        5000,
        "invocations",
        "ask for more; Lambda delivers the lines itself, several invocations' together where they are many",
        f"{_DOCS}/AmazonCloudWatch/latest/logs/cloudwatch_limits_cwl.html",
    ),
    Quota(
        "API Gateway, requests of an account",
        10_000,
        "api_requests",
        "ask for more; runs that events start do not meet it",
        f"{_DOCS}/apigateway/latest/developerguide/limits.html",
    ),
    Quota(
        "Secrets Manager, GetSecretValue",
        10_000,
        "secrets",
        "nothing: each process asks once in five minutes",
        f"{_DOCS}/secretsmanager/latest/userguide/reference_limits.html",
    ),
    Quota(
        "Step Functions, open executions at once",
        1_000_000,
        "open_runs",
        "ask for more; runs that wait for people count for as long as they wait",
        f"{_DOCS}/step-functions/latest/dg/service-quotas.html",
    ),
)
