"""Structured logs. Ids and figures only."""

from __future__ import annotations

import functools
import os
from typing import Any

from loopllama.aws import errors


@functools.lru_cache(maxsize=1)
def logger() -> Any:
    """Return this process's structured logger."""
    from aws_lambda_powertools import Logger

    return Logger(service=service_name())


@functools.lru_cache(maxsize=1)
def service_name() -> str:
    return os.environ.get("POWERTOOLS_SERVICE_NAME", "loopllama")


def safe_text(error: Exception) -> str:
    """Return what logs may hold of an error that nobody foresaw: what an AWS service said; of any other its kind and
    where it happened, because its message may quote what people wrote."""
    if (trouble := errors.trouble(error)) is not None:
        return str(trouble)
    import traceback

    frames = traceback.extract_tb(error.__traceback__)
    where = " > ".join(f"{os.path.basename(frame.filename)}:{frame.lineno} {frame.name}" for frame in frames)  # noqa: PTH119
    return f"{type(error).__name__} at {where}"
