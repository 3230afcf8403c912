"""The consumer of the Runs table's stream: numbers the events, keeps them, and sends them to the event bus; and keeps
what routing knows of the steps whose calls it sees settle."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from loopllama.aws import clients, errors
from loopllama.core import exact_json
from loopllama.events.derive import Event, events_of
from loopllama.events.log import EventLog
from loopllama.routing.step_figures import StepFigures
from loopllama.settings import Settings
from loopllama.telemetry import logs

if TYPE_CHECKING:
    from loopllama.events.types import ShownEvent

SOURCE = "loopllama"
_ENTRIES = 10
"""PutEvents takes so many. https://docs.aws.amazon.com/eventbridge/latest/APIReference/API_PutEvents.html"""
_TRIES = 3


class Publisher:
    """Handles batches of stream records in one process. `sleep` takes seconds."""

    def __init__(
        self,
        settings: Settings,
        log: EventLog | None = None,
        sleep: Callable[[float], None] = time.sleep,
        figures: StepFigures | None = None,
    ) -> None:
        self._bus = settings.event_bus_name
        self._log = log or EventLog(settings)
        self._figures = figures or StepFigures(settings)
        self._sleep = sleep

    def handle(self, records: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """Keep the events of the records, numbered in their order, and send them; then keep the figures of steps.

        Returns Lambda's answer for partial batches: the first record that has to come again. Whatever comes again,
        with all that follows it, keeps its numbers; it may be sent twice, under the same `run_id` and `id`.
        """
        kept: list[tuple[str, ShownEvent]] = []
        failed: str | None = None
        for record in records:
            number = record["dynamodb"]["SequenceNumber"]
            try:
                kept += [(number, self._log.append(event)) for event in _events(record)]
            except Exception as error:
                if (trouble := errors.trouble(error)) is None:
                    raise
                logs.logger().warning("an event was not kept", extra={"error": str(trouble)})
                failed = number
                break
        failed = self._send(kept) or failed
        # Behind the events, which people wait for. What comes again changes no figure.
        self._figures.take(records)
        return {"batchItemFailures": [{"itemIdentifier": failed}] if failed else []}

    def _send(self, kept: Sequence[tuple[str, ShownEvent]]) -> str | None:
        """Send events; returns the sequence number of the first record with one that was not taken."""
        for start in range(0, len(kept), _ENTRIES):
            unsent = list(kept[start : start + _ENTRIES])
            for attempt in range(_TRIES):
                if attempt:
                    self._sleep(0.1 * 4**attempt)
                unsent = self._put(unsent)
                if not unsent:
                    break
            if unsent:
                return unsent[0][0]
        return None

    def _put(self, entries: Sequence[tuple[str, ShownEvent]]) -> list[tuple[str, ShownEvent]]:
        """One PutEvents; returns what it did not take."""
        try:
            answer = clients.client("events").put_events(
                Entries=[
                    {
                        "EventBusName": self._bus,
                        "Source": SOURCE,
                        "DetailType": event["type"],
                        "Detail": exact_json.dumps(event),
                    }
                    for _, event in entries
                ]
            )
        except Exception as error:
            if (trouble := errors.trouble(error)) is None:
                raise
            logs.logger().warning("events were not sent", extra={"error": str(trouble)})
            return list(entries)
        results = zip(entries, answer["Entries"], strict=True)
        return [entry for entry, result in results if result.get("ErrorCode")]


def _events(record: Mapping[str, Any]) -> list[Event]:
    try:
        return events_of(record)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        # Somebody has edited a run by hand into what no run looks like; it must not hold up the others.
        key = record["dynamodb"].get("Keys")
        logs.logger().error("a change is invalid", extra={"key": key, "error": logs.safe_text(error)})
        return []
