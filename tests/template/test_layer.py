"""The layer's own botocore: what `shared/trim.py` leaves of it is what functions use, all of it and nothing else."""

from __future__ import annotations

import ast
import importlib.util
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import botocore
import botocore.session
import pytest
from botocore.loaders import Loader
from botocore.validate import ParamValidator
from template.project import ROOT

from loopllama.llm.types import Message, ModelRequest, ToolCall, ToolSpec
from loopllama.providers.bedrock import converse

DATA = Path(botocore.__file__).parent / "data"
CODE = [*(ROOT / "shared/loopllama").rglob("*.py"), *(ROOT / "functions").rglob("*.py")]


def trimmer() -> Any:
    """The script that the layer's Makefile calls, as a module."""
    spec = importlib.util.spec_from_file_location("trim", ROOT / "shared/trim.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


TRIM = trimmer()


def session(data: Path | None = None) -> Any:
    """A session of botocore, with the data in a folder instead of its own. It reads the files itself: the
    models that the tests of a process share (conftest.py) are changed by calls of S3, from which botocore takes the
    bucket out of the address."""
    made = botocore.session.Session()
    made.set_credentials("key", "secret")
    loader = Loader(extra_search_paths=[str(data)], include_default_search_paths=False) if data else Loader()
    made.register_component("data_loader", loader)
    return made


@pytest.fixture(scope="module")
def trimmed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """botocore's data as the layer has it, made of the locked version's; a service that nobody uses was among it."""
    data = tmp_path_factory.mktemp("botocore") / "data"
    others = {path.name for path in DATA.iterdir() if path.is_dir()} - {*TRIM.SERVICES, "sqs"}
    shutil.copytree(DATA, data, ignore=lambda folder, _: others if Path(folder) == DATA else ())
    TRIM.trim_sdk(data)
    return data


def services(path: Path) -> Iterator[str]:
    """The services of which a module makes clients, by the names in it."""
    for node in ast.walk(ast.parse(path.read_text())):
        if not isinstance(node, ast.Call):
            continue
        name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        if name in ("client", "create_client", "resource") and (node.args or node.keywords):
            service = node.args[0] if node.args else None
            assert isinstance(service, ast.Constant), f"{path}:{node.lineno}: a client whose service no test can read"
            yield str(service.value)


def test_the_layer_has_the_services_that_functions_use_and_no_other(trimmed: Path) -> None:
    used = {service for path in CODE for service in services(path)}
    assert sorted(used) == sorted(TRIM.SERVICES)
    assert {path.name for path in trimmed.iterdir() if path.is_dir()} == used
    for service in used:
        newest = max(path.name for path in (DATA / service).iterdir())
        assert [path.name for path in (trimmed / service).iterdir()] == [newest]


def test_a_client_of_an_unknown_service_would_be_noticed(tmp_path: Path) -> None:
    module = tmp_path / "module.py"
    module.write_text("aws.client('sqs', attempts=1)\ncontext.aws.client('sns')\n")
    assert list(services(module)) == ["sqs", "sns"]
    module.write_text("aws.client(name)")
    with pytest.raises(AssertionError, match="no test can read"):
        list(services(module))


@pytest.mark.parametrize("service", TRIM.SERVICES)
def test_its_clients_are_those_of_the_whole_botocore(trimmed: Path, service: str) -> None:
    whole, cut = session(), session(trimmed)
    regions = {
        region
        for partition in whole.get_available_partitions()
        for region in whole.get_available_regions("ec2", partition)
    }
    assert len(regions) > 30
    for region in sorted(regions):
        ours, theirs = (one.create_client(service, region_name=region) for one in (cut, whole))
        assert ours.meta.endpoint_url == theirs.meta.endpoint_url
        assert ours.meta.config.signature_version == theirs.meta.config.signature_version
        assert ours._request_signer.signing_name == theirs._request_signer.signing_name
        assert ours._request_signer.region_name == theirs._request_signer.region_name
    assert said(ours.meta.service_model) == said(theirs.meta.service_model)
    for name in ours.meta.method_to_api_mapping:
        assert ours.can_paginate(name) == theirs.can_paginate(name)


def said(model: Any) -> dict[str, Any]:
    """What a service's model says of its operations and of the shapes of what they take and give."""
    operations = [model.operation_model(name) for name in model.operation_names]
    shapes = {name: model.shape_for(name) for name in model.shape_names}
    return {
        "metadata": model.metadata,
        "context": [(one.name, one.type) for one in model.client_context_parameters],
        "operations": {
            one.name: (one.http, *(shape and shape.name for shape in (one.input_shape, one.output_shape)))
            for one in operations
        },
        "shapes": {
            name: (
                shape.type_name,
                shape.metadata,
                {member: (one.name, one.serialization) for member, one in getattr(shape, "members", {}).items()},
            )
            for name, shape in shapes.items()
        },
    }


def test_it_knows_all_that_converse_is_asked(trimmed: Path) -> None:
    tool = ToolSpec("look_up", "Looks it up.", {"type": "object"})
    asked = ToolCall("1", "look_up", {"order": 4711}, '{"order": 4711}')
    schema = {"type": "object", "properties": {"answer": {"type": "string"}}}
    options = {
        "guardrailConfig": {"guardrailIdentifier": "g", "guardrailVersion": "1"},
        "performanceConfig": {"latency": "optimized"},
        "serviceTier": {"type": "flex"},
        "additionalModelRequestFields": {"thinking": {"type": "enabled"}},
        "additionalModelResponseFieldPaths": ["/stop"],
        "requestMetadata": {"team": "a"},
        "promptVariables": {"name": {"text": "x"}},
        "inferenceConfig": {"topP": 0.5, "stopSequences": ["end"]},
    }
    call = ModelRequest(
        output_schema=schema,
        catalog_id="claude-sonnet-4-5",
        model="anthropic.claude-sonnet-4-5-20250929-v1:0",
        system="You help.",
        messages=(Message("user", "Where?"), Message("assistant", "", (asked,)), Message("tool", "Here.", (), "1")),
        tools=(tool,),
        forced_tool="look_up",
        max_tokens=100,
        temperature=0.5,
        prompt_cache=True,
        options=options,
        timeout=10,
    )
    arguments = converse.request(call)
    assert {"outputConfig", "serviceTier", "toolConfig", "system", "inferenceConfig"} <= set(arguments)
    client = session(trimmed).create_client("bedrock-runtime", region_name="us-east-1")
    shape = client.meta.service_model.operation_model("Converse").input_shape
    assert not ParamValidator().validate(arguments, shape).generate_report()


def test_a_build_without_lambdas_python_says_what_that_costs(tmp_path: Path) -> None:
    folder = tmp_path / "shared"
    shutil.copytree(ROOT / "shared", folder, ignore=shutil.ignore_patterns("__pycache__"))
    pip = tmp_path / "pip"
    pip.write_text('#!/bin/sh\nwhile [ $# -gt 1 ]; do [ "$1" = --target ] && mkdir -p "$2/made"; shift; done\n')
    pip.chmod(0o755)

    def build(python: str) -> str:
        command = ["make", "build-SharedLayer", f"ARTIFACTS_DIR={tmp_path / 'built'}", f"PYTHON={pip}"]
        done = subprocess.run([*command, f"LAMBDA_PYTHON={python}"], cwd=folder, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout  # which `sam build` shows

    assert "each cold start takes about three times as long" in build("")
    assert "times as long" not in build("true")
