"""A browser's own `EventSource` and `curl` read a run's events to their end, and do not come back for ever.

The API's function runs in this process, behind a small server that adds the API key: `EventSource` sends none. Needs
Chromium as `test_local_stack_browser.py` does.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from support.api_client import gateway_event
from support.loopback import Handler, serving
from support.world import World
from support.worlds import whole_world

from loopllama.api.resources import events
from loopllama.engine.cancel import cancel_run

from .test_local_stack_browser import CHROMIUM, FLAGS

PAGE = """<!doctype html><meta charset="utf-8"><script>
const seen = {}, open = new Set();
const follow = (run) => {
  seen[run] = []; open.add(run);
  const source = new EventSource(`/events/${run}`);
  for (const type of %(types)s) source.addEventListener(type, event => seen[run].push(`${event.lastEventId} ${type}`));
  source.onerror = () => {
    if (source.readyState !== EventSource.CLOSED) return;
    open.delete(run);
    if (!open.size) fetch("/report", {method: "POST", body: JSON.stringify(seen)});
  };
};
%(runs)s.forEach(follow);
</script>"""
ENDED = {
    "completed": ["RunStarted", "StepCompleted", "StepCompleted", "RunCompleted"],
    "failed": ["RunStarted", "StepFailed", "RunFailed"],
    "cancelled": ["RunStarted", "RunCancelled", "StepCompleted", "StepCompleted"],
}


class Front(Handler):
    """Serves the page, and the API's answers to readers."""

    world: World
    page: str
    asked: Counter[str]
    reports: list[dict[str, list[str]]]
    reported: threading.Event
    one_at_a_time = threading.Lock()

    def serve(self) -> None:
        if self.path == "/":
            self.answer(200, self.page, content_type="text/html")
        elif self.path == "/report":
            self.reports.append(json.loads(self.body()))
            self.answer(204)
            self.reported.set()
        elif self.path.startswith("/events/"):
            run_id = self.path.removeprefix("/events/")
            self.asked[run_id] += 1
            headers = {name: self.headers[name] for name in ("accept", "last-event-id") if name in self.headers}
            event = gateway_event(self.world.key, "GET", f"/v1/runs/{run_id}/events", **headers)
            with self.one_at_a_time:  # as a Lambda process serves
                answer = self.world._api.handle(event, None)
            kind = {"content_type": answer["headers"]["Content-Type"]} if answer["statusCode"] == 200 else {}
            self.answer(answer["statusCode"], answer["body"] or "", **kind)
        else:
            self.answer(404)


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(events, "WAIT_SECONDS", 0.2)
    with whole_world(requests_per_second=1000.0) as made:
        yield made


def runs_that_ended(world: World) -> dict[str, str]:
    """A run for each way to end, by that; one was cancelled while a list made two calls."""
    crew = [{"name": "one", "needs": []}, {"name": "two"}]
    plain = world.push(crew, name="Plain", model="house:one")
    listed = world.push([{"name": "each", "forEach": "input.list"}], name="List", model="house:one")
    made: dict[str, str] = {}
    made["completed"] = world.request({"workflow": plain, "input": "hello"})
    world.finish(made["completed"])
    failing = world.push([{"name": "one", "prompt": "{{ input.a }}"}], name="Failing", model="house:one")
    made["failed"] = world.request({"workflow": failing, "input": {"a": " "}})
    world.finish(made["failed"])
    made["cancelled"] = run_id = world.request({"workflow": listed, "input": {"list": ["a", "b"]}})
    under_way = threading.Barrier(2)
    execution = world.executions_of(run_id)[0]
    assert execution.status == "RUNNING"
    state = world.start(run_id)
    items = world.map(world.step(world.map(state)[0]), depth=1)

    def serve(body: dict[str, Any]) -> str:
        if under_way.wait(20) == 0:
            cancel_run(world.settings, run_id, by="me")
            world.publish()
        under_way.wait(20)
        return "late"

    world.serve = serve
    chains = [threading.Thread(target=world.step, args=(item,)) for item in items]
    for chain in chains:
        chain.start()
    for chain in chains:
        chain.join()
    world.publish()
    return made


@pytest.mark.skipif(not CHROMIUM, reason="no Chromium here: install the package chromium")
def test_an_event_source_closes_when_the_run_is_over(world: World, tmp_path: Path) -> None:
    made = runs_that_ended(world)
    types = sorted({kind for kinds in ENDED.values() for kind in kinds})
    page = PAGE % {"types": json.dumps(types), "runs": json.dumps(list(made.values()))}
    attributes: dict[str, Any] = {
        "world": world,
        "page": page,
        "asked": Counter(),
        "reports": [],
        "reported": threading.Event(),
    }
    with serving(Front, **attributes) as url:
        command = [CHROMIUM, *FLAGS, f"--user-data-dir={tmp_path}", url]
        browser = subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
        )
        try:
            assert attributes["reported"].wait(60), attributes["asked"]
            asked = dict(attributes["asked"])
            time.sleep(2)  # four times as long as the browser was told to stay away
            assert attributes["asked"] == asked == dict.fromkeys(made.values(), 2)
        finally:
            os.killpg(browser.pid, signal.SIGKILL)
            browser.wait()
    (seen,) = attributes["reports"]
    for status, run_id in made.items():
        assert seen[run_id] == [f"{number} {kind}" for number, kind in enumerate(ENDED[status], 1)]


@pytest.mark.skipif(not shutil.which("curl"), reason="no curl here")
def test_curl_reads_to_the_end(world: World) -> None:
    made = runs_that_ended(world)
    attributes: dict[str, Any] = {
        "world": world,
        "page": "",
        "asked": Counter(),
        "reports": [],
        "reported": threading.Event(),
    }
    with serving(Front, **attributes) as url:
        for status, run_id in made.items():
            last = len(ENDED[status])
            for seen, code in ((0, 200), (last - 1, 200), (last, 204), (last + 1, 204), (99_999_999, 204), ("x", 400)):
                sent = ["-H", "Accept: text/event-stream", "-H", f"Last-Event-ID: {seen}"]
                told = ["-w", "%{http_code}", "-o", "/dev/null"]
                command = ["curl", "-sS", "--noproxy", "*", *sent, *told, f"{url}/events/{run_id}"]
                assert subprocess.check_output(command, text=True, timeout=30) == str(code), (status, seen)
