"""What a stack's event bus says, in a queue of a test's own."""

from __future__ import annotations

import json
import uuid
from typing import Any

from loopllama.core import exact_json

from .system import System


class Follower:
    """Everything that the bus says of runs and routes. As a context manager it leaves nothing behind: CloudFormation
    deletes no bus that has rules."""

    def __init__(self, system: System) -> None:
        self._sqs, self._events = system.client("sqs"), system.client("events")
        self._bus = system.outputs["EventBusName"]
        self._seen: dict[tuple[str, str], tuple[str, dict[str, Any]]] = {}
        self._name = f"follower-{uuid.uuid4().hex[:8]}"
        self._url = self._sqs.create_queue(QueueName=self._name)["QueueUrl"]
        arn = self._sqs.get_queue_attributes(QueueUrl=self._url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
        statement = {
            "Effect": "Allow",
            "Principal": {"Service": "events.amazonaws.com"},
            "Action": "sqs:SendMessage",
            "Resource": arn,
        }
        policy = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
        self._sqs.set_queue_attributes(QueueUrl=self._url, Attributes={"Policy": policy})
        pattern = json.dumps({"source": ["loopllama"]})
        self._events.put_rule(Name=self._name, EventBusName=self._bus, EventPattern=pattern)
        self._events.put_targets(Rule=self._name, EventBusName=self._bus, Targets=[{"Id": "queue", "Arn": arn}])

    def __enter__(self) -> Follower:
        return self

    def __exit__(self, *_: object) -> None:
        self._events.remove_targets(Rule=self._name, EventBusName=self._bus, Ids=["queue"])
        self._events.delete_rule(Name=self._name, EventBusName=self._bus)
        self._sqs.delete_queue(QueueUrl=self._url)

    def all(self) -> list[tuple[str, dict[str, Any]]]:
        """Kind and detail of each event that has arrived so far, once each."""
        while messages := self._sqs.receive_message(QueueUrl=self._url, MaxNumberOfMessages=10).get("Messages"):
            for message in messages:
                event = exact_json.loads(message["Body"])
                detail = event["detail"]
                told_by = (
                    (detail["run_id"], detail["id"]) if "run_id" in detail and "id" in detail else ("", event["id"])
                )
                self._seen[told_by] = event["detail-type"], detail
                self._sqs.delete_message(QueueUrl=self._url, ReceiptHandle=message["ReceiptHandle"])
        return [*self._seen.values()]

    def of(self, run_id: str) -> list[dict[str, Any]]:
        """The run's events that have arrived so far, by their ids."""
        mine = [(kind, event) for kind, event in self.all() if event.get("run_id") == run_id and "id" in event]
        assert all(kind == event["type"] for kind, event in mine)
        return sorted((event for _, event in mine), key=lambda event: int(event["id"]))
