"""How often verdicts, guards and checks are wrong, how soon they are right, beside the rules of others; and their time.

    python benchmarks/bench_evidence.py [--rounds N] [--short]

Thousands of simulated experiments and canaries with known truth (evidence_worlds.py), seeded, on all processors. A
share of 1,000 has a standard error of 0.7 points at 5 %.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "shared")]

import evidence_worlds as worlds
import harness
from evidence_worlds import Rates

from loopllama.evidence import comparison, confidence, guard, sample_ratio

WORLDS, SHORT_WORLDS = 1_000, 40
RATES = (0.01, 0.05, 0.10)
AT_MOST = 5.0
COUNT = 2_000
WORSE = ("5 points worse, on the same items", "5 points worse, independently", "5 points worse, by a judge")
TRUE_MEANS = {
    "both agree in 95 %, independently": 0.0,
    "judge: 10 % won, 80 % tie, 10 % lost": 0.0,
    "10 points worse, on the same items": -0.1,
}


class Worlds:
    """So many worlds of each kind, each with a seed of its own."""

    def __init__(self, pool: ProcessPoolExecutor, count: int) -> None:
        self._pool = pool
        self._count = count

    def results(self, function: Callable[..., Any], *what: Any, parts: int = 1) -> list[Any]:
        """What a function gives in each world (or in one of `parts`)."""
        count = self._count // parts
        seeds = [f"{function.__name__} {what} {number}" for number in range(count)]
        columns = [[argument] * count for argument in what]
        return list(self._pool.map(function, seeds, *columns, chunksize=max(1, count // 16)))

    def percent(self, function: Callable[..., Any], *what: Any, parts: int = 1) -> float:
        """In how many of a hundred it gives something true."""
        results = self.results(function, *what, parts=parts)
        return harness.round_to(100 * sum(map(bool, results)) / len(results))


def verdicts(simulated: Worlds) -> list[dict[str, Any]]:
    """Experiments: wrong ones at the margin, and how many pairs the others take."""
    rows = []
    for candidate in WORSE:
        ended = [verdict for verdict, _ in simulated.results(worlds.experiment, candidate, 0.05)]
        wrong = harness.round_to(100 * ended.count("as_good") / len(ended))
        rows.append(harness.value(f"as_good at a margin of 5 points: {candidate}", wrong, "%", AT_MOST))
    for candidate, expected in (
        ("identical answers", "as_good"),
        ("both agree in 95 %, independently", "as_good"),
        ("judge: 10 % won, 80 % tie, 10 % lost", "as_good"),
        ("10 points worse, on the same items", "worse"),
        ("30 points worse, on the same items", "worse"),
    ):
        for margin in (0.05, 0.10) if expected == "as_good" else (0.05,):
            took = simulated.results(worlds.experiment, candidate, margin)
            right = [count for verdict, count in took if verdict == expected]
            name = f"{candidate}, margin {100 * margin:.0f} points: {expected}"
            rows.append(harness.value(f"{name} within 400 pairs", harness.round_to(100 * len(right) / len(took)), "%"))
            rows.append(harness.value(f"{name}, median", statistics.median(right) if right else 0, "pairs"))
    for candidate, mean in TRUE_MEANS.items():
        missed = simulated.percent(worlds.interval_missed, candidate, mean, parts=2)
        rows.append(harness.value(f"mean outside its 95 % interval at any look: {candidate}", missed, "%", AT_MOST))
    return rows


def canaries(simulated: Worlds) -> list[dict[str, Any]]:
    """Guards: equal canaries that are rolled back, and worse ones that are not found."""
    rows = []
    for rate in RATES:
        for history, known in ((worlds.HISTORY, "with history"), (0, "without")):
            wrong = simulated.percent(worlds.rolled_back, Rates(rate, rate), 10_000, 0.0, history, parts=2)
            name = f"rolled back within 10,000 runs, both arms fail in {100 * rate:.0f} %, delta 0, {known}"
            rows.append(harness.value(name, wrong, "%", AT_MOST))
    for rate in RATES:
        for history, known in ((worlds.HISTORY, "with history"), (0, "without")):
            ends = simulated.results(worlds.rolled_back, Rates(rate + 0.1, rate), 2 * worlds.PAIRS, 0.005, history)
            missed = harness.round_to(100 * ends.count(False) / len(ends))
            name = f"10 points more errors over {100 * rate:.0f} % not found in 400 pairs, {known}"
            rows.append(harness.value(name, missed, "%", AT_MOST if history else None))
    for now, before in ((0.10, 0.05), (0.30, 0.02)):
        wrong = simulated.percent(worlds.rolled_back, Rates(now, now, before), 2_000, 0.005)
        name = f"rolled back within 2,000 runs, both arms fail in {100 * now:.0f} %, {100 * before:.0f} % before"
        rows.append(harness.value(name, wrong, "%", 100 / 3))
    stages = ((5, 95), (25, 75), (50, 50))
    refuted = simulated.percent(worlds.arms_refuted, stages, 1_000)
    rows.append(harness.value("arms filled as said, refuted within 3,000 runs", refuted, "%", 1))
    for name, first, wins in (("for a place", 0.65, 0.0), ("for a side", 0.5, 0.55)):
        refused = simulated.percent(worlds.judge_refused, first, wins)
        rows.append(harness.value(f"judge refused whose preference {name} is at the tolerance", refused, "%", AT_MOST))
    return rows


def side_by_side(simulated: Worlds) -> list[list[str]]:
    """How others decide, on the same pairs: rolled back though as good in 1,000 pairs; +10 points found in 400."""
    lines = []
    for rule in worlds.RULES:
        false = [simulated.percent(worlds.decided, rule, Rates(rate, rate), 1_000) for rate in RATES]
        found = [simulated.percent(worlds.decided, rule, Rates(rate + 0.1, rate), worlds.PAIRS) for rate in RATES]
        lines.append([rule, *(f"{share:g} %" for share in (*false, *found))])
    return lines


def speeds(rounds: int) -> dict[str, Any]:
    """Processor time of a look after one more sample."""
    rng = worlds.seeded("speeds")
    kinds = [rng.choice((-1, 0, 0, 0, 0, 1)) for _ in range(COUNT)]
    fresh = iter(lambda: rng.uniform(-1, 1), None)
    runs = [(("candidate", "incumbent")[rng.random() < 0.5], rng.random() < 0.05) for _ in range(COUNT)]

    def compare(samples: Sequence[float]) -> None:
        record = comparison.start()
        for sample in samples:
            record = comparison.add(record, sample)

    def watch() -> None:
        record = guard.start(past=guard.Past(2_000, 100))
        for arm, bad in runs:
            record = guard.observe(record, arm, bad)  # type: ignore[arg-type]

    def count() -> None:
        record = sample_ratio.start((1, 1))
        for arm, _ in runs:
            record = sample_ratio.observe(record, int(arm == "candidate"))

    contestants: dict[str, Callable[[], float]] = {
        "comparison, values seen before": lambda: timed(lambda: compare(kinds)),
        "comparison, values never seen": lambda: timed(lambda: compare([next(fresh) for _ in range(COUNT)])),
        "guard of a canary, failures": lambda: timed(watch),
        "shares of the arms": lambda: timed(count),
        "interval of 400 samples of three kinds": lambda: timed(lambda: confidence.interval(kinds[:400])) * COUNT,
    }
    figures = harness.take_turns(contestants, rounds)
    return harness.table("A look after one more sample, processor time", "µs", figures, next(iter(contestants)))


def timed(work: Callable[[], Any]) -> float:
    """Microseconds a sample."""
    start = time.process_time()
    work()
    return (time.process_time() - start) / COUNT * 1e6


def main() -> None:
    """Simulate, time, and publish."""
    options = harness.parse(harness.arguments(__doc__, rounds=25))
    with ProcessPoolExecutor() as pool:
        simulated = Worlds(pool, SHORT_WORLDS if options.short else WORLDS)
        rows = [*verdicts(simulated), *canaries(simulated)]
        lines = side_by_side(simulated)
    table = speeds(options.rounds)
    columns = ["rule", *(f"as good, rolled back ({100 * rate:.0f} %)" for rate in RATES)]
    columns += [f"+10 points, found ({100 * rate:.0f} %)" for rate in RATES]
    for line in lines:
        print("  ", *line, sep="  ")
    versions = harness.versions(sys.executable)
    harness.publish("evidence", "Evidence", [table], rows, versions, options.short, columns=columns, lines=lines)


if __name__ == "__main__":
    main()
