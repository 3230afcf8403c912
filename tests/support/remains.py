"""What there is in an account, told by the services themselves: of interest when a stack was removed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

LISTS: tuple[tuple[str, str, str, str], ...] = (
    ("cloudformation", "describe_stacks", "Stacks", "StackName"),
    ("dynamodb", "list_tables", "TableNames", ""),
    ("s3", "list_buckets", "Buckets", "Name"),
    ("lambda", "list_functions", "Functions", "FunctionName"),
    ("lambda", "list_layers", "Layers", "LayerName"),
    ("lambda", "list_event_source_mappings", "EventSourceMappings", "UUID"),
    ("stepfunctions", "list_state_machines", "stateMachines", "name"),
    ("sqs", "list_queues", "QueueUrls", ""),
    ("secretsmanager", "list_secrets", "SecretList", "Name"),
    ("logs", "describe_log_groups", "logGroups", "logGroupName"),
    ("events", "list_event_buses", "EventBuses", "Name"),
    ("events", "list_rules", "Rules", "Name"),
    ("apigatewayv2", "get_apis", "Items", "Name"),
    ("iam", "list_roles", "Roles", "RoleName"),
    ("cloudwatch", "list_dashboards", "DashboardEntries", "DashboardName"),
    ("cloudwatch", "describe_alarms", "MetricAlarms", "AlarmName"),
    ("sns", "list_topics", "Topics", "TopicArn"),
)
"""What an account can hold of a stack: the service, what lists it, where the list is in the answer, and the name of
each, if the list is not one of names."""
ACCOUNTS_OWN = ("aws-sam-cli-managed-default", "AWSServiceRole", "default")
"""How the names begin of what no stack of ours made: by SAM, and by AWS itself."""


def remains(client: Callable[[str], Any], unasked: str = "") -> Iterator[str]:
    """What the account of these clients holds that is neither its own nor SAM's: service and name of each. The service
    `unasked` is left out."""
    for service, operation, key, name in LISTS:
        if service == unasked:
            continue
        answer = getattr(client(service), operation)()
        for found in answer.get(key, ()):
            called = str(found[name] if name else found)
            if not called.startswith(ACCOUNTS_OWN):
                yield f"{service}: {called}"
