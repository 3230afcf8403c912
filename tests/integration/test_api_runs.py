"""The documented exchanges of the HTTP API, field by field, over HTTP against the local stack: runs."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from typing import Any

import httpx
import pytest
from support.api_client import CREW, TIME, Client, at_once, ended, make, waiting

pytestmark = pytest.mark.aws


def test_a_run_from_queued_to_completed(api: Client) -> None:
    workflow = make(api, "Whole run")["id"]
    body = {"input": "The parcel 4711 is late.", "tags": {"customer": "7"}}
    queued = api.post(f"/v1/workflows/{workflow}/runs", body, 202)
    assert queued["status"] == "queued"
    assert queued["workflow_id"] == workflow
    assert queued["workflow_version"] == 1
    assert queued["input"] == "The parcel 4711 is late."
    assert (queued["output"], queued["error"], queued["pending"]) == (None, None, None)
    assert (queued["tokens_in"], queued["tokens_out"], queued["total_steps"]) == (0, 0, 0)
    assert (queued["started_at"], queued["finished_at"]) == (None, None)
    assert TIME.fullmatch(queued["created_at"])
    assert "steps" not in queued

    run = ended(api, queued["id"])
    assert run["status"] == "completed"
    assert run["output"] == run["steps"][1]["output"]
    assert run["error"] is None
    assert run["tags"] == {"customer": "7"}
    for name in ("created_at", "started_at", "finished_at"):
        assert TIME.fullmatch(run[name])
    assert run["created_at"] <= run["started_at"] <= run["finished_at"]
    assert [one["order"] for one in run["steps"]] == [0, 1]
    assert [one["step"] for one in run["steps"]] == ["extractor", "writer"]
    assert [one["role"] for one in run["steps"]] == ["Extractor", "Writer"]
    assert run["steps"][0]["model"] == "gpt-5-mini"
    assert [one["source"] for one in run["steps"]] == ["agent", "deployment-default"]
    for step in run["steps"]:
        assert step["status"] == "completed"
        assert isinstance(step["output"], str)
        assert step["error"] is None
        assert step["tokens_in"] > 0
        assert step["tokens_out"] > 0
        assert step["cost_usd"] > 0
        assert step["cost_basis"] == "measured"
        assert step["simulated"] is True
        assert TIME.fullmatch(step["started_at"])
        assert TIME.fullmatch(step["finished_at"])
        assert [one["outcome"] for one in step["attempts"]] == ["ok"]
        assert step["tool_calls"] == []
    prompt = "# Input\n\nThe parcel 4711 is late."
    assert run["steps"][0]["input"] == prompt
    assert run["steps"][1]["input"] == f"{prompt}\n\n# Extractor (extractor)\n\n{run['steps'][0]['output']}"
    assert run["total_steps"] == 2
    for name in ("tokens_in", "tokens_out", "tokens_cached", "cost_usd"):
        assert run[name] == sum(step[name] for step in run["steps"])


def test_runs_are_listed_newest_first_with_input_and_output(api: Client) -> None:
    workflow = make(api, "Listed runs")["id"]
    ids = []
    for number in range(3):
        ids.append(api.post(f"/v1/workflows/{workflow}/runs", {"input": f"number {number}"}, 202)["id"])
        ended(api, ids[-1])
    first = api.raw("GET", f"/v1/workflows/{workflow}/runs?limit=2").json()
    assert [one["id"] for one in first["data"]] == ids[:0:-1]
    assert [one["input"] for one in first["data"]] == ["number 2", "number 1"]
    assert all(one["status"] == "completed" and one["output"] and one["tokens_in"] > 0 for one in first["data"])
    second = api.raw("GET", f"/v1/workflows/{workflow}/runs?limit=2&cursor={first['next_cursor']}").json()
    assert ([one["id"] for one in second["data"]], second["next_cursor"]) == (ids[:1], None)


def test_an_object_as_input_stays_exact(api: Client) -> None:
    crew = [{"role": "A", "systemPrompt": "x", "prompt": "Amount: {{ input.amount }}"}]
    workflow = api.post("/v1/workflows", {"name": "Object input", "crew": crew}, 201)["id"]
    text = '{"input": {"amount": 12345678901234567890.123456789, "big": 1e300, "nested": {"a": [true, null]}}}'
    answer = api.raw("POST", f"/v1/workflows/{workflow}/runs", text)
    assert answer.status_code == 202
    run = json.loads(api.raw("GET", f"/v1/runs/{answer.json()['data']['id']}").text, parse_float=Decimal)["data"]
    assert run["input"]["amount"] == Decimal("12345678901234567890.123456789")
    assert run["input"]["big"] == Decimal("1e300")
    assert run["input"]["nested"] == {"a": [True, None]}


def test_a_paused_workflow_starts_no_runs(api: Client) -> None:
    workflow = make(api, "Pause me")["id"]
    assert api.patch(f"/v1/workflows/{workflow}", {"status": "paused"})["status"] == "paused"
    answer = api.raw("POST", f"/v1/workflows/{workflow}/runs", {"input": "x"})
    assert answer.status_code == 409
    assert answer.json() == {"error": "Workflow is paused"}
    assert api.patch(f"/v1/workflows/{workflow}", {"status": "active"})["status"] == "active"
    api.post(f"/v1/workflows/{workflow}/runs", {"input": "x"}, 202)


def test_a_failed_run_names_its_step(api: Client) -> None:
    crew = [{"role": "A", "systemPrompt": "x"}, {"role": "B", "systemPrompt": "x", "prompt": "{{ input.missing }}"}]
    workflow = api.post("/v1/workflows", {"name": "Fails", "crew": crew}, 201)["id"]
    run = ended(api, api.post(f"/v1/workflows/{workflow}/runs", {"input": {"a": 1}}, 202)["id"])
    assert run["status"] == "failed"
    assert "'b'" in run["error"]
    assert run["output"] is None
    assert run["steps"][0]["status"] == "completed"
    assert run["steps"][1]["status"] == "failed"
    assert run["steps"][1]["error"]


def test_no_such_run(api: Client) -> None:
    for method, path, body in [
        ("GET", "/v1/runs/run_nowhere", None),
        ("POST", "/v1/runs/run_nowhere/cancel", None),
        ("POST", "/v1/runs/run_nowhere/replay", {"fromStep": "a"}),
        ("POST", "/v1/runs/run_nowhere/respond", {"input": "a"}),
    ]:
        answer = api.raw(method, path, body)
        assert (answer.status_code, answer.json()) == (404, {"error": "Not found"}), (method, path)


def test_a_run_waits_for_an_approval_and_goes_on(api: Client) -> None:
    crew = [{"role": "A", "systemPrompt": "x", "approval": True}]
    workflow = api.post("/v1/workflows", {"name": "Ask first", "crew": crew}, 201)["id"]
    run_id = api.post(f"/v1/workflows/{workflow}/runs", {"input": "x"}, 202)["id"]
    pending = waiting(api, run_id)["pending"]
    assert (pending["kind"], pending["step"], pending["tool"], pending["tool_input"]) == ("approval", "a", None, None)
    assert "A" in pending["prompt"]
    assert TIME.fullmatch(pending["expires_at"])
    assert api.raw("POST", f"/v1/runs/{run_id}/respond", {"input": "yes"}).status_code == 400
    bodies = [{"approved": True, "note": str(number)} for number in range(5)]
    with ThreadPoolExecutor(5) as pool:
        codes = list(pool.map(lambda body: api.raw("POST", f"/v1/runs/{run_id}/respond", body).status_code, bodies))
    assert sorted(codes) == [200, 409, 409, 409, 409]
    assert ended(api, run_id)["status"] == "completed"
    assert api.raw("POST", f"/v1/runs/{run_id}/respond", {"approved": True}).status_code == 409


def test_an_answer_given_twice_under_one_key_is_one_answer(api: Client) -> None:
    crew = [{"role": "A", "systemPrompt": "x", "approval": True}]
    workflow = api.post("/v1/workflows", {"name": "Ask once", "crew": crew}, 201)["id"]
    run_id = api.post(f"/v1/workflows/{workflow}/runs", {"input": "x"}, 202)["id"]
    waiting(api, run_id)
    path, headers = f"/v1/runs/{run_id}/respond", {"Idempotency-Key": "yes-1"}
    first, second = (api.raw("POST", path, {"approved": True}, headers) for _ in range(2))
    assert (first.status_code, second.status_code, first.text) == (200, 200, second.text)
    assert api.raw("POST", path, {"approved": False}, headers).status_code == 409
    assert ended(api, run_id)["status"] == "completed"


def test_who_read_one_question_answers_no_other(api: Client) -> None:
    crew = [{"role": role, "systemPrompt": "x", "needs": [], "approval": True} for role in ("A", "B")]
    workflow = api.post("/v1/workflows", {"name": "Ask twice", "crew": crew}, 201)["id"]
    run_id = api.post(f"/v1/workflows/{workflow}/runs", {"input": "x"}, 202)["id"]
    events = f"/v1/runs/{run_id}/events"
    api.until(events, lambda found: sum(one["type"] == "RunWaiting" for one in found) == 2)
    first = api.get(f"/v1/runs/{run_id}")["pending"]
    codes = [one.status_code for one in at_once(3, lambda: answered(api, run_id, first["id"]))]
    assert sorted(codes) == [200, 409, 409]
    second = api.until(f"/v1/runs/{run_id}", lambda run: run["status"] == "waiting_input")["pending"]
    assert {first["step"], second["step"]} == {"a", "b"}
    assert answered(api, run_id, "nonsense").status_code == 409
    assert answered(api, run_id, second["id"]).status_code == 200
    assert ended(api, run_id)["status"] == "completed"


def answered(api: Client, run_id: str, question: str) -> httpx.Response:
    return api.raw("POST", f"/v1/runs/{run_id}/respond", {"approved": True, "id": question})


def test_an_answer_that_comes_too_late_is_told_when_the_time_was_over(api: Client) -> None:
    crew = [{"role": "A", "systemPrompt": "x", "approval": {"start": True, "timeoutSeconds": 1}}]
    workflow = api.post("/v1/workflows", {"name": "Ask briefly", "crew": crew}, 201)["id"]
    run_id = api.post(f"/v1/workflows/{workflow}/runs", {"input": "x"}, 202)["id"]
    expires_at = waiting(api, run_id)["pending"]["expires_at"]
    run = ended(api, run_id)
    assert (run["status"], run["pending"], run["cost_usd"]) == ("failed", None, 0)
    assert expires_at in run["error"]
    late = api.raw("POST", f"/v1/runs/{run_id}/respond", {"approved": True})
    assert (late.status_code, expires_at in late.json()["error"]) == (409, True)


def test_cancelling_keeps_what_is_done(api: Client) -> None:
    crew = [CREW[0], {"role": "B", "systemPrompt": "x", "approval": True}]
    workflow = api.post("/v1/workflows", {"name": "Cancel me", "crew": crew}, 201)["id"]
    run_id = api.post(f"/v1/workflows/{workflow}/runs", {"input": "x"}, 202)["id"]
    waiting(api, run_id)
    run = api.post(f"/v1/runs/{run_id}/cancel", None, 200)
    assert run["status"] == "cancelled"
    assert run["error"].startswith("Cancelled: cancelled by ")
    assert run["pending"] is None
    assert TIME.fullmatch(run["finished_at"])
    assert run["steps"][0]["status"] == "completed"
    assert run["steps"][0]["cost_usd"] == run["cost_usd"] > 0
    again = api.post(f"/v1/runs/{run_id}/cancel", None, 200)
    assert again["finished_at"] == run["finished_at"]
    states = api.stack.client("stepfunctions")
    arn = api.stack.outputs["RunWorkflowArn"].replace(":stateMachine:", ":execution:") + f":{run_id}"
    api.wait(lambda: states.describe_execution(executionArn=arn)["status"] != "RUNNING")
    assert api.get(f"/v1/runs/{run_id}")["status"] == "cancelled"


def test_a_run_that_has_ended_cannot_be_cancelled(api: Client) -> None:
    workflow = make(api, "Too late")["id"]
    run = ended(api, api.post(f"/v1/workflows/{workflow}/runs", {"input": "x"}, 202)["id"])
    answer = api.raw("POST", f"/v1/runs/{run['id']}/cancel")
    assert (answer.status_code, "completed" in answer.json()["error"]) == (409, True)
    assert api.get(f"/v1/runs/{run['id']}") == run


def test_a_replay_keeps_earlier_steps_and_pays_for_the_rest_only(api: Client) -> None:
    workflow = make(api, "Replay me")["id"]
    first = ended(api, api.post(f"/v1/workflows/{workflow}/runs", {"input": "x", "tags": {"a": "b"}}, 202)["id"])
    before = api.get(f"/v1/usage?workflow={workflow}&by=step")["groups"]
    body = {"fromStep": "writer", "models": {"writer": "small"}, "systemPrompts": {"writer": "Be brief. " * 50}}
    queued = api.post(f"/v1/runs/{first['id']}/replay", body, 202)
    assert queued["status"] == "queued"
    assert queued["replayed_from"] == {"run_id": first["id"], "from_step": "writer"}
    run = ended(api, queued["id"])
    assert run["status"] == "completed"
    kept, redone = run["steps"]
    assert kept["replayed_from"] == first["id"]
    assert (kept["cost_usd"], kept["tokens_in"], kept["attempts"]) == (0, 0, [])
    assert kept["output"] == first["steps"][0]["output"]
    assert kept["model"] == first["steps"][0]["model"]
    assert redone["replayed_from"] is None
    assert redone["source"] == "run"
    assert redone["model"] != first["steps"][1]["model"]
    assert redone["tokens_in"] > first["steps"][1]["tokens_in"] + 50  # the other prompt is longer
    assert run["cost_usd"] == redone["cost_usd"]
    assert run["tags"] == {"a": "b"}
    after = api.get(f"/v1/usage?workflow={workflow}&by=step")["groups"]
    steps = {one["step"]: one["steps"] for one in after}
    assert steps == {"extractor": 1, "writer": 2}
    assert {one["step"]: one["cost_usd"] for one in before}["extractor"] == kept_cost(after, "extractor")


def kept_cost(groups: list[dict[str, Any]], step: str) -> Any:
    return next(one["cost_usd"] for one in groups if one["step"] == step)


def test_a_replay_with_another_input_and_of_a_failed_run(api: Client) -> None:
    crew = [CREW[0], {"role": "B", "systemPrompt": "x", "prompt": "{{ input.text }} {{ steps.extractor.output }}"}]
    workflow = api.post("/v1/workflows", {"name": "Repair me", "crew": crew}, 201)["id"]
    failed = ended(api, api.post(f"/v1/workflows/{workflow}/runs", {"input": {"txt": "x"}}, 202)["id"])
    assert failed["status"] == "failed"
    answer = api.raw("POST", f"/v1/runs/{failed['id']}/replay", {"fromStep": "nope"})
    assert (answer.status_code, answer.json()["details"][0]["field"]) == (400, "fromStep")
    queued = api.post(f"/v1/runs/{failed['id']}/replay", {"fromStep": "b", "input": {"text": "repaired"}}, 202)
    assert queued["input"] == {"text": "repaired"}
    run = ended(api, queued["id"])
    assert run["status"] == "completed"
    assert run["steps"][0]["replayed_from"] == failed["id"]
    assert "repaired" in run["steps"][1]["output"]
    # What was kept in a replay is kept in a replay of it.
    third = ended(api, api.post(f"/v1/runs/{run['id']}/replay", {"fromStep": "b"}, 202)["id"])
    assert third["steps"][0]["replayed_from"] == failed["id"]
    assert third["status"] == "completed"


def test_what_cannot_be_replayed(api: Client) -> None:
    crew = [CREW[0], {"role": "B", "systemPrompt": "x", "approval": True}, {"role": "C", "systemPrompt": "x"}]
    workflow = api.post("/v1/workflows", {"name": "Unfinished", "crew": crew}, 201)["id"]
    run_id = api.post(f"/v1/workflows/{workflow}/runs", {"input": "x"}, 202)["id"]
    waiting(api, run_id)
    answer = api.raw("POST", f"/v1/runs/{run_id}/replay", {"fromStep": "c"})
    assert (answer.status_code, "'b'" in answer.json()["error"]) == (409, True)
    body = {"fromStep": "b", "systemPrompts": {"extractor": "kept"}}
    answer = api.raw("POST", f"/v1/runs/{run_id}/replay", body)
    assert (answer.status_code, answer.json()["details"][0]["field"]) == (400, "systemPrompts.extractor")
    api.post(f"/v1/runs/{run_id}/cancel", None, 200)


def test_large_values_come_as_links(api: Client) -> None:
    crew = [{"role": "A", "systemPrompt": "x"}]
    workflow = api.post("/v1/workflows", {"name": "Large", "crew": crew}, 201)["id"]
    text = "word " * 60_000
    run_id = api.post(f"/v1/workflows/{workflow}/runs", {"input": text}, 202)["id"]
    url = api.get(f"/v1/runs/{run_id}")["input"]["url"]
    assert httpx.get(url).json() == text
    assert len(api.raw("GET", f"/v1/workflows/{workflow}/runs").content) < 300_000
    # Tidied up; it may have completed meanwhile.
    assert api.raw("POST", f"/v1/runs/{run_id}/cancel").status_code in (200, 409)
