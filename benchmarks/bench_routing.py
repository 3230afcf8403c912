"""A routing decision: warm and cold, fixed and by policy, over a table of 10,000 workflows with 10 overrides each.

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

WORKFLOWS, STEPS, CALLS, CANDIDATES = 10_000, 10, 2_000, 100
POLICIES = ("weighted", "cheapest", "fastest")
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
    """DynamoDB's calls over rows in memory."""

    class exceptions:  # noqa: N801 - botocore's name
        """Of a client."""

        class ConditionalCheckFailedException(Exception):
            """Raised by conditional writes."""

    def __init__(self) -> None:
        self.calls = 0

    def query(self, **asked: Any) -> dict[str, Any]:
        self.calls += 1
        workflow = asked["ExpressionAttributeValues"][":workflow"]["S"]
        if workflow in POLICIES:
            return {"Items": [policy_row(workflow, "all", CANDIDATES), policy_row(workflow, "some", CANDIDATES - 3)]}
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

    def update_item(self, **asked: Any) -> dict[str, Any]:
        """A step says once a day that it wants facts (`cheapest`, `fastest`)."""
        return {"Attributes": asked["Key"]}

    def batch_get_item(self, RequestItems: dict[str, Any]) -> dict[str, Any]:  # noqa: N803 - botocore's name
        self.calls += 1
        ((table, asked),) = RequestItems.items()
        rows: dict[str, Any] = {"small": {"model": {"S": "small"}, "alias_of": {"S": "gpt-5-nano"}}}
        rows |= {f"house-{n}": house(n) for n in range(CANDIDATES)}
        rows |= {f"observed#fastest#{step}": observed(step) for step in ("all", "some")}
        return {"Responses": {table: [rows[k["model"]["S"]] for k in asked["Keys"] if k["model"]["S"] in rows]}}


def policy_row(policy: str, step: str, count: int) -> dict[str, Any]:
    candidates = [{"M": {"model": {"S": f"house-{n}"}, "weight": {"N": str(n + 1)}}} for n in range(count)]
    return {
        "workflow": {"S": policy},
        "step": {"S": step},
        "policy": {"S": policy},
        "candidates": {"L": candidates},
    }


def house(number: int) -> dict[str, Any]:
    price = {"M": {"input": {"N": str(1 + number % 7)}, "output": {"N": str(2 + number % 5)}}}
    return {"model": {"S": f"house-{number}"}, "provider": {"S": "openai"}, "prices": {"L": [price]}}


def observed(step: str) -> dict[str, Any]:
    seen = {
        f"house-{n}": {"M": {"ms": {"N": str(300 + n * 37 % 900)}, "samples": {"N": "15"}}} for n in range(CANDIDATES)
    }
    return {
        "model": {"S": f"observed#fastest#{step}"},
        "wanted_at": {"N": str(int(time.time() * 1000))},
        "latency": {"M": seen},
        "latency_of": {"L": [{"S": name} for name in seen]},
        "leader": {"S": "house-40"},
    }


def by_policy(policy: str, step: str, run: int) -> RouteRequest:
    return RouteRequest(policy, "balanced", {"name": step, "role": "Writer"}, {}, frozenset(), 1_200, f"run-{run}")


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
    chosen = {policy: [by_policy(policy, "all", run) for run in range(CALLS)] for policy in POLICIES}
    figures: dict[str, list[float]] = {}
    for _ in range(options.rounds):
        figures.setdefault("warm, fixed", []).append(timed(router.decide, warm))
        for policy, asked in chosen.items():
            figures.setdefault(f"warm, {policy} of {CANDIDATES}", []).append(timed(router.decide, asked))
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
    calls_by_policy = {}
    for policy in ("weighted", "fastest"):
        for step in ("some", "all"):
            tables.calls = 0
            Router(settings, tables).decide(by_policy(policy, step, 1))
            count = CANDIDATES if step == "all" else CANDIDATES - 3
            calls_by_policy[f"cold, {policy} of {count}"] = tables.calls
    tracemalloc.start()
    everybody = Router(settings, tables)
    kept = []
    for workflow in range(WORKFLOWS):
        everybody.decide(request(workflow, workflow % STEPS))
        if workflow in (WORKFLOWS // 10, WORKFLOWS - 1):
            kept.append(tracemalloc.get_traced_memory()[0])
    result = {
        "microseconds": {name: round(median(values), 2) for name, values in figures.items()},
        "calls": {"cold, fixed": calls_of_the_first, "warm": calls_warm, **calls_by_policy},
        "kept_bytes": {"after 1,000 workflows": kept[0], "after 10,000 workflows": kept[1]},
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
