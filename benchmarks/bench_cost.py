"""What a step asks of AWS and what AWS asks for it: calls, transitions, capacity, logs, and USD for 1,000 steps.

    python benchmarks/bench_cost.py [--runs N] [--short]

Runs of real functions on the local stack, metered (`aws_use`): two crews that differ by five steps alone give a step's
own share and a run's. Each step makes one call of a model on loopback that answers with 2 KB, and is priced as if the
call took 3 s; values over 32 KB would add S3's requests. Beside it, from the same prices: the crew as a plain state
machine with a function a step, and LiteLLM's proxy, which routes but runs no crew. Prints a table; writes
benchmarks/results/cost.json.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Iterator, Mapping
from dataclasses import replace
from decimal import Decimal
from importlib import metadata
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))

from aws_use import cost, prices
from aws_use.cost import Use, added, per_thousand
from aws_use.figures import FUNCTIONS, LONG, MODEL_MS, SHORT, TOGETHER, measure, memory_of_template

STEPS_A_DAY = 100_000
ROUTE_CACHE_SECONDS = 5
AIM = Decimal("0.08")
SMALL_MB = 256
"""The least that StepMemoryMb takes."""
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
    memory = memory_of_functions(memory_mb)
    per_run = added((cost.of_use(step, memory), steps), (cost.of_use(run, memory), 1))
    return added((per_thousand(per_run, steps), 1), (_standing(figures, steps, steps_a_day), 1))


def price_together(figures: dict[str, Any], memory_mb: int, steps_a_day: float) -> dict[str, Decimal]:
    """The same of the short crew where its steps share an invocation."""
    run = Use(**figures["together"])
    run = replace(run, amounts={**run.amounts, "reads": run.amounts["reads"] + figures["route"]["reads"]})
    per_run = cost.of_use(run, memory_of_functions(memory_mb))
    return added((per_thousand(per_run, SHORT), 1), (_standing(figures, SHORT, steps_a_day), 1))


def memory_of_functions(of_steps: int) -> dict[str, int]:
    """MB by function."""
    return {**dict.fromkeys(FUNCTIONS, 512), "Api": 1024, "RunStep": of_steps}


def _standing(figures: dict[str, Any], steps: int, steps_a_day: float) -> dict[str, Decimal]:
    """The share of 1,000 steps in what is paid by the month."""
    metrics = figures["metrics"]
    of_steps = (metrics[str(LONG)] - metrics[str(SHORT)]) / (LONG - SHORT)
    count = metrics["all"] + metrics[str(SHORT)] + (steps - SHORT) * of_steps
    return per_thousand(cost.of_day(round(count)), steps_a_day)


def table(figures: dict[str, Any], memory_mb: int) -> list[dict[str, Any]]:
    """The rows of the report: what was measured, its aim, and the sums of money."""
    return [*_asked(figures), *_grows(figures), *_paid(figures, memory_mb), *_others(figures, memory_mb)]


def _asked(figures: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """What a step, and a run beside its steps, asks of AWS."""
    step, run = shares(figures)
    calls, more = figures["step"], figures["further_call"]
    yield _row("transitions, a step", step.amounts["transitions"], aim=1)
    yield _row("transitions, a run beside its steps", run.amounts["transitions"], aim=3)
    together = figures["together"]["amounts"]["transitions"] / SHORT
    yield _row(f"transitions, a step in crews of {SHORT}, StepsPerInvocation {TOGETHER}, the run's with it", together)
    yield _row("DynamoDB calls, a step of one model call", calls["run_step"], aim=6)
    for kind, count in calls["by_kind"].items():
        yield _row(f"of them {kind}", count)
    yield _row("DynamoDB calls, its event's with it", calls["with_events"], aim=6)
    yield _row("DynamoDB calls, a further model call", more["calls"], aim=2)
    yield _row("DynamoDB calls, a decision whose routes are not cached", figures["route"]["calls"])
    yield _row("capacity written, a step", step.amounts["writes"], "units")
    yield _row("capacity read, a step", step.amounts["reads"], "units")
    yield _row("logged, a step", step.amounts["log_bytes"], "bytes")
    yield _row("stored, a step", step.amounts["stored_bytes"], "bytes")
    yield _row("events, a step", step.amounts["events"])
    yield _row("processor time of a warm step", step.cpu_ms["RunStep"], "ms")
    yield _row("memory of a process that runs steps", figures["memory_mb"], "MB")


def _grows(figures: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Whether capacity grows with what is recorded, and with the crew."""
    for figure in figures["recorded"]:
        after = f"a run of 2 steps after {figure['earlier_runs']} others"
        yield _row(f"capacity written, {after}", figure["writes"], "units")
        yield _row(f"capacity read, {after}", figure["reads"], "units")
    for figure in figures["crew_sizes"]:
        prompts = "whose prompt names what it reads" if figure["prompts"] == "named" else "without a prompt of its own"
        yield _row(f"capacity read, step {figure['step']} of 50, {prompts}", figure["reads"], "units")


def _paid(figures: dict[str, Any], memory_mb: int) -> Iterator[dict[str, Any]]:
    """What AWS asks for 1,000 steps at `STEPS_A_DAY`."""
    step, _ = shares(figures)
    for memory in (memory_mb, SMALL_MB):
        for steps in CREWS:
            name = f"1,000 steps, crews of {steps}" + (f", {memory} MB" if memory != memory_mb else "")
            yield _row(name, _sum(price(figures, memory, steps, STEPS_A_DAY)), "USD", AIM)
    for memory in (SMALL_MB, memory_mb):
        usd = _sum(price_together(figures, memory, STEPS_A_DAY))
        yield _row(f"1,000 steps, crews of {SHORT}, StepsPerInvocation {TOGETHER}, {memory} MB", usd, "USD", AIM)
    for name, usd in price(figures, memory_mb, SHORT, STEPS_A_DAY).items():
        yield _row(f"of 1,000 steps, crews of {SHORT}: {name}", usd, "USD")
    for memory in (128, 256, 512, 1024, 1769):
        seconds = cost.billed_seconds(step.cpu_ms["RunStep"], step.wait_ms["RunStep"], memory)
        yield _row(f"an invocation of {MODEL_MS // 1000} s of model time at {memory} MB", seconds, "s")
        yield _row(f"Lambda for 1,000 of them at {memory} MB", 1000 * cost.lambda_usd(1, seconds, memory), "USD")
    alarms = figures["alarm_metrics"] * prices.USD["alarm_metric_month"]
    yield _row("a month of the alarms, where they are Enabled", alarms, "USD")


def _others(figures: dict[str, Any], memory_mb: int) -> Iterator[dict[str, Any]]:
    """What one would pay without us."""
    plain = 1000 * cost.plain_step(MODEL_MS, memory_mb, PLAIN_LOG_BYTES)
    yield _row(f"1,000 steps of a plain state machine, a function of {memory_mb} MB a step, nothing kept", plain, "USD")
    for runs in RUNS_A_DAY:
        usd = _sum(price(figures, memory_mb, SHORT, runs * SHORT)) * runs * SHORT / 1000
        name = f"a day, {runs:,} runs of {SHORT} steps"
        yield _row(name, usd, "USD")
        yield _row(f"{name}, LiteLLM's proxy, without what runs the crews", cost.proxy_day(), "USD")


PLAIN_LOG_BYTES = 3 * 26 + 310
"""Lambda's lines START, END and REPORT: all that a plain function logs."""


def _sum(usd: Mapping[str, Decimal]) -> Decimal:
    return sum(usd.values(), Decimal(0))


def _row(name: str, value: Any, unit: str = "", aim: Any = None) -> dict[str, Any]:
    row = {"name": name, "value": float(round(value, 4)), "unit": unit}
    return row if aim is None else {**row, "aim": float(aim), "met": round(value, 6) <= aim}


def main() -> None:
    """Measure, print, and keep."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--runs", type=int, default=100, help="earlier runs at most")
    parser.add_argument("--short", action="store_true", help="few runs, for a look; nothing is written")
    parser.add_argument("--figures", type=Path, help="a results file: price its figures anew instead of measuring")
    options = parser.parse_args()
    if options.figures:
        figures = json.loads(options.figures.read_text())["figures"]
    else:
        out = os.dup(1)
        os.dup2(2, 1)  # what the engine prints are its metrics
        figures = measure(10 if options.short else options.runs)
        os.dup2(out, 1)
    rows = table(figures, memory_of_template())
    for row in rows:
        aim = "" if "aim" not in row else f"   aim {row['aim']:g}: {'met' if row['met'] else 'missed'}"
        print(f"{row['name']:<86} {row['value']:>10,.4g} {row['unit']}{aim}")
    if options.short:
        return
    packages = {name: metadata.version(name) for name in ("boto3", "moto")}
    versions = {"python": sys.version.split()[0], "prices": prices.DATED, **packages}
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(
        json.dumps(
            {"name": "cost", "title": TITLE, "tables": [], "versions": versions, "rows": rows, "figures": figures},
            indent=1,
        )
        + "\n"
    )


TITLE = "What a step asks of AWS, and what AWS asks for it"
RESULT = Path(__file__).resolve().parent / "results" / "cost.json"


if __name__ == "__main__":
    main()
