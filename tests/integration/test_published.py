"""LoopLlama's published v1, over HTTP."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import httpx
import pytest
from support import published
from support.api_client import FINAL, Client
from support.system import DEPLOYED, STACK_NAME

pytestmark = pytest.mark.aws


@pytest.mark.parametrize("base", ["/v1", "/api/v1"])
def test_every_published_example_is_answered_so(api: Client, base: str) -> None:
    http = httpx.Client(base_url=api.url, timeout=60)

    def ask(method: str, path: str, body: Any, headers: Mapping[str, str | None]) -> tuple[int, Any]:
        sent = {"authorization": f"Bearer {api.key}", **headers}
        content = {} if body is None else {"json": body}
        answer = http.request(method, path, headers={k: v for k, v in sent.items() if v is not None}, **content)
        return answer.status_code, answer.json()

    def until_over(run_id: str) -> None:
        api.until(f"{base}/runs/{run_id}", lambda run: run["status"] in (*FINAL, "waiting_input"))

    stack = api.stack.client("cloudformation").describe_stacks(StackName=DEPLOYED or STACK_NAME)["Stacks"][0]
    [default] = [one["ParameterValue"] for one in stack["Parameters"] if one["ParameterKey"] == "DefaultModel"]
    assert published.replay(ask, base, until_over, default) > 30


def test_events_are_followed_under_api_too(api: Client) -> None:
    """They have a function, and so a route, of their own."""
    workflow = api.post("/api/v1/workflows", {"name": "Followed"}, 201)["id"]
    run_id = api.post(f"/api/v1/workflows/{workflow}/runs", {"input": "Hello."}, 202)["id"]
    api.until(f"/api/v1/runs/{run_id}", lambda run: run["status"] in FINAL)
    told = api.until(f"/api/v1/runs/{run_id}/events", lambda page: page and page[-1]["type"] == "RunCompleted")
    assert (told[-1]["total_steps"], "total_steps" in told[0]) == (2, False)
    stream = api.raw("GET", f"/api/v1/runs/{run_id}/events", headers={"Accept": "text/event-stream"})
    assert "event: RunCompleted" in stream.text
