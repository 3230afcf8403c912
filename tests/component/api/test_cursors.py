"""Cursors belong to their list: with another list, or other filters, each is refused and not read as a place there."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from support.api_client import InProcess
from support.deployment import Deployment, deployment
from support.stream_records import dynamo_record

from loopllama.jobs.record_route_change import RouteRecorder


@pytest.fixture
def live(monkeypatch: pytest.MonkeyPatch) -> Iterator[Deployment]:
    with deployment(monkeypatch, route_history_table="RouteHistoryTable") as made:
        yield made


@pytest.fixture
def asked(live: Deployment) -> Any:
    """Asks the API; the answer's status and its JSON."""
    return InProcess(live.settings).ask


LISTS = (
    "/v1/workflows?",
    "/v1/workflows/first/runs?",
    "/v1/workflows/second/runs?",
    "/v1/runs?",
    "/v1/runs?status=queued&",
    "/v1/tools?",
    "/v1/models?",
    "/v1/models?provider=openai&",
    "/v1/models?provider=anthropic&",
    "/v1/workflows/first/routes/one/history?",
    "/v1/workflows/second/routes/one/history?",
)


def test_a_cursor_goes_on_in_its_list_and_in_no_other(live: Deployment, asked: Any) -> None:
    for workflow in ("first", "second"):
        live.push([{"name": "one"}], name=workflow)
        for version in (1, 2):
            live.accept(workflow)
            row = {"workflow": workflow, "step": "one", "model": "test:base", "version": version}
            RouteRecorder(live.settings).handle([dynamo_record(("workflow", "step"), None, row)])
    cursors = {path: asked("GET", f"{path}limit=1")[1]["next_cursor"] for path in LISTS}
    assert all(cursors.values())
    for path, cursor in cursors.items():
        code, page = asked("GET", f"{path}limit=1&cursor={cursor}")
        assert (code, len(page["data"])) == (200, 1)
        assert page["data"] != asked("GET", f"{path}limit=1")[1]["data"]
        for other in LISTS:
            if other != path:
                assert asked("GET", f"{other}limit=1&cursor={cursor}")[0] == 400, (path, other)
