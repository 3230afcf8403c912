"""A client of the HTTP API for tests."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any
from urllib.parse import parse_qsl

import httpx
import jsonschema

from loopllama.api.auth import KeyStore
from loopllama.core import exact_json
from loopllama.settings import Settings
from support.waiting import eventually

FINAL = ("completed", "failed", "cancelled")


class Client:
    """Speaks to a running stack (with `outputs` and `client(service)`) under a key of its own."""

    def __init__(self, stack: Any, name: str = "test") -> None:
        self.stack, self.url = stack, stack.outputs["ApiUrl"]
        settings = Settings(api_keys_table=stack.outputs["ApiKeysTableName"])
        self._keys = KeyStore(settings, stack.client("dynamodb"))
        self.key, kept = self._keys.create(name)
        self.key_id = kept["id"]
        self._http = httpx.Client(
            base_url=self.url, headers={"Authorization": f"Bearer {self.key}"}, timeout=60, limits=httpx.Limits()
        )

    def with_key(self, name: str) -> Client:
        """The same API under another key."""
        return Client(self.stack, name)

    def revoke(self, other: Client) -> None:
        """Revoke another client's key."""
        self._keys.revoke(other.key)

    def raw(self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None) -> httpx.Response:
        """An exchange; `body` is JSON, or a text or bytes as they are."""
        content: dict[str, Any] = {} if body is None else {"json": body}
        if isinstance(body, str | bytes):
            content = {"content": body}
        return self._http.request(method, path, headers=headers, **content)

    def post(self, path: str, body: Any, status: int) -> Any:
        """POST, expecting `status`; the answer's `data`."""
        return self._data(self.raw("POST", path, body), status)

    def get(self, path: str) -> Any:
        """GET, expecting 200; the answer's `data`."""
        return self._data(self.raw("GET", path), 200)

    def put(self, path: str, body: Any) -> Any:
        """PUT, expecting 200; the answer's `data`."""
        return self._data(self.raw("PUT", path, body), 200)

    def patch(self, path: str, body: Any) -> Any:
        """PATCH, expecting 200; the answer's `data`."""
        return self._data(self.raw("PATCH", path, body), 200)

    def delete(self, path: str) -> Any:
        """DELETE, expecting 200; the answer's `data`."""
        return self._data(self.raw("DELETE", path), 200)

    def until(self, path: str, good: Callable[[Any], bool], seconds: float = 60) -> Any:
        """What a GET answers, as soon as it is `good`. Fails after `seconds`."""
        found: Any = None

        def look() -> bool:
            nonlocal found
            found = self.get(path)
            return good(found)

        self.wait(look, seconds)
        return found

    def wait(self, good: Callable[[], bool], seconds: float = 30) -> None:
        """Wait until something holds. Fails after `seconds`."""
        eventually(good, seconds, first=0.05)

    def _data(self, answer: httpx.Response, status: int) -> Any:
        assert answer.status_code == status, answer.text
        assert answer.headers["content-type"] == "application/json"
        return answer.json()["data"]


def ended(api: Client, run_id: str) -> dict[str, Any]:
    """A run once it has ended."""
    found: dict[str, Any] = api.until(f"/v1/runs/{run_id}", lambda run: run["status"] in FINAL)
    return found


class InProcess:
    """The API in this process, with a deployment's settings, under a key of its own."""

    def __init__(self, settings: Settings, **changes: Any) -> None:
        from loopllama.api.app import Api

        self.settings = replace(
            settings, api_keys_table="ApiKeysTable", key_use_table="KeyUseTable", requests_per_second=1000, **changes
        )
        self.secret, _ = KeyStore(self.settings).create("test")
        self.api = Api(self.settings)

    def ask(self, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, Any]:
        """The answer's status and its JSON; `body` as `gateway_event` takes it."""
        return self.answer(gateway_event(self.secret, method, path, body, **headers))

    def answer(self, event: dict[str, Any]) -> tuple[int, Any]:
        """The same for an event of API Gateway."""
        answer = self.api.handle(event, None)
        return answer["statusCode"], exact_json.loads(answer["body"])


def gateway_event(secret: str, method: str, path: str, body: Any = None, **headers: str) -> dict[str, Any]:
    """API Gateway's event of a request under an API key, payload format 2.0; `body` is JSON, or a text as it is."""
    path, _, query = path.partition("?")
    return {
        "version": "2.0",
        "rawPath": path,
        "rawQueryString": query,
        "queryStringParameters": dict(parse_qsl(query, keep_blank_values=True)),
        "headers": {"authorization": f"Bearer {secret}", **headers},
        "requestContext": {"requestId": "r", "stage": "$default", "http": {"method": method, "path": path}},
        "body": body if body is None or isinstance(body, str) else exact_json.dumps(body),
        "isBase64Encoded": False,
    }


def schema_of(document: dict[str, Any], method: str, path: str, status: int) -> jsonschema.Draft202012Validator:
    """What the OpenAPI document says of an answer."""
    answer = document["paths"][path][method.lower()]["responses"][str(status)]
    schema = answer["content"]["application/json"]["schema"]
    return jsonschema.Draft202012Validator({**schema, "components": document["components"]})


TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")
CREW = [
    {"role": "Extractor", "systemPrompt": "List the facts.", "model": "openai:gpt-5-mini"},
    {"role": "Writer", "systemPrompt": "Write a reply."},
]


def make(api: Client, name: str, **fields: Any) -> dict[str, Any]:
    return api.post("/v1/workflows", {"name": name, "crew": CREW, **fields}, 201)


def waiting(api: Client, run_id: str) -> dict[str, Any]:
    return api.until(f"/v1/runs/{run_id}", lambda run: run["status"] == "waiting_input")


def at_once(count: int, act: Callable[[], httpx.Response]) -> list[httpx.Response]:
    gate = threading.Barrier(count)

    def go(_: int) -> httpx.Response:
        gate.wait()
        return act()

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(go, range(count)))
