"""How long a lost start waits for its mending while many runs wait for people.

    python benchmarks/waiting_runs.py [--runs 100000]

The tables are moto's, in this process; Step Functions is asked without one (each question counts). First with no run
that waits, then with all of them, due: a run is accepted, its start is lost, and after its minute the reconciler is
called as the schedule calls it. Said are what it read, in which order, and how long it took; moto's own time grows with
a table, DynamoDB's does not.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent / "tests"), str(HERE.parent / "cli"), str(HERE.parent / "shared")]

import pytest
from support.deployment import deployment
from support.waiting_runs import counted, wait_for_people

from loopllama.aws import clients
from loopllama.engine import reconcile

DAY = 86_400


def main() -> None:
    """Print the figures without and with the runs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=100_000)
    runs = parser.parse_args().runs
    live: Any
    with pytest.MonkeyPatch.context() as patch, deployment(patch, retention_days=30) as live:
        asked: list[str] = []

        def start(_: object, run_id: str) -> bool:
            asked.append(run_id)
            return True

        def describe(arn: str) -> dict[str, Any]:
            asked.append(arn)
            return {"status": "RUNNING"}

        patch.setattr(reconcile, "start_execution", start)
        patch.setattr(reconcile, "_execution", describe)
        workflow = live.push([{"name": "one", "approval": True}])
        first = live.accept(workflow, "x")
        live.step(live.map(live.start(first))[0])
        for others in (0, runs):
            wait_for_people(live.runs, live.runs.run(first), range(1, others + 1))
            live.wait(DAY + 60)
            lost = live.accept(workflow, "x")
            live.wait(61)
            asked.clear()
            began = time.perf_counter()
            with counted(clients.client("dynamodb")) as calls:
                counts = reconcile.reconcile_due(live.settings)
            seconds = time.perf_counter() - began
            place = asked.index(lost) + 1
            figures = {"waiting": others, "seconds": round(seconds, 2), "place": place}
            sys.stdout.write(json.dumps([figures, counts, calls]) + "\n")
            live.start(lost)
            live.runs.close(lost, "cancelled", {}, settled=True)


if __name__ == "__main__":
    main()
