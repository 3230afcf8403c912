"""The product as an AWS account, and stacks in it that are broken on purpose."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
from support.doctor import PLENTY, SMALL, USABLE, Answers, applied
from support.loopback import Handler, serving

from loopllama.aws import clients


@pytest.fixture(scope="module")
def product(tidy_product: Any) -> Any:
    """The product in which no test has left a workflow or model that is wrong."""
    return tidy_product


@pytest.fixture(autouse=True)
def account(product: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """The local stack as an AWS account, found by what a person's environment says."""
    for name in [name for name in os.environ if name.startswith(("AWS_", "LOOPLLAMA_"))]:
        monkeypatch.delenv(name)
    for name, value in {
        **product.stack.environment(),
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "AWS_MAX_ATTEMPTS": "1",
    }.items():
        monkeypatch.setenv(name, value)
    clients.client.cache_clear()
    yield
    clients.client.cache_clear()


@pytest.fixture
def stack(product: Any) -> Iterator[Callable[..., str]]:
    """Make a stack of the product's parts, and of other resources; `changes` to its outputs, `simulated` and `default`
    as its parameters. Returns its name."""
    made: list[str] = []
    client = product.client("cloudformation")

    def make(simulated: str, resources: dict[str, Any] | None = None, default: str = "small", **changes: str) -> str:
        name = f"doctor-{len(made)}"
        template = {
            "Parameters": {name: {"Type": "String"} for name in ("SimulatedProviders", "DefaultModel")},
            "Resources": {"Queue": {"Type": "AWS::SQS::Queue"}, **(resources or {})},
            "Outputs": {key: {"Value": value} for key, value in {**product.outputs, **changes}.items()},
        }
        given = {"SimulatedProviders": simulated, "DefaultModel": default}
        client.create_stack(
            StackName=name,
            TemplateBody=json.dumps(template),
            Parameters=[{"ParameterKey": key, "ParameterValue": value} for key, value in given.items()],
        )
        made.append(name)
        return name

    yield make
    for name in made:
        client.delete_stack(StackName=name)


@pytest.fixture
def answering(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str, Answers], list[str]]]:
    """Have one AWS service answered by a function; returns what is asked."""
    with contextlib.ExitStack() as stack:

        def start(service: str, answers: Answers) -> list[str]:
            asked: list[str] = []

            class Service(Handler):
                def serve(self) -> None:
                    body, operation = self.body(), self.headers.get("X-Amz-Target", "").rpartition(".")[2]
                    given = f"{operation} {bytes(body).decode()}" if operation else unquote(self.path)
                    asked.append(given)
                    status, answer = answers(given)
                    kind = {"x_amzn_errortype": answer["__type"]} if "__type" in answer else {}
                    self.answer(status, answer if isinstance(answer, str) else json.dumps(answer), **kind)

            monkeypatch.setenv(f"AWS_ENDPOINT_URL_{service}", stack.enter_context(serving(Service)))
            return asked

        yield start


@pytest.fixture
def bedrock(answering: Any) -> Callable[..., list[str]]:
    """Let Bedrock have inference profiles, and say of each foundation model what `said` has; others are usable."""

    def start(said: dict[str, Any] | None = None, profiles: tuple[str, ...] = ()) -> list[str]:
        listed = {"inferenceProfileSummaries": [{"inferenceProfileId": p, "status": "ACTIVE"} for p in profiles]}

        def answers(path: str) -> tuple[int, Any]:
            if path.startswith("/inference-profiles?"):
                return 200, listed
            if path.startswith("/foundation-models"):
                return 200, {"modelSummaries": [{"modelId": SMALL, "modelArn": "x"}] * 3}
            return 200, (said or {}).get(path.rpartition("/")[2], USABLE) if "availability" in path else {}

        asked: list[str] = answering("BEDROCK", answers)
        return asked

    return start


@pytest.fixture
def quotas(answering: Any) -> Callable[..., None]:
    """Answer as Service Quotas: by default more than enough."""
    answering("SERVICE_QUOTAS", applied(*PLENTY))
    return lambda *given: answering("SERVICE_QUOTAS", applied(*given))
