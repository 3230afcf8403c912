"""What a step asks of AWS and what AWS asks for it: calls, transitions, capacity, logs, and USD for 1,000 steps.

    python benchmarks/bench_cost.py [--runs N] [--peer PYTHON]

Runs of real functions on the local stack, metered (`metered_stack`, `meter`): two crews that differ by five steps alone
give a step's own share and a run's. Each step makes one call of a model on loopback that answers with 2 KB, and is
priced as if the call took 3 s (`aws_prices`, `cost_model`). Beside it, from the same prices: the crew as a plain state
machine with a function a step, and LiteLLM's proxy, which routes but runs no crew. Prints a table; writes
benchmarks/results/cost.json.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from dataclasses import replace
from decimal import Decimal
from importlib import metadata
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))

import aws_prices
import cost_model
from cost_figures import FUNCTIONS, LONG, MODEL_MS, SHORT, measure, memory_of_template
from cost_model import Use, added, per_thousand

STEPS_A_DAY = 100_000
ROUTE_CACHE_SECONDS = 5
CREWS = (SHORT, LONG, 50)
RUNS_A_DAY = (1, 100, 10_000)


def shares(figures: dict[str, Any]) -> tuple[Use, Use]:
    """A step's share, and that of a run without its steps."""
    short, long = Use(**figures["short"]), Use(**figures["long"])
    step = long.plus(short, -1).over(LONG - SHORT)
    run = short.plus(step, -SHORT)
    # A function that takes a step every 3 s finds its routes too old at every second one.
    anew = 1 / -(-ROUTE_CACHE_SECONDS * 1000 // MODEL_MS)
    reads = step.amounts["reads"] + anew * figures["route"]["reads"]
    return replace(step, amounts={**step.amounts, "reads": reads}), run


def price(figures: dict[str, Any], memory_mb: int, steps: int, steps_a_day: float) -> dict[str, Decimal]:
    """USD for 1,000 steps of one workflow with a crew of `steps`, by what costs it."""
    step, run = shares(figures)
    memory = {**dict.fromkeys(FUNCTIONS, 512), "Api": 1024, "RunStep": memory_mb}
    per_run = added((cost_model.of_use(step, memory), steps), (cost_model.of_use(run, memory), 1))
    metrics = figures["metrics"]
    of_steps = (metrics[str(LONG)] - metrics[str(SHORT)]) / (LONG - SHORT)
    count = metrics["all"] + metrics[str(SHORT)] + (steps - SHORT) * of_steps
    day = cost_model.of_day(round(count), figures["alarm_metrics"])
    return added((per_thousand(per_run, steps), 1), (per_thousand(day, steps_a_day), 1))


def table(figures: dict[str, Any], memory_mb: int) -> list[dict[str, Any]]:
    """The rows of the report: what was measured, its aim, and the sums of money."""
    step, run = shares(figures)
    calls, more = figures["step"], figures["further_call"]
    rows: list[dict[str, Any]] = [
        _row("transitions, a step", step.amounts["transitions"], aim=2),
        _row("transitions, a run beside its steps", run.amounts["transitions"]),
        _row("DynamoDB calls, a step of one model call", calls["run_step"], aim=6),
        _row("DynamoDB calls, its event's with it", calls["with_events"], aim=6),
        _row("DynamoDB calls, a further model call", more["calls"], aim=2),
        _row("DynamoDB calls, a decision whose routes are not cached", figures["route"]["calls"]),
        _row("write units, a step", step.amounts["writes"]),
        _row("read units, a step", step.amounts["reads"]),
        _row("bytes logged, a step", step.amounts["log_bytes"]),
        _row("bytes stored, a step", step.amounts["stored_bytes"]),
        _row("events, a step", step.amounts["events"]),
        _row("processor time of a step, ms", step.cpu_ms["RunStep"]),
        _row("memory of a function that runs steps, MB", figures["memory_mb"]),
    ]
    for one in figures["recorded"]:
        rows.append(_row(f"write units, a run after {one['earlier_runs']} others", one["writes"]))
        rows.append(_row(f"read units, a run after {one['earlier_runs']} others", one["reads"]))
    for one in figures["crew_sizes"]:
        rows.append(_row(f"read units, step {one['step']} of 50, {one['prompts']} prompts", one["reads"]))
    for steps in CREWS:
        usd = sum(price(figures, memory_mb, steps, STEPS_A_DAY).values(), Decimal(0))
        rows.append(_row(f"USD for 1,000 steps, crews of {steps}", usd, aim=Decimal("0.08")))
    for name, usd in price(figures, memory_mb, SHORT, STEPS_A_DAY).items():
        rows.append(_row(f"of that in crews of {SHORT}: {name}", usd))
    for memory in (128, 256, 512, 1024, 1769):
        seconds = cost_model.billed_seconds(step.cpu_ms["RunStep"], step.wait_ms["RunStep"], memory)
        rows.append(_row(f"a step at {memory} MB, s", seconds))
        rows.append(
            _row(f"Lambda's USD for 1,000 steps at {memory} MB", 1000 * cost_model.lambda_usd(1, seconds, memory))
        )
    # The platform's own lines are all that a plain function logs.
    plain = 1000 * cost_model.plain_step(MODEL_MS, memory_mb, PLAIN_LOG_BYTES)
    rows.append(_row(f"USD for 1,000 steps, plain state machine, {memory_mb} MB", plain))
    for runs in RUNS_A_DAY:
        ours = sum(price(figures, memory_mb, SHORT, runs * SHORT).values(), Decimal(0)) * runs * SHORT / 1000
        rows.append(_row(f"USD a day, {runs:,} runs of {SHORT} steps", ours))
        rows.append(_row(f"USD a day, {runs:,} runs of {SHORT} steps, LiteLLM's proxy alone", cost_model.proxy_day()))
    return rows


PLAIN_LOG_BYTES = 3 * 26 + 310
"""Lambda's lines START, END and REPORT."""


def _row(name: str, value: Any, aim: Any = None) -> dict[str, Any]:
    row = {"name": name, "value": float(round(value, 6))}
    return row if aim is None else {**row, "aim": float(aim), "met": round(value, 6) <= aim}


def main() -> None:
    """Measure, print, and keep."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--peer", help="taken as the other benchmarks take it; the peers are priced, not run")
    parser.add_argument("--runs", type=int, default=100, help="earlier runs at most")
    parser.add_argument("--figures", type=Path, help="a results file: price its figures anew instead of measuring")
    options = parser.parse_args()
    if options.figures:
        figures = json.loads(options.figures.read_text())["figures"]
    else:
        out = os.dup(1)
        os.dup2(2, 1)  # what the engine prints are its metrics
        figures = measure(options.runs)
        os.dup2(out, 1)
    rows = table(figures, memory_of_template())
    for row in rows:
        aim = "" if "aim" not in row else f"   aim {row['aim']:g}: {'met' if row['met'] else 'missed'}"
        print(f"{row['name']:<62} {row['value']:>12,.4f}{aim}")
    packages = {name: metadata.version(name) for name in ("boto3", "moto")}
    versions = {"python": sys.version.split()[0], "prices": aws_prices.AS_OF, **packages}
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(
        json.dumps({"name": "cost", "versions": versions, "rows": rows, "figures": figures}, indent=1) + "\n"
    )


RESULT = Path(__file__).resolve().parent / "results" / "cost.json"


if __name__ == "__main__":
    main()
