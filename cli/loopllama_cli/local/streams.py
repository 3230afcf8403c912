"""DynamoDB streams to functions: one reader for each event source mapping, in order, with batches and retries."""

from __future__ import annotations

import base64
import json
import threading
import time
from collections import deque
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from loopllama_cli.local.functions import InvokeRefused
from loopllama_cli.local.processes import Outcome

RETRY_SECONDS = 0.5
MAX_RETRIES = 10
"""Of a batch, where the mapping sets none: AWS tries until the record is a day old, and the shard waits."""


class Streams:
    """The event source mappings of the stack.

    `invoke(function_arn, event)` runs a function; `matches(pattern, record)` is EventBridge's matcher, of a
    pattern in JSON; `send` puts a message into a queue, `warn` takes one line for the person at the terminal.
    """

    def __init__(
        self,
        invoke: Callable[[str, bytes], Outcome],
        matches: Callable[[str, dict[str, Any]], bool],
        send: Callable[[str, str, dict[str, str]], None],
        warn: Callable[[str], None],
    ) -> None:
        self._invoke = invoke
        self._matches = matches
        self._send = send
        self._warn = warn
        self._readers: dict[str, _Reader] = {}
        self._lock = threading.Lock()

    def add(self, mapping: Any, record: dict[str, Any]) -> None:
        """Hand a stream record to a mapping's reader. Never blocks: it is called inside the write."""
        with self._lock:
            if mapping.uuid not in self._readers:
                self._readers[mapping.uuid] = _Reader(mapping, self._invoke, self._matches, self._send, self._warn)
            reader = self._readers[mapping.uuid]
        reader.add(_event_record(mapping, record))


class _Reader:
    def __init__(self, mapping: Any, invoke: Any, matches: Any, send: Any, warn: Any) -> None:
        self._mapping = mapping
        self._invoke, self._matches, self._send, self._warn = invoke, matches, send, warn
        self._records: deque[dict[str, Any]] = deque()
        self._changed = threading.Condition()
        threading.Thread(target=self._run, daemon=True, name=f"stream-{mapping.uuid}").start()

    def add(self, record: dict[str, Any]) -> None:
        with self._changed:
            self._records.append(record)
            self._changed.notify()

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._records)
                if not self._mapping.enabled:
                    self._records.clear()
                batch = [self._records.popleft() for _ in range(min(len(self._records), self._mapping.batch_size))]
            batch = [record for record in batch if self._wanted(record)]
            if batch:
                self._process(batch)

    def _wanted(self, record: dict[str, Any]) -> bool:
        filters = (self._mapping.filter_criteria or {}).get("Filters", [])
        return not filters or any(self._matches(filter_["Pattern"], record) for filter_ in filters)

    def _process(self, batch: list[dict[str, Any]]) -> None:
        retries = self._mapping.max_retry_attempts
        retries = MAX_RETRIES if retries is None or int(retries) < 0 else int(retries)
        for attempt in range(retries + 1):
            if attempt:
                time.sleep(RETRY_SECONDS)
            try:
                outcome = self._invoked(json.dumps({"Records": batch}, default=_base64).encode())
            except Exception as error:
                outcome = Outcome.failed(type(error).__name__, str(error))
            if not outcome.error:
                batch = self._to_retry(batch, outcome)
                if not batch:
                    return
            elif self._mapping.bisect_on_error and len(batch) > 1:
                self._process(batch[: len(batch) // 2])
                self._process(batch[len(batch) // 2 :])
                return
        self._give_up(batch, retries)

    def _invoked(self, event: bytes) -> Outcome:
        """Invoke the function, as soon as there is room for it: to be throttled is no failure of the batch."""
        while True:
            try:
                outcome: Outcome = self._invoke(self._mapping.function_arn, event)
                return outcome
            except InvokeRefused as refused:
                if not refused.is_throttle:
                    raise
                time.sleep(RETRY_SECONDS)

    def _to_retry(self, batch: list[dict[str, Any]], outcome: Outcome) -> list[dict[str, Any]]:
        """Return the records to be tried again: with partial batch answers, those from the first failure on."""
        if "ReportBatchItemFailures" not in (self._mapping.function_response_types or []):
            return []
        answer = json.loads(outcome.payload) or {}
        failed = {item.get("itemIdentifier") for item in answer.get("batchItemFailures") or []}
        numbers = [record["dynamodb"]["SequenceNumber"] for record in batch]
        first = next(
            (index for index, number in enumerate(numbers) if number in failed), len(batch) if not failed else 0
        )
        return batch[first:]

    def _give_up(self, batch: list[dict[str, Any]], retries: int) -> None:
        function, numbers = self._mapping.function_arn, [record["dynamodb"]["SequenceNumber"] for record in batch]
        self._warn(f"{function}: gave up on {len(batch)} stream records after {retries} retries")
        queue = ((self._mapping.destination_config or {}).get("OnFailure") or {}).get("Destination")
        if queue:
            record = {
                "requestContext": {"functionArn": function, "condition": "RetryAttemptsExhausted"},
                "version": "1.0",
                "DDBStreamBatchInfo": {
                    "startSequenceNumber": numbers[0],
                    "endSequenceNumber": numbers[-1],
                    "batchSize": len(batch),
                    "streamArn": self._mapping.event_source_arn,
                },
            }
            self._send(queue, json.dumps(record), {})


def _base64(value: bytes) -> str:
    """Binary attributes as Lambda delivers them."""
    return base64.b64encode(value).decode()


def _event_record(mapping: Any, record: dict[str, Any]) -> dict[str, Any]:
    """https://docs.aws.amazon.com/lambda/latest/dg/with-ddb.html"""
    change = dict(record["dynamodb"])
    when = change["ApproximateCreationDateTime"]
    if isinstance(when, datetime):
        change["ApproximateCreationDateTime"] = int(when.replace(tzinfo=UTC).timestamp())
    return {
        "eventID": record["eventID"],
        "eventName": record["eventName"],
        "eventVersion": "1.1",
        "eventSource": "aws:dynamodb",
        "awsRegion": mapping.region,
        "dynamodb": change,
        "eventSourceARN": mapping.event_source_arn,
    }
