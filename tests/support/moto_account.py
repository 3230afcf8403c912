"""An account of moto's in this process, empty whenever a test begins.

Clients and tables take far longer to make than most tests do with them, so both are made once in a process: clients
are kept, tables are copied as they were when they were new.
"""

from __future__ import annotations

import contextlib
import copy
import os
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from typing import Any

from moto import mock_aws
from moto.backends import get_backend

from loopllama.aws import clients
from loopllama_cli.local.handle import ACCOUNT
from loopllama_cli.local.moto_patches import dynamodb as seams_dynamodb
from support import direct_dynamodb

seams_dynamodb.quicken()

_make = clients.client.__wrapped__
_new_clients: dict[Any, Any] = {}
_new_tables: dict[str, Any] = {}


def _client(service: str, **options: Any) -> Any:
    """A client that nobody has changed yet. Another environment gets another one."""
    environment = tuple(sorted(one for one in os.environ.items() if one[0].startswith("AWS_")))
    key = (service, tuple(sorted(options.items())), environment)
    if key not in _new_clients:
        made = _new_clients[key] = _make(service, **options)
        # Put together twice a request otherwise, a twelfth of its time.
        agent = made._user_agent_creator
        agent.to_string = cache(agent.to_string)
        if service == "dynamodb":
            direct_dynamodb.connect(made)
    new = _new_clients[key]
    given = object.__new__(type(new))  # copy.copy() asks it for what is not there yet
    vars(given).update(vars(new))
    return given


@contextlib.contextmanager
def account(monkeypatch: Any) -> Iterator[Callable[..., Any]]:
    """An empty account, as long as the context is open. Gives its clients, which `clients.client` gives too."""
    with mock_aws():
        monkeypatch.setattr(clients, "client", cache(_client))
        yield clients.client


def create_tables(tables: Mapping[str, Mapping[str, Any]], region: str = "us-east-1") -> None:
    """Create tables in the open account: names to what CreateTable takes beside the name."""
    there = get_backend("dynamodb")[ACCOUNT][region].tables
    for name, arguments in tables.items():
        key = repr((name, arguments, region))
        if key not in _new_tables:
            _client("dynamodb", region=region).create_table(TableName=name, BillingMode="PAY_PER_REQUEST", **arguments)
            _new_tables[key] = copy.deepcopy(there[name])
        there[name] = copy.deepcopy(_new_tables[key])
