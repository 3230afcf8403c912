"""The documented exchanges of the HTTP API, field by field, over HTTP against the local stack."""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from typing import Any

import httpx
import pytest
from support.api_client import Client, ended, schema_of

pytestmark = pytest.mark.aws

TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")
CREW = [
    {"role": "Extractor", "systemPrompt": "List the facts.", "model": "openai:gpt-5-mini"},
    {"role": "Writer", "systemPrompt": "Write a reply."},
]


def make(api: Client, name: str, **fields: Any) -> dict[str, Any]:
    return api.post("/v1/workflows", {"name": name, "crew": CREW, **fields}, 201)


# LoopLlama v1


def test_health_needs_no_key(api: Client) -> None:
    answer = httpx.get(f"{api.url}/healthz")
    assert (answer.status_code, answer.json()["status"]) == (200, "ok")


@pytest.mark.parametrize(
    ("header", "error"),
    [
        ({}, "Missing Bearer token"),
        ({"Authorization": "Basic x"}, "Missing Bearer token"),
        ({"Authorization": "Bearer nonsense"}, "Invalid token format"),
        ({"Authorization": "Bearer ll_live_" + "x" * 40}, "Invalid API key"),
    ],
)
@pytest.mark.parametrize("path", ["/v1/workflows", "/v1/runs/run_1", "/v1/nothing", "/else"])
def test_without_a_key_that_counts(api: Client, header: dict[str, str], error: str, path: str) -> None:
    answer = httpx.get(api.url + path, headers=header)
    assert (answer.status_code, answer.json()) == (401, {"error": error})
    assert answer.headers["WWW-Authenticate"] == "Bearer"


def test_create_a_workflow(api: Client) -> None:
    made = make(api, "Create me!", description="A reply", model="small")
    assert made["id"] == "create_me"
    assert made["name"] == "Create me!"
    assert made["description"] == "A reply"
    assert made["status"] == "active"
    assert made["model"] == "small"
    assert made["version"] == 1
    assert [one["role"] for one in made["crew"]] == ["Extractor", "Writer"]
    assert [one["name"] for one in made["crew"]] == ["extractor", "writer"]
    assert [one["systemPrompt"] for one in made["crew"]] == ["List the facts.", "Write a reply."]
    assert [one.get("model") for one in made["crew"]] == ["openai:gpt-5-mini", None]
    assert [one["needs"] for one in made["crew"]] == [[], ["extractor"]]
    assert TIME.fullmatch(made["created_at"])
    assert made["updated_at"] == made["created_at"]
    assert api.get("/v1/workflows/create_me") == made


def test_a_workflow_without_a_crew_gets_the_default_one(api: Client) -> None:
    made = api.post("/v1/workflows", {"name": "Default crew", "description": None, "model": None, "crew": None}, 201)
    assert [one["role"] for one in made["crew"]] == ["planner", "writer"]
    assert made["description"] is None
    assert isinstance(made["model"], str)


def test_the_same_name_gets_a_suffix_and_snake_case_is_taken(api: Client) -> None:
    first = make(api, "Twice")
    crew = [{"role": "A", "system_prompt": "x", "max_tokens": 7, "temperature": 0.1}]
    second = api.post("/v1/workflows", {"name": "Twice", "crew": crew}, 201)
    assert first["id"] == "twice"
    assert re.fullmatch(r"twice_[0-9a-f]{4}", second["id"])
    assert second["crew"][0]["maxTokens"] == 7
    assert second["crew"][0]["temperature"] == 0.1


def test_workflows_are_listed_most_recently_updated_first_in_pages(api: Client) -> None:
    ids = [make(api, f"Page {number}")["id"] for number in range(3)]
    api.patch(f"/v1/workflows/{ids[0]}", {"description": "changed"})
    wanted = [ids[0], ids[2], ids[1]]
    first = api.raw("GET", "/v1/workflows?limit=2").json()
    assert [one["id"] for one in first["data"]] == wanted[:2]
    second = api.raw("GET", f"/v1/workflows?limit=1&cursor={first['next_cursor']}").json()
    assert [one["id"] for one in second["data"]] == wanted[2:]
    everything = []
    cursor = None
    while True:
        page = api.raw("GET", "/v1/workflows?limit=3" + (f"&cursor={cursor}" if cursor else "")).json()
        everything += [one["id"] for one in page["data"]]
        cursor = page["next_cursor"]
        if cursor is None:
            break
    assert len(everything) == len(set(everything))
    assert set(ids) <= set(everything)


def test_no_such_workflow(api: Client) -> None:
    for method, path, body in [
        ("GET", "/v1/workflows/nowhere", None),
        ("PUT", "/v1/workflows/nowhere", {"name": "x"}),
        ("PATCH", "/v1/workflows/nowhere", {"status": "paused"}),
        ("DELETE", "/v1/workflows/nowhere", None),
        ("GET", "/v1/workflows/nowhere/runs", None),
        ("POST", "/v1/workflows/nowhere/runs", {"input": "x"}),
        ("GET", "/v1/workflows/nowhere/routes", None),
        ("PUT", "/v1/workflows/nowhere/routes/x", {"model": "small"}),
        ("DELETE", "/v1/workflows/nowhere/routes/x", None),
    ]:
        answer = api.raw(method, path, body)
        assert (answer.status_code, answer.json()) == (404, {"error": "Not found"}), (method, path)


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
    assert [one["source"] for one in run["steps"]] == ["agent", "deployment"]
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


# Beyond v1: workflows


def test_a_put_makes_a_version_and_runs_keep_theirs(api: Client) -> None:
    workflow = make(api, "Versions")["id"]
    run = api.post(f"/v1/workflows/{workflow}/runs", {"input": "x"}, 202)["id"]
    changed = api.put(f"/v1/workflows/{workflow}", {"name": "Versions", "crew": CREW[:1]})
    assert (changed["version"], len(changed["crew"]), changed["id"]) == (2, 1, workflow)
    assert api.put(f"/v1/workflows/{workflow}", {"name": "Versions", "crew": CREW[:1]})["version"] == 2
    done = ended(api, run)
    assert (done["workflow_version"], len(done["steps"])) == (1, 2)
    again = ended(api, api.post(f"/v1/workflows/{workflow}/runs", {"input": "x"}, 202)["id"])
    assert (again["workflow_version"], len(again["steps"])) == (2, 1)


def test_two_puts_at_once_are_two_versions(api: Client) -> None:
    workflow = make(api, "Race")["id"]
    bodies = [{"name": "Race", "description": str(number), "crew": CREW} for number in range(8)]
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda body: api.raw("PUT", f"/v1/workflows/{workflow}", body), bodies))
    assert [one.status_code for one in answers] == [200] * 8
    versions = {one.json()["data"]["version"]: one.json()["data"] for one in answers}
    assert len(versions) == 8
    assert api.get(f"/v1/workflows/{workflow}") == versions[max(versions)]


def test_a_patch_renames_without_touching_the_crew(api: Client) -> None:
    made = make(api, "Old name", model="small")
    renamed = api.patch(f"/v1/workflows/{made['id']}", {"name": "New name", "description": "d", "status": "paused"})
    assert (renamed["name"], renamed["description"], renamed["status"]) == ("New name", "d", "paused")
    assert (renamed["id"], renamed["version"], renamed["model"]) == (made["id"], 2, "small")
    assert renamed["crew"] == made["crew"]


def test_deleting_a_workflow_takes_its_routes_and_leaves_its_runs(api: Client) -> None:
    workflow = make(api, "Delete me")["id"]
    run = ended(api, api.post(f"/v1/workflows/{workflow}/runs", {"input": "x"}, 202)["id"])
    for step in ("writer", "*"):
        api.put(f"/v1/workflows/{workflow}/routes/{step}", {"model": "small"})
    assert api.delete(f"/v1/workflows/{workflow}") == {"id": workflow, "deleted": True}
    assert api.raw("GET", f"/v1/workflows/{workflow}").status_code == 404
    assert api.raw("DELETE", f"/v1/workflows/{workflow}").status_code == 404
    assert api.get(f"/v1/runs/{run['id']}")["output"] == run["output"]
    spent = api.get(f"/v1/usage?workflow={workflow}")["total"]
    assert spent["cost_usd"] == run["cost_usd"]
    again = make(api, "Delete me")
    assert (again["id"], again["version"]) == (workflow, 2)
    assert [one["source"] for one in api.get(f"/v1/workflows/{workflow}/routes")] == ["agent", "deployment"]


def test_a_workflow_with_active_runs_is_not_deleted(api: Client) -> None:
    crew = [{"role": "A", "systemPrompt": "x", "approval": True}]
    workflow = api.post("/v1/workflows", {"name": "Busy", "crew": crew}, 201)["id"]
    run = api.post(f"/v1/workflows/{workflow}/runs", {"input": "x"}, 202)["id"]
    waiting(api, run)
    answer = api.raw("DELETE", f"/v1/workflows/{workflow}")
    assert answer.status_code == 409
    assert run in answer.json()["error"]
    api.post(f"/v1/runs/{run}/cancel", None, 200)
    assert api.delete(f"/v1/workflows/{workflow}")["deleted"] is True


# Beyond v1: runs


def waiting(api: Client, run_id: str) -> dict[str, Any]:
    return api.until(f"/v1/runs/{run_id}", lambda run: run["status"] == "waiting_input")


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
    api.post(f"/v1/runs/{run_id}/cancel", None, 200)


# The dial


def test_the_dial(api: Client) -> None:
    workflow = make(api, "Dial")["id"]
    base = f"/v1/workflows/{workflow}/routes"
    assert api.raw("GET", base).json()["next_cursor"] is None
    told = api.get(base)
    assert [(one["step"], one["source"]) for one in told] == [("extractor", "agent"), ("writer", "deployment")]
    body = {"model": "small", "fallbacks": ["balanced"], "maxTokens": 500, "temperature": 0.25, "expiresIn": 3600}
    row = api.put(f"{base}/writer", {**body, "reason": "cheaper", "expectedVersion": 0})
    assert (row["model"], row["fallbacks"], row["max_tokens"], row["temperature"]) == ("small", ["balanced"], 500, 0.25)
    assert (row["version"], row["reason"], row["updated_by"]) == (1, "cheaper", "test")
    assert abs(row["expires_at"] - time.time() - 3600) < 60
    one = api.get(f"{base}/writer")
    assert (one["source"], one["route_version"], one["row"]) == ("step", 1, row)
    assert one["fallbacks"]
    run = ended(api, api.post(f"/v1/workflows/{workflow}/runs", {"input": "x"}, 202)["id"])
    assert (run["steps"][1]["source"], run["steps"][1]["route_version"]) == ("step", 1)
    assert run["steps"][1]["model"] == one["model"]

    bounded = {"policy": "cheapest", "candidates": ["small", {"model": "balanced"}], "maxCost": 0.25}
    row = api.put(f"{base}/extractor", {**bounded, "max_latency": 90_000, "pin": "run"})
    assert (row["max_cost"], row["max_latency"], row["pin"]) == (0.25, 90_000, "run")
    assert row["candidates"] == ["small", "balanced"]
    assert api.get(f"{base}/extractor")["policy"] == "cheapest"
    api.delete(f"{base}/extractor")

    api.put(f"{base}/*", {"model": "frontier"})
    assert api.get(f"{base}/*")["row"]["model"] == "frontier"
    assert api.get(f"{base}/extractor")["workflow_row"]["model"] == "frontier"
    assert api.delete(f"{base}/writer?expectedVersion=1&reason=enough") == {
        "workflow": workflow,
        "step": "writer",
        "removed": True,
    }
    assert api.delete(f"{base}/writer")["removed"] is False
    assert api.get(f"{base}/writer")["source"] == "workflow"


def test_a_write_of_the_dial_loses_to_a_faster_one(api: Client) -> None:
    workflow = make(api, "Dial race")["id"]
    path = f"/v1/workflows/{workflow}/routes/writer"
    bodies = [{"model": "small", "reason": str(number), "expectedVersion": 0} for number in range(6)]
    with ThreadPoolExecutor(6) as pool:
        codes = list(pool.map(lambda body: api.raw("PUT", path, body).status_code, bodies))
    assert sorted(codes) == [200, 409, 409, 409, 409, 409]
    assert api.raw("DELETE", f"{path}?expectedVersion=7").status_code == 409
    assert api.get(path)["row"]["version"] == 1


def test_the_history_of_a_route_and_the_way_back(api: Client) -> None:
    workflow = make(api, "Dial past")["id"]
    path = f"/v1/workflows/{workflow}/routes/writer"
    assert api.get(f"{path}/history") == []
    for model in ("small", "balanced"):
        api.put(path, {"model": model, "reason": f"to {model}"})
    newest, first = api.until(f"{path}/history", lambda entries: len(entries) == 2)
    assert TIME.fullmatch(newest.pop("at"))
    assert int(newest.pop("sequence")) > int(first["sequence"])
    assert newest["before"].pop("updated_at") < newest["after"].pop("updated_at")
    stamp = {"updated_by": "test"}
    assert newest == {
        "workflow": workflow,
        "step": "writer",
        "change": "set",
        "version": 2,
        "before": {"model": "small", "version": 1, "reason": "to small", **stamp},
        "after": {"model": "balanced", "version": 2, "reason": "to balanced", **stamp},
        "differences": [{"field": "model", "from": "small", "to": "balanced"}],
        "reason": "to balanced",
        "problems": [],
        **stamp,
    }
    assert (first["version"], first["before"]) == (1, None)
    page = api.raw("GET", f"{path}/history?limit=1").json()
    assert [one["version"] for one in page["data"]] == [2]
    rest = api.raw("GET", f"{path}/history?cursor={page['next_cursor']}").json()
    assert ([one["version"] for one in rest["data"]], rest["next_cursor"]) == ([1], None)

    answers = at_once(
        4, lambda: api.raw("POST", f"{path}/rollback", {"version": 1, "reason": "dear"}, {"Idempotency-Key": "back-1"})
    )
    assert {(one.status_code, one.text) for one in answers} == {(200, answers[0].text)}
    row = answers[0].json()["data"]["row"]
    assert (row["model"], row["version"], row["reason"], row["updated_by"]) == ("small", 3, "dear", "test")
    assert api.get(path)["row"] == row
    assert api.raw("POST", f"{path}/rollback", {"expectedVersion": 2}).status_code == 409
    assert api.raw("POST", f"{path}/rollback", {"version": 77}).status_code == 404
    api.until(f"{path}/history", lambda entries: len(entries) == 3)
    assert api.post(f"{path}/rollback", {"expected_version": 3}, 200)["row"]["model"] == "balanced"
    api.put(f"/v1/workflows/{workflow}/routes/extractor", {"model": "small"})
    other = f"/v1/workflows/{workflow}/routes/extractor"
    api.until(f"{other}/history", lambda entries: len(entries) == 1)
    assert api.post(f"{other}/rollback", {}, 200) == {"workflow": workflow, "step": "extractor", "row": None}
    # A version is given out once, also over the removal of the row.
    api.until(f"{other}/history", lambda entries: len(entries) == 2)
    assert api.put(other, {"model": "small"})["version"] == 3

    for method, last, body in (("GET", "history", None), ("POST", "rollback", {})):
        for where in (f"{workflow}/routes/nobody", "nowhere/routes/writer"):
            assert api.raw(method, f"/v1/workflows/{where}/{last}", body).status_code == 404, (where, last)


def test_rows_with_whatever_dynamodb_holds_are_shown_changed_and_taken_back(api: Client) -> None:
    workflow = make(api, "By hand")["id"]
    dynamodb, outputs = api.stack.client("dynamodb"), api.stack.outputs
    odd = {
        "binary": {"B": b"\xff\x00"},
        "binaries": {"BS": [b"a"]},
        "numbers": {"NS": ["1.5", "2"]},
        "nothing": {"NULL": True},
        "large": {"N": "1E+120"},
        "inside": {"M": {"list": {"L": [{"B": b"b"}, {"SS": ["x"]}]}}},
    }
    row = {"workflow": {"S": workflow}, "step": {"S": "writer"}, "model": {"S": "small"}, **odd}
    dynamodb.put_item(TableName=outputs["RoutesTableName"], Item=row)
    entry = {"model": {"S": "gpt-4.1"}, "capabilities": {"SS": ["tools"]}, "version": {"B": b"v"}, **odd}
    dynamodb.put_item(TableName=outputs["ModelsTableName"], Item=entry)
    path = f"/v1/workflows/{workflow}/routes/writer"
    told = api.get(path)
    assert (told["source"], told["row"]["binary"], told["row"]["numbers"]) == ("step", "ff00", [1.5, 2])
    assert api.get(f"/v1/workflows/{workflow}/routes")[1]["row"] == told["row"]
    model = api.get("/v1/models/gpt-4.1")
    assert (model["capabilities"], model["entry"]["inside"]) == (["tools"], {"list": ["62", ["x"]]})
    assert api.put("/v1/models/gpt-4.1", {"contextWindow": 9})["nothing"] is None
    assert api.delete("/v1/models/gpt-4.1")["deleted"] is True
    api.put(path, {"model": "balanced"})
    newest, by_hand = api.until(f"{path}/history", lambda entries: len(entries) == 2)
    assert (by_hand["updated_by"], by_hand["after"]["model"], newest["version"]) == ("unknown", "small", 1)
    assert api.post(f"{path}/rollback", {}, 200)["row"]["model"] == "small"


def test_bad_routes_are_refused(api: Client) -> None:
    workflow = make(api, "Bad dial")["id"]
    base = f"/v1/workflows/{workflow}/routes"
    assert api.raw("PUT", f"{base}/nowhere", {"model": "small"}).status_code == 404
    assert api.raw("GET", f"{base}/nowhere").status_code == 404
    for body in (
        {},
        {"model": "no-such-model"},
        {"model": "small", "unknown": 1},
        {"model": 5},
        {"model": "small", "temperature": 3},
        {"model": "small", "maxTokens": 0},
        {"model": "small", "maxTokens": 1e30},
        {"model": "small", "expiresIn": -5},
        {"model": "small", "expectedVersion": "1"},
        {"model": "small", "pin": "day"},
        {"model": "small", "policy": "magic"},
        {"policy": "weighted", "candidates": [{"model": "small", "weight": -1}]},
        {"model": "small", "reason": "x" * 501},
    ):
        answer = api.raw("PUT", f"{base}/writer", body)
        assert answer.status_code == 400, body
        assert answer.json()["details"], body
    for text, field in (
        ('{"model": "small", "policy": "magic"}', "policy"),
        ('{"model": "small", "maxCost": 0}', "maxCost"),
        ('{"model": "small", "max_cost": 0.1234567890123456789012345678901234567890123}', "maxCost"),
        ('{"model": "small", "maxCost": 1e-300}', "maxCost"),
        ('{"model": "small", "maxLatency": 1.5}', "maxLatency"),
        ('{"model": "small", "temperature": 0.1234567890123456789012345678901234567890123}', "temperature"),
        ('{"model": "small", "fallbacks": ["nosuch"]}', "fallbacks"),
        ('{"policy": "cheapest"}', "candidates"),
        ('{"policy": "cheapest", "candidates": ["nosuch"]}', "candidates"),
        ('{"policy": "weighted", "candidates": [{"model": "small", "weight": "1"}]}', "candidates.0.weight"),
        ('{"policy": "weighted", "candidates": [7]}', "candidates.0"),
    ):
        answer = api.raw("PUT", f"{base}/writer", text)
        assert answer.status_code == 400, text
        assert [one["field"] for one in answer.json()["details"]] == [field], answer.text
        assert field in answer.json()["error"]
    assert api.get(f"{base}/writer")["row"] is None


# Models


def test_models_with_todays_prices(api: Client) -> None:
    models = api.get("/v1/models?provider=openai")
    assert [one["model"] for one in models] == sorted(one["model"] for one in models)
    mini = next(one for one in models if one["model"] == "gpt-5-mini")
    assert mini["price"]["input"] > 0
    assert mini["provider"] == "openai"
    first = api.raw("GET", "/v1/models?provider=openai&limit=2").json()
    assert first["next_cursor"] == first["data"][1]["model"]
    second = api.raw("GET", f"/v1/models?provider=openai&limit=2&cursor={first['next_cursor']}").json()
    assert [one["model"] for one in first["data"] + second["data"]] == [one["model"] for one in models[:4]]
    assert "small" in api.get("/v1/models/small")["aliases"]
    assert api.raw("GET", "/v1/models/no-such-model").status_code == 404


def test_an_entry_of_the_models_table(api: Client) -> None:
    path = "/v1/models/openrouter:acme/llama-1"
    body = {
        "prices": [{"effectiveFrom": "2026-01-01", "input": 0.1, "output": 1.23456789, "cacheRead": 0.01}],
        "contextWindow": 1000,
        "capabilities": ["tools"],
    }
    stored = api.put(path, {**body, "reason": "ours", "expectedVersion": 0})
    assert (stored["context_window"], stored["updated_by"], stored["reason"]) == (1000, "test", "ours")
    assert stored["version"] == 1
    assert api.get(path)["entry"] == stored
    assert api.raw("PUT", path, {"contextWindow": 2000, "expectedVersion": 0}).status_code == 409
    found = json.loads(api.raw("GET", path).text, parse_float=Decimal)["data"]
    assert found["price"]["output"] == Decimal("1.23456789")
    assert found["capabilities"] == ["tools"]
    # The kill switch leaves what is not named as it is; null takes a field out.
    assert api.put(path, {"enabled": False, "replacedBy": "small"})["prices"] == stored["prices"]
    assert "context_window" not in api.put(path, {"contextWindow": None})
    assert (api.get(path)["enabled"], api.get(path)["context_window"]) == (False, None)
    workflow = make(api, "Switched off", model="openrouter:acme/llama-1")["id"]
    writer = api.get(f"/v1/workflows/{workflow}/routes/writer")
    assert writer["model"] == api.get("/v1/models/small")["model"]
    assert any("disabled" in one["reason"] for one in writer["ignored"])
    # What has been charged is not rewritten.
    assert api.raw("PUT", path, {"prices": [{"input": 9, "output": 9}]}).json()["details"][0]["field"] == "prices"
    later = {"effective_from": "2999-01-01", "input": 9, "output": 9}
    assert api.put(path, {"prices": [*stored["prices"], later]})["prices"][1] == later
    assert api.raw("DELETE", f"{path}?expectedVersion=1").status_code == 409
    assert api.delete(f"{path}?reason=enough") == {"model": "openrouter:acme/llama-1", "deleted": True}
    assert api.raw("DELETE", path).status_code == 404
    assert api.get(path)["enabled"] is True


def test_an_entry_counts_however_the_model_is_written(api: Client) -> None:
    assert api.put("/v1/models/openai:gpt-5-nano", {"contextWindow": 9000})["model"] == "gpt-5-nano"
    assert api.get("/v1/models/gpt-5-nano")["context_window"] == 9000
    assert api.delete("/v1/models/openai:gpt-5-nano") == {"model": "gpt-5-nano", "deleted": True}
    alias = api.put("/v1/models/quick", {"aliasOf": "gpt-5-nano"})
    assert (alias["alias_of"], api.get("/v1/models/quick")["model"]) == ("gpt-5-nano", "gpt-5-nano")
    assert api.get("/v1/models/quick")["entry"] == alias
    assert api.get("/v1/models/gpt-5-nano")["aliases"] == ["quick"]
    assert api.delete("/v1/models/quick")["model"] == "quick"


def test_twenty_writers_of_an_entry_lose_nothing(api: Client) -> None:
    fields = [{"contextWindow": 5000 + number, "expectedVersion": 0} for number in range(20)]
    with ThreadPoolExecutor(20) as pool:
        codes = list(pool.map(lambda body: api.raw("PUT", "/v1/models/gpt-4.1-nano", body).status_code, fields))
    assert sorted(codes) == [200] + 19 * [409]
    assert api.get("/v1/models/gpt-4.1-nano")["entry"]["version"] == 1
    api.delete("/v1/models/gpt-4.1-nano")


def test_bad_entries_of_the_models_table_are_refused(api: Client) -> None:
    for model, body in [
        ("acme-1", {"prices": [{"input": 1, "output": 2}]}),  # no provider
        ("gpt-5-mini", {}),
        ("gpt-5-mini", {"prices": []}),
        ("gpt-5-mini", {"prices": [{"input": -1, "output": 2}]}),
        ("gpt-5-mini", {"prices": [{"input": "1", "output": 2}]}),
        ("gpt-5-mini", {"prices": [{"input": 1, "output": 2, "effectiveFrom": "soon"}]}),
        ("gpt-5-mini", {"contextWindow": 1.5}),
        ("gpt-5-mini", {"contextWindow": 10**40}),
        ("gpt-5-mini", {"capabilities": ["flying"]}),
        ("gpt-5-mini", {"enabled": "no"}),
        ("gpt-5-mini", {"replacedBy": "no-such-model"}),
        ("round", {"aliasOf": "round"}),
        ("gpt-5-mini", {"unknown": 1}),
        ("gpt-5-mini", '{"prices": [{"input": 0.1234567890123456789012345678901234567890123, "output": 2}]}'),
    ]:
        answer = api.raw("PUT", f"/v1/models/{model}", body)
        assert answer.status_code == 400, (body, answer.text)
        assert answer.json()["details"], body
    assert api.get("/v1/models/gpt-5-mini")["origin"].get("prices") == "bundled"


# Usage


def test_usage_is_what_the_records_say(api: Client) -> None:
    workflow = make(api, "Usage")["id"]
    other = api.with_key("billing")
    for client, tags in ((api, {"team": "a"}), (other, {"team": "b", "x": "y"}), (other, {})):
        started = client.post(f"/v1/workflows/{workflow}/runs", {"input": "count me", "tags": tags}, 202)
        ended(api, started["id"])
    answer = json.loads(api.raw("GET", f"/v1/workflows/{workflow}/runs").text, parse_float=Decimal)
    cost = sum(run["cost_usd"] for run in answer["data"])
    tokens = sum(run["tokens_in"] for run in answer["data"])

    def usage(by: str) -> list[dict[str, Any]]:
        text = api.raw("GET", f"/v1/usage?workflow={workflow}&by={by}").text
        told = json.loads(text, parse_float=Decimal)["data"]
        assert (told["total"]["cost_usd"], told["total"]["tokens_in"], told["total"]["steps"]) == (cost, tokens, 6)
        if by != "tag":
            assert sum(one["cost_usd"] for one in told["groups"]) == cost
        return list(told["groups"])

    assert [one["workflow"] for one in usage("workflow")] == [workflow]
    assert {one["step"]: one["steps"] for one in usage("step")} == {"extractor": 3, "writer": 3}
    assert len(usage("model")) == 2
    assert {one["key"]: one["steps"] for one in usage("key")} == {"test": 2, "billing": 4}
    assert {one["tag"]: one["steps"] for one in usage("tag")} == {"team=a": 2, "team=b": 2, "x=y": 2, None: 2}
    assert len(usage("day")) == 1
    assert {(one["key"], one["step"]) for one in usage("key,step")} == {
        ("test", "extractor"),
        ("test", "writer"),
        ("billing", "extractor"),
        ("billing", "writer"),
    }
    assert api.get(f"/v1/usage?workflow={workflow}&from=2026-01-01&to=2026-01-02")["total"]["steps"] == 0


def test_bad_usage_queries(api: Client) -> None:
    for query in ("by=cost", "by=", "from=yesterday", "to=2026-13-01", "from=2026-02-02&to=2026-02-01",
                  "from=2020-01-01&to=2026-01-01", "from=0001-01-01&to=0001-01-01x"):  # fmt: skip
        answer = api.raw("GET", f"/v1/usage?{query}")
        assert answer.status_code == 400, query
    assert api.raw("GET", "/v1/usage?workflow=nowhere").status_code == 404
    assert api.get("/v1/usage?to=0001-01-05&from=0001-01-01")["total"]["steps"] == 0


# Keys, idempotency


def test_a_revoked_key_is_refused(api: Client) -> None:
    # That a process which has seen the key refuses it within half a minute is a unit test's.
    client = api.with_key("leaver")
    api.revoke(client)
    answer = client.raw("GET", "/v1/workflows")
    assert (answer.status_code, answer.json()) == (401, {"error": "Invalid API key"})


def at_once(count: int, act: Callable[[], httpx.Response]) -> list[httpx.Response]:
    gate = threading.Barrier(count)

    def go(_: int) -> httpx.Response:
        gate.wait()
        return act()

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(go, range(count)))


def test_twenty_starts_with_one_key_are_one_run(api: Client) -> None:
    workflow = make(api, "Idempotent")["id"]
    headers = {"Idempotency-Key": "order 4711".replace(" ", "-")}
    path = f"/v1/workflows/{workflow}/runs"
    answers = at_once(20, lambda: api.raw("POST", path, {"input": "x"}, headers))
    assert {one.status_code for one in answers} == {202}
    assert answers[0].json() == answers[-1].json()
    assert len({one.text for one in answers}) == 1
    run = ended(api, answers[0].json()["data"]["id"])
    assert len(api.get(path)) == 1
    assert len(run["steps"][0]["attempts"]) == 1
    # Later, and with the workflow paused or changed: the same answer.
    api.patch(f"/v1/workflows/{workflow}", {"status": "paused"})
    api.put(f"/v1/workflows/{workflow}", {"name": "Idempotent", "crew": CREW[:1]})
    assert api.raw("POST", path, {"input": "x"}, headers).text == answers[0].text
    other = api.raw("POST", path, {"input": "y"}, headers)
    assert (other.status_code, "idempotency" in other.json()["error"]) == (409, True)
    # Another API key's keys are its own.
    api.patch(f"/v1/workflows/{workflow}", {"status": "active"})
    foreign = api.with_key("other").raw("POST", path, {"input": "x"}, headers)
    assert foreign.json()["data"]["id"] != run["id"]


def test_ten_creations_with_one_key_are_one_workflow(api: Client) -> None:
    headers = {"Idempotency-Key": "create-1"}
    answers = at_once(10, lambda: api.raw("POST", "/v1/workflows", {"name": "Once only", "crew": CREW}, headers))
    assert {one.status_code for one in answers} == {201}
    assert len({one.text for one in answers}) == 1
    assert answers[0].json()["data"]["id"] == "once_only"
    assert api.raw("POST", "/v1/workflows", {"name": "Once more", "crew": CREW}, headers).status_code == 409


def test_a_failed_request_may_be_repeated_with_its_key(api: Client) -> None:
    workflow = make(api, "Repeat cancel")["id"]
    run = ended(api, api.post(f"/v1/workflows/{workflow}/runs", {"input": "x"}, 202)["id"])
    headers = {"Idempotency-Key": "cancel-1"}
    for _ in range(2):
        assert api.raw("POST", f"/v1/runs/{run['id']}/cancel", None, headers).status_code == 409
    replays = at_once(4, lambda: api.raw("POST", f"/v1/runs/{run['id']}/replay", {"fromStep": "writer"}, headers))
    assert {one.status_code for one in replays} == {202}
    assert len({one.text for one in replays}) == 1


# The document


def test_the_document_tells_of_every_route_and_answers_follow_it(api: Client) -> None:
    document = httpx.get(f"{api.url}/openapi.json").json()
    assert document["openapi"].startswith("3.1")
    operations = {(method.upper(), path) for path, one in document["paths"].items() for method in one}
    assert ("POST", "/v1/workflows/{workflow_id}/runs") in operations
    assert all("422" not in one["responses"] for path in document["paths"].values() for one in path.values())
    for method, path in operations:
        operation = document["paths"][path][method.lower()]
        parameters = {one["name"].lower(): one for one in operation.get("parameters", [])}
        assert operation["summary"], path
        assert operation["tags"][0] in {tag["name"] for tag in document["tags"]}, path
        assert all(one.get("description") or one["schema"].get("description") for one in parameters.values()), path
        assert ("idempotency-key" in parameters) is (method == "POST"), path
    used = set(re.findall(r'"#/components/schemas/([^"]+)"', json.dumps(document)))
    assert used == set(document["components"]["schemas"])
    workflow = make(api, "Shapes", model="small")["id"]
    api.put(f"/v1/workflows/{workflow}/routes/writer", {"model": "small", "temperature": 0.5})
    run = ended(api, api.post(f"/v1/workflows/{workflow}/runs", {"input": "x", "tags": {"a": "b"}}, 202)["id"])
    api.until(f"/v1/workflows/{workflow}/routes/writer/history", bool)
    for path, template in [
        ("/healthz", "/healthz"),
        ("/v1/workflows", "/v1/workflows"),
        (f"/v1/workflows/{workflow}", "/v1/workflows/{workflow_id}"),
        (f"/v1/workflows/{workflow}/runs", "/v1/workflows/{workflow_id}/runs"),
        (f"/v1/workflows/{workflow}/routes", "/v1/workflows/{workflow_id}/routes"),
        (f"/v1/workflows/{workflow}/routes/writer", "/v1/workflows/{workflow_id}/routes/{step}"),
        (f"/v1/workflows/{workflow}/routes/writer/history", "/v1/workflows/{workflow_id}/routes/{step}/history"),
        (f"/v1/runs/{run['id']}", "/v1/runs/{run_id}"),
        (f"/v1/runs/{run['id']}/events", "/v1/runs/{run_id}/events"),
        ("/v1/models", "/v1/models"),
        ("/v1/models/small", "/v1/models/{model_id}"),
        ("/v1/usage?by=step,model,tag,day,key", "/v1/usage"),
    ]:
        answer = api.raw("GET", path)
        assert answer.status_code == 200, path
        schema_of(document, "GET", template, 200).validate(answer.json())
        assert ("GET", template) in operations
    refused = api.raw("POST", "/v1/workflows", {"name": ""})
    schema_of(document, "POST", "/v1/workflows", 400).validate(refused.json())


def test_the_page_of_the_document_needs_nothing_from_elsewhere(api: Client) -> None:
    answer = httpx.get(f"{api.url}/docs")
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/html")
    assert "/v1/workflows/{workflow_id}/runs" in answer.text
    assert not re.search(r"<(?:script|link|img)[^>]+(?:src|href)=", answer.text)
    assert "connect-src 'self'" in answer.headers["content-security-policy"]
