"""Bad input at every route of the HTTP API: always an answer that says what is wrong, never a 500."""

from __future__ import annotations

import base64
import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from support.api_client import Client

from loopllama_cli.local import LocalStack

ROUTES = [
    ("GET", "/v1/workflows"),
    ("POST", "/v1/workflows"),
    ("GET", "/v1/workflows/{id}"),
    ("PUT", "/v1/workflows/{id}"),
    ("PATCH", "/v1/workflows/{id}"),
    ("DELETE", "/v1/workflows/{id}"),
    ("GET", "/v1/workflows/{id}/runs"),
    ("POST", "/v1/workflows/{id}/runs"),
    ("GET", "/v1/workflows/{id}/routes"),
    ("GET", "/v1/workflows/{id}/routes/{id}"),
    ("PUT", "/v1/workflows/{id}/routes/{id}"),
    ("DELETE", "/v1/workflows/{id}/routes/{id}"),
    ("GET", "/v1/workflows/{id}/routes/{id}/history"),
    ("POST", "/v1/workflows/{id}/routes/{id}/rollback"),
    ("GET", "/v1/runs/{id}"),
    ("GET", "/v1/runs/{id}/events"),
    ("POST", "/v1/runs/{id}/cancel"),
    ("POST", "/v1/runs/{id}/respond"),
    ("POST", "/v1/runs/{id}/replay"),
    ("GET", "/v1/models"),
    ("GET", "/v1/models/{id}"),
    ("PUT", "/v1/models/{id}"),
    ("DELETE", "/v1/models/{id}"),
    ("GET", "/v1/usage"),
]
WITH_BODY = [
    (method, path) for method, path in ROUTES if method in ("POST", "PUT", "PATCH") and not path.endswith("/cancel")
]
BODIES: list[bytes] = [
    b"",
    b"null",
    b"[]",
    b'[{"name": "x", "input": "x"}]',
    b'"text"',
    b"7",
    b"true",
    b"{",
    b"{}",
    b'{"name": }',
    b"\xff\xfe{}",
    b'{"name": "\xc3"}',
    b'{"name": "\\ud800", "input": "\\ud800"}',
    b'{"name": "x\\u0000", "input": "\\u0000", "model": "\\u0000"}',
    b'{"name": NaN, "input": Infinity}',
    b'{"input": {"a": NaN}}',
    b'{"name": 1e999999999, "input": 1e999999999}',
    b'{"name": ' + b"9" * 10_000 + b"}",
    *(
        b'{"name": %b, "input": {"n": [%b]}, "crew": [%b], "prices": %b, "maxTokens": %b}' % ((number,) * 5)
        for number in (b"1e99999999999999999999", b"-1E-99999999999999999999", b"1e5000", b"1e300000000", b"1e400")
    ),
    b'{"a":' * 5_000 + b"1" + b"}" * 5_000,
    b'{"name": "x", "crew": [{"role": "a", "systemPrompt": "x", "outputSchema": '
    + b'{"a":' * 900
    + b"1"
    + b"}" * 900
    + b"}]}",
    b'{"input":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    b'{"name": 7, "crew": 7, "input": 7, "models": 7, "tags": 7, "status": 7, "fromStep": 7, "model": 7}',
    b'{"name": null, "crew": null, "input": null, "models": null, "tags": null, "fromStep": null}',
    b'{"name": "", "crew": [], "input": "", "models": {"": ""}, "tags": {"": ""}, "fromStep": "", "model": ""}',
    b'{"name": "x", "crew": [null, 7, "x", []], "input": ["x"], "prices": [null]}',
    b'{"name": "x", "input": "x", "fromStep": "x", "model": "small", "status": "paused", "enabled": 0, "unknown": 1}',
    b'{"__proto__": {}, "__class__": 1, "": 1}',
    b"name=x&input=y",
    b"<xml/>",
]
ODD_IDS = [
    "nowhere",
    "%20",
    "%00",
    "%0A",
    "..%2F..%2Fetc",
    "%252e",
    "%ff%fe",
    "%F0%9F%A6%99",
    "x" * 130,
    "x" * 3000,
    "'%20OR%201=1",
    "STEP%23a%230%230",
    "*",
    "{workflow_id}",
    "<script>",
    "answer_00000000000000000000000000000000",
    "a%7Cb",
    "-1",
]


def check(answer: httpx.Response, what: Any) -> None:
    """An error of ours: a status below 500 and one sentence."""
    assert 400 <= answer.status_code < 500, (what, answer.status_code, answer.text[:300])
    body = answer.json()
    assert set(body) <= {"error", "details"}, (what, body)
    assert isinstance(body["error"], str)
    assert body["error"]
    assert "Traceback" not in answer.text
    assert "pydantic" not in answer.text
    for detail in body.get("details", []):
        assert set(detail) == {"field", "message"}


@pytest.fixture(scope="module")
def workflow(api: Client) -> str:
    return str(api.post("/v1/workflows", {"name": "Target"}, 201)["id"])


@pytest.fixture(scope="module")
def run(api: Client, workflow: str) -> str:
    """A run that waits for a person, so that answers and replays get far enough to be looked at."""
    crew = [{"role": "A", "systemPrompt": "x", "approval": True}]
    other = api.post("/v1/workflows", {"name": "Waits", "crew": crew}, 201)["id"]
    run_id = str(api.post(f"/v1/workflows/{other}/runs", {"input": "x"}, 202)["id"])
    api.until(f"/v1/runs/{run_id}", lambda found: found["status"] == "waiting_input")
    return run_id


@pytest.mark.parametrize(("method", "path"), WITH_BODY)
def test_bad_bodies(api: Client, workflow: str, run: str, method: str, path: str) -> None:
    target = path.replace("/runs/{id}", f"/runs/{run}").replace("workflows/{id}", f"workflows/{workflow}")
    target = target.replace("routes/{id}", "routes/writer").replace("models/{id}", "models/gpt-5-mini")
    for body in BODIES:
        for kind in ("application/json", "text/plain", "application/x-www-form-urlencoded", "multipart/form-data; x"):
            answer = api.raw(method, target, body, {"Content-Type": kind})
            if method == "PATCH" and b'"paused", "enabled"' in body:
                assert answer.status_code == 400
            check(answer, (method, target, body[:80], kind))
    assert api.get(f"/v1/workflows/{workflow}")["version"] == 1


@pytest.mark.parametrize(("method", "path"), [(method, path) for method, path in ROUTES if "{id}" in path])
def test_odd_ids(api: Client, method: str, path: str) -> None:
    bodies: dict[str, Any] = {
        "runs": {"input": "x"}, "replay": {"fromStep": "a"}, "respond": {"input": "x"}, "cancel": None
    }  # fmt: skip
    body = bodies.get(path.rpartition("/")[2], {"name": "x"})
    if "routes" in path:
        body = {} if path.endswith("rollback") else {"model": "small"}
    if "models" in path:
        body = {"contextWindow": 5}
    for odd in ODD_IDS:
        if method == "PATCH":
            body = {"status": "paused"}
        answer = api.raw(method, path.replace("{id}", odd), body if method in ("POST", "PUT", "PATCH") else None)
        if odd == "<script>":
            assert "<script>" not in answer.headers["content-type"]
        check(answer, (method, path, odd))


@pytest.mark.parametrize("path", sorted({path for _, path in ROUTES}))
def test_another_method(api: Client, path: str) -> None:
    known = {method for method, one in ROUTES if one == path}
    for method in {"GET", "POST", "PUT", "PATCH", "DELETE"} - known:
        answer = api.raw(method, path.replace("{id}", "x"))
        assert answer.status_code == 405, (method, path)
        assert set(answer.headers["allow"].split(", ")) == known
        check(answer, (method, path))
    assert api.raw("HEAD", path.replace("{id}", "x")).status_code == 405
    check(api.raw("BREW", path.replace("{id}", "x")), ("BREW", path))


@pytest.mark.parametrize("path", ["/v1/workflows", "/v1/workflows/{id}/runs"])
@pytest.mark.parametrize(
    "query",
    [
        "limit=0", "limit=-1", "limit=101", "limit=x", "limit=", "limit=1e1", "limit=" + "9" * 500, "limit=1&limit=2",
        "cursor=x", "cursor=" + "A" * 2000, "cursor=%00", "cursor=e30", "cursor=W10", "cursor=bnVsbA",
        "cursor=" + base64.urlsafe_b64encode(b'["support_reply", "\\ud800"]').decode().rstrip("="),
        "cursor=" + base64.urlsafe_b64encode(json.dumps(["a" * 600, "b"]).encode()).decode().rstrip("="),
        "cursor=" + base64.urlsafe_b64encode(b"[" * 600).decode().rstrip("="),
        "cursor=" + base64.urlsafe_b64encode(b'["a", 1e99999999999999999999]').decode().rstrip("="),
        "cursor=" + base64.urlsafe_b64encode(b"1e300000000").decode().rstrip("="),
    ],
)  # fmt: skip
def test_bad_pages(api: Client, workflow: str, path: str, query: str) -> None:
    check(api.raw("GET", f"{path.replace('{id}', workflow)}?{query}"), query)


def test_bodies_that_are_too_large(api: Client, workflow: str) -> None:
    for method, path in WITH_BODY:
        target = path.replace("{id}", workflow)
        for body in (b'{"input": "' + b"x" * 2_000_000 + b'"}', b"x" * 2_000_000, b"\xff" * 2_000_000):
            answer = api.raw(method, target, body)
            assert answer.status_code == 413, (method, target)
            check(answer, target)


def test_a_body_is_json_whatever_its_content_type(api: Client, workflow: str) -> None:
    path = f"/v1/workflows/{workflow}"
    for kind in ("application/json; charset=utf-8", "text/plain", "application/x-www-form-urlencoded", "image/png"):
        answer = api.raw("PATCH", path, b'{"description": "d"}', {"Content-Type": kind})
        assert (answer.status_code, answer.json()["data"]["description"]) == (200, "d"), kind


@pytest.mark.parametrize("key", ["", "x" * 256, "two words", "tab\there"])
def test_bad_idempotency_keys(api: Client, key: str) -> None:
    answer = api.raw("POST", "/v1/workflows", {"name": "Never"}, {"Idempotency-Key": key})
    check(answer, key)
    assert answer.json()["details"][0]["field"] == "idempotency-key"


def test_details_name_every_field(api: Client) -> None:
    crew = [{"role": "A", "systemPrompt": "x", "modell": "small"}, {"role": "", "systemPrompt": "x"}]
    answer = api.raw("POST", "/v1/workflows", {"name": "Details", "crew": crew, "modle": "x"})
    assert answer.status_code == 400
    details = {one["field"]: one["message"] for one in answer.json()["details"]}
    assert set(details) == {"crew.0.modell", "crew.1.role", "modle"}
    assert "did you mean model?" in details["crew.0.modell"]


def test_details_of_a_run(api: Client, workflow: str) -> None:
    path = f"/v1/workflows/{workflow}/runs"
    for body, field in [
        ({"input": "x", "models": {"writer": "no-such-model"}}, "models.writer"),
        ({"input": "x", "models": {"nobody": "small"}}, "models.nobody"),
        ({"input": "x", "models": {"writer": 7}}, "models.writer"),
        ({"input": "x", "tags": {"a": "x" * 300}}, "tags.a"),
        ({"input": "x", "tags": {"": "x"}}, "tags"),
        ({"input": "x", "tags": {"x" * 300: "x"}}, "tags"),
        ({"input": "x", "tags": {str(n): "x" for n in range(30)}}, "tags"),
        ({"input": "x", "more": 1}, "more"),
        ({"models": {}}, "input"),
    ]:
        answer = api.raw("POST", path, body)
        check(answer, body)
        assert any(one["field"].startswith(field) for one in answer.json()["details"]), answer.text
    assert api.get(path) == []


def test_the_sdk_of_nobody_gets_through_with_a_raw_request(api: Client) -> None:
    """What no HTTP client would send."""
    where, end = urlsplit(api.url), "\r\n"
    for head in (
        f"GET /v1/workflows HTTP/1.1\r\nHost: {where.netloc}\r\n{2 * f'Authorization: Bearer {api.key}{end}'}\r\n",
        f"GET //v1//workflows HTTP/1.1\r\nHost: {where.netloc}\r\n\r\n",
        f"GET /v1/../healthz HTTP/1.1\r\nHost: {where.netloc}\r\n\r\n",
        f"GET /healthz/../v1/workflows HTTP/1.1\r\nHost: {where.netloc}\r\n\r\n",
    ):
        with socket.create_connection((str(where.hostname), int(where.port or 0)), timeout=20) as raw:
            raw.sendall(head.encode())
            status = int(raw.recv(200).split()[1])
        assert status == 401, head


# A stack of its own: little rate, some origins


@pytest.fixture(scope="module")
def narrow(running: Any) -> Iterator[Any]:
    """A stack with little rate and two origins."""
    parameters = {
        "SimulatedProviders": "*",
        "RequestsPerSecond": "0.5",
        "AllowedOrigins": "https://console.example.com,https://other.example.com",
    }
    with LocalStack(Path(__file__).parents[2], parameters, log=lambda line: None) as stack:
        yield running(stack)


def test_a_key_that_asks_too_often(narrow: Any) -> None:
    client = Client(narrow)
    answers = [client.raw("GET", "/v1/workflows") for _ in range(4)]
    assert [one.status_code for one in answers][:1] == [200]
    last = answers[-1]
    assert last.status_code == 429
    assert 1 <= int(last.headers["Retry-After"]) <= 2
    assert "try again" in last.json()["error"]
    assert client.with_key("other").raw("GET", "/v1/workflows").status_code == 200


def test_cors(narrow: Any) -> None:
    url = narrow.stack.api_url
    for origin in ("https://console.example.com", "https://other.example.com"):
        asked = {"Origin": origin, "Access-Control-Request-Method": "PUT"}
        answer = httpx.options(f"{url}/v1/workflows/x", headers=asked)
        assert (answer.status_code, answer.content) == (204, b"")
        assert answer.headers["access-control-allow-origin"] == origin
        assert "PUT" in answer.headers["access-control-allow-methods"]
        for name in ("Authorization", "Content-Type", "Idempotency-Key"):
            assert name.lower() in answer.headers["access-control-allow-headers"].lower()
        # Errors too, or a page could not read them.
        refused = httpx.get(f"{url}/v1/workflows", headers={"Origin": origin})
        assert (refused.status_code, refused.headers["access-control-allow-origin"]) == (401, origin)
    foreign = httpx.get(f"{url}/v1/workflows", headers={"Origin": "https://evil.example.com"})
    assert "access-control-allow-origin" not in foreign.headers


def test_no_origin_may_call_unless_it_is_allowed(api: Client) -> None:
    answer = httpx.get(f"{api.url}/healthz", headers={"Origin": "https://console.example.com"})
    assert not [name for name in answer.headers if name.startswith("access-control")]


def test_every_answer_carries_the_headers_of_security(api: Client) -> None:
    for answer in (
        api.raw("GET", "/v1/workflows"),
        api.raw("GET", "/v1/runs/none"),
        httpx.get(f"{api.url}/v1/workflows"),
        httpx.get(f"{api.url}/healthz"),
    ):
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["cache-control"] == "no-store"
        assert "max-age" in answer.headers["strict-transport-security"]
        assert "default-src 'none'" in answer.headers["content-security-policy"]
        assert len(answer.headers["x-request-id"]) >= 8
