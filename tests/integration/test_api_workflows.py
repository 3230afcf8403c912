"""The documented exchanges of the HTTP API, field by field, over HTTP against the local stack: workflows."""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor

import pytest
from support.api_client import CREW, TIME, Client, ended, make, waiting

pytestmark = pytest.mark.aws


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
    assert [one["source"] for one in api.get(f"/v1/workflows/{workflow}/routes")] == ["agent", "deployment-default"]


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


def test_a_new_version_tells_of_routes_that_do_nothing_from_then_on(api: Client) -> None:
    workflow = make(api, "Loses a step")["id"]
    api.put(f"/v1/workflows/{workflow}/routes/writer", {"model": "small"})
    body = {"name": "Loses a step", "crew": [CREW[0]]}
    told = api.raw("PUT", f"/v1/workflows/{workflow}", body).json()["warnings"]
    (idle,) = [one for one in told if one["field"] == "routes.writer"]
    assert "does nothing: the crew has no such step" in idle["message"]
