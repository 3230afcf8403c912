"""The tests' own guards hold."""

from __future__ import annotations

import os
import socket

import pytest


@pytest.mark.parametrize("address", [("192.0.2.1", 80), ("example.com", 443), ("2001:db8::1", 80, 0, 0)])
def test_no_other_machine_is_reached(address: tuple[str, int]) -> None:
    family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
    with socket.socket(family) as one, pytest.raises(RuntimeError, match="this machine only"):
        one.connect(address)
    with socket.socket(family) as one, pytest.raises(RuntimeError, match="this machine only"):
        one.connect_ex(address)


def test_this_machine_is_reached() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as client:
        assert client.getpeername() == server.getsockname()


def test_no_credentials_of_the_person_who_runs_the_tests() -> None:
    assert os.environ["AWS_ACCESS_KEY_ID"] == "testing"
    assert not [name for name in os.environ if name.endswith("_API_KEY")]
