"""docs/scale.md: it is what the figures say, and the figures are what the engine does."""

from __future__ import annotations

from collections import Counter

import scale
from aws_use.figures import SHORT
from aws_use.quotas import KEY_WRITES
from aws_use.simulation import simulate

from loopllama.runs.store import ACTIVE_SHARDS, watched


def test_the_page_is_fresh() -> None:
    assert scale.PAGE.read_text() == scale.page(*scale.kept()), "run: make docs"


def test_what_is_kept_is_what_runs_touch() -> None:
    _, kept = scale.kept()
    now = simulate(workflows=2, runs=1, open_calls=3)
    assert set(now["keys"]) == set(kept["keys"])
    for kind, units in now["keys"].items():
        for name in ("reads", "writes"):
            assert abs(units[name] - kept["keys"][kind][name]) < 0.25, (
                kind,
                name,
                "run benchmarks/scale.py --simulate 20",
            )
    assert set(now["cold"]) == set(kept["cold"])
    assert now["outage_writes"] <= 2  # however many processes there are
    # Runs have keys of their own, the unfinished ones share theirs, and nothing else is written by all workflows.
    assert now["keys"]["RunsTable RUN"]["keys"] == 2
    written = {kind for kind, units in now["keys"].items() if units["writes"]}
    assert {kind for kind in written if "WORKFLOW" not in kind} == {"RunsTable RUN", "RunsTable/by_active SHARD"}


def test_no_key_of_many_runs_takes_more_than_its_share() -> None:
    _, kept = scale.kept()
    for kind, units in kept["keys"].items():
        if not kind.endswith("SHARD"):  # workflows and runs had equal parts
            assert units["largest_share"] * units["keys"] < 1.05, kind
    shards = Counter(watched(f"run_{number:024x}", "run")["active"] for number in range(20_000))
    assert len(shards) == ACTIVE_SHARDS
    assert max(shards.values()) < 1.1 * 20_000 / ACTIVE_SHARDS


def test_quotas_and_keys_bind_where_the_arithmetic_says() -> None:
    cost, figures = scale.kept()
    one, ten = scale.loads(1, cost, figures), scale.loads(10, cost, figures)
    assert all(abs(ten[name] - 10 * one[name]) < 1e-6 for name in one)
    limits = [limit for limit, _ in scale.binding(cost, figures)]
    assert limits == sorted(limits)
    assert abs(limits[0] - 50 * SHORT) < 1  # the template's own throttle: 50 runs a second
    keys = scale.key_limits(figures)
    assert keys["UsageTable DAY#WORKFLOW"] == KEY_WRITES  # a row a step
    assert keys["RunsTable RUN"] == float("inf")
    rate = keys["RunsTable budget#WORKFLOW#DAY"]
    size = figures["budget_bytes"] + figures["reservation_bytes"] * rate * 3
    assert abs(2 * rate * size / 1024 - KEY_WRITES) < 1
