"""A provider's key never comes back: whatever a server quotes, and wherever, neither errors nor answers hold it."""

from __future__ import annotations

import base64
import json
from dataclasses import asdict
from typing import Any
from urllib.parse import quote

import pytest
from support.dialects import DIALECTS, KEY, Dialect
from support.failures import Make
from support.wire_server import Raw, Reply, Step, WireServer

from loopllama.errors import ModelError
from loopllama.llm.types import ModelRequest, Provider, ToolSpec

NOW = ToolSpec("now", "The time.", {"type": "object", "properties": {}})


@pytest.fixture(
    params=[dialect for dialect in DIALECTS if "bedrock" not in dialect.name], ids=lambda dialect: dialect.name
)
def dialect(request: pytest.FixtureRequest) -> Dialect:
    """Those that send a key; the others sign."""
    found: Dialect = request.param
    return found


def told(server: WireServer, adapter: Provider, call: ModelRequest, step: Step) -> str:
    server.script(step)
    with pytest.raises(ModelError) as caught:
        adapter.complete(call)
    return str(caught.value)


def clean(text: str) -> None:
    assert KEY not in text
    assert KEY[:8] not in text
    for start in range(3):
        encoded = base64.b64encode(b"\0" * start + KEY.encode()).decode()[4:-4]
        assert encoded not in text


@pytest.mark.parametrize("status", [400, 401, 404, 429, 500])
def test_errors(dialect: Dialect, server: WireServer, adapter: Provider, make_call: Make, status: int) -> None:
    code = dialect.bad_request[1]
    quoted = " and ".join((KEY, base64.b64encode(f"Bearer {KEY}".encode()).decode(), quote(KEY)))
    clean(told(server, adapter, make_call(), dialect.error(status, code, f"You sent {quoted}")))


@pytest.mark.parametrize("length", [8, 12, len(KEY) - 1])
@pytest.mark.parametrize("padding", [0, 480, 1990, 9990])
def test_texts_that_are_cut_in_the_middle_of_it(
    dialect: Dialect, server: WireServer, adapter: Provider, make_call: Make, padding: int, length: int
) -> None:
    # The provider cuts, or we do: at 500, 2,000 and 10,000 characters.
    for text in (f"{'x' * padding} {KEY[:length]}", f"{'x' * (padding - length)} {KEY} and more"):
        clean(told(server, adapter, make_call(), Reply(400, text.encode(), {"content-type": "text/plain"})))


def test_codes_and_headers(dialect: Dialect, server: WireServer, adapter: Provider, make_call: Make) -> None:
    status = dialect.bad_request[0]
    for headers in (
        {"retry-after": KEY, "x-amzn-errortype": f"{KEY}:x", "content-type": KEY, "x-ratelimit-remaining": KEY},
        {"x-request-id": KEY, "server": KEY},
    ):
        clean(told(server, adapter, make_call(), dialect.error(status, KEY, "No.", headers)))


@pytest.mark.parametrize(
    ("location", "shown"),
    [
        (f"https://elsewhere.example/v1?api_key={KEY}", "to https://elsewhere.example/v1;"),
        (f"https://user:{KEY}@elsewhere.example/v1", "to https://elsewhere.example/v1;"),
        (f"https://elsewhere.example/{KEY}", "to https://elsewhere.example/"),
        ("javascript:alert(1)", "redirects;"),
        ("https://elsewhere.example/" + "x" * 5000, "redirects;"),
        ("\x1b[31mhttps://elsewhere.example/", "redirects;"),
    ],
)
def test_of_where_a_redirect_leads_an_address_is_shown(
    dialect: Dialect, server: WireServer, adapter: Provider, make_call: Make, location: str, shown: str
) -> None:
    error = told(server, adapter, make_call(), Reply(307, b"", {"location": location}))
    clean(error)
    assert shown in error


def test_a_header_that_cannot_be_read_is_not_quoted(
    dialect: Dialect, server: WireServer, adapter: Provider, make_call: Make
) -> None:
    clean(told(server, adapter, make_call(), Raw(f"HTTP/1.1 200 OK\r\n{KEY}\r\n\r\n".encode())))


def test_answers(dialect: Dialect, server: WireServer, adapter: Provider, make_call: Make) -> None:
    said = f"Your key is {KEY}, or {base64.b64encode(KEY.encode()).decode()}."
    calls = [("call_1", "now", {"key": f"<{KEY}>", KEY: [KEY]})]
    body: Any = dialect.answer(said, calls=calls)
    escaped = json.dumps(body).replace(KEY, "\\u0073" + KEY[1:])
    assert KEY not in escaped
    for content in (json.dumps(body).encode(), escaped.encode()):
        server.script(Reply(200, content, {"content-type": "application/json"}))
        answer = adapter.complete(make_call(tools=(NOW,)))
        clean(json.dumps(asdict(answer), default=str))
        assert answer.text.startswith("Your key is ")
        assert answer.tool_calls[0].name == "now"
