"""Fixtures of the component tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from support.deployment import Deployment, deployment


@pytest.fixture
def live(monkeypatch: pytest.MonkeyPatch) -> Iterator[Deployment]:
    """A deployment in moto of the test's own."""
    with deployment(monkeypatch) as made:
        yield made
