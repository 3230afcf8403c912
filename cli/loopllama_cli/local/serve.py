"""What `loopllama local` runs: a local stack served until it is stopped."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from loopllama_cli.local.credentials import Credentials
from loopllama_cli.local.handle import MAX_FUNCTIONS, LocalStack, LocalStackError, aws_environment


def serve(
    api_port: int,
    aws_port: int,
    simulate: bool = True,
    parameters: Mapping[str, str] | None = None,
    tools: Mapping[str, Any] | None = None,
    concurrency: int = MAX_FUNCTIONS,
    tool_functions: Mapping[str, Sequence[str]] | None = None,
) -> int:
    """Serve the project's stack until Ctrl-C, SIGTERM or the end of the process; returns the exit code. `parameters`
    are the template's, `tools` definitions by name; `concurrency` functions run at once, among them
    `tool_functions`: name to folder and handler.

    Prints one line of JSON on standard output once ready: `api`, `aws_endpoint_url`, `api_key`, `aws_access_key_id`,
    `aws_secret_access_key`, `outputs`. Everything else goes to standard error.
    """
    from loopllama_cli.project import project_root
    from loopllama_cli.target import DEFAULT_LOCAL_URL

    ended = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: ended.set())
    try:
        # Here nobody pays for requests, and one key serves everything that somebody tries out.
        with LocalStack(
            project_root(),
            {"RequestsPerSecond": "10000", **(parameters or {})},
            api_port,
            aws_port,
            simulate=simulate,
            concurrency=concurrency,
            tool_functions=tool_functions,
        ) as stack:
            if tools:
                define(stack, tools)
            ready = {
                "api": stack.api_url,
                "aws_endpoint_url": stack.aws_endpoint_url,
                "api_key": create_key(stack),
                **stack.credentials.as_json(),
                "outputs": stack.outputs,
            }
            sys.stdout.write(json.dumps(ready) + "\n")
            sys.stdout.flush()
            url = stack.aws_endpoint_url
            flag = "" if url == DEFAULT_LOCAL_URL else f" --local {url}"
            sys.stderr.write(welcome(stack.api_url, flag))
            sys.stderr.write(
                f"What the AWS CLI and SDKs need in another terminal, as `loopllama local --export{flag}` prints it:\n"
                + exports(url, stack.credentials)
            )
            while not ended.wait(0.5):
                if not stack.running:
                    raise LocalStackError("the local stack ended by itself; the lines above may say why")
    except LocalStackError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


def welcome(api_url: str, flag: str) -> str:
    """Return what to type once the stack is ready, by the name that this program was called by."""
    called = Path(sys.argv[0])
    program = str(called) if called.name == "loopllama" and len(called.parts) > 1 else "loopllama"
    if len(relative := os.path.relpath(program)) < len(program):
        program = relative
    local = flag or " --local"
    return (
        f"Ready: {api_url} (the API's documentation: {api_url}/docs). In another terminal:\n"
        f"  {program} init desk\n"
        f"  {program} workflows push desk/workflow.yaml{local}\n"
        f"  {program} run desk --input @desk/input.txt{local}\n"
        "Ctrl-C stops it.\n"
    )


def exports(url: str, credentials: Credentials) -> str:
    """Return the shell's lines with which the AWS CLI and every SDK reach a local stack."""
    given = {name: value for name, value in aws_environment(url, credentials).items() if value}
    return (
        f"export {' '.join(f'{name}={value}' for name, value in given.items())}\nunset AWS_SESSION_TOKEN AWS_PROFILE\n"
    )


def create_key(stack: LocalStack) -> str:
    """Make an API key of the stack, named `local`."""
    from loopllama.api.auth import KeyStore
    from loopllama.settings import Settings

    key, _ = KeyStore(Settings(api_keys_table=stack.outputs["ApiKeysTableName"]), _dynamodb(stack)).create("local")
    return key


def define(stack: LocalStack, tools: Mapping[str, Any]) -> None:
    """Write definitions of tools, by name, into the stack's table. Raises `ToolInvalid`."""
    from loopllama.settings import Settings
    from loopllama.tools.store import ToolStore

    store = ToolStore(Settings(tools_table=stack.outputs["ToolsTableName"]), _dynamodb(stack))
    store.write(tools, updated_by="local", reason="given when the stack was started")


def _dynamodb(stack: LocalStack) -> Any:
    import boto3

    make_session: Any = boto3.Session
    session = make_session(**stack.credentials.as_json(), region_name=stack.region)
    return session.client("dynamodb", endpoint_url=stack.aws_endpoint_url)
