"""`make test-foreign`: what `make test-aws` does, on ministack instead of AWS: an emulator that shares no code with
moto. It evaluates each role's policies, and runs the functions and the layer as `sam build` makes them.

Nothing leaves this machine but what `sam build` fetches, and nothing is left of it, ministack's processes included.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

TESTS = Path(__file__).parent
sys.path[:0] = [str(TESTS)]

import on_aws  # noqa: E402 - found through the line before
from foreign import emulator  # noqa: E402

from loopllama.aws import clients  # noqa: E402

STACK = "foreign"


def main(python: str) -> int:
    """Deploy, test, remove, and look for what is left. `python` is the interpreter that has ministack. Returns the exit
    code: 0 where all is well."""
    begun = time.monotonic()
    with emulator.running(python) as foreign:
        foreign.enter()
        code = on_aws.main(STACK, **foreign.by_name)
        left = list(remains())
        if code or left:
            sys.stderr.write(f"The end of ministack's log:\n{foreign.last_words()}\n")
    if left:
        sys.stderr.write("\n".join(["Left of the stack:", *left, ""]))
    sys.stderr.write(f"make test-foreign took {time.monotonic() - begun:.0f} s\n")
    return code or bool(left)


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


def remains() -> Iterator[str]:
    """What the account holds that is neither its own nor SAM's: service and name of each."""
    for service, operation, key, name in LISTS:
        answer: Any = getattr(clients.client(service), operation)()
        for found in answer.get(key, ()):
            called = str(found[name] if name else found)
            if not called.startswith(ACCOUNTS_OWN):
                yield f"{service}: {called}"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
