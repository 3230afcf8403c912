"""LoopLlama's published v1, in this process."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import replace
from typing import Any
from urllib.parse import urlsplit

import pytest
from support import published
from support.api_client import gateway_event
from support.deployment import Deployment

from loopllama import jsontext
from loopllama.api.app import Api
from loopllama.api.keys import KeyStore
from loopllama.errors import RunFailed


@pytest.mark.parametrize("base", ["/v1", "/api/v1"])
def test_every_published_example_is_answered_so(live: Deployment, base: str) -> None:
    config = replace(live.settings, api_keys_table="ApiKeysTable", requests_per_second=1000)
    secret, _ = KeyStore(config).create("test")
    api = Api(config)

    def ask(method: str, path: str, body: Any, headers: Mapping[str, str | None]) -> tuple[int, Any]:
        address = urlsplit(path)
        event = gateway_event(secret, method, address.path, body)
        event["rawQueryString"] = address.query
        event["queryStringParameters"] = (
            dict(one.split("=") for one in address.query.split("&")) if address.query else {}
        )
        event["headers"] = {k: v for k, v in {**event["headers"], **headers}.items() if v is not None}
        answer = api.handle(event, None)
        return answer["statusCode"], jsontext.loads(answer["body"])

    def until_over(run_id: str) -> None:
        state = live.start(run_id)
        with contextlib.suppress(RunFailed):
            while state.get("outcome") != "done":
                ended = [live.chain(work) for work in live.map(state)]
                if any(one["outcome"] == "waiting" for one in ended):
                    return
                state = live.advance(state, ended)

    assert published.replay(ask, base, until_over, config.default_model) > 30
