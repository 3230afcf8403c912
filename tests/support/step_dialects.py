"""The dialects that tests of a whole step take."""

from __future__ import annotations

import pytest

from support.dialects import AnthropicDialect, BedrockDialect, GoogleDialect, OpenAIDialect

OPENAI, GOOGLE = OpenAIDialect(), GoogleDialect()
THREE = (OPENAI, AnthropicDialect(), BedrockDialect())


every_dialect = pytest.mark.parametrize("dialect", THREE, ids=lambda one: one.name, indirect=True)
