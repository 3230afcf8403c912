"""AWS's list prices for one region, on which every sum of money in the benchmarks stands.

Taken from the public price pages named beside them, as they stood on `AS_OF`, without free tiers, volume discounts and
taxes. Prices change: check them before a decision rests on them.

`READ_AGAIN` says which were compared since, with what others have published of AWS's Price List API for this region
(DynamoDB's for us-west-2, whose prices are the same); none had changed. AWS's own pages show tables of prices only to
browsers. The others are as old as `AS_OF`.
"""

from __future__ import annotations

from decimal import Decimal

REGION = "us-east-1"
AS_OF = "2025-06-30"
READ_AGAIN = {
    **dict.fromkeys(
        (
            *("states_transition", "lambda_request", "lambda_gb_second_arm64", "s3_put", "s3_get"),
            *("secret_month", "logs_ingested_gb", "logs_gb_month"),
        ),
        "2026-10-02",
    ),
    **dict.fromkeys(
        ("dynamodb_write_unit", "dynamodb_read_unit", "dynamodb_gb_month", "dynamodb_backup_gb_month"), "2026-09-06"
    ),
}
"""By what is billed: the day of the price list with which its price was compared."""
DATED = f"{AS_OF}, most of them compared with the lists of {min(READ_AGAIN.values())} and {max(READ_AGAIN.values())}"

USD = {
    # https://aws.amazon.com/step-functions/pricing/ - Standard workflows
    "states_transition": Decimal("0.000025"),
    # https://aws.amazon.com/lambda/pricing/
    "lambda_request": Decimal("0.0000002"),
    "lambda_gb_second_arm64": Decimal("0.0000133334"),
    "lambda_gb_second_x86_64": Decimal("0.0000166667"),
    # https://aws.amazon.com/dynamodb/pricing/on-demand/ - Standard table class. Streams read by Lambda are free.
    "dynamodb_write_unit": Decimal("0.000000625"),
    "dynamodb_read_unit": Decimal("0.000000125"),
    "dynamodb_gb_month": Decimal("0.25"),
    "dynamodb_backup_gb_month": Decimal("0.20"),  # point-in-time recovery
    # https://aws.amazon.com/cloudwatch/pricing/
    "logs_ingested_gb": Decimal("0.50"),
    "logs_gb_month": Decimal("0.03"),
    "metric_month": Decimal("0.30"),  # the first 10,000
    "alarm_metric_month": Decimal("0.10"),
    "dashboard_month": Decimal(3),
    # https://aws.amazon.com/eventbridge/pricing/ - custom events, each of at most 64 KB
    "eventbridge_event": Decimal("0.000001"),
    # https://aws.amazon.com/s3/pricing/ - Standard
    "s3_put": Decimal("0.000005"),
    "s3_get": Decimal("0.0000004"),
    # https://aws.amazon.com/api-gateway/pricing/ - HTTP APIs
    "http_api_request": Decimal("0.000001"),
    # https://aws.amazon.com/ec2/pricing/on-demand/ - to the internet, the first 10 TB
    "sent_gb": Decimal("0.09"),
    # https://aws.amazon.com/secrets-manager/pricing/
    "secret_month": Decimal("0.40"),
    "secret_call": Decimal("0.000005"),
    # https://aws.amazon.com/fargate/pricing/ - Linux
    "fargate_vcpu_hour_arm64": Decimal("0.03238"),
    "fargate_gb_hour_arm64": Decimal("0.00356"),
    # https://aws.amazon.com/elasticloadbalancing/pricing/ - Application Load Balancer; a unit is 25 new connections/s
    "alb_hour": Decimal("0.0225"),
    "alb_unit_hour": Decimal("0.008"),
    # https://aws.amazon.com/vpc/pricing/ - a public IPv4 address
    "ipv4_hour": Decimal("0.005"),
}
"""USD by what is billed."""

LAMBDA_VCPU_MB = 1769
"""Memory at which a function has one vCPU; less memory has that much less of it.
https://docs.aws.amazon.com/lambda/latest/dg/configuration-memory.html"""
DAYS_A_MONTH = Decimal("30.4")
