"""`loopllama local`: the local stack, served until stopped."""

from __future__ import annotations

from typing import Annotated

import typer


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
) -> None:
    """Serve the whole stack on this machine, without Docker or an AWS account, until Ctrl-C.

    Once ready it prints one line of JSON: addresses, an API key and the stack's outputs.
    """
    from loopllama_cli.local import serve

    raise typer.Exit(serve(api_port=api_port, aws_port=aws_port, simulate=simulate) or 0)
