"""The HTTP API: the routes of the template's functions, served on localhost through Lambda's proxy events."""

from __future__ import annotations

import base64
import json
import re
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeout
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from loopllama_cli.local import loopback
from loopllama_cli.local.functions import InvokeRefused
from loopllama_cli.local.handle import ACCOUNT
from loopllama_cli.local.processes import Outcome
from loopllama_cli.local.template import Route

MAX_BODY_BYTES = 10 * 1024 * 1024
MAX_EVENT_BYTES = 6 * 1024 * 1024
"""Lambda takes no larger event: https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html"""
INTEGRATION_SECONDS = 30.0
"""https://docs.aws.amazon.com/apigateway/latest/developerguide/http-api-quotas.html"""
TEXT_TYPES = re.compile(r"text/|application/(json|xml|javascript|x-www-form-urlencoded|yaml|.*\+(json|xml))")


class Answer(Exception):
    """An answer that API Gateway gives itself."""

    def __init__(self, status: int, message: str) -> None:
        self.status = status
        self.message = message


class Request:
    """An HTTP request as the proxy events need it."""

    def __init__(self, method: str, target: str, headers: list[tuple[str, str]], body: bytes, address: str) -> None:
        self.method, self.headers, self.body, self.address = method, headers, body, address
        parts = urlsplit(target)
        self.raw_path, self.raw_query = parts.path, parts.query
        self.path = unquote(parts.path)
        self.query = parse_qsl(parts.query, keep_blank_values=True)
        self.merged: dict[str, str] = {}
        for name, value in headers:
            key = name.lower()
            self.merged[key] = f"{self.merged[key]},{value}" if key in self.merged else value

    def text_body(self) -> tuple[str | None, bool]:
        """Return the body for an event, and whether it is base64."""
        if not self.body:
            return None, False
        if TEXT_TYPES.match(self.merged.get("content-type", "text/plain")):
            try:
                return self.body.decode(), False
            except UnicodeDecodeError:
                pass
        return base64.b64encode(self.body).decode(), True


def match(routes: list[Route], method: str, path: str) -> tuple[Route, dict[str, str]] | None:
    """Return the most specific route for a request, and its path parameters: a literal part beats `{name}`, that beats
    `{name+}`, and a method beats ANY."""
    best: tuple[tuple[Any, ...], Route, dict[str, str]] | None = None
    for route in routes:
        if route.method not in (method, "ANY", "*"):
            continue
        expression, rank = "", []
        for part in route.path.strip("/").split("/"):
            parameter = re.fullmatch(r"\{([A-Za-z0-9._-]+)(\+?)\}", part)
            if part == "$default":
                expression, rank = ".*", [3]
                break
            rank.append(0 if not parameter else 2 if parameter[2] else 1)
            name = f"p{len(rank)}"
            expression += "/" + (
                re.escape(part) if not parameter else f"(?P<{name}>{'.+' if parameter[2] else '[^/]+'})"
            )
        matched = re.fullmatch(expression, path if path == "/" else path.rstrip("/"))
        if matched:
            names = re.findall(r"\{([A-Za-z0-9._-]+)\+?\}", route.path)
            values = {name: unquote(value) for name, value in zip(names, matched.groups(), strict=True)}
            key = (rank, route.method != method)
            if best is None or key < best[0]:
                best = (key, route, values)
    return best and (best[1], best[2])


def event_v2(request: Request, route: Route, parameters: dict[str, str]) -> dict[str, Any]:
    """https://docs.aws.amazon.com/apigateway/latest/developerguide/http-api-develop-integrations-lambda.html"""
    body, encoded = request.text_body()
    now = time.time()
    query: dict[str, str] = {}
    for name, value in request.query:
        query[name] = f"{query[name]},{value}" if name in query else value
    headers = {name: value for name, value in request.merged.items() if name != "cookie"}
    cookies = [part.strip() for part in request.merged.get("cookie", "").split(";") if part.strip()]
    key = "$default" if route.path == "$default" else f"{route.method} {route.path}"
    return {
        "version": "2.0",
        "routeKey": key,
        "rawPath": request.path,
        "rawQueryString": request.raw_query,
        **({"cookies": cookies} if cookies else {}),
        "headers": headers,
        **({"queryStringParameters": query} if query else {}),
        **({"pathParameters": parameters} if parameters else {}),
        "requestContext": {
            "accountId": ACCOUNT,
            "apiId": "local",
            "domainName": request.merged.get("host", "localhost"),
            "domainPrefix": "local",
            "http": {
                "method": request.method,
                "path": request.path,
                "protocol": "HTTP/1.1",
                "sourceIp": request.address,
                "userAgent": request.merged.get("user-agent", ""),
            },
            "requestId": str(uuid.uuid4()),
            "routeKey": key,
            "stage": "$default",
            "time": time.strftime("%d/%b/%Y:%H:%M:%S +0000", time.gmtime(now)),
            "timeEpoch": int(now * 1000),
        },
        **({"body": body} if body is not None else {}),
        "isBase64Encoded": encoded,
    }


def event_v1(request: Request, route: Route, parameters: dict[str, str]) -> dict[str, Any]:
    """https://docs.aws.amazon.com/apigateway/latest/developerguide/set-up-lambda-proxy-integrations.html"""
    body, encoded = request.text_body()
    many_headers: dict[str, list[str]] = {}
    for name, value in request.headers:
        many_headers.setdefault(name, []).append(value)
    many_query: dict[str, list[str]] = {}
    for name, value in request.query:
        many_query.setdefault(name, []).append(value)
    now = time.time()
    return {
        "version": "1.0",
        "resource": route.path,
        "path": request.path,
        "httpMethod": request.method,
        "headers": {name: values[-1] for name, values in many_headers.items()},
        "multiValueHeaders": many_headers,
        "queryStringParameters": {name: values[-1] for name, values in many_query.items()} or None,
        "multiValueQueryStringParameters": many_query or None,
        "pathParameters": parameters or None,
        "stageVariables": None,
        "requestContext": {
            "accountId": ACCOUNT,
            "apiId": "local",
            "domainName": request.merged.get("host", "localhost"),
            "httpMethod": request.method,
            "identity": {"sourceIp": request.address, "userAgent": request.merged.get("user-agent", "")},
            "path": request.path,
            "protocol": "HTTP/1.1",
            "requestId": str(uuid.uuid4()),
            "requestTime": time.strftime("%d/%b/%Y:%H:%M:%S +0000", time.gmtime(now)),
            "requestTimeEpoch": int(now * 1000),
            "resourcePath": route.path,
            "stage": "local",
        },
        "body": body,
        "isBase64Encoded": encoded,
    }


def response(outcome: Outcome, version: str) -> tuple[int, list[tuple[str, str]], bytes]:
    """Return a function's answer as HTTP. Raises `Answer` for what API Gateway refuses to pass on."""
    broken = Answer(500, "Internal Server Error") if version == "2.0" else Answer(502, "Internal server error")
    if outcome.error:
        raise broken
    answer = json.loads(outcome.payload)
    if version == "2.0" and not (isinstance(answer, dict) and "statusCode" in answer):
        # Format 2.0 takes any other JSON for the body.
        text = answer if isinstance(answer, str) else json.dumps(answer)
        return 200, [("Content-Type", "application/json")], text.encode()
    try:
        headers = [(str(name), str(value)) for name, value in (answer.get("headers") or {}).items()]
        for name, values in (answer.get("multiValueHeaders") or {}).items():
            headers = [pair for pair in headers if pair[0].lower() != name.lower()]
            headers += [(name, str(value)) for value in values]
        headers += [("Set-Cookie", cookie) for cookie in answer.get("cookies") or []]
        body = answer.get("body") or ""
        raw = base64.b64decode(body) if answer.get("isBase64Encoded") else body.encode()
        if not any(name.lower() == "content-type" for name, _ in headers):
            headers.append(("Content-Type", "text/plain;charset=UTF-8" if version == "2.0" else "application/json"))
        return int(answer["statusCode"]), headers, raw
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise broken from error


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, port: int, routes: list[Route], invoke: Callable[[str, bytes], Outcome]) -> None:
        super().__init__(("127.0.0.1", port), _Handler)
        self.routes = routes
        self.invoke = invoke
        self.waiting = ThreadPoolExecutor(max_workers=64, thread_name_prefix="api")


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    _unread = False

    def handle_one(self) -> None:
        try:
            status, headers, body = self._answer()
        except Answer as answer:
            status, headers = answer.status, [("Content-Type", "application/json")]
            body = json.dumps({"message": answer.message}).encode()
        self.send_response_only(status)
        for name, value in headers:
            if name.lower() not in ("content-length", "connection", "transfer-encoding"):
                self.send_header(name, value)
        if status not in (204, 304):
            self.send_header("Content-Length", str(len(body)))
        if self._unread:
            self.send_header("Connection", "close")  # or the client sends its next request here
        self.end_headers()
        if self.command != "HEAD" and status not in (204, 304):
            self.wfile.write(body)

    def __getattr__(self, name: str) -> Any:
        # http.server looks for `do_<method>`: whichever it is, the routes say what comes of it.
        if name.startswith("do_"):
            return self.handle_one
        raise AttributeError(name)

    def _body(self) -> bytes:
        self.close_connection, close = True, self.close_connection  # What is left unread is no next request.
        self._unread = True
        if wrong := loopback.wrong_host(self.headers, self.server.server_port):
            raise Answer(403, wrong)
        if "chunked" in self.headers.get("Transfer-Encoding", "").lower():
            body = b"".join(self._chunks())
        else:
            body = self.rfile.read(self._measured(self.headers.get("Content-Length", "0"), 10))
        self.close_connection, self._unread = close, False
        return body

    def finish(self) -> None:
        super().finish()
        if self._unread:
            loopback.close_unread(self.connection)

    def _chunks(self) -> Iterator[bytes]:
        """https://www.rfc-editor.org/rfc/rfc9112#section-7.1"""
        total = 0
        while size := self._measured(self.rfile.readline(100).partition(b";")[0].strip().decode("latin-1"), 16):
            self._measured(str(total := total + size), 10)
            yield self.rfile.read(size)
            self.rfile.readline(100)
        while self.rfile.readline(1000).strip():
            pass  # trailers

    def _measured(self, text: str, base: int) -> int:
        if not re.fullmatch("[0-9a-fA-F]{1,20}" if base == 16 else "[0-9]{1,20}", text):
            raise Answer(400, "Bad Request")
        if (size := int(text, base)) > MAX_BODY_BYTES:
            raise Answer(413, "Request Entity Too Large")
        return size

    def _answer(self) -> tuple[int, list[tuple[str, str]], bytes]:
        body = self._body()
        request = Request(self.command, self.path, self.headers.items(), body, self.client_address[0])
        route_match = match(self.server.routes, request.method, request.raw_path)
        if route_match is None:
            raise Answer(404, "Not Found")
        route, parameters = route_match
        event = (event_v2 if route.version == "2.0" else event_v1)(request, route, parameters)
        payload = json.dumps(event).encode()
        if len(payload) > MAX_EVENT_BYTES:
            raise Answer(413, "Request Entity Too Large")
        future = self.server.waiting.submit(self.server.invoke, route.function, payload)
        try:
            outcome = future.result(timeout=INTEGRATION_SECONDS)
        except FutureTimeout:
            raise Answer(503, "Service Unavailable") from None
        except InvokeRefused as refused:
            status, word = (503, "Service Unavailable") if refused.is_throttle else (500, "Internal Server Error")
            raise Answer(status, word) from refused
        except Exception as error:
            raise Answer(500, "Internal Server Error") from error
        return response(outcome, route.version)

    def log_message(self, *_: Any) -> None:
        return


def serve(port: int, routes: list[Route], invoke: Callable[[str, bytes], Outcome]) -> ThreadingHTTPServer:
    """Listen on 127.0.0.1 (port 0: any free one) and serve in threads until `shutdown()`.

    `invoke(function's logical id, event)` runs a function."""
    server = _Server(port, routes, invoke)
    threading.Thread(target=server.serve_forever, daemon=True, name="http-api").start()
    return server
