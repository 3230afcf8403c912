"""The consumer of the streams of the Routes, Models and Tools tables: history entries, and events on the bus.

Events have the source `loopllama` and the detail types `RouteChanged`, `InvalidOverride` (a row that is invalid,
in addition), `ModelChanged` (an entry of the Models table) and `ToolChanged` (a row of the Tools table). The detail is
the history entry, with `workflow` and `step`, `model` or `tool`. Delivery is at least once; `sequence` tells
repetitions apart.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from loopllama.aws import clients, dynamo
from loopllama.core import exact_json
from loopllama.routing.change_log import History, entry_of, plain
from loopllama.settings import Settings
from loopllama.telemetry import logs

SOURCE = "loopllama"
MAX_DETAIL = 200_000
"""Bytes; EventBridge takes 256 KB an entry. Longer ones go without the rows."""


class RouteRecorder:
    """Handles batches of stream records in one process. `clock` gives epoch seconds."""

    def __init__(self, settings: Settings, dynamodb: Any = None, clock: Callable[[], float] = time.time) -> None:
        from loopllama.routing.validation import RouteChecks

        self._bus = settings.event_bus_name
        self._history = History(settings, dynamodb)
        self._clock = clock

        def client() -> Any:
            return clients.client("dynamodb") if dynamodb is None else dynamodb

        self._checks = RouteChecks(settings, client)

    def handle(self, records: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """Record the changes in their order. Returns Lambda's answer for partial batches: the first record that has to
        come again, with all that follow it."""
        for record in records:
            try:
                self._record(record)
            except Exception as error:
                logs.logger().warning("a change was not recorded", extra={"error": logs.safe_text(error)})
                return {"batchItemFailures": [{"itemIdentifier": record["dynamodb"]["SequenceNumber"]}]}
        return {"batchItemFailures": []}

    def _record(self, record: Mapping[str, Any]) -> None:
        entry = entry_of(record)
        if entry is None:
            return
        keys = dynamo.from_item(record["dynamodb"]["Keys"])
        problems: list[str] = []
        if "workflow" in keys and entry["after"] is not None:
            findings = self._checks.findings(keys["workflow"], keys["step"], entry["after"], self._clock())
            problems = [f"{finding.field}: {finding.message}"[:500] for finding in findings if finding.invalid][:20]
            entry["problems"] = problems or None
        self._history.put(entry)
        detail = {name: value for name, value in {**keys, **entry}.items() if value is not None}
        kind = "ModelChanged" if "model" in keys else "ToolChanged" if "tool" in keys else "RouteChanged"
        kinds = [kind, *(["InvalidOverride"] if problems else [])]
        self._send(kinds, detail)

    def _send(self, kinds: Sequence[str], detail: Mapping[str, Any]) -> None:
        text = exact_json.dumps(plain(detail))
        if len(text.encode()) > MAX_DETAIL:
            short = {name: value for name, value in detail.items() if name not in ("before", "after")}
            text = exact_json.dumps(plain(short))
        answer = clients.client("events").put_events(
            Entries=[
                {"EventBusName": self._bus, "Source": SOURCE, "DetailType": kind, "Detail": text} for kind in kinds
            ]
        )
        if answer.get("FailedEntryCount"):
            raise RuntimeError(f"EventBridge took {len(kinds) - answer['FailedEntryCount']} of {len(kinds)} events")
