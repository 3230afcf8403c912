"""`loopllama local`: the local stack, served until stopped."""

from __future__ import annotations

from typing import Annotated

import typer

from .common import read_parameters


def local(
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
) -> None:
    """Serve the whole stack on this machine, without Docker or an AWS account, until Ctrl-C.

    Once ready it prints one line of JSON: addresses, an API key and the stack's outputs.
    """
    from loopllama_cli.local import serve

    raise typer.Exit(serve(api_port, aws_port, simulate, read_parameters(parameter)) or 0)
