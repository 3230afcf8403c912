"""LoopLlama's published v1, in this process."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

import pytest
from support import published
from support.api_client import InProcess, gateway_event
from support.deployment import Deployment

from loopllama.errors import RunFailed


@pytest.mark.parametrize("base", ["/v1", "/api/v1"])
def test_every_published_example_is_answered_so(live: Deployment, base: str) -> None:
    api = InProcess(live.settings)

    def ask(method: str, path: str, body: Any, headers: Mapping[str, str | None]) -> tuple[int, Any]:
        address = urlsplit(path)
        event = gateway_event(api.secret, method, address.path, body)
        event["rawQueryString"] = address.query
        event["queryStringParameters"] = (
            dict(one.split("=") for one in address.query.split("&")) if address.query else {}
        )
        event["headers"] = {k: v for k, v in {**event["headers"], **headers}.items() if v is not None}
        return api.answer(event)

    def until_over(run_id: str) -> None:
        state = live.start(run_id)
        with contextlib.suppress(RunFailed):
            while state.get("outcome") != "done":
                ended = [live.chain(work) for work in live.map(state)]
                if any(one["outcome"] == "waiting" for one in ended):
                    return
                state = live.advance(state, ended)

    assert published.replay(ask, base, until_over, api.settings.default_model) > 30
