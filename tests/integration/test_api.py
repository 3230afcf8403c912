"""What holds for every route of the HTTP API, over HTTP: health, keys, idempotency, the document."""

from __future__ import annotations

import json
import re

import httpx
import pytest
from support.api_client import CREW, Client, at_once, ended, make, schema_of

pytestmark = pytest.mark.aws


# LoopLlama v1


def test_health_needs_no_key(api: Client) -> None:
    answer = httpx.get(f"{api.url}/healthz", timeout=60)
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


# Keys, idempotency


def test_a_revoked_key_is_refused(api: Client) -> None:
    # That a process which has seen the key refuses it within half a minute is a unit test's.
    client = api.with_key("leaver")
    api.revoke(client)
    answer = client.raw("GET", "/v1/workflows")
    assert (answer.status_code, answer.json()) == (401, {"error": "Invalid API key"})


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
    document = httpx.get(f"{api.url}/openapi.json", timeout=60).json()
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


def test_the_bare_address_leads_to_the_documentation(api: Client) -> None:
    answer = httpx.get(f"{api.url}/", timeout=60)
    assert (answer.status_code, answer.headers["location"], answer.json()["documentation"]) == (302, "/docs", "/docs")
    assert httpx.get(f"{api.url}/", timeout=60, follow_redirects=True).headers["content-type"].startswith("text/html")
    assert httpx.post(f"{api.url}/", timeout=60).status_code in (401, 404)


def test_the_page_of_the_document_needs_nothing_from_elsewhere(api: Client) -> None:
    answer = httpx.get(f"{api.url}/docs", timeout=60)
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/html")
    assert "/v1/workflows/{workflow_id}/runs" in answer.text
    assert not re.search(r"<(?:script|link|img)[^>]+(?:src|href)=", answer.text)
    assert "connect-src 'self'" in answer.headers["content-security-policy"]
