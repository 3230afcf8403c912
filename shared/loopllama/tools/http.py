"""Tools that are HTTP endpoints: one request of a fixed shape (`http`), and reading pages of listed hosts
(`http_get`)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, unquote, urlsplit

from loopllama.core import exact_json, redaction
from loopllama.core.patterns import late
from loopllama.errors import ToolFailed
from loopllama.llm.types import ToolSpec
from loopllama.tools import secrets
from loopllama.tools.definitions import Context, Fields
from loopllama.tools.urls import Url, parse_url

if TYPE_CHECKING:
    from loopllama.tools.network import Reply

_METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")
_PLACEHOLDER = late(r"\{([A-Za-z_][A-Za-z0-9_]*)\}")
_HEADER = late(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,100}")
_OURS = frozenset(
    ("host", "content-length", "transfer-encoding", "connection", "accept-encoding", "idempotency-key", "te", "upgrade")
)
_EXCERPT = 1000
"""Characters of an error's body that the model sees."""


@dataclass(frozen=True, slots=True)
class HttpTool:
    """`{"type": "http", "method", "url", "description", "parameters", "headers"?, "secret"?, "body"?,
    "allow_private"?, "timeout_seconds"?}`. The model's arguments fill `{placeholders}` in the URL's path and query;
    scheme, host and port are the definition's."""

    spec: ToolSpec
    method: str
    base: str
    path: str
    query: tuple[tuple[str, str], ...]
    headers: Mapping[str, str]
    secret: secrets.Secret | None
    json_body: bool
    allow_private: bool
    timeout: float

    @classmethod
    def read(cls, name: str, fields: Fields) -> HttpTool:
        """From its definition. Raises `ToolInvalid`."""
        method = fields.text("method", "GET").upper()
        if method not in _METHODS:
            raise fields.wrong("method", f"must be one of {', '.join(_METHODS)}")
        allow_private = fields.boolean("allow_private")
        url = fields.text("url", longest=4096)
        base, path, query = _template(url, fields, allow_private=allow_private)
        parameters = fields.parameters()
        body = fields.take("body", None)
        if body not in (None, "json") or (body and method == "GET"):
            raise fields.wrong("body", 'must be "json" or be left out, and a GET has none')
        _check_places(path, query, parameters, fields, json_body=bool(body))
        return cls(
            ToolSpec(name, fields.text("description"), parameters),
            method,
            base,
            path,
            query,
            _headers(fields),
            secrets.Secret.read(inner, _header_name) if (inner := fields.inner("secret")) else None,
            bool(body),
            allow_private,
            fields.seconds("timeout_seconds"),
        )

    def run(self, arguments: Mapping[str, Any], context: Context) -> str:
        """Send the request; the answer's text. Raises `ToolFailed`."""
        from loopllama.tools import network

        rest = dict(arguments)
        try:
            url = parse_url(self.base + self._target(rest))
        except ValueError as error:
            raise ToolFailed(f"{self.spec.name}: {error}") from error
        if rest and not self.json_body:
            known = ", ".join(self.spec.parameters.get("properties", {}))
            raise ToolFailed(f"{self.spec.name} takes no {', '.join(map(repr, rest))}; its arguments are: {known}")
        headers = dict(self.headers)
        body = None
        if self.json_body:
            body = exact_json.dumps(rest).encode()
            headers.setdefault("Content-Type", "application/json")
        # A header takes printable ASCII; the rest of a key is percent-encoded.
        headers["Idempotency-Key"] = quote(context.idempotency_key, safe="!#$&'()*+,/:;=?@[]")
        value = ""
        if self.secret:
            value = self.secret.value(context.aws, self.spec.name)
            headers[self.secret.header] = self.secret.prefix + value
        request = network.Request(
            self.method, url, headers, body, self.allow_private, context.deadline, context.resolve
        )
        scrubber = redaction.Scrubber([value, *redaction.of_headers(self.headers)], "[secret]")
        try:
            reply = network.fetch(request, lambda target: target.origin == url.origin)
            if reply.status in (401, 403) and self.secret:
                self.secret.forget()  # it may have been replaced
            return scrubber.text(_text(self.spec.name, reply, scrubber))
        except ToolFailed as error:
            scrubber.error(error)
            raise

    def _target(self, arguments: dict[str, Any]) -> str:
        """Path and query with their placeholders filled; what they used is removed from `arguments`."""
        used = {name: arguments.get(name) for name in _names(self.path, self.query)}
        for name in used:
            arguments.pop(name, None)

        def fill(template: str, *, required: bool) -> str:
            def filled(match: re.Match[str]) -> str:
                value = _scalar(match[1], used[match[1]])
                if required and not value:
                    raise ToolFailed(f"the argument {match[1]!r} must not be empty")
                return quote(value, safe="")

            return _PLACEHOLDER.sub(filled, template)

        path = fill(self.path, required=True)
        if _climbs(path):
            raise ToolFailed("an argument of the path must not hold the segments . and .., however encoded")
        pairs = [
            f"{key}={fill(value, required=False)}"
            for key, value in self.query
            if all(used[name] is not None for name in _PLACEHOLDER.findall(value))
        ]
        return f"{path}?{'&'.join(pairs)}" if pairs else path


@dataclass(frozen=True, slots=True)
class HttpGetTool:
    """`{"type": "http_get", "hosts", "description"?, "allow_private"?, "timeout_seconds"?}`. A host is a name, a name
    and port, or `*.name` for its subdomains; without a port it is the scheme's own."""

    spec: ToolSpec
    hosts: tuple[str, ...]
    allow_private: bool
    timeout: float

    @classmethod
    def read(cls, name: str, fields: Fields) -> HttpGetTool:
        """From its definition. Raises `ToolInvalid`."""
        hosts = [host.lower() for host in fields.texts("hosts")]
        for host in hosts:
            try:
                if "." not in host and host.startswith("*"):
                    raise ValueError("name a domain after *.")
                if parse_url(f"https://{host.removeprefix('*.')}").target != "/":
                    raise ValueError("a path is not taken")
            except ValueError as error:
                raise fields.wrong("hosts", f"has {host!r}: {error}") from error
        description = fields.text("description", "Reads the text of a web page or an API's answer.")
        spec = ToolSpec(
            name,
            f"{description} Only https URLs of these hosts: {', '.join(hosts)}.",
            {
                "type": "object",
                "properties": {"url": {"type": "string", "description": "https URL"}},
                "required": ["url"],
                "additionalProperties": False,
            },
        )
        return cls(spec, tuple(hosts), fields.boolean("allow_private"), fields.seconds("timeout_seconds"))

    def run(self, arguments: Mapping[str, Any], context: Context) -> str:
        """Get the URL; the answer's text. Raises `ToolFailed`."""
        from loopllama.tools import network

        try:
            url = parse_url(arguments["url"])
        except ValueError as error:
            raise ToolFailed(f"{self.spec.name}: {error}") from error
        if not self._may(url):
            raise ToolFailed(
                f"{self.spec.name} may not read {url.scheme}://{url.netloc}; it may read "
                f"{'http and ' if self.allow_private else ''}https URLs of: {', '.join(self.hosts)}"
            )
        request = network.Request("GET", url, {}, None, self.allow_private, context.deadline, context.resolve)
        return _text(self.spec.name, network.fetch(request, self._may))

    def _may(self, url: Url) -> bool:
        if url.scheme != "https" and not self.allow_private:
            return False
        return any(
            url.netloc.endswith(host[1:]) if host.startswith("*.") else url.netloc == host for host in self.hosts
        )


def _template(url: str, fields: Fields, *, allow_private: bool) -> tuple[str, str, tuple[tuple[str, str], ...]]:
    """Return base (scheme and host), path and query of a URL template."""
    if re.search(r"[{}]", _PLACEHOLDER.sub("", url)):
        raise fields.wrong("url", "has a brace that belongs to no {placeholder}")
    parts = urlsplit(url)
    if "{" in parts.scheme + parts.netloc or parts.fragment:
        raise fields.wrong("url", "may have placeholders in its path and query only, and no fragment")
    try:
        base = parse_url(f"{parts.scheme}://{parts.netloc}/")
        parse_url(_PLACEHOLDER.sub("x", url))
    except ValueError as error:
        raise fields.wrong("url", f"is no URL template: {error}") from error
    if base.scheme != "https" and not allow_private:
        raise fields.wrong("url", "must be https; http is for services inside a VPC, with allow_private")
    pairs = (pair.partition("=") for pair in parts.query.split("&") if pair)
    query = tuple((key, value) for key, _, value in pairs)
    if any("{" in key for key, _ in query):
        raise fields.wrong("url", "may have placeholders in the values of its query, not in the names")
    return str(base).removesuffix("/"), parts.path or "/", query


def _names(path: str, query: tuple[tuple[str, str], ...]) -> list[str]:
    return _PLACEHOLDER.findall(path) + [name for _, value in query for name in _PLACEHOLDER.findall(value)]


def _check_places(
    path: str, query: tuple[tuple[str, str], ...], parameters: Mapping[str, Any], fields: Fields, *, json_body: bool
) -> None:
    """Raise unless every placeholder has a parameter and every parameter a place."""
    properties = parameters.get("properties", {})
    placed = _names(path, query)
    for name in placed:
        if name not in properties:
            raise fields.wrong("url", f"has the placeholder {{{name}}}, which parameters.properties lacks")
    for name in _PLACEHOLDER.findall(path):
        if name not in parameters.get("required", []):
            raise fields.wrong("parameters", f"must require {name!r}: the path cannot do without it")
    for name in properties:
        if name not in placed and not json_body:
            raise fields.wrong("parameters", f'has {name!r}, which has no place in the URL; or set "body": "json"')


def _headers(fields: Fields) -> Mapping[str, str]:
    headers = fields.take("headers", {})
    if not isinstance(headers, dict):
        raise fields.wrong("headers", "must be an object of texts")
    for name, value in headers.items():
        _header_name(name, fields)
        if not isinstance(value, str) or not value.isascii() or not value.isprintable():
            raise fields.wrong("headers", f"must be an object of printable ASCII texts; {name!r} is none")
    return headers


def _header_name(name: str, fields: Fields) -> str:
    if not _HEADER.fullmatch(name) or name.lower() in _OURS:
        raise fields.wrong("headers" if name else "", f"may not have the header {name!r}")
    return name


_NO_NAME = "".join(map(chr, (*range(33), 127)))
"""Spaces and control characters."""


def _climbs(path: str) -> bool:
    """Return whether a server that decodes the path, once or more often, could find a segment that leaves its folder.
    Java's servers leave a segment's parameters out before they look (`..;x=1`), others what no name ends with."""
    for _ in range(5):
        names = (part.partition(";")[0].strip(_NO_NAME) for part in re.split(r"[/\\]", path))
        if any(name in (".", "..") for name in names):
            return True
        path, before = unquote(path), path
        if path == before:
            return False
    return True  # nobody encodes five times for a good reason


def _scalar(name: str, value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return value
    if value is None or isinstance(value, dict | list):
        raise ToolFailed(f"the argument {name!r} must be a text, a number or a boolean: it is part of the URL")
    return exact_json.dumps(value).removesuffix(".0")


_BINARY = late(
    r"\s*(?:(?:image|audio|video|font)/(?!svg)|application/(?:octet-stream|pdf|(?:x-)?(?:gzip|zip|tar)|zstd|vnd\.))",
    re.IGNORECASE,
)
"""What types of content name that is no text, unless all of it can be read as one."""
_TYPE = late(r"\s*[\w.+-]{1,60}/[\w.+-]{1,60}", re.ASCII)
_AFTER = late(r"\d{1,9}|[A-Z][a-z]{2}, \d\d [A-Z][a-z]{2} \d{4} \d\d:\d\d:\d\d GMT", re.ASCII)
"""What `Retry-After` may be: seconds or a date (RFC 9110, section 10.2.3)."""
_MOST_UNREAD = 0.1
"""The share of a text's characters that its encoding may leave unread."""


def _text(name: str, reply: Reply, scrubber: redaction.Scrubber = redaction.NOTHING) -> str:
    """Return the answer for the model. Raises `ToolFailed` for statuses other than 2xx and for what is no text."""
    charset = re.search(r"charset=\"?([A-Za-z0-9_.:-]+)", reply.headers.get("content-type", ""))
    try:
        text = reply.body.decode(charset[1] if charset else "utf-8", errors="replace")
    except (LookupError, UnicodeError):
        text = reply.body.decode(errors="replace")
    text = scrubber.text(text)  # before anything is cut off, or set behind it
    kind = (_TYPE.match(reply.headers.get("content-type", "")) or [""])[0]
    unread = text.count("\ufffd")
    binary = "\0" in text or unread > len(text) * _MOST_UNREAD or bool(unread and _BINARY.match(kind))
    if not 200 <= reply.status < 300:
        after = (_AFTER.fullmatch(reply.headers.get("retry-after", "").strip()) or [""])[0]
        raise ToolFailed(
            f"{name}: HTTP {reply.status}{f', try again after {after}' if after else ''}"
            f"{f': {text[:_EXCERPT]}' if text and not binary else ''}"
        )
    if binary:
        raise ToolFailed(f"{name}: the answer is no text ({kind or 'unknown type'})")
    if reply.cut:
        return f"{text}\n[cut: only the first {len(reply.body):,} bytes are shown]"
    return text or f"HTTP {reply.status}, an empty answer"
