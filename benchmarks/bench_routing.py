"""A routing decision: warm and cold, over a table of 10,000 workflows with 10 overrides each.

    python benchmarks/bench_routing.py [--peer PYTHON] [--rounds N]

Tables are in memory, so that the figures are the decision's own; a warm one is a decision kept for its inputs. `--peer`
is a Python that has litellm: its Router then chooses among 2 and 100 deployments in the same rounds, each in turn,
because machines drift. Prints one line of JSON: medians over rounds, in microseconds a decision.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "shared"))

from loopllama.routing import Router, RouteRequest
from loopllama.settings import Settings

WORKFLOWS, STEPS, CALLS = 10_000, 10, 2_000
MODELS = ("gpt-5", "gpt-5-mini", "claude-sonnet-5", "small", "gemini-2.5-flash")
PEER = """
import json, os, sys, time
os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"
from litellm import Router

def deployment(i):
    settings = {"model": "openai/gpt-4o-mini", "api_key": "x", "api_base": f"http://127.0.0.1:{9000 + i}"}
    return {"model_name": "m", "litellm_params": settings}

routers = {
    f"litellm {strategy} of {n}": Router(model_list=[deployment(i) for i in range(n)], routing_strategy=strategy)
    for strategy in ("simple-shuffle", "latency-based-routing")
    for n in (2, 100)
}
ask = [{"role": "user", "content": "hi"}]
for line in sys.stdin:
    answer = {}
    for name, router in routers.items():
        calls = 20 if "100" in name else 200
        start = time.perf_counter()
        for _ in range(calls):
            router.get_available_deployment(model="m", messages=ask)
        answer[name] = (time.perf_counter() - start) / calls * 1e6
    print(json.dumps(answer), flush=True)
"""


class Tables:
    """DynamoDB's two calls over rows in memory."""

    def __init__(self) -> None:
        self.calls = 0

    def query(self, **asked: Any) -> dict[str, Any]:
        self.calls += 1
        workflow = asked["ExpressionAttributeValues"][":workflow"]["S"]
        number = int(workflow[1:])
        return {
            "Items": [
                {
                    "workflow": {"S": workflow},
                    "step": {"S": f"s{step}"},
                    "model": {"S": MODELS[(number + step) % len(MODELS)]},
                    "fallbacks": {"L": [{"S": MODELS[(number + step + 1) % len(MODELS)]}]},
                    "version": {"N": "3"},
                    "reason": {"S": "cheaper and good enough for this step"},
                }
                for step in range(STEPS)
            ]
        }

    def batch_get_item(self, RequestItems: dict[str, Any]) -> dict[str, Any]:  # noqa: N803 - botocore's name
        self.calls += 1
        ((table, asked),) = RequestItems.items()
        rows = {"small": {"model": {"S": "small"}, "alias_of": {"S": "gpt-5-nano"}}}
        return {"Responses": {table: [rows[k["model"]["S"]] for k in asked["Keys"] if k["model"]["S"] in rows]}}


def request(workflow: int, step: int) -> RouteRequest:
    agent = {"name": f"s{step}", "role": "Writer", "model": "gpt-5", "max_tokens": 800}
    return RouteRequest(f"w{workflow}", "balanced", agent, {}, frozenset({"tools"}), 1_200, "run-1")


def timed(decide: Callable[[RouteRequest], Any], asked: list[RouteRequest]) -> float:
    start = time.perf_counter()
    for one in asked:
        decide(one)
    return (time.perf_counter() - start) / len(asked) * 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--peer", help="a Python that has litellm")
    parser.add_argument("--rounds", type=int, default=15)
    options = parser.parse_args()
    tables = Tables()
    settings = Settings(routes_table="routes", models_table="models", route_cache_seconds=3600)
    peer = None
    if options.peer:
        peer = subprocess.Popen([options.peer, "-c", PEER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    router = Router(settings, tables)
    warm = [request(workflow, step) for workflow in range(20) for step in range(STEPS)] * (CALLS // 200)
    cold = [request(workflow, workflow % STEPS) for workflow in range(1_000, 1_400)]
    timed(router.decide, warm)
    figures: dict[str, list[float]] = {}
    for _ in range(options.rounds):
        figures.setdefault("warm", []).append(timed(router.decide, warm))
        figures.setdefault("cold, without the network", []).append(timed(Router(settings, tables).decide, cold))
        if peer is not None and peer.stdin is not None and peer.stdout is not None:
            peer.stdin.write("\n")
            peer.stdin.flush()
            for name, value in json.loads(peer.stdout.readline()).items():
                figures.setdefault(name, []).append(value)
    if peer is not None and peer.stdin is not None:
        peer.stdin.close()
        peer.wait()

    first = Router(settings, tables)
    tables.calls = 0
    first.decide(request(0, 0))
    calls_of_the_first = tables.calls
    tables.calls = 0
    first.decide(request(0, 1))
    calls_warm = tables.calls
    tracemalloc.start()
    everybody = Router(settings, tables)
    kept = []
    for workflow in range(WORKFLOWS):
        everybody.decide(request(workflow, workflow % STEPS))
        if workflow in (WORKFLOWS // 10, WORKFLOWS - 1):
            kept.append(tracemalloc.get_traced_memory()[0])
    result = {
        "microseconds": {name: round(median(values), 2) for name, values in figures.items()},
        "calls": {"cold": calls_of_the_first, "warm": calls_warm},
        "kept_bytes": {"after 1,000 workflows": kept[0], "after 10,000 workflows": kept[1]},
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
