"""What `loopllama local` runs: a local stack served until it is stopped."""

from __future__ import annotations

import hashlib
import json
import secrets
import signal
import string
import sys
import threading
from datetime import UTC, datetime

from loopllama_cli.local.handle import LocalStack, LocalStackError

KEY_PREFIX = "ll_live_"
_ALPHABET = string.ascii_letters + string.digits


def serve(api_port: int, aws_port: int, simulate: bool = True) -> int:
    """Serve the project's stack until Ctrl-C, SIGTERM or the end of the process; returns the exit code.

    Prints one line of JSON on standard output once ready: `api`, `aws_endpoint_url`, `api_key`, `outputs`. Everything
    else goes to standard error.
    """
    from loopllama_cli.project import project_root

    ended = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: ended.set())
    try:
        with LocalStack(project_root(), api_port=api_port, aws_port=aws_port, simulate=simulate) as stack:
            ready = {
                "api": stack.api_url,
                "aws_endpoint_url": stack.aws_endpoint_url,
                "api_key": create_key(stack),
                "outputs": stack.outputs,
            }
            sys.stdout.write(json.dumps(ready) + "\n")
            sys.stdout.flush()
            while not ended.wait(0.5):
                if not stack.running:
                    raise LocalStackError("the local stack ended by itself; the lines above may say why")
    except LocalStackError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


def create_key(stack: LocalStack, name: str = "local") -> str:
    """Make an API key: the key itself is returned once, the ApiKeys table gets its SHA-256 hash."""
    import boto3

    key = KEY_PREFIX + "".join(secrets.choice(_ALPHABET) for _ in range(40))
    created = datetime.now(tz=UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    item = {
        "key_hash": hashlib.sha256(key.encode()).hexdigest(),
        "prefix": key[:12],
        "name": name,
        "created_at": created,
    }
    session = boto3.Session(aws_access_key_id="local", aws_secret_access_key="local", region_name=stack.region)  # noqa: S106
    table = session.resource("dynamodb", endpoint_url=stack.aws_endpoint_url).Table(stack.outputs["ApiKeysTableName"])
    table.put_item(Item=item)
    return key
