"""What an adapter raises."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from loopllama.errors import (
    ModelError,
)
from loopllama.llm.types import ModelRequest, Provider
from support.wire_server import Step, WireServer

Make = Callable[..., ModelRequest]


def failure_of(server: WireServer, adapter: Provider, call: ModelRequest, step: Step) -> ModelError:
    server.script(step)
    with pytest.raises(ModelError) as caught:
        adapter.complete(call)
    assert len(server.requests) == 1
    return caught.value
