"""The registry of wire formats: who uses an entry, and what an entry loads."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from loopllama.catalog.providers import KNOWN
from loopllama.providers import DIALECTS

LOADED = """
import json, sys
from loopllama.providers import DIALECTS
before = set(sys.modules)
made = DIALECTS[sys.argv[1]].load()
print(json.dumps([made.__module__, sorted(set(sys.modules) - before)]))
"""


def test_every_known_provider_speaks_a_dialect_of_the_registry() -> None:
    assert {known.dialect for known in KNOWN.values()} <= set(DIALECTS)


def test_a_dialect_that_needs_the_functions_role_is_for_no_server_of_ones_own() -> None:
    by_role = {known.dialect for known in KNOWN.values() if known.by_role}
    assert by_role == {name for name, entry in DIALECTS.items() if not entry.own_servers}


@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_dialect_loads_no_other(dialect: str) -> None:
    path = os.pathsep.join(one for one in sys.path if one)
    done = subprocess.run(
        [sys.executable, "-c", LOADED, dialect],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": path},
    )
    own, loaded = json.loads(done.stdout)
    others = {entry.load().__module__ for entry in DIALECTS.values()} - {own}
    assert own in loaded
    assert others
    assert not others & set(loaded)
