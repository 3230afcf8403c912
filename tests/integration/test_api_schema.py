"""schemathesis against the OpenAPI document: no server error, and no answer that the document does not tell of."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.api_client import Client

pytest.importorskip("schemathesis", reason="schemathesis is not installed")

CHECKS = [
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
    "unsupported_method",
    "missing_required_header",
    "ignored_auth",
]
EXAMPLES = 8


TABLES = {
    "WorkflowsTableName": ("workflow_id", "version"),
    "RoutesTableName": ("workflow", "step"),
    "ModelsTableName": ("model",),
}


def _keys(product: Any, output: str, names: tuple[str, ...]) -> list[dict[str, Any]]:
    pages = product.client("dynamodb").get_paginator("scan").paginate(TableName=product.outputs[output])
    return [{name: item[name] for name in names} for page in pages for item in page["Items"]]


@pytest.fixture(autouse=True)
def _leaves_nothing(product: Any) -> Iterator[None]:
    """Other tests of this process have the same stack, and `doctor` would look into what was made up here."""
    before = {output: _keys(product, output, names) for output, names in TABLES.items()}
    yield
    for output, names in TABLES.items():
        for key in _keys(product, output, names):
            if key not in before[output]:
                product.client("dynamodb").delete_item(TableName=product.outputs[output], Key=key)


@pytest.mark.parametrize("phase", ["fuzzing", "stateful"])
def test_answers_follow_the_document(api: Client, tmp_path: Path, phase: str) -> None:
    command = [sys.executable, "-c", "from schemathesis.cli import schemathesis; schemathesis()"]
    command += ["run", f"{api.url}/openapi.json", "-H", f"Authorization: Bearer {api.key}", "--phases", phase]
    command += ["--checks", ",".join(CHECKS), "--max-examples", str(EXAMPLES), "--seed", "1", "--no-color"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    assert "Tested:" in done.stdout
