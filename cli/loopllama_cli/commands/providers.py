"""`loopllama providers`: the keys of model providers, in Secrets Manager."""

from __future__ import annotations

import json
import re
import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from loopllama.aws import clients
from loopllama.core.names import meant
from loopllama.errors import InvalidRequest
from loopllama.settings import Settings
from loopllama_cli import completion
from loopllama_cli.commands.common import Json, connect, read_text
from loopllama_cli.console import output
from loopllama_cli.target import next_command

if TYPE_CHECKING:
    from loopllama.catalog.providers import Known

app = typer.Typer(no_args_is_help=True, help="Keys of model providers: list, set.")
_MAX_KEY = 4096


@app.command("list")
def list_(ctx: typer.Context, as_json: Json = False) -> None:
    """List the providers and whether each has a key. Keys are never shown."""
    from loopllama.catalog.model import PROVIDERS
    from loopllama.catalog.providers import KNOWN, Known

    settings = connect(ctx).settings
    stored = _stored(settings)
    records: list[dict[str, Any]] = [
        {
            "provider": name,
            "key": _key(KNOWN.get(name, Known()), stored=name in stored),
            "secret": settings.provider_secrets_prefix + name,
            "simulated": "*" in settings.simulated_providers or name in settings.simulated_providers,
        }
        for name in sorted({*PROVIDERS, *stored})
    ]
    if as_json:
        output.print_json(records)
        return
    table = output.table("Provider", "Key", "Secret", "Answered by")
    for record in records:
        key = "not needed" if record["key"] == "keyless" else record["key"]
        by = "a simulated stand-in" if record["simulated"] else "the provider"
        table.add_row(output.plain(record["provider"]), key, output.plain(record["secret"]), by)
    output.print_table(table, output.out())


@app.command("set")
def set_(
    ctx: typer.Context,
    provider: Annotated[
        str,
        typer.Argument(
            metavar="NAME", help="The provider: openai, anthropic, google, …", autocompletion=completion.providers
        ),
    ],
    base_url: Annotated[
        str | None,
        typer.Option(metavar="URL", help="Where the key is sent, for servers of your own; the provider's by default."),
    ] = None,
    dialect: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="What a server of your own speaks: openai, openai-responses, azure or anthropic."
        ),
    ] = None,
    api_version: Annotated[str | None, typer.Option(metavar="TEXT", help="Azure's api-version.")] = None,
) -> None:
    """Store a provider's key in Secrets Manager.

    The key is asked for without echo, or read from standard input: it never stands on the command line. Its host is
    stored with it, so that nobody who can only edit a table can send it elsewhere. A server of your own that asks for
    no key needs none: enter nothing.
    """
    from loopllama.catalog.providers import KNOWN, is_own_server

    known = KNOWN.get(provider)
    if known is not None and known.by_role:
        raise InvalidRequest(f"{provider} needs no key: the functions' role may call it")
    if not re.fullmatch(r"[a-z0-9][a-z0-9_-]{0,63}", provider):
        raise InvalidRequest(f"{provider!r} is not a valid provider name: a-z, 0-9, _ and -, at most 64")
    own = is_own_server(provider)
    target = connect(ctx)
    if base_url is None and (known is None or not known.base_url or (known.local_server and not target.local)):
        having = ", ".join(sorted(name for name in KNOWN if KNOWN[name].base_url and not KNOWN[name].local_server))
        raise InvalidRequest(
            f"{provider} has no address of its own here; give it one: "
            f"{next_command('providers set', provider)} --base-url https://… "
            f"(providers that have one: {having}){meant(provider, KNOWN)}"
        )
    if base_url is not None and not base_url.startswith(("https://", "http://")):
        raise InvalidRequest(
            f"--base-url {base_url!r} is not valid: write https://… (or http://… for a server of your own)"
        )
    name = target.settings.provider_secrets_prefix + provider
    key = _read_key(provider, optional=own)
    given = {"api_key": key, "base_url": base_url, "dialect": dialect, "api_version": api_version}
    if known is not None and own:
        given["base_url"] = base_url or known.base_url
    secret = {name: value for name, value in given.items() if value}
    _store(name, json.dumps(secret))
    where = base_url or f"{provider}'s own host"
    output.message(f"Stored as {name}; sent to {where} only. Functions that run already keep the old key a while.")


def _store(name: str, text: str) -> None:
    """Write a secret, whether it is there, is not, or was deleted within 30 days, as by `loopllama destroy`."""
    secrets = clients.client("secretsmanager")
    try:
        secrets.create_secret(Name=name, SecretString=text)
        return
    except (secrets.exceptions.ResourceExistsException, secrets.exceptions.InvalidRequestException):
        pass  # it is there, or waits to be deleted
    if "DeletedDate" in secrets.describe_secret(SecretId=name):
        secrets.restore_secret(SecretId=name)
    secrets.put_secret_value(SecretId=name, SecretString=text)


def _key(known: Known, *, stored: bool) -> str:
    """Return what there is to say of a provider's key. The secret of a server that people run themselves has an
    address, and seldom a key."""
    if known.by_role or (known.local_server and stored):
        return "keyless"
    return "set" if stored else "missing"


def _read_key(provider: str, *, optional: bool) -> str:
    if sys.stdin.isatty():
        text = f"Key of {provider}{' (empty if the server asks for none)' if optional else ''}"
        default = "" if optional else None
        key = typer.prompt(text, default=default, show_default=False, hide_input=True, err=True)
    else:
        key = read_text("-")
    key = str(key).strip()
    if not key and optional:
        return key
    if not key or len(key) > _MAX_KEY or any(char.isspace() or not char.isprintable() for char in key):
        raise InvalidRequest("this is not a valid key: a key is one word of printable characters; nothing was stored")
    return key


def _stored(settings: Settings) -> set[str]:
    """Return providers that have a secret; its content is not read."""
    prefix = settings.provider_secrets_prefix
    pages = clients.client("secretsmanager").get_paginator("list_secrets")
    secret_names = (
        secret["Name"]
        for page in pages.paginate(Filters=[{"Key": "name", "Values": [prefix]}])
        for secret in page["SecretList"]
    )
    return {name.removeprefix(prefix) for name in secret_names if name.startswith(prefix)}
