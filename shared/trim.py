"""Cut what pip fetched for the layer down to what functions read: `python trim.py FOLDER` (the Makefile calls it).

Less to fetch and to unpack at a cold start, and less for botocore to read: on their way to a client its models and its
table of endpoints are what takes the time. tests/template/test_layer.py holds this file against the code.
"""

from __future__ import annotations

import gzip
import json
import shutil
import sys
from pathlib import Path

SERVICES = (
    *("bedrock", "bedrock-runtime", "dynamodb", "events"),
    *("lambda", "s3", "secretsmanager", "stepfunctions"),
)
"""The services of which functions make clients, by botocore's names."""
UNREAD = (
    "bin",  # commands
    "**/tests",
    "jsonschema/benchmarks",
    "**/*.c",  # sources of what is compiled
    "**/*.pyi",
    "**/*.dist-info/RECORD",  # lists the files that were there
    "wrapt/**/*.so",  # which only the X-Ray SDK uses; it does without
    "botocore/cacert.pem",  # botocore takes certifi's
    "botocore/data/*/*/examples-1.json",
    "dateutil/zoneinfo/*.tar.gz",  # time zones: botocore knows UTC and the system's
    "pydantic/v1",
    "aws_lambda_powertools/utilities/auth_alpha",
    "aws_lambda_powertools/utilities/batch",
    "aws_lambda_powertools/utilities/circuit_breaker",
    "aws_lambda_powertools/utilities/data_masking",
    "aws_lambda_powertools/utilities/feature_flags",
    "aws_lambda_powertools/utilities/idempotency",
    "aws_lambda_powertools/utilities/kafka",
    "aws_lambda_powertools/utilities/parameters",
    "aws_lambda_powertools/utilities/parser",
    "aws_lambda_powertools/utilities/streaming",
)
"""Files and folders that no function reads, as patterns."""
COMPRESSED = (
    "aws_lambda_powertools/event_handler/openapi/swagger_ui/*.css",
    "aws_lambda_powertools/event_handler/openapi/swagger_ui/*.js",
)
"""Files that the layer holds as `.gz`, and `loopllama.api.openapi` reads so."""


def trim(folder: Path) -> None:
    """Cut down the packages in `folder`."""
    for pattern in UNREAD:
        for path in sorted(folder.glob(pattern)):
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)  # may lie in a folder that is gone
    for pattern in COMPRESSED:
        for path in folder.glob(pattern):
            _compress(path.with_name(path.name + ".gz"), path.read_bytes())
            path.unlink()
    trim_sdk(folder / "botocore" / "data")


def trim_sdk(data: Path) -> None:
    """Leave of botocore's data the services in use, each in its newest version and without its documentation, and
    the endpoints of these."""
    prefixes = set()
    for service in [path for path in data.iterdir() if path.is_dir()]:
        if service.name not in SERVICES:
            shutil.rmtree(service)
            continue
        *old, newest = sorted(service.iterdir())
        for version in old:
            shutil.rmtree(version)
        path = newest / "service-2.json.gz"
        model = json.loads(gzip.decompress(path.read_bytes()))
        prefixes.add(model["metadata"]["endpointPrefix"])
        _compress(path, json.dumps(_undocumented(model), separators=(",", ":")).encode())
    table = data / "endpoints.json"
    endpoints = json.loads(table.read_text("utf-8"))
    for partition in endpoints["partitions"]:
        services = partition["services"]
        partition["services"] = {name: services[name] for name in services if name in prefixes}
    table.write_text(json.dumps(endpoints, separators=(",", ":")), "utf-8")


def _undocumented(value: object) -> object:
    """Return a model with its texts empty, not left out: botocore asks for some of them. A shape's member may be called
    `documentation` too; that one is an object."""
    if isinstance(value, dict):
        return {
            name: "" if name == "documentation" and isinstance(inner, str) else _undocumented(inner)
            for name, inner in value.items()
        }
    return [_undocumented(inner) for inner in value] if isinstance(value, list) else value


def _compress(path: Path, content: bytes) -> None:
    path.write_bytes(gzip.compress(content, mtime=0))  # no time: what is built twice is the same


if __name__ == "__main__":
    trim(Path(sys.argv[1]))
