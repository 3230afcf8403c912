"""A routing decision: warm and cold, fixed and by policy, with 10 and with 100,000 overrides stored.

    python benchmarks/bench_routing.py [--rounds N] [--short]

Tables are in memory, so the figures are the decision's own; a warm one is a decision kept for its inputs. LiteLLM's
Router chooses among 2 and 100 deployments in the same rounds. Figures are processor time. A cold decision is counted in
calls of DynamoDB, and what 10,000 workflows leave behind in a process in bytes.
"""

from __future__ import annotations

import sys
import time
import tracemalloc
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "shared")]

import harness

from loopllama.policies import registry
from loopllama.routing.decision import RouteRequest
from loopllama.routing.router import Router
from loopllama.settings import Settings
from loopllama.workflows.types import CrewStep

WORKFLOWS, STEPS, CALLS, CANDIDATES = 10_000, 10, 2_000, 100
POLICIES = tuple(name for name, policy in registry.POLICIES.items() if policy.chooses)
WATCHED = tuple(name for name, policy in registry.POLICIES.items() if "latency" in policy.needs)
MODELS = ("gpt-5", "gpt-5-mini", "claude-sonnet-5", "small", "gemini-2.5-flash")
AIM_FIXED, AIM_POLICY = 10.0, 30.0
PEER = """
import json, os, sys, time
os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"
from litellm import Router

def deployment(i):
    settings = {"model": "openai/gpt-4o-mini", "api_key": "x", "api_base": f"http://127.0.0.1:{9000 + i}"}
    return {"model_name": "m", "litellm_params": settings}

routers = {}
ask = [{"role": "user", "content": "hi"}]
print(0, flush=True)
for line in sys.stdin:
    strategy, n = line.split()
    if line not in routers:
        routers[line] = Router(model_list=[deployment(i) for i in range(int(n))], routing_strategy=strategy)
    calls = 20 if n == "100" else 200
    start = time.process_time()
    for _ in range(calls):
        routers[line].get_available_deployment(model="m", messages=ask)
    print(json.dumps((time.process_time() - start) / calls * 1e6), flush=True)
"""


class Tables:
    """DynamoDB's calls over rows in memory."""

    class exceptions:  # noqa: N801 - botocore's name
        """Of a client."""

        class ConditionalCheckFailedException(Exception):
            """Raised by conditional writes."""

    def __init__(self, workflows: int) -> None:
        self.calls: Counter[str] = Counter()
        self.routes = {f"w{number}": [override(number, step) for step in range(STEPS)] for number in range(workflows)}
        for policy in POLICIES:
            self.routes[policy] = [policy_row(policy, "all", CANDIDATES), policy_row(policy, "some", CANDIDATES - 3)]

    def query(self, **asked: Any) -> dict[str, Any]:
        self.calls["Query"] += 1
        return {"Items": self.routes[asked["ExpressionAttributeValues"][":workflow"]["S"]]}

    def update_item(self, **asked: Any) -> dict[str, Any]:
        """A step says once a day that it wants facts."""
        return {"Attributes": asked["Key"]}

    def batch_get_item(self, RequestItems: dict[str, Any]) -> dict[str, Any]:  # noqa: N803 - botocore's name
        self.calls["BatchGetItem"] += 1
        ((table, asked),) = RequestItems.items()
        rows: dict[str, Any] = {"small": {"model": {"S": "small"}, "alias_of": {"S": "gpt-5-nano"}}}
        rows |= {f"house-{n}": house(n) for n in range(CANDIDATES)}
        rows |= {f"observed#{policy}#{step}": observed(policy, step) for policy in WATCHED for step in ("all", "some")}
        return {"Responses": {table: [rows[k["model"]["S"]] for k in asked["Keys"] if k["model"]["S"] in rows]}}


def override(workflow: int, step: int) -> dict[str, Any]:
    return {
        "workflow": {"S": f"w{workflow}"},
        "step": {"S": f"s{step}"},
        "model": {"S": MODELS[(workflow + step) % len(MODELS)]},
        "fallbacks": {"L": [{"S": MODELS[(workflow + step + 1) % len(MODELS)]}]},
        "version": {"N": "3"},
        "reason": {"S": "cheaper and good enough for this step"},
    }


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


def observed(policy: str, step: str) -> dict[str, Any]:
    seen = {
        f"house-{n}": {"M": {"ms": {"N": str(300 + n * 37 % 900)}, "samples": {"N": "15"}, "count": {"N": "20"}}}
        for n in range(CANDIDATES)
    }
    one = "1795500000 830 ok 5000 100 0 0123456789 0001"
    return {
        "model": {"S": f"observed#{policy}#{step}"},
        "wanted_at": {"N": str(int(time.time() * 1000))},
        "observed_at": {"N": str(int(time.time() * 1000))},
        "samples": {"M": {name: {"L": [{"S": one}] * 20} for name in seen}},
        "latency": {"M": seen},
        "latency_of": {"L": [{"S": name} for name in seen]},
        "leader": {"S": "house-40"},
    }


AGENT: CrewStep = {"name": "", "role": "Writer", "system_prompt": "", "needs": []}


def by_policy(policy: str, step: str, run: int) -> RouteRequest:
    return RouteRequest(policy, "balanced", {**AGENT, "name": step}, {}, frozenset(), 1_200, f"run-{run}")


def request(workflow: int, step: int) -> RouteRequest:
    agent: CrewStep = {**AGENT, "name": f"s{step}", "model": "gpt-5", "max_tokens": 800}
    return RouteRequest(f"w{workflow}", "balanced", agent, {}, frozenset({"tools"}), 1_200, "run-1")


def timed(decide: Callable[[RouteRequest], Any], asked: list[RouteRequest]) -> float:
    """Microseconds a decision."""
    start = time.process_time()
    for route_request in asked:
        decide(route_request)
    return (time.process_time() - start) / len(asked) * 1e6


def cold_calls(settings: Settings, tables: Tables, asked: RouteRequest) -> Counter[str]:
    """What the first decision of a process asks of DynamoDB."""
    tables.calls.clear()
    Router(settings, tables).decide(asked)
    return Counter(tables.calls)


def kept_bytes(settings: Settings, tables: Tables) -> list[int]:
    """What a process keeps after a tenth of the workflows, and after all of them."""
    tracemalloc.start()
    router, kept = Router(settings, tables), []
    for workflow in range(WORKFLOWS):
        router.decide(request(workflow, workflow % STEPS))
        if workflow in (WORKFLOWS // 10, WORKFLOWS - 1):
            kept.append(tracemalloc.get_traced_memory()[0])
    tracemalloc.stop()
    return kept


def main() -> None:
    """Decide in turn, count, and publish."""
    options = harness.parse(harness.arguments(__doc__, rounds=25))
    settings = Settings(routes_table="routes", models_table="models", route_cache_seconds=3600)
    few, many = Tables(1), Tables(WORKFLOWS)
    small, large = Router(settings, few), Router(settings, many)
    ten = [request(0, step) for step in range(STEPS)] * (CALLS // STEPS)
    spread = [request(workflow, step) for workflow in range(20) for step in range(STEPS)] * (CALLS // 200)
    cold = [request(workflow, workflow % STEPS) for workflow in range(1_000, 1_400)]
    peer = harness.Worker(harness.LITELLM, "-c", PEER)
    contestants: dict[str, Callable[[], float]] = {
        "fixed, 10 overrides stored": lambda: timed(small.decide, ten),
        f"fixed, {WORKFLOWS * STEPS:,} overrides stored": lambda: timed(large.decide, spread),
    }
    for policy in POLICIES:
        asked = [by_policy(policy, "all", run) for run in range(CALLS)]
        contestants[f"{policy} of {CANDIDATES}"] = lambda asked=asked: timed(large.decide, asked)  # type: ignore[misc]
    contestants["fixed, cold, without the network"] = lambda: timed(Router(settings, many).decide, cold)
    for strategy in ("simple-shuffle", "latency-based-routing"):
        for count in (2, 100):
            line = f"{strategy} {count}"
            contestants[f"LiteLLM's Router, {strategy} of {count}"] = lambda line=line: peer.ask(line)  # type: ignore[misc]
    figures = harness.take_turns(contestants, options.rounds)
    peer.close()
    fixed, stored = list(contestants)[:2]
    table = harness.table("A routing decision, processor time", "µs", figures, fixed)
    medians = {row["name"]: row["median"] for row in table["rows"]}

    calls = {"fixed": cold_calls(settings, many, request(0, 0))}
    calls |= {policy: cold_calls(settings, many, by_policy(policy, "all", 1)) for policy in POLICIES}
    kept = kept_bytes(settings, many)
    rows = [
        harness.value("a fixed decision, 10 overrides stored", medians[fixed], "µs", AIM_FIXED),
        harness.value(f"the same with {WORKFLOWS * STEPS:,}", medians[stored], "µs", AIM_FIXED),
        *(
            harness.value(f"{policy} of {CANDIDATES}", medians[f"{policy} of {CANDIDATES}"], "µs", AIM_POLICY)
            for policy in POLICIES
        ),
    ]
    for name, counted in calls.items():
        rows.append(harness.value(f"Query, a cold decision, {name}", counted["Query"], "", 1))
        rows.append(harness.value(f"BatchGetItem, a cold decision, {name}", counted["BatchGetItem"], "", 2))
    rows.append(harness.value("kept in the process after 1,000 workflows", round(kept[0] / 1e6, 2), "MB"))
    rows.append(harness.value(f"kept in the process after {WORKFLOWS:,} workflows", round(kept[1] / 1e6, 2), "MB"))
    versions = {**harness.versions(sys.executable), **harness.versions(harness.LITELLM, "litellm")}
    harness.publish("routing", "A routing decision", [table], rows, versions, options.short)


if __name__ == "__main__":
    main()
