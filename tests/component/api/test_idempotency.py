"""`Idempotency-Key` on every POST: one act for a day, and another one afterwards, whoever dies in between."""

from __future__ import annotations

from typing import Any

import pytest
from support.api_client import InProcess
from support.deployment import Deployment

from loopllama.engine import accept, replay
from loopllama.errors import AwsUnavailable

DAY = 86_400


@pytest.fixture
def asked(live: Deployment) -> Any:
    """Asks the API; the answer's status and its JSON."""
    return InProcess(live.settings).ask


def posts(live: Deployment) -> dict[str, tuple[str, dict[str, Any], dict[str, Any]]]:
    """Each route that makes something: its path, a body, and another body."""
    workflow = live.push([{"name": "one"}, {"name": "two"}])
    run_id = live.accept(workflow)
    live.play(run_id)
    prompts = {"two": "You are short."}
    return {
        "run": (f"/v1/workflows/{workflow}/runs", {"input": "monday"}, {"input": "tuesday"}),
        "replay": (f"/v1/runs/{run_id}/replay", {"fromStep": "two"}, {"fromStep": "two", "systemPrompts": prompts}),
        "workflow": ("/v1/workflows", {"name": "Monday"}, {"name": "Tuesday"}),
    }


@pytest.mark.parametrize("route", ["run", "replay", "workflow"])
def test_a_key_stands_for_its_request_for_a_day(live: Deployment, asked: Any, route: str) -> None:
    path, body, other = posts(live)[route]
    headers = {"idempotency-key": "daily"}
    first = asked("POST", path, body, **headers)
    assert first[0] in (201, 202)
    live.wait(DAY - 60)
    assert asked("POST", path, body, **headers) == first
    assert asked("POST", path, other, **headers)[0] == 409
    live.wait(62)
    again = asked("POST", path, body, **headers)
    assert again[0] == first[0]
    assert again[1]["data"]["id"] != first[1]["data"]["id"]
    assert asked("POST", path, body, **headers) == again, "a new day began"
    live.wait(DAY + 2)
    assert asked("POST", path, other, **headers)[0] == first[0], "the key is free for anything"


@pytest.mark.parametrize("route", ["run", "replay"])
@pytest.mark.parametrize("death", [KeyboardInterrupt, AwsUnavailable])
@pytest.mark.parametrize("later_day", [False, True])
def test_a_run_that_was_started_and_not_answered_is_found_again(
    live: Deployment, asked: Any, route: str, death: type[BaseException], later_day: bool
) -> None:
    path, body, other = posts(live)[route]
    headers = {"idempotency-key": "k"}
    before = {asked("POST", path, body, **headers)[1]["data"]["id"]} if later_day else set()
    live.wait((DAY + 2) * later_day)
    made: list[str] = []

    def begin_and_die(settings: Any, run: Any, *rest: Any) -> None:
        made.append(run["run_id"])
        begin(settings, run, *rest)
        raise death("after the run was stored")

    begin = accept.begin
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(accept, "begin", begin_and_die)
        patch.setattr(replay, "begin", begin_and_die)
        if death is KeyboardInterrupt:
            with pytest.raises(KeyboardInterrupt):
                asked("POST", path, body, **headers)
            live.wait(31)  # its time to answer is over
        else:
            assert asked("POST", path, body, **headers)[0] == 503
    assert asked("POST", path, other, **headers)[0] == 409, "nobody knows what was done for the first request"
    code, answer = asked("POST", path, body, **headers)
    assert (code, [answer["data"]["id"]]) == (202, made)
    assert not before.intersection(made)


def test_a_request_that_was_refused_leaves_its_key_free(live: Deployment, asked: Any) -> None:
    path, body, _ = posts(live)["run"]
    headers = {"idempotency-key": "k"}
    assert asked("POST", path, {"input": "x", "models": {"one": "nonsense"}}, **headers)[0] == 400
    assert asked("POST", path, body, **headers)[0] == 202


def test_what_a_key_stands_for_is_what_is_asked_not_how(live: Deployment, asked: Any) -> None:
    path, body, _ = posts(live)["run"]
    headers = {"idempotency-key": "k"}
    first = asked("POST", path, body, **headers)
    assert asked("POST", path, {**body, "models": {}, "tags": {}, "pin": None}, **headers) == first
    for more in ({"tags": {"a": "b"}}, {"pin": "run"}, {"models": {"one": "test:base"}}, {"budget": {"maxSteps": 3}}):
        assert asked("POST", path, {**body, **more}, **headers)[0] == 409
    nulls = {"input": {"a": None}}, {"input": {}}
    kept = [asked("POST", path, one, **{"idempotency-key": f"n{n}"}) for n, one in enumerate(nulls)]
    assert [answer["data"]["input"] for _, answer in kept] == [{"a": None}, {}]
