"""A run's events as they come: printed one a line, or as the sign that there is something new to read."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

from rich.console import Console
from rich.text import Text

from loopllama.core import exact_json
from loopllama.events.log import EventLog
from loopllama.settings import Settings
from loopllama_cli.console import figures, output
from loopllama_cli.console.places import place

if TYPE_CHECKING:
    from loopllama.events.types import ShownEvent

_PAGE = 100
_WAIT_SECONDS = 20.0
_STYLES = {
    "StepFailed": "red",
    "RunFailed": "bold red",
    "BudgetExceeded": "red",
    "RunWaiting": "yellow",
    "QuestionExpiring": "bold yellow",
}


class News:
    """Waits for the next event of a run, so that the run is read again when there is a reason to."""

    def __init__(self, settings: Settings, run_id: str) -> None:
        self._log = EventLog(settings)
        self._run_id = run_id
        self._seen = 0

    def wait(self, seconds: float) -> None:
        """Return when something has happened that no earlier call told of, or after `seconds`."""
        if self._log.wait(self._run_id, self._seen, seconds):
            while events := self._log.after(self._run_id, self._seen, _PAGE):
                self._seen = int(events[-1]["id"])


def events(settings: Settings, run_id: str, after: int = 0) -> Iterator[ShownEvent]:
    """Yield a run's events behind number `after`, as they come, until the run is over. Raises `RunNotFound`."""
    log = EventLog(settings)
    while True:
        if log.wait(run_id, after, _WAIT_SECONDS):
            for event in log.after(run_id, after, _PAGE):
                yield event
                after = int(event["id"])
        elif log.is_over(run_id, after):
            return


def print_event(event: ShownEvent, console: Console, as_json: bool) -> None:
    """Print an event on its own line."""
    if as_json:
        sys.stdout.write(exact_json.dumps(event) + "\n")
        sys.stdout.flush()
        return
    when = output.moment(event["at"])
    kind, error = event["type"], event.get("error")
    line = Text.assemble(
        (when.astimezone().strftime("%H:%M:%S") if when else "", "dim"),
        f"  {event['id']:>3}  ",
        (f"{output.clean(kind):<14}", _STYLES.get(kind, "")),
    )
    parts = [
        place(event["step"], event.get("item"), event.get("iteration")) if event.get("step") else None,
        event.get("model"),
        error and error.get("type"),
        event.get("kind"),
        event.get("tool"),
        event.get("question"),
    ]
    if event.get("latency_ms") is not None:
        parts += [output.duration(event["latency_ms"]), figures.cost(event).plain]
    line.append("".join(f"  {output.clean(str(part))}" for part in parts if part))
    if event.get("simulated"):
        line.append("  simulated", "yellow")
    console.print(line, soft_wrap=True)
