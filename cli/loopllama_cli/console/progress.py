"""Waiting for a run: its steps live in the terminal, or a line for each step where there is no terminal."""

from __future__ import annotations

import time
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Any

from rich.console import Group
from rich.live import Live
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from loopllama_cli.console import output
from loopllama_cli.console.places import label
from loopllama_cli.console.run_facts import step_status, steps_of

if TYPE_CHECKING:
    from loopllama.queries.types import RunView

FINAL = frozenset({"completed", "failed", "cancelled"})
WAITING = "waiting_input"
_FIRST_PAUSE, _LONGEST_PAUSE = 0.2, 2.0


def wait(
    read: Callable[[], RunView],
    quiet: bool = False,
    seconds: float | None = None,
    rest: Callable[[float], None] | None = None,
) -> RunView:
    """Read the run until it is final or waits for a person; returns its last state. `seconds` bounds the waiting.
    Between two readings `rest` takes so many seconds, or fewer when something has happened. Raises `TimeoutError`."""
    deadline = None if seconds is None else time.monotonic() + seconds
    pause = _FIRST_PAUSE
    with Progress(quiet) as progress:
        while True:
            run = read()
            progress.update(run)
            if run["status"] in FINAL or run["status"] == WAITING:
                return run
            if deadline is not None and time.monotonic() + pause > deadline:
                raise TimeoutError(f"run {run['id']} is still {run['status']} after {seconds:g} s")
            (rest or time.sleep)(pause)
            # Short runs are watched closely; long ones are not worth ten reads a second.
            pause = min(_LONGEST_PAUSE, pause * 1.1)


class Progress:
    """Shows a run on standard error as it goes on."""

    def __init__(self, quiet: bool = False) -> None:
        self._console = output.err()
        self._quiet = quiet
        self._spinners: dict[str, Spinner] = {}
        self._told: set[str] = set()
        live = self._console.is_terminal and not quiet
        self._live = Live(console=self._console, transient=True, refresh_per_second=10) if live else None

    def __enter__(self) -> Progress:
        if self._live:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live:
            self._live.stop()

    def update(self, run: RunView) -> None:
        """Show the run as it is now."""
        if self._live:
            self._live.update(self._picture(run))
        elif not self._quiet:
            self._tell(run)

    def _picture(self, run: RunView) -> Group:
        steps = steps_of(run)
        workflow = (output.clean(str(run.get("workflow_id"))), "bold")
        title = Text.assemble(workflow, "  ", output.status(run.get("status")), (f"  {run['id']}", "dim"))
        grid = Table.grid(padding=(0, 2))
        for step in steps:
            status = step_status(step)
            mark: Any = output.status(status, word=False)
            if status == "running":
                mark = self._spinners.setdefault(label(step), Spinner("dots", style="cyan"))
            cost = output.money(step["cost_usd"]) if step.get("cost_usd") is not None else ""
            latency = output.duration(step["latency_ms"]) if step.get("latency_ms") is not None else ""
            grid.add_row(mark, label(step), Text(output.clean(str(step.get("model") or "")), "dim"), latency, cost)
        return Group(title, grid)

    def _tell(self, run: RunView) -> None:
        for step in steps_of(run):
            status, name = step_status(step), label(step)
            if status in ("completed", "failed", "skipped") and name not in self._told:
                self._told.add(name)
                model = f"  {step['model']}" if step.get("model") else ""
                output.message(f"{name}: {status}{model}  {output.duration(step.get('latency_ms'))}")
