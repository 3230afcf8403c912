"""A warm step's own work beside what others add to the same model call.

    python benchmarks/bench_step.py [--peer PYTHON] [--rounds N] [--profile]

A step is routing, prompt, one model call over HTTP, pricing, the record and the metrics; tables are in memory and the
provider answers at once on loopback. All share one processor. Each contestant has a process of its own and takes its
turn in every round, because machines drift: the figures are ratios of medians to raw `http.client` in the same rounds.
`--peer` is a Python that has openai, anthropic and litellm. Prints a table, and one line of JSON last.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from importlib import metadata
from pathlib import Path

HERE = Path(__file__).resolve().parent
TEXT = (
    "Since this morning our dashboard shows no data for the second region, though the status page says all is well. "
    "We were also charged twice in October, on the 3rd and on the 17th; please check both. "
) * 3
SYSTEM = "Classify the ticket as billing, outage or other, and answer with one word."
MESSAGES = [{"role": "system", "content": SYSTEM}, {"role": "user", "content": TEXT}]
BLOCK, DISCARD = 60, 10

Call = Callable[[], object]


def raw(port: int) -> Call:
    """http.client with a kept-alive connection, and json."""
    import http.client
    import socket

    connection = http.client.HTTPConnection("127.0.0.1", port)
    connection.connect()
    connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    headers = {"content-type": "application/json", "authorization": "Bearer key"}

    def call() -> object:
        body = json.dumps({"model": "gpt-5-mini", "messages": MESSAGES, "max_tokens": 16})
        connection.request("POST", "/v1/chat/completions", body, headers)
        return json.loads(connection.getresponse().read())["choices"][0]["message"]["content"]

    return call


def httpx_alone(port: int) -> Call:
    """httpx.Client and json."""
    import httpx

    client = httpx.Client()
    url, headers = f"http://127.0.0.1:{port}/v1/chat/completions", {"authorization": "Bearer key"}
    body = {"model": "gpt-5-mini", "messages": MESSAGES, "max_tokens": 16}
    return lambda: client.post(url, headers=headers, json=body).json()["choices"][0]["message"]["content"]


def step(port: int, provider: str = "openai") -> Call:
    """RunStep's work on a warm process."""
    sys.path[:0] = [str(HERE.parent / "shared"), str(HERE)]
    os.environ |= {
        f"{provider.upper()}_API_KEY": "key",
        f"{provider.upper()}_BASE_URL": f"http://127.0.0.1:{port}" + ("/v1" if provider == "openai" else ""),
    }
    from tables import Tables

    from loopllama import aws
    from loopllama.engine.step import StepRunner
    from loopllama.settings import Settings

    tables = Tables()
    settings = Settings(
        workflows_table="Workflows",
        routes_table="Routes",
        models_table="Models",
        runs_table="Runs",
        usage_table="Usage",
        values_bucket="values",
    )
    model = "gpt-5-mini" if provider == "openai" else "claude-sonnet-5"
    crew = [
        {"name": "triage", "role": "Triage", "system_prompt": SYSTEM, "needs": [], "max_tokens": 16, "model": model}
    ]
    definition = {"workflow_id": "w", "version": 1, "status": "active", "definition": {"crew": crew}}
    tables.put("Workflows", ("w", "1"), aws.to_item(definition))
    aws.client = lambda _service, **_options: tables  # type: ignore[assignment, misc]
    runner = StepRunner(settings)
    numbers = iter(range(10**9))

    def call() -> object:
        run_id = f"run_{next(numbers)}"
        run = {"run_id": run_id, "item": "RUN", "workflow_id": "w", "status": "running", "input": TEXT}
        tables.put("Runs", (run_id, "RUN"), aws.to_item(run))
        work = {"run_id": run_id, "workflow": "w", "version": 1, "step": "triage"}
        outcome = runner.run_step(work, "owner", 60_000)["outcome"]
        if outcome != "done":
            raise AssertionError(outcome)
        return "billing"

    return call


def step_anthropic(port: int) -> Call:
    """RunStep's work with an Anthropic model."""
    return step(port, "anthropic")


def openai_sdk(port: int) -> Call:
    """openai: chat.completions.create."""
    import openai

    client = openai.OpenAI(api_key="key", base_url=f"http://127.0.0.1:{port}/v1")
    return lambda: (
        client.chat.completions.create(model="gpt-5-mini", messages=MESSAGES, max_tokens=16).choices[0].message.content
    )


def anthropic_sdk(port: int) -> Call:
    """anthropic: messages.create."""
    import anthropic

    client = anthropic.Anthropic(api_key="key", base_url=f"http://127.0.0.1:{port}")
    return lambda: (
        client.messages.create(model="claude-sonnet-5", system=SYSTEM, messages=MESSAGES[1:], max_tokens=16)
        .content[0]
        .text
    )


def litellm_router(port: int) -> Call:
    """litellm.Router with two deployments and a fallback."""
    os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"
    import litellm

    litellm.suppress_debug_info = True

    def deployment(group: str, key: str) -> dict[str, object]:
        settings = {"model": "openai/gpt-5-mini", "api_base": f"http://127.0.0.1:{port}/v1", "api_key": key}
        return {"model_name": group, "litellm_params": settings}

    router = litellm.Router(
        model_list=[deployment("main", "a"), deployment("main", "b"), deployment("spare", "c")],
        fallbacks=[{"main": ["spare"]}],
    )
    return lambda: router.completion(model="main", messages=MESSAGES, max_tokens=16).choices[0].message.content


OURS = {"raw": raw, "httpx": httpx_alone, "step": step, "step_anthropic": step_anthropic}
PEERS = {"openai": openai_sdk, "anthropic": anthropic_sdk, "litellm_router": litellm_router}
PACKAGES = {"httpx": "httpx", "openai": "openai", "anthropic": "anthropic", "litellm_router": "litellm"}


def pin() -> None:
    """Stay on the first processor, where the provider is as well: waking another one up costs more than the call."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})


def work(name: str, port: int) -> None:
    """One contestant: a block of calls for each line of standard input, its times in µs as JSON."""
    pin()
    out = os.fdopen(os.dup(1), "w")
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        call = {**OURS, **PEERS}[name](port)
        if call() != "billing":
            raise AssertionError(f"{name} gave no answer")
        version = metadata.version(PACKAGES[name]) if name in PACKAGES else sys.version.split()[0]
        print(json.dumps(version), file=out, flush=True)
        for _ in sys.stdin:
            times = []
            for place in range(DISCARD + BLOCK):
                started = time.perf_counter_ns()
                call()
                if place >= DISCARD:
                    times.append((time.perf_counter_ns() - started) / 1000)
            printed.seek(0)
            printed.truncate()
            print(json.dumps(times), file=out, flush=True)


def profile(port: int) -> None:
    """Where a step's time goes."""
    import cProfile
    import pstats

    call = step(port)
    with contextlib.redirect_stdout(io.StringIO()):
        for _ in range(200):
            call()
        with cProfile.Profile() as profiler:
            for _ in range(500):
                call()
    pstats.Stats(profiler).sort_stats("cumulative").print_stats(60)


def main() -> None:
    """Run the contestants in turn and compare."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--peer", help="a Python with openai, anthropic and litellm")
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--profile", action="store_true")
    parser.add_argument("--work", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.work:
        work(options.work[0], int(options.work[1]))
        return
    pin()
    with subprocess.Popen(
        [sys.executable, str(HERE / "stub.py")], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as stub:
        assert stub.stdout
        assert stub.stdin
        port = int(stub.stdout.readline())
        if options.profile:
            profile(port)
        else:
            compare(port, options.peer, options.rounds)
        stub.stdin.close()


def compare(port: int, peer: str | None, rounds: int) -> None:
    """Print the table and the JSON."""
    running: dict[str, subprocess.Popen[str]] = {}
    versions: dict[str, str] = {}
    for name in [*OURS, *(PEERS if peer else ())]:
        python = str(peer) if name in PEERS else sys.executable
        running[name] = subprocess.Popen(
            [python, __file__, "--work", name, str(port)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        versions[name] = json.loads(running[name].stdout.readline())  # type: ignore[union-attr]
    medians: dict[str, list[float]] = {name: [] for name in running}
    for _ in range(rounds):
        for name, process in running.items():
            assert process.stdin
            assert process.stdout
            process.stdin.write("\n")
            process.stdin.flush()
            medians[name].append(statistics.median(json.loads(process.stdout.readline())))
    for process in running.values():
        process.communicate()
    result = {}
    for name, figures in medians.items():
        ratios = sorted(mine / base for mine, base in zip(figures, medians["raw"], strict=True))
        result[name] = {
            "version": versions[name],
            "median_us": round(statistics.median(figures), 1),
            "ratio": round(statistics.median(ratios), 2),
            "ratio_low": round(ratios[0], 2),
            "ratio_high": round(ratios[-1], 2),
        }
        shown = result[name]
        print(
            f"{name:<16} {shown['median_us']:>9,.0f} µs   {shown['ratio']:>6.2f} x raw "
            f"({shown['ratio_low']:.2f} to {shown['ratio_high']:.2f})   {shown['version']}"
        )
    print(json.dumps(result))


if __name__ == "__main__":
    main()
