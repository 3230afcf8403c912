"""The dialects that tests of a whole step take."""

from __future__ import annotations

import pytest

from support.dialects import WIRE_FORMATS, GoogleDialect, OpenAIDialect

OPENAI, GOOGLE = OpenAIDialect(), GoogleDialect()
every_dialect = pytest.mark.parametrize("dialect", WIRE_FORMATS, ids=lambda one: one.name, indirect=True)
with_cache_points = pytest.mark.parametrize(
    "dialect", [one for one in WIRE_FORMATS if one.cache_points], ids=lambda one: one.name, indirect=True
)
