"""How a layer chooses among its models: one pure function a policy.

A policy gets what the layer says and a key that is the same for every retry of the same step of the same run; it
answers the names of models in the order in which they are to be tried. Whether a model may be used is not its job.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from loopllama.routing.rows import Choice

Policy = Callable[["Choice", str], list[str]]


def fixed(choice: Choice, _key: str) -> list[str]:
    """The model, then its fallbacks."""
    return [*filter(None, [choice.model]), *choice.fallbacks]


POLICIES: Mapping[str, Policy] = {"fixed": fixed}
