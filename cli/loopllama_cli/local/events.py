"""EventBridge: delivering events to the targets of rules, and running scheduled rules."""

from __future__ import annotations

import hashlib
import json
import re
import threading
import time
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any

UNITS = {"minute": 1, "hour": 60, "day": 1440}


class Events:
    """The event buses of the stack.

    `backend` is moto's; `invoke_later(arn, event)`, `start_execution(arn, name, input)` and `send(queue_arn, body,
    attributes)` are the targets; `warn` takes one line for the person at the terminal. `minute` is how long a minute
    of a schedule takes, in seconds.
    """

    def __init__(
        self,
        backend: Any,
        invoke_later: Callable[[str, bytes], None],
        start_execution: Callable[[str, str, str], None],
        send: Callable[[str, str, dict[str, str]], None],
        warn: Callable[[str], None],
        minute: float = 60.0,
    ) -> None:
        self._backend = backend
        self._invoke_later = invoke_later
        self._start_execution = start_execution
        self._send = send
        self._warn = warn
        self._minute = minute
        self._deliveries = ThreadPoolExecutor(max_workers=8, thread_name_prefix="events")

    def publish(self, source: str, detail_type: str, detail: dict[str, Any], resources: list[str]) -> None:
        """Put an event of AWS's own on the default bus."""
        event = self._envelope(source, detail_type, detail, resources)
        for rule in list(self._backend.describe_event_bus("default").rules.values()):
            self.match(rule, event)

    def match(self, rule: Any, event: dict[str, Any]) -> None:
        """Deliver the event to the rule's targets if the rule's pattern takes it. Returns before it arrives."""
        if (
            rule.state != "ENABLED"
            or not rule.event_pattern.get_pattern()
            or not rule.event_pattern.matches_event(event)
        ):
            return
        self._deliver(rule, event)

    def start_schedules(self) -> None:
        threading.Thread(target=self._run_schedules, daemon=True, name="schedules").start()

    def _envelope(self, source: str, kind: str, detail: dict[str, Any], resources: list[str]) -> dict[str, Any]:
        return {
            "version": "0",
            "id": str(uuid.uuid4()),
            "detail-type": kind,
            "source": source,
            "account": self._backend.account_id,
            "time": time.time(),
            "region": self._backend.region_name,
            "resources": resources,
            "detail": detail,
            "ingestion-time": time.time(),
        }

    def _deliver(self, rule: Any, event: dict[str, Any]) -> None:
        for target in list(rule.targets):
            self._deliveries.submit(self._deliver_to, rule, target, event)

    def _deliver_to(self, rule: Any, target: dict[str, Any], event: dict[str, Any]) -> None:
        body = ""
        try:
            body = _input(target, event)
            service = target["Arn"].split(":")[2]
            if service == "lambda":
                self._invoke_later(target["Arn"], body.encode())
            elif service == "states":
                # AWS too derives the name, so that a repeated delivery of one event starts one execution.
                name = f"{event['id']}_{hashlib.sha256((rule.arn + target['Id']).encode()).hexdigest()[:32]}"
                self._start_execution(target["Arn"], name, body)
            elif service == "sqs":
                self._send(target["Arn"], body, {})
            elif service == "logs":
                rule._send_to_cw_log_group(target["Arn"].split(":")[6], json.loads(body))
            elif service == "events":
                entry = {"Source": event["source"], "DetailType": event["detail-type"]}
                bus = target["Arn"].rsplit("/", 1)[-1]
                self._backend.put_events([{**entry, "Detail": json.dumps(event["detail"]), "EventBusName": bus}])
            else:
                raise ValueError(f"the local stack delivers no events to {service}")
        except Exception as error:
            self._warn(f"rule {rule.name}: target {target['Arn']}: {error}")
            queue = target.get("DeadLetterConfig", {}).get("Arn")
            if queue:
                attributes = {"RULE_ARN": rule.arn, "TARGET_ARN": target["Arn"], "ERROR_MESSAGE": str(error)[:1024]}
                self._send(queue, body or json.dumps(event), {**attributes, "ERROR_CODE": type(error).__name__})

    def _run_schedules(self) -> None:
        due: dict[str, float] = {}
        step = min(0.5, self._minute / 20)
        while True:
            time.sleep(step)
            for rule in [rule for bus in self._backend.event_buses.values() for rule in list(bus.rules.values())]:
                if not rule.scheduled_expression or rule.state != "ENABLED":
                    continue
                now = time.monotonic()
                if rule.arn not in due:
                    seconds = self._period(rule)
                    due[rule.arn] = now + seconds if seconds else float("inf")
                elif now >= due[rule.arn]:
                    due[rule.arn] = now + (self._period(rule) or float("inf"))
                    self._deliver(rule, self._envelope("aws.events", "Scheduled Event", {}, [rule.arn]))

    def _period(self, rule: Any) -> float | None:
        minutes = rate_minutes(rule.scheduled_expression)
        if minutes is None:
            self._warn(f"rule {rule.name}: {rule.scheduled_expression} does not run locally, only rate(…) does")
            return None
        return minutes * self._minute


def rate_minutes(expression: str) -> int | None:
    """Return the minutes of `rate(5 minutes)`; `None` for any other expression."""
    match = re.fullmatch(r"rate\((\d+) (minute|hour|day)s?\)", expression.strip())
    return int(match[1]) * UNITS[match[2]] if match else None


def _public(event: dict[str, Any]) -> dict[str, Any]:
    """Return the event as targets get it."""
    when = event["time"]
    if isinstance(when, (int, float)):
        when = datetime.fromtimestamp(when, tz=UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return {**{key: value for key, value in event.items() if key != "ingestion-time"}, "time": when}


def _input(target: dict[str, Any], event: dict[str, Any]) -> str:
    """Return what a target gets, as JSON: its constant, a part of the event, a template filled in, or the event."""
    public = _public(event)
    if target.get("Input"):
        return str(target["Input"])
    if target.get("InputPath"):
        return json.dumps(_at(public, target["InputPath"]))
    transformer = target.get("InputTransformer")
    if not transformer:
        return json.dumps(public)
    values = {name: _at(public, path) for name, path in transformer.get("InputPathsMap", {}).items()}
    values["aws.events.event.json"] = values["aws.events.event"] = public
    values["aws.events.rule-arn"] = (public["resources"] or [""])[0]
    values["aws.events.event.ingestion-time"] = public["time"]
    return _fill(transformer["InputTemplate"], values)


def _fill(template: str, values: dict[str, Any]) -> str:
    """Fill `<name>`: inside a quoted string as text, elsewhere as JSON."""
    filled, quoted, position = "", False, 0
    for match in re.finditer(r'<([A-Za-z0-9_.\-]+)>|(\\.)|(")', template):
        filled += template[position : match.start()]
        position = match.end()
        if match[3]:
            quoted = not quoted
        if not match[1] or match[1] not in values:
            filled += match[0]
        elif quoted:
            value = values[match[1]]
            filled += json.dumps(value if isinstance(value, str) else json.dumps(value))[1:-1]
        else:
            filled += json.dumps(values[match[1]])
    return filled + template[position:]


def _at(event: Any, path: str) -> Any:
    """`$.detail.items[0].name`; `None` where there is nothing."""
    for name, index in re.findall(r"\.([^.\[\]]+)|\[(\d+)\]", path):
        try:
            event = event[int(index)] if index else event[name]
        except (KeyError, IndexError, TypeError):
            return None
    return event
