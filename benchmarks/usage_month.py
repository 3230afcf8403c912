"""How long `usage` takes over 30 days of many rows, and in how much memory.

    python benchmarks/usage_month.py [--rows 3000000]

A server on loopback plays DynamoDB as far as usage asks it, 10 ms for each Query. It holds what the product's own code
makes of the rows at the worst moment, a minute before an hour is summed: sums of days and of today's other hours, and
the rows of that hour and of the one that has begun. Rows are made one by one and are kept nowhere else. Each question
is asked by a fresh process, with boto3, and its answer is compared with sums that were taken from the rows on the way.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import threading
import time
from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from datetime import timedelta
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent / "shared")]

from loopllama.aws import clients, dynamo
from loopllama.core import clock
from loopllama.queries.usage import summarise
from loopllama.queries.usage_documents import DAYS, HOURS, Documents, Level
from loopllama.queries.usage_sums import KINDS, Kind, Sums
from loopllama.settings import Settings

SETTINGS = Settings(usage_table="Usage", workflows_table="Workflows")
WORKFLOWS = ("claims", "contracts", "desk", "shop")
STEPS = ("classify", "draft", "judge", "plan", "revise")
MODELS = (("claude-sonnet-5", "0.0123045"), ("gpt-5-mini", "0.00098725"), ("nova-2-lite", "0.000310"))
KEYS, CUSTOMERS, REGIONS = 10, 200, 5
LATENCY = 0.010
OPEN_MINUTES = 25
"""How old an hour is, at most, when the one before it is summed."""
PAGE_BYTES = 1_000_000
BYS = ("workflow", "step,model", "workflow,step,model,key,day", "tag", "tag,model")
AIM_SECONDS, AIM_MB = 2, 256


class Store:
    """Items of the Usage table by partition, in the order of their sort keys."""

    def __init__(self) -> None:
        self._items: dict[str, tuple[list[str], list[dict[str, Any]]]] = {}

    def put(self, item: dict[str, Any]) -> None:
        names, items = self._items.setdefault(item["day_workflow"]["S"], ([], []))
        place = bisect_left(names, item["run_step_model"]["S"])
        names.insert(place, item["run_step_model"]["S"])
        items.insert(place, item)

    def answer(self, operation: str, body: dict[str, Any]) -> dict[str, Any]:
        """Answer a request as DynamoDB does."""
        if operation == "PutItem":
            self.put(body["Item"])
            return {}
        if operation == "BatchWriteItem":
            for request in body["RequestItems"]["Usage"]:
                self.put(request["PutRequest"]["Item"])
            return {}
        values = body["ExpressionAttributeValues"]
        if body["TableName"] == "Workflows":
            lives = [{"workflow_id": {"S": name}, "updated_at": {"S": "2020-01-01"}} for name in WORKFLOWS]
            return {"Items": lives if values[":listed"]["S"] == "all" else []}
        names, items = self._items.get((values.get(":key") or values[":marks"])["S"], ([], []))
        first, last = values.get(":first", values.get(":begin")), values.get(":last", values.get(":end"))
        begin = bisect_left(names, first["S"]) if first else 0
        if "ExclusiveStartKey" in body:
            begin = bisect_right(names, body["ExclusiveStartKey"]["run_step_model"]["S"])
        end = bisect_right(names, last["S"]) if last else len(names)
        aliases = body.get("ExpressionAttributeNames", {})
        wanted = [name for alias, name in aliases.items() if alias.startswith("#p")]
        page: list[dict[str, Any]] = []
        size = 0
        for place in range(begin, end):
            size += len(json.dumps(items[place]))
            page.append(
                {name: items[place][name] for name in wanted if name in items[place]} if wanted else items[place]
            )
            if size > PAGE_BYTES and place + 1 < end:
                return {"Items": page, "LastEvaluatedKey": {"run_step_model": {"S": names[place]}}}
        return {"Items": page}


def serve() -> None:
    """Play DynamoDB at a free port, which is printed."""
    store, lock = Store(), threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        wbufsize = -1  # an answer in one piece
        disable_nagle_algorithm = True

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            operation = self.headers["X-Amz-Target"].partition(".")[2]
            with lock:
                answer = json.dumps(store.answer(operation, body)).encode()
            if operation == "Query":
                time.sleep(LATENCY)
            self.send_response(200)
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    print(server.server_port, flush=True)
    server.serve_forever()


def rows_of(day: str, hour: int, workflow: int, count: int, number: int) -> Iterator[dict[str, Any]]:
    """Yield the rows of an hour; `number` is that of the first, and says what it is like."""
    for one in range(number, number + count):
        run = one // len(STEPS)
        model, cost = MODELS[(one * 7 + run) % len(MODELS)]
        yield {
            "day_workflow": f"{day}#{WORKFLOWS[workflow]}",
            "run_step_model": f"{hour:02}#run_{run:024x}#{STEPS[one % len(STEPS)]}#0#-1#{model}#attempt_0001",
            "run_id": f"run_{run:024x}",
            "step": STEPS[one % len(STEPS)],
            "model": model,
            "steps": 1,
            "input_tokens": 900 + one % 701,
            "output_tokens": 200 + one % 97,
            "cached_tokens": one % 11,
            "cost_usd": Decimal(cost) + one % 701 * Decimal("0.0000025"),
            "cost_basis": "measured",
            "unpriced": False,
            "simulated": False,
            "tags": {"customer": f"c{run % CUSTOMERS}", "region": f"r{run % REGIONS}"},
            "key": f"key{run % KEYS}",
            "delete_at": 1_900_000_000,
        }


def build(port: str, total: int) -> tuple[list[int], Decimal]:
    """Fill the server with 30 days; returns the steps by workflow, and the cost of all."""
    dynamodb = client(port)
    today = clock.now().date()
    hours = [(day, hour) for day in range(29, -1, -1) for hour in range(24)]
    each = total // (len(hours) * len(WORKFLOWS))
    steps, cost, number = [0] * len(WORKFLOWS), Decimal(0), 0
    for workflow, name in enumerate(WORKFLOWS):
        for back in range(29, -1, -1):
            day = (today - timedelta(days=back)).isoformat()
            of_day = {kind: Sums(kind) for kind in KINDS}
            for hour in range(24):
                sums = {kind: Sums(kind) for kind in KINDS} if back == 0 else of_day
                as_rows = back == 0 and hour >= 22
                count = each * OPEN_MINUTES // 60 if back == 0 and hour == 23 else each
                rows: list[Any] = list(rows_of(day, hour, workflow, count, number))
                steps[workflow] += count
                cost += sum(row["cost_usd"] for row in rows)
                if not as_rows:
                    for one in sums.values():
                        one.add_rows({}, rows)
                number += count
                dynamo.batch_put(dynamodb, "Usage", rows if as_rows else [])
                if back == 0 and not as_rows:
                    keep(dynamodb, HOURS, name, f"{day}T{hour:02}", sums)
            if back:
                keep(dynamodb, DAYS, name, day, of_day)
    return steps, cost


def keep(dynamodb: Any, level: Level, workflow: str, period: str, sums: dict[Kind, Sums]) -> None:
    """Keep sums as ReconcileRuns does."""
    for kind, one in sums.items():
        documents = Documents(dynamodb, "Usage", level, kind)
        before = documents.stored(workflow, period)
        documents.write(workflow, period, one.pack(), before, rows_until=1_900_000_000)


def client(port: str) -> Any:
    """A client of the server."""
    os.environ |= {
        "AWS_ENDPOINT_URL_DYNAMODB": f"http://127.0.0.1:{port}",
        "AWS_ACCESS_KEY_ID": "any",
        "AWS_SECRET_ACCESS_KEY": "any",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    return clients.client("dynamodb")


def ask(port: str, by: str) -> None:
    """Ask once, and once more warm; print what it took and what it said."""
    client(port)
    seconds, busy = [], []
    for _ in range(2):
        start, used = time.perf_counter(), time.process_time()
        told = summarise(SETTINGS, by.split(","))
        seconds.append(time.perf_counter() - start)
        busy.append(time.process_time() - used)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    said = {"groups": len(told["groups"]), "steps": told["total"]["steps"], "cost": str(told["total"]["cost_usd"])}
    print(json.dumps({"seconds": seconds, "busy": busy, "mb": peak, **said}))


def main() -> None:
    """Measure, or be one of the processes that measuring starts."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--rows", type=int, default=3_000_000)
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--ask", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        serve()
    elif options.ask:
        ask(*options.ask)
    else:
        measure(options.rows)


def measure(rows: int) -> None:
    """Build, ask, compare, print."""
    me = [sys.executable, __file__]
    server = subprocess.Popen([*me, "--serve"], stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout
        port = server.stdout.readline().strip()
        start = time.perf_counter()
        steps, cost = build(port, rows)
        print(f"{sum(steps):,} rows, made and summed in {time.perf_counter() - start:.0f} s")
        print("| by | groups | first, s | again, s | processor, s | memory, MB |\n|---|---|---|---|---|---|")
        failed = False
        for by in BYS:
            out = subprocess.run([*me, "--ask", port, by], capture_output=True, text=True, check=True).stdout
            told = json.loads(out)
            assert (told["steps"], Decimal(told["cost"])) == (sum(steps), cost), (by, told, steps, cost)
            first, again = told["seconds"]
            took = f"{first:.2f} | {again:.2f} | {told['busy'][1]:.2f} | {told['mb']:.0f}"
            print(f"| `{by}` | {told['groups']:,} | {took} |", flush=True)
            failed |= first > AIM_SECONDS or told["mb"] > AIM_MB
    finally:
        server.terminate()
    if failed:
        sys.exit(f"over {AIM_SECONDS} s or {AIM_MB} MB")


if __name__ == "__main__":
    main()
