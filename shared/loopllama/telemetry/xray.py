"""X-Ray, where the template's parameter Tracing is on."""

from __future__ import annotations

import functools
import os
from collections.abc import Mapping
from typing import Any


@functools.lru_cache(maxsize=1)
def tracer() -> Any:
    """X-Ray by powertools' Tracer, or `None` where the template's parameter Tracing is off: the X-Ray SDK, which costs
    about 200 ms of start-up, is then never loaded."""
    if os.environ.get("POWERTOOLS_TRACE_DISABLED", "true").lower() != "false":
        return None
    from aws_lambda_powertools import Tracer

    return Tracer()


def annotate(values: Mapping[str, Any]) -> None:
    """Make ids searchable in X-Ray, where it is on. Ids and names only."""
    if (xray := tracer()) is not None:
        for name, value in values.items():
            if value is not None:
                xray.put_annotation(name, str(value))
