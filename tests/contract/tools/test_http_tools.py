"""HTTP tools against real servers on loopback: what is sent, what comes back, and what is never reached."""

from __future__ import annotations

import gzip
import json
import socket
import threading
import time
from decimal import Decimal
from urllib.parse import quote

import pytest
from support.tool_rows import rows
from support.tool_server import KEY, FakeSecrets, http, no_dns, raw_server, run, serving

from loopllama.errors import ToolFailed
from loopllama.llm.types import ToolCall
from loopllama.tools.toolbox import Toolbox


class TestRequests:
    def test_placeholders_are_percent_encoded_and_stay_in_their_place(self, server):
        url = f"{server.url}/v1/orders/{{id}}/items?fixed=a%26b&q={{q}}&limit={{limit}}&all={{all}}"
        arguments = {"id": "A/1?x=y#z ü", "q": "a&b=c%", "limit": 5.0, "all": True}
        assert run(http(url), arguments) == "hello"
        assert server.seen[0].method == "GET"
        assert server.seen[0].path == (
            "/v1/orders/A%2F1%3Fx%3Dy%23z%20%C3%BC/items?fixed=a%26b&q=a%26b%3Dc%25&limit=5&all=true"
        )
        assert server.seen[0].headers["host"] == f"127.0.0.1:{server.port}"
        assert server.seen[0].headers["idempotency-key"] == KEY
        assert server.seen[0].body == b""

    def test_query_parameters_that_are_not_given_are_left_out(self, server):
        parameters = {"type": "object", "properties": {"q": {}, "limit": {}}}
        run(http(f"{server.url}/s?q={{q}}&limit={{limit}}", parameters=parameters), {"q": Decimal("1.50")})
        assert server.seen[0].path == "/s?q=1.5"

    @pytest.mark.parametrize(
        "value",
        [
            *("..", ".", "../../admin", "a/../b", "..\\x", "%2e%2e", "%252e%252e/x", "%" + "25" * 900 + "2e", ""),
            *("..;", "..;/admin", "..;a=b/admin", ".;", "%2e%2e%3b/x", "..%3B", "a/..;/b", ".. /x", "..%00/x", "..\t"),
        ],
    )
    def test_a_path_does_not_climb(self, server, value):
        with pytest.raises(ToolFailed, match="must not"):
            run(http(f"{server.url}/orders/{{id}}"), {"id": value})
        assert server.seen == []

    @pytest.mark.parametrize("value", ["a;b", "..a;", "v1..v2", "...", ";"])
    def test_a_name_with_dots_or_parameters_is_no_climbing(self, server, value):
        run(http(f"{server.url}/orders/{{id}}"), {"id": value})
        assert server.seen[0].path == f"/orders/{quote(value, safe='')}"

    def test_parameters_that_the_template_adds_hide_no_climbing(self, server):
        with pytest.raises(ToolFailed, match="must not"):
            run(http(f"{server.url}/orders/{{id}};v=1/x"), {"id": ".."})
        assert server.seen == []

    def test_a_url_has_a_longest_length(self, server):
        with pytest.raises(ToolFailed, match="longer than 8,192"):
            run(http(f"{server.url}/orders/{{id}}"), {"id": "x" * 9000})

    def test_a_dot_from_the_template_does_not_climb(self, server):
        with pytest.raises(ToolFailed, match="must not"):
            run(http(f"{server.url}/orders/.{{id}}/x"), {"id": "."})
        assert server.seen == []

    @pytest.mark.parametrize("value", [["a"], {"a": 1}, None])
    def test_only_scalars_go_into_a_path(self, server, value):
        with pytest.raises(ToolFailed, match="must be a text, a number or a boolean"):
            run(http(f"{server.url}/orders/{{id}}"), {"id": value})

    def test_the_rest_of_the_arguments_is_the_json_body(self, server):
        tool = http(f"{server.url}/orders/{{id}}", method="POST", body="json", headers={"X-Team": "support"})
        run(tool, {"id": 7, "note": "grüß", "amount": Decimal("0.10"), "lines": [{"sku": "a"}]})
        seen = server.seen[0]
        assert (seen.method, seen.path) == ("POST", "/orders/7")
        assert json.loads(seen.body) == {"note": "grüß", "amount": 0.1, "lines": [{"sku": "a"}]}
        assert seen.headers["content-type"] == "application/json"
        assert seen.headers["x-team"] == "support"

    def test_arguments_without_a_place_are_refused(self, server):
        parameters = {"type": "object", "properties": {"q": {}}}
        with pytest.raises(ToolFailed, match="takes no 'page'; its arguments are: q"):
            run(http(f"{server.url}/s?q={{q}}", parameters=parameters), {"q": "a", "page": 2})
        assert server.seen == []

    def test_any_idempotency_key_fits_a_header(self, server):
        toolbox = Toolbox(rows({"t": http(f"{server.url}/", description="d")}), ["t"], resolve=no_dns)
        toolbox.call(ToolCall("c", "t", {}), idempotency_key="läuft\r\nX: y", timeout=5)
        assert server.seen[0].headers["idempotency-key"] == "l%C3%A4uft%0D%0AX:%20y"


class TestAnswers:
    def test_long_answers_are_cut_and_say_so(self, server):
        server.answers["/"] = (200, {}, b"x" * 5_000_000)
        text = run(http(f"{server.url}/"))
        assert text == "x" * 200_000 + "\n[cut: only the first 200,000 bytes are shown]"

    def test_an_answer_of_exactly_the_limit_is_whole(self, server):
        server.answers["/"] = (200, {}, b"x" * 200_000)
        assert run(http(f"{server.url}/")) == "x" * 200_000

    def test_empty(self, server):
        server.answers["/"] = (204, {"Content-Length": None}, b"")
        assert run(http(f"{server.url}/", method="DELETE")) == "HTTP 204, an empty answer"

    def test_character_sets(self, server):
        server.answers["/"] = (200, {"Content-Type": "text/plain; charset=iso-8859-1"}, "grüß".encode("latin-1"))
        server.answers["/unknown"] = (200, {"Content-Type": "text/plain; charset=klingon"}, "grüß".encode())
        assert run(http(f"{server.url}/")) == "grüß"
        assert run(http(f"{server.url}/unknown")) == "grüß"

    def test_compressed_although_not_asked_for(self, server):
        server.answers["/"] = (200, {"Content-Encoding": "gzip"}, gzip.compress(b"hello" * 10))
        assert run(http(f"{server.url}/")) == "hello" * 10
        assert server.seen[0].headers["accept-encoding"] == "identity"

    def test_a_compression_bomb_is_cut(self, server):
        bomb = gzip.compress(b"\x20" * 100_000_000)
        server.answers["/"] = (200, {"Content-Encoding": "gzip"}, bomb)
        assert run(http(f"{server.url}/")).endswith("[cut: only the first 200,000 bytes are shown]")

    @pytest.mark.parametrize(
        ("answer", "reason"),
        [
            ((404, {}, "no such order"), "HTTP 404: no such order$"),
            ((500, {}, "x" * 9000), "HTTP 500: x{1000}$"),
            ((429, {"Retry-After": "30"}, ""), "HTTP 429, try again after 30$"),
            ((304, {}, b""), "HTTP 304$"),
            ((200, {"Content-Type": "image/png"}, b"\x89PNG\0\0"), r"no text \(image/png\)"),
            ((200, {"Content-Type": "image/jpeg"}, b"\xff\xd8JFIF" * 9), r"no text \(image/jpeg\)"),
            (
                (200, {"Content-Type": "application/pdf"}, b"%PDF-1.7 obj " * 30 + b"\xe2\xe3"),
                r"no text \(application/pdf\)",
            ),
            ((200, {}, bytes(range(128, 255))), r"no text \(text/plain\)"),
            ((500, {}, b"\0\0"), "HTTP 500$"),
            ((200, {"Content-Encoding": "br"}, b"abc"), "encoded as 'br'"),
            ((200, {"Content-Encoding": "gzip"}, b"no gzip"), "connection to 127.0.0.1 failed"),
            ((200, {"Content-Length": 100}, b"short"), "connection to 127.0.0.1 failed|in time"),
        ],
    )
    def test_failures(self, server, answer, reason):
        server.answers["/"] = answer
        if answer[1].get("Content-Length"):
            answer[1]["Connection"] = "close"
        with pytest.raises(ToolFailed, match=reason):
            run(http(f"{server.url}/"), timeout=2)

    def test_nobody_listens(self):
        with socket.create_server(("127.0.0.1", 0)) as listener:
            port = listener.getsockname()[1]
        with pytest.raises(ToolFailed, match=r"connection to 127.0.0.1 failed"):
            run(http(f"http://127.0.0.1:{port}/"))

    def test_no_http(self):
        with (
            raw_server(lambda connection, _: connection.sendall(b"SSH-2.0-x\r\n\r\n")) as url,
            pytest.raises(ToolFailed, match=r"connection to 127.0.0.1 failed"),
        ):
            run(http(url))

    @pytest.mark.parametrize("headers", [b"", b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n"])
    def test_silence_ends_in_time(self, headers):
        def script(connection, stop):
            connection.sendall(headers)
            stop.wait(20)

        started = time.monotonic()
        with raw_server(script) as url, pytest.raises(ToolFailed, match="no whole answer in time"):
            run(http(url), timeout=0.3)
        assert time.monotonic() - started < 10

    def test_a_trickle_ends_in_time(self):
        def script(connection, stop):
            connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
            while not stop.wait(0.05):
                connection.sendall(b"x")

        started = time.monotonic()
        with raw_server(script) as url, pytest.raises(ToolFailed, match="no whole answer in time"):
            run(http(url), timeout=0.5)
        assert time.monotonic() - started < 10

    def test_the_definitions_own_limit(self):
        with raw_server(lambda _, stop: stop.wait(20)) as url, pytest.raises(ToolFailed, match="in time"):
            run(http(url, timeout_seconds=0.2), timeout=60)


class TestRedirects:
    def test_followed_on_the_same_server(self, server):
        server.answers["/old"] = (301, {"Location": "/new?x=1"}, "")
        assert run(http(f"{server.url}/old")) == "hello"
        assert [seen.path for seen in server.seen] == ["/old", "/new?x=1"]
        assert server.seen[1].headers["idempotency-key"] == KEY

    @pytest.mark.parametrize(
        ("status", "method", "then", "body"),
        [
            (301, "POST", "GET", b""),
            (302, "POST", "GET", b""),
            (303, "PUT", "GET", b""),
            (302, "PUT", "PUT", b'{"a":1}'),
            (307, "POST", "POST", b'{"a":1}'),
            (308, "PATCH", "PATCH", b'{"a":1}'),
        ],
    )
    def test_methods(self, server, status, method, then, body):
        server.answers["/old"] = (status, {"Location": f"{server.url}/new"}, "")
        run(http(f"{server.url}/old", method=method, body="json"), {"a": 1})
        assert (server.seen[1].method, server.seen[1].path, server.seen[1].body) == (then, "/new", body)
        assert ("content-type" in server.seen[1].headers) == (then != "GET")

    def test_loops_end(self, server):
        server.answers["/"] = (302, {"Location": "/"}, "")
        with pytest.raises(ToolFailed, match="redirects more than 5 times"):
            run(http(f"{server.url}/"))
        assert len(server.seen) == 6

    @pytest.mark.parametrize(
        "location",
        [
            "http://localhost:{port}/",  # the same server by another name is another host
            "http://127.0.0.1:{other}/",
            "http://169.254.169.254/latest/meta-data/",
            "https://127.0.0.1:{port}/",
            "//127.0.0.2/",
            "file:///etc/passwd",
            "http://user@127.0.0.1:{port}/",
            "http://[/",
        ],
    )
    def test_to_elsewhere_are_refused(self, server, location):
        with serving() as other:
            server.answers["/"] = (302, {"Location": location.format(port=server.port, other=other.port)}, "")
            tool = http(f"{server.url}/", secret={"name": "s/tools/s"})
            with pytest.raises(ToolFailed, match="redirects to"):
                run(tool, aws=FakeSecrets(s="sk-12345678"), resolve=lambda host, port: ["127.0.0.1"])
            assert len(server.seen) == 1
            assert other.seen == []


def test_many_calls_side_by_side(server):
    tools = rows(
        {
            "t": http(
                f"{server.url}/{{n}}",
                description="d",
                secret={"name": "s/tools/s"},
                parameters={"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]},
            )
        }
    )
    aws = FakeSecrets(s="key-1")
    toolbox, results = Toolbox(tools, ["t"], resolve=no_dns, aws=aws), []

    def one(number):
        results.append(toolbox.call(ToolCall("c", "t", {"n": number}), idempotency_key=f"k{number}", timeout=10))

    threads = [threading.Thread(target=one, args=(number,)) for number in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == ["hello"] * 16
    assert sorted(seen.headers["idempotency-key"] for seen in server.seen) == sorted(f"k{n}" for n in range(16))
    assert aws.reads == ["s/tools/s"]
