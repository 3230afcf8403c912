"""A deployment that a file's tests share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from support.deployment import Deployment, deployment


@pytest.fixture(scope="module")
def live() -> Iterator[Deployment]:
    with pytest.MonkeyPatch.context() as patch, deployment(patch) as made:
        yield made
