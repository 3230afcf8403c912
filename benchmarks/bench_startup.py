"""Start-up of the functions, what a warm one keeps in memory, and the size of what is deployed.

    python benchmarks/bench_startup.py [--rounds N] [--short]

- Start-up: a fresh process from its first statement until it is ready, in processor time. A function is ready when
  `app.py` is imported and the clients that every invocation uses are made: DynamoDB's, the logger, and for RunStep the
  adapter of a provider with its transport. Beside it the same libraries imported plainly, and LiteLLM's Router with two
  deployments. The libraries come from an environment with those of the layer, boto3 and httpx, bytecode compiled; for
  functions botocore is cut down as the layer's is (`shared/trim.py`).
- Init: what Lambda's own emulator reports for the functions as they are built, under Lambda's Python, beside a function
  that imports the same libraries plainly, and one that imports nothing. Left out where Python 3.13 or the emulator is
  missing.
- Memory: the most a process has had resident after 100 steps (calls of the Router), on the same provider on loopback.
- Size: layer and functions as they are built, for both processor architectures, unzipped, without bytecode.
"""

from __future__ import annotations

import io
import json
import os
import re
import resource
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
sys.path[:0] = [str(HERE), str(ROOT / "shared")]

import bench_step
import harness

import trim

FUNCTIONS = sorted(path.parent.name for path in (ROOT / "functions").glob("*/app.py"))
ENVIRONMENT = {
    **{
        f"{name}_TABLE": name
        for name in ("WORKFLOWS", "ROUTES", "ROUTE_HISTORY", "MODELS", "RUNS", "USAGE", "API_KEYS")
    },
    "VALUES_BUCKET": "values",
    "STATE_MACHINE_ARN": "arn:x",
    "EVENT_BUS_NAME": "bus",
    "AWS_LAMBDA_FUNCTION_NAME": "function",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_ACCESS_KEY_ID": "key",
    "AWS_SECRET_ACCESS_KEY": "secret",
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",
}
CLIENTS = (
    "from loopllama.aws import clients; from loopllama.telemetry import logs; clients.client('dynamodb'); logs.logger()"
)
ADAPTER = "import loopllama.providers.openai"
LIBRARIES = {
    "boto3, DynamoDB's client": "import boto3; boto3.client('dynamodb')",
    "httpx, a client": "import httpx; httpx.Client()",
    "pydantic, a model": "import pydantic; pydantic.create_model('M', text=str)",
    "powertools, Logger and Metrics": (
        "from aws_lambda_powertools import Logger, Metrics; Logger(service='s'); Metrics(namespace='n', service='s')"
    ),
}
SUM = "these libraries, plainly"
ROUTER = "LiteLLM's Router"
ROUTER_CODE = """
import litellm
settings = {"model": "openai/gpt-5-mini", "api_key": "key", "api_base": "http://127.0.0.1:9/v1"}
litellm.Router(model_list=[{"model_name": "main", "litellm_params": settings} for _ in range(2)])
"""
SAMPLE = """
import time
started = time.process_time()
{code}
print("ms", (time.process_time() - started) * 1000)
"""
CALLS = 100


def ready(function: str) -> str:
    """What makes a function ready."""
    return f"import app; {CLIENTS}" + (f"; {ADAPTER}" if function == "run_step" else "")


def startup(python: Path, code: str, *path: Path) -> float:
    """Milliseconds of processor time until a fresh process is ready."""
    environment = {**os.environ, **ENVIRONMENT, "PYTHONPATH": os.pathsep.join(map(str, path))}
    command = [str(python), "-c", SAMPLE.format(code=code)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    if done.returncode:
        raise SystemExit(done.stderr)
    return float(done.stdout.rpartition("ms ")[2])


def layers_sdk(folder: Path) -> Path:
    """Where botocore lies as the layer has it: the environment's own is whole."""
    sdk = folder / "sdk"
    shutil.copytree(site_packages() / "botocore", sdk / "botocore", ignore=shutil.ignore_patterns("*.pyc"))
    trim.trim_sdk(sdk / "botocore" / "data")
    return sdk


def startups(sdk: Path, rounds: int) -> harness.Figures:
    """Start-up of everything, in turn."""
    for folder in (sdk, ROOT / "shared", ROOT / "functions"):
        subprocess.run([str(harness.PLAIN), "-m", "compileall", "-q", str(folder)], check=True)
    codes = {SUM: "\n".join(LIBRARIES.values()), **LIBRARIES}
    contestants: dict[str, Any] = {name: lambda code=code: startup(harness.PLAIN, code) for name, code in codes.items()}
    for name in FUNCTIONS:
        path = (ROOT / "functions" / name, ROOT / "shared", sdk)
        contestants[name] = lambda name=name, path=path: startup(harness.PLAIN, ready(name), *path)
    contestants[ROUTER] = lambda: startup(harness.LITELLM, ROUTER_CODE)
    return harness.take_turns(contestants, rounds)


# Lambda's emulator


def inits(path: list[Path], plain: Path, folder: Path, rounds: int) -> harness.Figures:
    """What the emulator reports for the built functions, in turn, with their libraries on `path`; those of the
    libraries imported plainly that the layer lacks, or has cut down, are in `plain`."""
    from template import emulator

    python, rie = emulator.find_python(), emulator.find_emulator()
    subprocess.run([python, "-m", "compileall", "-q", *map(str, (*path, plain))], check=True)
    built = {name: emulator.build_function(name, folder) for name in FUNCTIONS}
    handler = "def handler(event, context):\n    return 1\n"
    codes = {
        "nothing": handler,
        SUM: "\n".join((*LIBRARIES.values(), handler)),
        "run_step, with its clients": f"{(built['run_step'] / 'app.py').read_text()}\n{CLIENTS}\n{ADAPTER}\n",
    }
    for number, (name, code) in enumerate(codes.items()):
        built[name] = folder / f"made_{number}"
        built[name].mkdir()
        (built[name] / "app.py").write_text(code)

    def init(function: Path) -> float:
        found_in = [plain, *path] if function == built[SUM] else path
        with emulator.running(rie, python, function, found_in, ENVIRONMENT) as running:
            running.invoke({"requestContext": {}, "Records": []})
            match = re.search(r"INIT REPORT\(durationMs: ([\d.]+)\)", running.log.read_text())
        assert match, running.log.read_text()
        return float(match.group(1))

    return harness.take_turns({name: lambda path=path: init(path) for name, path in built.items()}, rounds)


# Memory


def remember(name: str, port: int) -> None:
    """One contestant of memory: prints the most that it had resident when ready and after its calls, in MB, and what
    its first call still loaded."""
    out = os.fdopen(os.dup(1), "w")
    sys.stdout = io.StringIO()  # metrics
    if name == ROUTER:
        call = bench_step.litellm_router(port)
    else:
        exec(ready("run_step"), {})  # noqa: S102
        call = bench_step.step(port)
    at_start, before = resident(), set(sys.modules)
    call()
    late = [
        module
        for module in set(sys.modules) - before
        if "site-packages" in (getattr(sys.modules[module], "__file__", "") or "")
    ]
    for _ in range(CALLS):
        call()
    print(json.dumps({"ready": at_start, "warm": resident(), "late": sorted(late)}), file=out, flush=True)


def resident() -> float:
    """The most this process has had in memory, MB."""
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most / (1e6 if sys.platform == "darwin" else 1e6 / 1024)


def memories(sdk: Path, rounds: int) -> harness.Figures:
    """Memory when ready and when warm, in turn."""
    figures: harness.Figures = {}
    path = os.pathsep.join(map(str, (ROOT / "functions" / "run_step", ROOT / "shared", sdk, HERE)))
    with bench_step.provider() as port:
        for _ in range(rounds):
            for name, python in (("run_step", harness.PLAIN), (ROUTER, harness.LITELLM)):
                worker = harness.Worker(
                    python, __file__, "--remember", name, str(port), environment={**ENVIRONMENT, "PYTHONPATH": path}
                )
                worker.close()
                if name != ROUTER and worker.hello["late"]:
                    raise SystemExit(f"{name} was not ready: its first call loaded {worker.hello['late']}")
                for when in ("ready", "warm"):
                    figures.setdefault(f"{name}, {when}", []).append(worker.hello[when])
    return figures


# Size


def megabytes(*folders: Path) -> float:
    """Megabytes (10^6) of files, bytecode left out."""
    files: Iterator[Path] = (file for folder in folders for file in folder.rglob("*") if file.is_file())
    return sum(file.stat().st_size for file in files if file.suffix != ".pyc") / 1e6


def site_packages() -> Path:
    """Where the plain environment keeps its libraries."""
    command = [str(harness.PLAIN), "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"]
    return Path(subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip())


def main() -> None:
    """Measure, and publish."""
    parser = harness.arguments(__doc__, rounds=9)
    parser.add_argument("--remember", nargs=2)
    options = harness.parse(parser)
    if options.remember:
        remember(options.remember[0], int(options.remember[1]))
        return
    sys.path[:0] = [str(ROOT / name) for name in ("tests", "cli")]
    from template import emulator

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        sdk = layers_sdk(folder)
        started = harness.table(
            "A fresh process until it is ready, processor time", "ms", startups(sdk, options.rounds), SUM
        )
        memory = harness.table("Most memory resident", "MB", memories(sdk, min(3, options.rounds)), f"{ROUTER}, warm")
        tables = [started, memory]
        layer, runtime = emulator.build(folder)
        deployed = harness.round_to(
            megabytes(layer, *(emulator.build_function(function, folder) for function in FUNCTIONS))
        )
        plain = folder / "plain"
        plain.mkdir()
        for package in ("boto3", "botocore", "s3transfer", "httpx", "anyio", "idna"):  # all of it plain Python
            shutil.copytree(site_packages() / package, plain / package, ignore=shutil.ignore_patterns("*.pyc"))
        measured = inits([layer, runtime], plain, folder, options.rounds)
        tables.append(harness.table("Init in Lambda's emulator", "ms", measured, SUM))
    router = harness.round_to(harness.installed_mb(harness.LITELLM, "litellm"))
    rows = [
        harness.value("run_step ready, times the libraries plainly", harness.ratio(started, "run_step"), "x", 0.7),
        harness.value("run_step ready, times LiteLLM's Router", harness.ratio(started, "run_step", ROUTER), "x", 0.143),
        harness.value(
            "run_step's init with its clients in the emulator, times the libraries plainly",
            harness.ratio(tables[-1], "run_step, with its clients"),
            "x",
        ),
        harness.value(
            "memory of a warm run_step, times the Router's", harness.ratio(memory, "run_step, warm"), "x", 0.5
        ),
        harness.value("layer and functions, unzipped, for both architectures", deployed, "MB"),
        harness.value("LiteLLM and what it requires, installed", router, "MB"),
        harness.value("layer and functions, times LiteLLM", harness.round_to(deployed / router), "x", 0.1),
    ]
    packages = ("boto3", "httpx", "pydantic", "aws-lambda-powertools")
    versions = {**harness.versions(harness.PLAIN, *packages), **harness.versions(harness.LITELLM, "litellm")}
    harness.publish("startup", "Start-up, memory and size", tables, rows, versions, options.short)


if __name__ == "__main__":
    main()
