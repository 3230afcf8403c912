"""A warm step's own work beside what others add to the same model call.

    python benchmarks/bench_step.py [--rounds N] [--short] [--profile]

A step is routing, prompt, one model call over HTTP, pricing, the record and the metrics; tables are in memory and the
provider answers at once on loopback. All share one processor. Each contestant has a process and an environment of its
own and takes its turn in every round. Two figures: the median time of a block's calls, which says what a user waits
but needs a quiet machine, and the processor time of contestant and provider together, which does not, but leaves out
what the system spends on switching between the two.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

import harness

TEXT = (
    "Since this morning our dashboard shows no data for the second region, though the status page says all is well. "
    "We were also charged twice in October, on the 3rd and on the 17th; please check both. "
) * 3
SYSTEM = "Classify the ticket as billing, outage or other, and answer with one word."
MESSAGES = [{"role": "system", "content": SYSTEM}, {"role": "user", "content": TEXT}]
BLOCK, DISCARD = 40, 5

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
    sys.path.insert(0, str(HERE.parent / "shared"))
    os.environ |= {
        "AWS_LAMBDA_FUNCTION_NAME": "run_step",  # as it is there
        f"{provider.upper()}_API_KEY": "key",
        f"{provider.upper()}_BASE_URL": f"http://127.0.0.1:{port}" + ("/v1" if provider == "openai" else ""),
    }
    from tables import Tables

    from loopllama.aws import clients, dynamo
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
    tables.put("Workflows", ("w", "1"), dynamo.to_item(definition))
    clients.client = lambda _service, **_options: tables  # type: ignore[assignment]
    runner = StepRunner(settings)
    run = {"run_id": "run_1", "item": "RUN", "workflow_id": "w", "status": "running", "input": TEXT}
    tables.put("Runs", ("run_1", "RUN"), dynamo.to_item(run))
    work: Any = {"run_id": "run_1", "workflow": "w", "version": 1, "step": "triage"}

    def call() -> object:
        tables.items.pop(("Runs", "run_1", "STEP#triage#0#0"), None)  # the step as if for the first time
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


def crewai_llm(port: int) -> Call:
    """crewai.LLM.call."""
    os.environ |= {"CREWAI_DISABLE_TELEMETRY": "true", "OTEL_SDK_DISABLED": "true", "CREWAI_TRACING_ENABLED": "false"}
    import crewai

    llm = crewai.LLM(model="openai/gpt-5-mini", api_key="key", base_url=f"http://127.0.0.1:{port}/v1", max_tokens=16)
    return lambda: llm.call(MESSAGES)


CONTESTANTS: dict[str, tuple[Callable[..., Any], Any, Any]] = {
    "http.client": (raw, sys.executable, ""),
    "httpx": (httpx_alone, harness.LITELLM, "httpx"),
    "LoopLlama, a step with OpenAI": (step, sys.executable, ""),
    "LoopLlama, a step with Anthropic": (step_anthropic, sys.executable, ""),
    "Anthropic's SDK": (anthropic_sdk, harness.LITELLM, "anthropic"),
    "OpenAI's SDK": (openai_sdk, harness.LITELLM, "openai"),
    "CrewAI's LLM.call": (crewai_llm, harness.CREWAI, "crewai"),
    "LiteLLM's Router": (litellm_router, harness.LITELLM, "litellm"),
}
"""How it calls, in which Python, and by which package."""
AIM = 3.5


def work(name: str, port: int) -> None:
    """One contestant: a block of calls for each line of standard input, its two figures in µs a call as JSON."""
    harness.pin()
    out = os.fdopen(os.dup(1), "w")
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        call = CONTESTANTS[name][0](port)
        if call() != "billing":
            raise AssertionError(f"{name} gave no answer")
        print("0", file=out, flush=True)
        for _ in sys.stdin:
            for _ in range(DISCARD):
                call()
            times, processor = [], used(port)
            for _ in range(BLOCK):
                started = time.perf_counter_ns()
                call()
                times.append(time.perf_counter_ns() - started)
            processor = used(port) - processor
            print(json.dumps([statistics.median(times) / 1000, processor / BLOCK / 1000]), file=out, flush=True)
            printed.seek(0)
            printed.truncate()


def used(port: int) -> int:
    """Processor time of this process and the provider's, in ns."""
    import http.client

    connection = http.client.HTTPConnection("127.0.0.1", port)
    connection.request("POST", "/cpu", b"")
    theirs = int(connection.getresponse().read())
    connection.close()
    return theirs + time.process_time_ns()


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


@contextlib.contextmanager
def provider() -> Iterator[int]:
    """The provider on loopback, while the context lasts; its port."""
    with subprocess.Popen(
        [sys.executable, str(HERE / "stub.py")], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as stub:
        assert stub.stdout
        assert stub.stdin
        yield int(stub.stdout.readline())
        stub.stdin.close()


def compare(port: int, rounds: int) -> tuple[harness.Figures, harness.Figures]:
    """The contestants' times and processor times, round by round."""
    workers = {
        name: harness.Worker(python, __file__, "--work", name, str(port))
        for name, (_, python, _) in CONTESTANTS.items()
    }
    figures = harness.take_turns({name: worker.ask for name, worker in workers.items()}, rounds)
    for worker in workers.values():
        worker.close()
    waited, worked = ({name: [pair[at] for pair in mine] for name, mine in figures.items()} for at in (0, 1))
    return waited, worked


def main() -> None:
    """Run the contestants in turn and compare."""
    parser = harness.arguments(__doc__, rounds=40)
    parser.add_argument("--profile", action="store_true")
    parser.add_argument("--work", nargs=2)
    options = harness.parse(parser)
    if options.work:
        work(options.work[0], int(options.work[1]))
        return
    harness.pin()
    with provider() as port:
        if options.profile:
            profile(port)
            return
        waited, worked = compare(port, options.rounds)
    versions = {
        package: harness.versions(python, package)[package] for _, python, package in CONTESTANTS.values() if package
    }
    notes = {name: f"{package} {versions[package]}" for name, (_, _, package) in CONTESTANTS.items() if package}
    tables = [
        harness.table("A call of a model that answers at once, time", "µs", waited, "http.client", notes),
        harness.table("The same, processor time", "µs", worked, "http.client", notes),
    ]
    rows = [
        harness.value(f"{name}, times http.client", harness.ratio(tables[0], name), "x", AIM)
        for name in CONTESTANTS
        if name.startswith("LoopLlama")
    ]
    harness.publish("step", "One warm step's own work", tables, rows, versions, options.short)


if __name__ == "__main__":
    main()
