"""How a deployed stack runs: what waits in its queues, its alarms, what was throttled, and models that rest."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from itertools import islice
from shlex import quote
from typing import Any

from loopllama.aws import clients, dynamo
from loopllama_cli.doctor.findings import Check, looked
from loopllama_cli.target import Target, next_command

_MOST_RESOURCES = 500
_HOUR = 3600
_RUNBOOK = "docs/operations.md says what to do"
_NAMESPACE = "LoopLlama/{}"
Resources = dict[str, list[tuple[str, str]]]
"""CloudFormation's types of resource to those of the stack: the name in the template, and the one in the account."""


def examine_running(target: Target) -> Iterator[Check]:
    """Yield what the stack's own queues, alarms and metrics say. A few calls; what one may not see is a warning."""
    found: Resources = {}

    def look() -> str:
        found.update(resources(target.name))
        return f"{sum(map(len, found.values()))}"

    check = _seen("resources", look, "cloudformation:ListStackResources")
    if check.status != "ok":
        yield check
        return
    yield from _queues(found.get("AWS::SQS::Queue", []), target)
    if alarms := found.get("AWS::CloudWatch::Alarm"):
        yield _alarms(alarms)
    yield _throttles(found.get("AWS::Lambda::Function", []), target)
    yield from _resting(target)


def resources(stack: str) -> Resources:
    """Return what CloudFormation has made of a stack."""
    found: Resources = {}
    pages = clients.client("cloudformation").get_paginator("list_stack_resources").paginate(StackName=stack)
    listed = (resource for page in pages for resource in page["StackResourceSummaries"])
    for resource in islice(listed, _MOST_RESOURCES):
        name = (resource["LogicalResourceId"], str(resource.get("PhysicalResourceId") or ""))
        found.setdefault(resource["ResourceType"], []).append(name)
    return found


def _seen(subject: str, look: Callable[[], str], action: str) -> Check:
    """Return what a look found; one that fails is a warning: it says nothing of whether the stack works."""
    check = looked(subject, look, action)
    return check._replace(status="warn") if check.status == "fail" else check


def _queues(queues: list[tuple[str, str]], target: Target) -> Iterator[Check]:
    """Yield which of the dead-letter queues hold messages, with the commands that look at them and send them on."""
    waiting: dict[str, int] = {}

    def look() -> str:
        for name, url in queues:
            counts = ("ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible")
            said = clients.client("sqs").get_queue_attributes(QueueUrl=url, AttributeNames=list(counts))["Attributes"]
            waiting[name] = sum(int(said[count]) for count in counts)
        return f"{len(queues)}, all empty"

    check = _seen("queues", look, "sqs:GetQueueAttributes")
    full = [(name, url) for name, url in queues if waiting.get(name)]
    if check.status != "ok" or not full:
        yield check
    for name, url in full:
        read = f"{_local(target)}aws sqs receive-message --queue-url {quote(url)} --max-number-of-messages 10"
        todo = f"look: {read} --visibility-timeout 0\nthen send them on or delete them: {_RUNBOOK} (What got lost)"
        messages = "1 message waits" if waiting[name] == 1 else f"{waiting[name]:,} messages wait"
        yield Check(f"queue {name}", "warn", messages, todo)


def _local(target: Target) -> str:
    return 'eval "$(loopllama local --export)"; ' if target.local else ""


def _alarms(alarms: list[tuple[str, str]]) -> Check:
    names = {physical: name for name, physical in alarms[:100]}
    on: list[str] = []

    def look() -> str:
        said = clients.client("cloudwatch").describe_alarms(AlarmNames=list(names), StateValue="ALARM")
        alarms_on = (alarm for alarm in said["MetricAlarms"] if alarm["StateValue"] == "ALARM")
        on.extend(names[alarm["AlarmName"]] for alarm in alarms_on if alarm["AlarmName"] in names)
        return f"{len(names)}, none in ALARM"

    check = _seen("alarms", look, "cloudwatch:DescribeAlarms")
    if not on:
        return check
    told = ", ".join(sorted(on))
    return Check("alarms", "warn", f"in ALARM: {told}", f"{_RUNBOOK} (Alarms)")


def _throttles(functions: list[tuple[str, str]], target: Target) -> Check:
    """Return what Lambda and the model providers throttled within the last hour."""
    metrics = [
        ("calls of models", _NAMESPACE.format(target.name), "ModelThrottles", ("service", target.name)),
        ("executions", "AWS/States", "ExecutionThrottled", ("StateMachineArn", target.settings.state_machine_arn)),
        *((name, "AWS/Lambda", "Throttles", ("FunctionName", physical)) for name, physical in functions[:100]),
    ]
    sums: dict[str, int] = {}

    def look() -> str:
        now = datetime.now(UTC).replace(second=0, microsecond=0) + timedelta(minutes=1)
        answer = clients.client("cloudwatch").get_metric_data(
            StartTime=now - timedelta(seconds=_HOUR),
            EndTime=now,
            MetricDataQueries=[_query(*m) for m in enumerate(metrics)],
        )
        for result in answer["MetricDataResults"]:
            sums[metrics[int(result["Id"][1:])][0]] = round(sum(result["Values"]))
        return "none within the last hour"

    check = _seen("throttles", look, "cloudwatch:GetMetricData")
    told = [f"{count:,} of {name}" for name, count in sums.items() if count]
    if not told:
        return check
    todo = "they are tried again by themselves; where it lasts, " + (
        "ask for a higher quota or name a fallback for the models: the checks `quota` say which, docs/routing.md how"
        if sums.get("calls of models")
        else "ask for more functions at once: the check `functions at once` says how"
    )
    return Check("throttles", "warn", f"within the last hour: {', '.join(told)}", todo)


def _query(number: int, metric: tuple[str, str, str, tuple[str, str]]) -> dict[str, Any]:
    _, namespace, name, (dimension, value) = metric
    what = {"Namespace": namespace, "MetricName": name, "Dimensions": [{"Name": dimension, "Value": value}]}
    return {"Id": f"m{number}", "MetricStat": {"Metric": what, "Period": 300, "Stat": "Sum"}}


def _resting(target: Target) -> Iterator[Check]:
    """Yield the models whose circuit breaker is open."""
    from loopllama.routing.circuit_breaker import parse_states
    from loopllama.routing.model_health import KEY

    resting: dict[str, int] = {}

    def look() -> str:
        client, now = clients.client("dynamodb"), int(time.time() * 1000)
        item = client.get_item(TableName=target.settings.models_table, Key={"model": {"S": KEY}}).get("Item")
        states = parse_states(dynamo.from_item(item) if item else None)
        resting.update({name: state.until(now) for name, state in states.items() if state.is_open(now)})
        return "closed for every model"

    check = _seen("circuits", look, "dynamodb:GetItem")
    if not resting:
        yield check
    for name, until in sorted(resting.items()):
        at = datetime.fromtimestamp(until / 1000, UTC).strftime("%H:%M:%S UTC")
        todo = f"it is tried again by itself; why: {next_command('runs list')} and `trace` of a run; {_RUNBOOK}"
        yield Check(f"circuit {name}", "warn", f"open until {at}: it failed three times in a row", todo)
