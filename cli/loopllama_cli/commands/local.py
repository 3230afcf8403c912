"""`loopllama local`: the local stack, served until stopped."""

from __future__ import annotations

from typing import Annotated

import typer

from loopllama_cli.commands.common import Tools, read_parameters
from loopllama_cli.local.handle import MAX_FUNCTIONS
from loopllama_cli.target import local_credentials, local_url


def local(
    ctx: typer.Context,
    api_port: Annotated[int, typer.Option(min=0, max=65535, help="Port of the HTTP API; 0 takes a free one.")] = 4600,
    aws_port: Annotated[int, typer.Option(min=0, max=65535, help="Port of the AWS APIs; 0 takes a free one.")] = 4599,
    simulate: Annotated[
        bool,
        typer.Option(
            "--simulate/--no-simulate",
            help="Let the simulated provider stand in for models whose provider has no key here; otherwise refuse.",
        ),
    ] = True,
    parameter: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=VALUE", help="A parameter of the template; `@FILE` for a file's content. Repeatable."
        ),
    ] = None,
    tools: Tools = None,
    tool: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=FILE.py:HANDLER",
            help="A tool that is a Lambda function of yours, run from this file as on AWS. Repeatable.",
        ),
    ] = None,
    concurrency: Annotated[
        int,
        typer.Option(
            min=1, max=MAX_FUNCTIONS, help="Functions that run at once; 10 is what a new AWS account may run."
        ),
    ] = MAX_FUNCTIONS,
    export: Annotated[
        bool,
        typer.Option(
            "--export",
            help="Start nothing; print the shell's lines with which the AWS CLI and SDKs reach the stack that runs.",
        ),
    ] = False,
) -> None:
    """Serve the whole stack on this machine, without Docker or an AWS account, until Ctrl-C.

    Once ready it prints one line of JSON: addresses, an API key, AWS credentials and the stack's outputs. The AWS APIs
    answer only to these credentials, which are new at each start, and to no web page.
    """
    from loopllama.tools.store import checked
    from loopllama_cli import tool_files, tool_functions
    from loopllama_cli.local import exports, serve

    if export:
        url = local_url(ctx.obj.local)
        typer.echo(exports(url, local_credentials(url)), nl=False)
        return
    parameters, definitions = read_parameters(parameter), tool_files.load(tools) if tools else {}
    functions, definitions = tool_functions.read(tool, definitions)
    checked(definitions)
    raise typer.Exit(serve(api_port, aws_port, simulate, parameters, definitions, concurrency, functions) or 0)
