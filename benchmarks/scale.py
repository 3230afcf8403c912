"""Where a deployment's limits are: which AWS quota binds first, how hot each DynamoDB key gets. Writes docs/scale.md.

    python benchmarks/scale.py [--simulate RUNS]

`--simulate` plays so many runs of each of four workflows and keeps which keys they touched, with what bench_cost says
that a step takes, in benchmarks/results/scale.json; without it the page is written from that.
"""

from __future__ import annotations

import argparse
import json
import sys
import textwrap
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))

from aws_use.cost import billed_seconds
from aws_use.figures import MODEL_MS, SHORT, memory_of_template
from aws_use.metered_stack import ROOT
from aws_use.quotas import AS_OF, KEY_READS, KEY_WRITES, QUOTAS, REGION, Quota
from aws_use.simulation import simulate
from bench_cost import RESULT as COST
from bench_cost import ROUTE_CACHE_SECONDS, memory_of_functions, shares

from loopllama.runs.store import ACTIVE_SHARDS

RESULT = COST.with_name("scale.json")
PAGE = ROOT / "docs" / "scale.md"
DECADES = range(4, 10)
DAY = 86_400
SECRET_SECONDS = 300
"""How often a process asks for a provider's key."""
PUT_MS, SEND_MS, SENT_TOGETHER = 5.0, 15.0, 10
"""What the stream's consumer waits for an event: a write for each, and PutEvents for ten."""


def loads(steps_a_second: float, cost: dict[str, Any], figures: dict[str, Any]) -> dict[str, float]:
    """What steps in crews of `SHORT` put against the quotas, a second or at once."""
    step, run = shares(cost)
    runs = steps_a_second / SHORT
    memory = memory_of_functions(memory_of_template())
    seconds = {name: float(billed_seconds(step.cpu_ms[name], step.wait_ms[name], memory[name])) for name in step.cpu_ms}

    def both(amount: str) -> float:
        return steps_a_second * step.amounts[amount] + runs * run.amounts[amount]

    invocations = {name: steps_a_second * step.invocations[name] + runs * run.invocations[name] for name in seconds}
    concurrency = sum(seconds[name] * invocations[name] for name in seconds)
    table = [value for kind, value in figures["keys"].items() if kind.startswith("RunsTable ")]
    return {
        "api_requests": runs,
        "runs": runs,
        "transitions": both("transitions"),
        "concurrency": concurrency,
        "invocations": sum(invocations.values()),
        "runs_writes": steps_a_second * sum(value["writes"] for value in table),
        "runs_reads": steps_a_second * sum(value["reads"] for value in table),
        "events": both("events"),
        "secrets": concurrency / SECRET_SECONDS,
        "open_runs": runs * SHORT * seconds["RunStep"],
        "log_bytes": both("log_bytes"),
    }


def binding(cost: dict[str, Any], figures: dict[str, Any]) -> list[tuple[float, Quota]]:
    """The quotas with the steps a second at which each binds, the first to bind first."""
    one_step = loads(1.0, cost, figures)
    return sorted(((quota.limit / one_step[quota.load], quota) for quota in QUOTAS), key=lambda pair: pair[0])


def key_limits(figures: dict[str, Any]) -> dict[str, float]:
    """Steps a second at which one key of each kind reaches what a partition gives, where one workflow takes them all.
    `inf` for keys that grow in number with the runs."""
    limits: dict[str, float] = {}
    anew = 1 / -(-ROUTE_CACHE_SECONDS * 1000 // MODEL_MS)  # a process takes a step every 3 s
    for kind, units in figures["keys"].items():
        if "RUN" in kind.split(" ", 1)[1]:
            limits[kind] = float("inf")
            continue
        spread = ACTIVE_SHARDS if kind.endswith("SHARD") else 1
        by = [KEY_WRITES * spread / units["writes"]] if units["writes"] else []
        by += [KEY_READS * spread / units["reads"]] if units["reads"] else []
        limits[kind] = min(by)
    for kind, reads in figures["cold"].items():
        if not kind.startswith("WorkflowsTable"):  # a version is read once in a process's life
            limits[kind] = KEY_READS / (reads * anew + figures["keys"].get(kind, {"reads": 0})["reads"])
    limits["RunsTable budget#WORKFLOW#DAY"] = budget_limit(figures)
    # Every function at work writes it once, within the 3 s of a step.
    limits[OUTAGE] = KEY_WRITES / max(figures["outage_writes"], figures["probe_writes"])
    return dict(sorted(limits.items(), key=lambda pair: pair[1]))


def budget_limit(figures: dict[str, Any]) -> float:
    """Steps a second at which a day's budget reaches its key's limit: each call writes the item twice, and the item
    holds every call under way."""
    low, high = 1.0, float(KEY_WRITES)
    for _ in range(40):
        rate = (low + high) / 2
        size = figures["budget_bytes"] + figures["reservation_bytes"] * rate * MODEL_MS / 1000
        low, high = (rate, high) if 2 * rate * max(1.0, size / 1024) < KEY_WRITES else (low, rate)
    return low


def events_a_shard(figures: dict[str, Any]) -> tuple[float, float]:
    """Events a second that a full partition of the Runs table gives, and that its one consumer takes."""
    writes = sum(value["writes"] for kind, value in figures["keys"].items() if kind == "RunsTable RUN")
    events = (SHORT + 2) / SHORT
    return KEY_WRITES / writes * events, 1000 / (PUT_MS + SEND_MS / SENT_TOGETHER)


# The page

OUTAGE = "ModelsTable health in an outage"
_KEYS = {
    "RunsTable RUN": (
        "a run: its steps, attempts and events",
        "each run has its own; the busiest is a `forEach` of 40 at once",
    ),
    "RunsTable budget#WORKFLOW#DAY": (
        "a workflow's budget of a day, where it has one",
        "each call under way is in the item, so a write grows with the rate; above the limit, give runs a budget "
        "instead of days",
    ),
    "UsageTable DAY#WORKFLOW": (
        "the bill of a workflow's day",
        "its rows begin with the hour and the run's id, so DynamoDB can split the key by itself; if it does not, "
        "spread the load over workflows",
    ),
    "RunsTable/by_workflow WORKFLOW": (
        "the list of a workflow's runs",
        "three writes a run, so longer crews reach it later; else spread the load over workflows",
    ),
    "RunsTable/by_active SHARD": (
        "the runs that have not ended",
        f"{ACTIVE_SHARDS} keys share the runs of all workflows evenly",
    ),
    "WorkflowsTable WORKFLOW": (
        "the definition, read when a run is accepted and started",
        "as for the list of its runs",
    ),
    "RoutesTable WORKFLOW": (
        "a workflow's overrides, read when a process's are too old",
        "raise `RouteCacheSeconds`: at 15 a process reads at every fifth step instead of every second",
    ),
    OUTAGE: (
        "which models are failing, in the seconds in which one begins to fail or is tried again",
        "each function at work writes it; a write that does not fit is repeated, and then the step",
    ),
    "ModelsTable MODEL": (
        "an entry of the catalog, which models are failing, what policies know of a step",
        "as for a workflow's overrides",
    ),
}


def page(cost: dict[str, Any], figures: dict[str, Any]) -> str:
    """The text of docs/scale.md."""
    quotas, keys, (given, taken) = binding(cost, figures), _named(key_limits(figures)), events_a_shard(figures)
    lines = [
        "<!-- Written by benchmarks/scale.py; change that, not this. -->",
        "# Scale",
        "",
        "This page says which limit of AWS a deployment reaches first, and at which load.",
        "",
        f"The load is crews of {SHORT} steps, each with one model call of {MODEL_MS // 1000} s, spread evenly over the "
        "day. If your busiest hour has three times the average, read a third of each figure. What a step asks of AWS "
        "is measured (`benchmarks/bench_cost.py`, `benchmarks/scale.py`). Quotas are AWS's defaults in "
        f"{REGION} as of {AS_OF}; those of Lambda, API Gateway, DynamoDB's tables and open executions were the same in "
        "copies of AWS's pages read in November 2026. They are smaller elsewhere and in new accounts (ten functions at "
        "once, fewer state transitions a second); the console's Service Quotas has yours.",
        "",
        "## What so many steps ask of AWS",
        "| steps a day | a second | runs/s | transitions/s | functions at once | writes/s, Runs table | events/s "
        "| logs, GB a day | quotas over their default, the first to bind first |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for decade in DECADES:
        rate = 10**decade / DAY
        load = loads(rate, cost, figures)
        over = [(rate / limit, quota) for limit, quota in quotas if rate > limit]
        first = ", ".join(f"{quota.name} (x {times:.1f})" for times, quota in over) or "none"
        columns = (load[name] for name in ("runs", "transitions", "concurrency", "runs_writes", "events"))
        shown = " | ".join(_figure(value) for value in (rate, *columns, load["log_bytes"] * DAY / 1e9))
        lines.append(f"| 10{_power(decade)} | {shown} | {first} |")
    lines += [
        "",
        "## Where each quota binds",
        "| quota | default | binds at steps a day | what to do |",
        "|---|---|---|---|",
        *(
            f"| [{quota.name}]({quota.source}) | {quota.limit:,.0f}{'' if 'at once' in quota.name else '/s'} "
            f"| {_steps(limit * DAY)} | {quota.fix} |"
            for limit, quota in quotas
        ),
        "",
        "No quota limits metrics. They are lines of the log, so there is no PutMetricData. Their number grows with the "
        "names of workflows, steps and models, and not with runs: iterations and items are never dimensions.",
        "",
        "## Keys of DynamoDB",
        f"One key of a table or index takes {KEY_WRITES:,} writes a second in units of 1 KB, or {KEY_READS:,} reads in "
        f"units of 4 KB. A simulation of {figures['steps'] // SHORT} runs of {figures['workflows']} workflows makes "
        "the engine's own calls, and says which keys a step touches and how much. The limit in the table is the load "
        "at which **one** workflow that takes all the steps brings its hottest key there.",
        "",
        "| key | what it holds | writes a step | reads a step | largest share of a key, fair share | one workflow "
        "reaches the limit at steps a day | then |",
        "|---|---|---|---|---|---|---|",
    ]
    for kind, limit in keys.items():
        holds, then = _KEYS[kind]
        read = {"writes": 0, "reads": _ANEW, "largest_share": 1, "keys": 1}
        outage = {"writes": max(figures["outage_writes"], figures["probe_writes"]), "reads": 0, "keys": 1}
        units = dict(outage if kind == OUTAGE else figures["keys"].get(kind, read))
        if kind in figures["cold"] and not kind.startswith("WorkflowsTable"):
            units["reads"] += _ANEW * figures["cold"][kind]
        fair = f"{units['largest_share']:.0%}, {1 / units['keys']:.0%}" if units["keys"] > 1 else "one key"
        place, _, name = kind.partition(" ")
        lines.append(
            f"| `{place}`, {name.replace('#', ' ').lower()} | {holds} | {units['writes']:.3g} | {units['reads']:.3g} "
            f"| {fair} | {_steps(limit * DAY)} | {then} |"
        )
    hottest = keys["UsageTable DAY#WORKFLOW"] * DAY
    lines += [
        "",
        f"So 10{_power(9)} steps a day need at least {-(-(10**9) // int(hottest))} workflows of like size and "
        "`RouteCacheSeconds` of 15. Two keys are still hot then: a day's budget, and for seconds that of an outage.",
        "",
        "Three things never get hot. RouteHistory is written when somebody changes a route. API keys are written once "
        "a minute and key. An `Idempotency-Key`'s answer has a key of its own.",
        "",
        f"A budget of a day holds {figures['budget_bytes']:.0f} bytes, and {figures['reservation_bytes']:.0f} more for "
        "each call under way. Each call writes it twice. That is why it is the first key to get hot.",
        "",
        f"Each partition of the Runs table has one reader of its changes. A full partition gives {given:.0f} events a "
        f"second. The reader takes about {taken:.0f}, with a write of {PUT_MS:g} ms for each and a PutEvents of "
        f"{SEND_MS:g} ms for {SENT_TOGETHER}. So events keep up with whatever the table takes. Figures of steps add a "
        "read to a batch of a hundred changes and, where a policy wants figures of a step, a write each three seconds.",
        "",
        *_USAGE,
        "",
    ]
    return "\n".join(line if line[:1] in ("|", "<", "#") else textwrap.fill(line, 118) for line in lines)


_USAGE = (
    "## Usage of a month",
    "Ended hours and days are summed, once each and again where a late row comes. A workflow without calls "
    "costs some 55 writes and 130 reads of one unit a day for it, 0.002 USD a month. A day of 25,000 calls is "
    "read once, row by row (2,800 units of a consistent read), and leaves some 60 writes and as many units "
    "more as its sums have KB; that is below a thousandth of a USD. A late row costs one hour's rows, not a "
    "day's.",
    "",
    "`benchmarks/usage_month.py` asks for 30 days of 3 million calls (4 workflows, 5 steps, 3 models, 10 keys,"
    " 205 tags of which a run has two) of a stand-in on loopback that takes 10 ms for each Query. It asks at the "
    "worst moment, a minute before an hour is summed: that hour and the one that has begun, 5,900 calls, are read "
    "as rows, which takes most of the time, and today's other 22 hours as sums of hours. Totals were to the digit "
    "those of the rows. The machine was quiet, and is not always as fast: in other rounds `tag,model` took 1.5 to "
    "2.1 s of the processor, all others less than 1.6. A function's share of a processor grows with its memory: the "
    "API's has 1,024 MB, so about 0.6 of one, and takes accordingly longer.",
    "",
    "| by | groups | processor, s | in all, s | memory, MB |",
    "|---|---|---|---|---|",
    "| `workflow` | 4 | 0.59 | 0.75 | 78 |",
    "| `step,model` | 20 | 0.61 | 0.73 | 80 |",
    "| `workflow,step,model,key,day` | 6,000 | 0.93 | 1.05 | 91 |",
    "| `tag` | 205 | 1.12 | 1.25 | 88 |",
    "| `tag,model` | 615 | 1.83 | 2.06 | 91 |",
    "",
)
_ANEW = 1 / -(-ROUTE_CACHE_SECONDS * 1000 // MODEL_MS)


def _named(limits: dict[str, float]) -> dict[str, float]:
    """The keys of the Models table are alike: each is read as often."""
    named: dict[str, float] = {}
    for kind, limit in limits.items():
        name = "ModelsTable MODEL" if kind.startswith("ModelsTable") and kind != OUTAGE else kind
        named[name] = min(limit, named.get(name, limit))
    return named


def _figure(value: float) -> str:
    return f"{value:,.0f}" if value >= 10 else f"{value:.2g}"


def _steps(value: float) -> str:
    if value > 10**12:
        return "never"
    if value >= 10**9:
        return f"{value / 10**9:,.1f} billion"
    return f"{value / 10**6:,.{0 if value >= 10**7 else 1}f} million"


def _power(number: int) -> str:
    return "".join("⁰¹²³⁴⁵⁶⁷⁸⁹"[int(digit)] for digit in str(number))


def main() -> None:
    """Simulate, if asked to, and write the page."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--simulate", type=int, metavar="RUNS", help="runs of each workflow")
    options = parser.parse_args()
    if options.simulate:
        measured = json.loads(COST.read_text())["figures"]
        cost = {name: measured[name] for name in ("short", "long", "route")}
        RESULT.write_text(json.dumps({**simulate(4, options.simulate), "cost": cost}, indent=1) + "\n")
    PAGE.write_text(page(*kept()))


def kept() -> tuple[dict[str, Any], dict[str, Any]]:
    """The figures of bench_cost, as they stood at the simulation, and of the simulation."""
    figures = json.loads(RESULT.read_text())
    return figures.pop("cost"), figures


if __name__ == "__main__":
    main()
