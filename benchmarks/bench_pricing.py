"""The cost of a call: ours, and genai-prices' own on the same model and usage.

    python benchmarks/bench_pricing.py [--rounds N]

The two take turns in each round, because machines drift. Prints one line of JSON: medians, in microseconds a call.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from statistics import median

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "shared"))

from genai_prices import Usage as TheirUsage
from genai_prices import calc_price

from loopllama.catalog import bundled
from loopllama.pricing import cost
from loopllama.providers.base import Usage

MOMENT = datetime(2026, 11, 23, 12, tzinfo=UTC)
MODELS = ("gpt-5-mini", "claude-sonnet-5", "gpt-5.4", "deepseek-v4-pro")


def timed(call: Callable[[], object], calls: int) -> float:
    start = time.perf_counter()
    for _ in range(calls):
        call()
    return (time.perf_counter() - start) / calls * 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--peer", help="taken as the other benchmarks take it; the price library is at hand here")
    parser.add_argument("--rounds", type=int, default=15)
    options = parser.parse_args()
    ours, theirs = (
        Usage(300_000, 800, cache_read_tokens=250_000),
        TheirUsage(input_tokens=300_000, output_tokens=800, cache_read_tokens=250_000),
    )
    figures: dict[str, list[float]] = {}
    for name in MODELS:
        model = bundled().resolve(name)

        def our_cost(model=model):  # type: ignore[no-untyped-def]
            return cost(model, ours, MOMENT)

        def their_cost(model=model):  # type: ignore[no-untyped-def]
            return calc_price(
                theirs, model.provider_model, provider_id=model.provider, genai_request_timestamp=MOMENT
            ).total_price

        if our_cost() != their_cost():
            raise SystemExit(f"{name}: {our_cost()} is not {their_cost()}")
        for _ in range(options.rounds):
            figures.setdefault(f"{name}, ours", []).append(timed(our_cost, 2_000))
            figures.setdefault(f"{name}, genai-prices", []).append(timed(their_cost, 50))
    print(json.dumps({"microseconds": {name: round(median(values), 2) for name, values in figures.items()}}))


if __name__ == "__main__":
    main()
