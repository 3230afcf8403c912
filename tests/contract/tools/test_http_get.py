"""The built-in tool that reads a page: what a model may have read."""

from __future__ import annotations

import pytest
from support.tool_server import PUBLIC, Dns, run

from loopllama.errors import ToolFailed

HTTP_GET = {"type": "http_get", "hosts": ["tools.example", "*.tools.example", "tools.example:8443"]}


class TestHttpGet:
    def get(self, url, resolve=None):
        return run(HTTP_GET, {"url": url}, resolve=resolve or Dns([PUBLIC]))

    @pytest.mark.parametrize(
        ("url", "host", "port"),
        [
            ("https://tools.example/a?b=c#d", "tools.example", 443),
            ("https://TOOLS.example:443/a?b=c", "tools.example", 443),
            ("https://tools.example:8443/a?b=c", "tools.example:8443", 8443),
            ("https://docs.tools.example/a?b=c", "docs.tools.example", 443),
        ],
    )
    def test_listed_hosts(self, tls, url, host, port):
        assert self.get(url) == "hello"
        assert tls.seen[0].path == "/a?b=c"
        assert tls.seen[0].headers["host"] == host
        assert "idempotency-key" not in tls.seen[0].headers
        assert tls.reached == [(PUBLIC, port)]

    @pytest.mark.parametrize(
        "url",
        [
            "https://example.com/",
            "https://tools.example.evil.example/",
            "https://eviltools.example/",
            "https://evil.example#.tools.example/",
            "https://evil.example?.tools.example/",
            "https://tools.example@evil.example/",
            "https://evil.example\\.tools.example/",
            "https://tools.example:9443/",
            "https://docs.tools.example:8443/",
            "http://tools.example/",
            "file://tools.example/etc/passwd",
            "https://127.0.0.1/",
            "tools.example",
            "",
        ],
    )
    def test_others_are_refused(self, tls, url):
        with pytest.raises(ToolFailed, match=r"may not read|the URL|not a host name"):
            self.get(url)
        assert tls.reached == []

    def test_redirects_to_listed_hosts_are_followed(self, tls):
        tls.answers["/a"] = (302, {"Location": "https://docs.tools.example/b"}, "")
        assert self.get("https://tools.example/a") == "hello"
        assert tls.names == ["tools.example", "docs.tools.example"]

    @pytest.mark.parametrize(
        "location",
        ["https://example.com/", "http://tools.example/", "https://169.254.169.254/", "https://tools.example:22/"],
    )
    def test_redirects_to_others_are_not(self, tls, location):
        tls.answers["/"] = (302, {"Location": location}, "")
        with pytest.raises(ToolFailed, match="which is not allowed"):
            self.get("https://tools.example/")
        assert len(tls.reached) == 1

    def test_a_listed_host_with_an_inner_address_is_not_reached(self, tls):
        with pytest.raises(ToolFailed, match="its address is loopback"):
            self.get("https://tools.example/", resolve=Dns(["127.0.0.1"]))
        tls.answers["/"] = (302, {"Location": "https://inner.tools.example/"}, "")
        with pytest.raises(ToolFailed, match="link-local"):
            self.get("https://tools.example/", resolve=Dns([PUBLIC], ["169.254.169.254"]))

    def test_inside_a_vpc(self, server):
        tool = {"type": "http_get", "hosts": [f"127.0.0.1:{server.port}"], "allow_private": True}
        assert run(tool, {"url": f"{server.url}/page"}) == "hello"
        with pytest.raises(ToolFailed, match="may not read"):
            run(tool, {"url": "http://127.0.0.1:1/"})
