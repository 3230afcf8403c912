"""The HTTP API on the local stack."""

from __future__ import annotations

import base64

import httpx
import pytest

from loopllama_cli.local.http_api import match
from loopllama_cli.local.template import Route

from .conftest import Running


@pytest.fixture(scope="module")
def api(toy: Running):
    with httpx.Client(base_url=toy.outputs["ApiUrl"], timeout=20) as client:
        yield client


def test_a_request_is_a_proxy_event_of_version_2(api: httpx.Client) -> None:
    answer = api.get("/things/a%20b?q=1&q=2&empty=", headers={"X-Custom": "yes", "Cookie": "c=1; d=2"})
    assert answer.status_code == 201
    assert answer.headers["x-toy"] == "yes"
    assert answer.headers.get_list("set-cookie") == ["a=1", "b=2"]
    event = answer.json()
    assert event["version"] == "2.0"
    assert event["routeKey"] == "GET /things/{id}"
    assert event["rawPath"] == "/things/a b"
    assert event["pathParameters"] == {"id": "a b"}
    assert event["queryStringParameters"] == {"q": "1,2", "empty": ""}
    assert event["rawQueryString"] == "q=1&q=2&empty="
    assert event["headers"]["x-custom"] == "yes"
    assert event["cookies"] == ["c=1", "d=2"]
    assert event["requestContext"]["http"]["method"] == "GET"
    assert event["requestContext"]["http"]["sourceIp"] == "127.0.0.1"
    assert event["isBase64Encoded"] is False
    assert "body" not in event


def test_bodies_are_text_or_base64(api: httpx.Client) -> None:
    event = api.post("/things", json={"ä": 1}).json()
    assert event["body"] == '{"ä":1}'
    assert event["isBase64Encoded"] is False
    event = api.post("/things", content=b"\x00\xff", headers={"Content-Type": "application/octet-stream"}).json()
    assert base64.b64decode(event["body"]) == b"\x00\xff"
    assert event["isBase64Encoded"] is True


def test_version_1_events_and_answers(api: httpx.Client) -> None:
    answer = api.put("/files/deep/path.txt?x=1&x=2", content="text", headers={"Content-Type": "text/plain"})
    assert answer.headers.get_list("x-two") == ["a", "b"]
    event = answer.json()
    assert event["version"] == "1.0"
    assert event["resource"] == "/files/{proxy+}"
    assert event["httpMethod"] == "PUT"
    assert event["pathParameters"] == {"proxy": "deep/path.txt"}
    assert event["multiValueQueryStringParameters"] == {"x": ["1", "2"]}
    assert event["body"] == "text"


def test_any_json_is_an_answer_of_version_2(api: httpx.Client) -> None:
    answer = api.get("/things/plain")
    assert answer.status_code == 200
    assert answer.json() == {"plain": True}


def test_errors_are_api_gateways(api: httpx.Client) -> None:
    answer = api.get("/things/boom")
    assert (answer.status_code, answer.json()) == (500, {"message": "Internal Server Error"})
    for refused in (api.get("/nowhere"), api.delete("/things"), api.get("/things/a/b")):
        assert (refused.status_code, refused.json()) == (404, {"message": "Not Found"})
    assert api.post("/things", content=b"x" * (10 * 1024 * 1024 + 1)).status_code == 413
    assert api.post("/things", content=iter([b"x" * 1024 * 1024] * 11)).status_code == 413
    assert api.request("BREW", "/things").status_code == 404


def test_a_body_may_come_in_chunks(api: httpx.Client) -> None:
    event = api.post("/things", content=iter([b"one ", b"", b"two"])).json()
    assert (event["body"], event["isBase64Encoded"]) == ("one two", False)
    assert api.get("/things/plain").status_code == 200


@pytest.mark.parametrize(
    ("method", "path", "expected"),
    [
        ("GET", "/runs/1", ("/runs/{id}", {"id": "1"})),
        ("GET", "/runs/latest", ("/runs/latest", {})),
        ("GET", "/runs/1/events", ("/runs/{id}/events", {"id": "1"})),
        ("GET", "/other/way", ("/{proxy+}", {"proxy": "other/way"})),
        ("POST", "/runs/1", ("/{proxy+}", {"proxy": "runs/1"})),
        ("GET", "/runs/1/", ("/runs/{id}", {"id": "1"})),
        ("GET", "/a/*", ("/{proxy+}", {"proxy": "a/*"})),
        ("GET", "/", None),
    ],
)
def test_the_most_specific_route_wins(method: str, path: str, expected: tuple[str, dict[str, str]] | None) -> None:
    routes = [
        Route("ANY", "/{proxy+}", "all", "2.0"),
        Route("GET", "/runs/{id}", "one", "2.0"),
        Route("GET", "/runs/latest", "latest", "2.0"),
        Route("ANY", "/runs/{id}/events", "events", "2.0"),
    ]
    found = match(routes, method, path)
    assert (found and (found[0].path, found[1])) == expected


def test_the_default_route_takes_the_rest() -> None:
    found = match([Route("ANY", "$default", "all", "2.0")], "GET", "/what/ever")
    assert found is not None
