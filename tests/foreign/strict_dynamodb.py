"""A pytest plugin: tables are ministack's instead of moto's, for the tests whose clients `support.moto_account` makes.

Each test has an account of its own there, which ministack tells by the access key.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import ssl
import threading
from collections.abc import Callable, Iterator, Mapping
from http.client import HTTPSConnection
from types import SimpleNamespace
from typing import Any

import pytest
from support import direct_dynamodb, moto_account

from loopllama_cli.local.moto_patches.direct import TARGET

ADDRESS, CERTIFICATE = "LOOPLLAMA_STRICT_DYNAMODB", "LOOPLLAMA_STRICT_CERTIFICATE"
"""Variables of the environment: a port of this machine, and whom its server vouches for."""
ABOUT_MOTO = (
    "local/test_moto_patches.py",
    "cli/test_adoption.py",  # moto's CloudFormation makes moto's tables
    "benchmarks/test_meter.py",  # counts what moto's tables are asked
    "test_what_another_stack_has_taken_over_is_not_its",  # moto's CloudFormation makes moto's tables
)
"""Parts of the names of tests that reach into moto's tables."""
_FIRST = 100_000_000_000 + os.getpid() * 10_000
"""Another process of tests has other accounts."""
_accounts = itertools.count(_FIRST)
_here = SimpleNamespace(account=_FIRST)
_of_thread = threading.local()


def ask(target: str, headers: Mapping[str, str], body: bytes, region: str) -> tuple[int, dict[str, str], bytes]:
    """Send a request to ministack, as the test's account. Returns status, headers and body."""
    scope = f"{_here.account}/20260101/{region}/dynamodb/aws4_request"
    sent = {
        "X-Amz-Target": target,
        "Content-Type": "application/x-amz-json-1.0",
        "Authorization": f"AWS4-HMAC-SHA256 Credential={scope}, SignedHeaders=host, Signature=0",
    }
    if connection := vars(_of_thread).pop("connection", None):
        try:
            return _exchange(connection, body, sent)
        except OSError:
            connection.close()  # idle for so long that ministack has closed it
    trusted = ssl.create_default_context(cafile=os.environ[CERTIFICATE])
    return _exchange(HTTPSConnection("127.0.0.1", int(os.environ[ADDRESS]), context=trusted), body, sent)


def _exchange(connection: HTTPSConnection, body: bytes, headers: dict[str, str]) -> tuple[int, dict[str, str], bytes]:
    """Send a request and read its answer; the thread keeps the connection."""
    connection.request("POST", "/", body, headers)
    answer = connection.getresponse()
    read = answer.status, dict(answer.headers), answer.read()
    _of_thread.connection = connection
    return read


@contextlib.contextmanager
def account(monkeypatch: Any) -> Iterator[Callable[..., Any]]:
    """An empty account, as `moto_account.account`; afterwards the one from before, which a file's tests may share."""
    before, _here.account = _here.account, next(_accounts)
    try:
        with _motos_account(monkeypatch) as client:
            yield client
    finally:
        _here.account = before


def create_tables(tables: Mapping[str, Mapping[str, Any]], region: str = "us-east-1") -> None:
    """Create tables in the open account, as `moto_account.create_tables`."""
    client = moto_account._client("dynamodb", region=region)
    for name, arguments in tables.items():
        client.create_table(TableName=name, BillingMode="PAY_PER_REQUEST", **arguments)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out the tests that are about moto."""
    out = [item for item in items if any(part in item.nodeid for part in ABOUT_MOTO)]
    config.hook.pytest_deselected(items=out)
    items[:] = [item for item in items if item not in out]


def _no_stream(*_: object) -> None:
    """A `World` follows the stream of moto's table."""
    pytest.skip("a world follows moto's stream")


_motos_account = moto_account.account
vars(moto_account).update(account=account, create_tables=create_tables)
vars(direct_dynamodb).update(direct=SimpleNamespace(TARGET=TARGET, answer=ask))

from support import world  # noqa: E402 - it takes over what was put in its place above

world.World.__init__ = _no_stream  # type: ignore[method-assign, assignment]
