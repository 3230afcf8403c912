"""Policies of a test's own."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from loopllama.policies.registry import POLICIES, Policy, register


@contextlib.contextmanager
def registered(policy: Policy) -> Iterator[Policy]:
    """A policy that is registered while the context lasts."""
    register(policy)
    try:
        yield policy
    finally:
        del POLICIES[policy.name]


def spelled(policy: Policy, *models: str) -> list[Any]:
    """Models as the policy's candidates are written."""
    return [{"model": model, "weight": 1} if policy.takes_weights else model for model in models]
