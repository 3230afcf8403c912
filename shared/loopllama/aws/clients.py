"""AWS clients, made once per process and service."""

from __future__ import annotations

import os
import threading
from functools import cache, lru_cache
from typing import Any

DEFAULT_REGION = "us-east-1"
"""Where nothing says which region is meant."""

_LINKS: dict[str, Any] = {
    "signature_version": "s3v4",
    "s3": {"addressing_style": "virtual", "us_east_1_regional_endpoint": "regional"},
}
"""How S3's signed links are made. Left alone, botocore signs by Signature Version 2 for the global endpoint in most
regions. That endpoint redirects to the region of a bucket until its name is known everywhere, and the signature is not
for that host (SignatureDoesNotMatch). What is encrypted by a key of KMS needs Version 4 anyway.
https://docs.aws.amazon.com/AmazonS3/latest/userguide/Redirects.html,
https://docs.aws.amazon.com/AmazonS3/latest/userguide/UsingKMSEncryption.html,
github.com/boto/boto3, issue 4651 and pull request 4768"""


def region() -> str:
    """Return the region that this process works in: a function's own; on the command line that of the chosen stack,
    which `loopllama_cli.target` puts into the environment."""
    return os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION") or DEFAULT_REGION


@cache
def client(service: str, *, read_seconds: float = 60, attempts: int = 4, region: str | None = None) -> Any:
    """Return the low-level client of a service, by botocore's name for it. Credentials, endpoint and, unless it is
    given, the region come from the environment. `read_seconds` bounds the silence before and within an answer,
    `attempts` counts the first one."""
    from botocore.config import Config

    config = Config(
        connect_timeout=min(10, read_seconds),
        read_timeout=read_seconds,
        retries={"mode": "standard", "total_max_attempts": attempts},
        tcp_keepalive=True,
        **(_LINKS if service == "s3" else {}),
    )
    with _making:
        # The stubs know every service by a literal name; ours is a variable.
        make: Any = _session(_environment()).create_client
        return make(service, region_name=region, config=config)


def credentials() -> Any:
    """Return the AWS credentials of this process as they are now, a function's role's for one: `access_key`,
    `secret_key`, `token`. Those that are about to end are replaced first. `None` where there are none; raises
    botocore's `BotoCoreError` where they cannot be had."""
    with _making:
        found = _session(_environment()).get_credentials()
    return None if found is None else found.get_frozen_credentials()


def endpoint(service: str, otherwise: str) -> str:
    """Return a service's address where the environment names one, as the SDK reads it: `service` is the name in
    AWS_ENDPOINT_URL_<service>."""
    named = os.environ.get(f"AWS_ENDPOINT_URL_{service}") or os.environ.get("AWS_ENDPOINT_URL")
    return (named or otherwise).rstrip("/")


def _environment() -> tuple[tuple[str, str], ...]:
    return tuple(sorted(variable for variable in os.environ.items() if variable[0].startswith("AWS_")))


@lru_cache(maxsize=1)
def _session(environment: tuple[tuple[str, str], ...]) -> Any:  # noqa: ARG001 - other credentials, another session
    """Return the session of clients, botocore's own: boto3 around it would add a seventh to the time to the first
    client (benchmarks/bench_startup.py). `environment` is what the SDK may read of it."""
    from pathlib import Path

    import botocore.session

    session = botocore.session.get_session()
    loader = session.get_component("data_loader")

    def services(type_name: str) -> list[str]:  # noqa: ARG001 - named by some of its callers
        folders = [folder for path in loader.search_paths if (folder := Path(path)).is_dir()]
        return [entry.name for folder in folders for entry in folder.iterdir()]

    # botocore's own looks into each of 400 folders for the file that it is asked for: some 4,000 calls of the system,
    # only to say which services it would have known.
    loader.list_available_services = services
    return session


_making = threading.Lock()  # a session is not to be used by several threads at once
