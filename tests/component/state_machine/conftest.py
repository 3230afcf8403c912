"""One deployment for all: runs share its tables."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from component.state_machine.stage import Troupe
from support.deployment import deployment


@pytest.fixture(scope="module")
def troupe() -> Iterator[Troupe]:
    with pytest.MonkeyPatch.context() as patch, deployment(patch) as live:
        yield Troupe(live, patch)
