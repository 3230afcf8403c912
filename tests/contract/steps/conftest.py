"""The dialect of a step."""

from __future__ import annotations

import pytest
from support.dialects import Dialect
from support.step_dialects import OPENAI


@pytest.fixture
def dialect(request: pytest.FixtureRequest) -> Dialect:
    """OpenAI's where the test does not say."""
    found: Dialect = getattr(request, "param", OPENAI)
    return found
