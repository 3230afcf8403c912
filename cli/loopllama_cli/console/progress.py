"""Waiting for a run: its steps live in the terminal, or lines about them where there is no terminal."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime
from types import TracebackType
from typing import TYPE_CHECKING, Any

from rich.console import Group, RenderableType
from rich.live import Live
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from loopllama_cli.console import figures, output
from loopllama_cli.console.activity import activity, elapsed_ms, model_of
from loopllama_cli.console.folding import LONGEST, ended, folded, items_of
from loopllama_cli.console.places import label
from loopllama_cli.console.run_facts import step_status, steps_of, waits_for

if TYPE_CHECKING:
    from loopllama.queries.types import RunView, StepView
    from loopllama_cli.console.folding import Folded

FINAL = frozenset({"completed", "failed", "cancelled"})
WAITING = "waiting_input"
_FIRST_PAUSE, _LONGEST_PAUSE = 0.2, 2.0
_SLOW_MS = 10_000.0
"""After so long a line says that a step still goes on; then after twice as long, and so on."""
_OVER = ("completed", "failed", "skipped")


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
    """Shows a run on standard error as it goes on. `now` is the time of day, aware."""

    def __init__(self, quiet: bool = False, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._console = output.err()
        self._quiet = quiet
        self._now = now
        self._spinners: dict[str, Spinner] = {}
        self._told: set[str] = set()
        self._waits: dict[str, str] = {}
        self._slow: dict[str, float] = {}
        self._shares: dict[str, int] = {}
        self._run: RunView | None = None
        live = self._console.is_terminal and not quiet
        # Drawn anew at each refresh, as time passes between two readings too.
        self._live = Live(console=self._console, transient=True, refresh_per_second=10, get_renderable=self._draw)
        self._is_live = live

    def __enter__(self) -> Progress:
        if self._is_live:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._is_live:
            self._live.stop()

    def update(self, run: RunView) -> None:
        """Show the run as it is now."""
        self._run = run
        if not self._is_live and not self._quiet:
            self._tell(run)

    # In a terminal

    def _draw(self) -> RenderableType:
        return self.picture(self._run) if self._run is not None else Text("")

    def picture(self, run: RunView) -> Group:
        """Return the run's steps as they are now, with what each does and for how long."""
        workflow = (output.clean(str(run.get("workflow_id"))), "bold")
        title = Text.assemble(workflow, "  ", output.status(run.get("status")), (f"  {run['id']}", "dim"))
        grid = Table.grid(padding=(0, 2))
        for name in ("", "step", "model", "what", "time", "cost"):
            grid.add_column(no_wrap=True, overflow="ellipsis", justify="right" if name in ("time", "cost") else "left")
        for step in folded(steps_of(run)):
            grid.add_row(*self._row(step))
        return Group(title, grid)

    def _row(self, step: Folded) -> tuple[Any, ...]:
        status = step_status(step)
        mark: Any = output.status(status, word=False)
        if status == "running":
            mark = self._spinners.setdefault(label(step), Spinner("dots", style="cyan"))
        known = step.get("cost_usd") is not None and step.get("attempts")
        cost = figures.cost(step, starred=True) if known else Text("")
        model = Text(model_of(step), "dim")
        if items := items_of(step):
            return mark, label(step), model, _counts(items), "", cost
        if status in ("running", WAITING):
            took = output.duration(elapsed_ms(step, self._now()))
            return mark, label(step), model, Text(activity(step), "yellow" if waits_for(step) else "dim"), took, cost
        ended_in = output.duration(step["latency_ms"]) if step.get("latency_ms") is not None else ""
        return (
            mark,
            label(step),
            model,
            "",
            "kept" if step.get("replayed_from") else ended_in * (status != "skipped"),
            cost,
        )

    # Without a terminal

    def _tell(self, run: RunView) -> None:
        steps = steps_of(run)
        lists = {_list_of(step): step for step in steps if int(step.get("item_count") or 0) > LONGEST}
        over = [step for step in steps if step_status(step) in _OVER and label(step) not in self._told]
        # As they ended, a list behind its last item.
        for step in sorted(over, key=lambda step: (str(step.get("finished_at")), step.get("item_count") is not None)):
            self._told.add(label(step))
            if step.get("item") and _list_of(step) in lists and step_status(step) != "failed":
                continue  # told by the tenth
            output.message(_ended(step))
        for step in lists.values():
            if step_status(step) not in _OVER:
                self._tell_share(step, [one for one in steps if one.get("item") and _list_of(one) == _list_of(step)])
        for step in steps:
            if step_status(step) in ("running", WAITING) and not (step.get("item") and _list_of(step) in lists):
                self._tell_slow(step)

    def _tell_share(self, step: StepView, items: list[StepView]) -> None:
        """Say how far a long list is, each time that another tenth of it is done."""
        count, done = int(step.get("item_count") or 0), ended(items, "completed") + ended(items, "failed")
        if (share := done * 10 // count) > self._shares.get(label(step), 0):
            self._shares[label(step)] = share
            failed = ended(items, "failed")
            output.message(f"{label(step)}: {done} of {count} items" + f", {failed} failed" * bool(failed))

    def _tell_slow(self, step: StepView) -> None:
        """Say what a slow step does: when it has taken long, and when it begins to wait for something."""
        name, took, what = label(step), elapsed_ms(step, self._now()), activity(step)
        if took is None:
            return
        waits = what if waits_for(step) else ""
        begins_to_wait = bool(waits) and waits != self._waits.get(name)
        self._waits[name] = waits
        if took >= self._slow.setdefault(name, _SLOW_MS) or begins_to_wait:
            while took >= self._slow[name]:
                self._slow[name] *= 2
            output.message(
                f"{name}: {', '.join(part for part in (output.duration(took), model_of(step), what) if part)}"
            )


def _list_of(step: StepView) -> tuple[Any, Any]:
    return step.get("step"), step.get("iteration")


def _ended(step: StepView) -> str:
    status = step_status(step)
    if step.get("replayed_from"):
        return f"{label(step)}: kept"
    if status == "skipped":
        because = f": {output.one_line(step['skipped_because'])}" if step.get("skipped_because") else ""
        return f"{label(step)}: skipped{because}"
    model = f"  {output.clean(str(step['model']))}" if step.get("model") else ""
    return f"{label(step)}: {status}{model}  {output.duration(step.get('latency_ms'))}"


def _counts(items: Any) -> str:
    failed, running = ended(items, "failed"), ended(items, "running")
    done = ended(items, "completed") + failed
    return f"{done} done" + f", {running} running" * bool(running) + f", {failed} failed" * bool(failed)
