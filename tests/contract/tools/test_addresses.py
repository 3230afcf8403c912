"""Where HTTP tools connect: the judged address and no other."""

from __future__ import annotations

import httpcore
import pytest
from support.tool_server import OTHER_PUBLIC, PUBLIC, Dns, http, run, serving

from loopllama.errors import ToolFailed
from loopllama.tools import network


class TestAddresses:
    """Without `allow_private` nothing but public addresses is reached, whatever names, redirects and DNS say."""

    INNER = ("127.0.0.1", "10.0.0.1", "169.254.169.254", "::1", "fd00:ec2::254", "::ffff:127.0.0.1", "0.0.0.0")  # noqa: S104

    @pytest.mark.parametrize("address", INNER)
    def test_inner_addresses_are_refused(self, tls, address):
        for url in ("https://tools.example/", f"https://[{address}]/" if ":" in address else f"https://{address}/"):
            with pytest.raises(ToolFailed, match="may not be called: its address"):
                run({"type": "http", "url": url}, resolve=lambda host, port: [address])
        assert tls.reached == []
        assert tls.seen == []

    def test_loopback_for_real(self, server):
        """With the system's own resolver and a server that would answer."""
        spelled = ("127.1", "0", "2130706433", "0x7f000001", "0x7f.1", "0177.0.0.1", "017700000001")
        for host in ("localhost", "127.0.0.1", *spelled):
            with pytest.raises(ToolFailed, match=r"may not be called|is not found"):
                run(
                    {"type": "http_get", "hosts": [f"{host}:{server.port}"]},
                    {"url": f"https://{host}:{server.port}/"},
                    resolve=network.resolve,
                )
        assert server.seen == []

    def test_metadata_is_refused_inside_a_vpc_too(self):
        for address in ("169.254.169.254", "fd00:ec2::254", "169.254.170.2"):
            with pytest.raises(ToolFailed, match="link-local or an instance's metadata"):
                run(http("http://inner.example/"), resolve=lambda host, port, found=address: [found])

    def test_the_functions_own_runtime_is_refused_too(self, server, monkeypatch):
        assert run(http(f"http://127.0.0.1:{server.port}/"), resolve=network.resolve) == "hello"
        monkeypatch.setenv("AWS_LAMBDA_RUNTIME_API", f"127.0.0.1:{server.port}")
        for address in ("127.0.0.1", "127.0.0.2", "::1", "::ffff:127.0.0.1"):
            with pytest.raises(ToolFailed, match="its address is the function itself"):
                run(http(f"http://inner.example:{server.port}/"), resolve=lambda host, port, found=address: [found])
        assert len(server.seen) == 1
        with pytest.raises(ToolFailed, match="failed: "):
            run(http(f"http://127.0.0.1:{server.port + 1}/"), resolve=network.resolve)

    def test_one_inner_address_among_public_ones_is_enough(self, tls):
        with pytest.raises(ToolFailed, match="its address is private"):
            run({"type": "http", "url": "https://tools.example/"}, resolve=Dns([PUBLIC, "10.0.0.1"]))
        assert tls.reached == []

    def test_host_and_tls_name_stay(self, tls):
        dns = Dns([PUBLIC])
        assert run({"type": "http", "url": "https://api.tools.example/x"}, resolve=dns) == "hello"
        assert tls.names == ["api.tools.example"]
        assert tls.seen[0].headers["host"] == "api.tools.example"
        assert tls.reached == [(PUBLIC, 443)]

    def test_the_certificate_must_be_the_names(self, tls):
        with pytest.raises(ToolFailed, match="offers no valid TLS: CERTIFICATE_VERIFY_FAILED"):
            run({"type": "http", "url": "https://other.example/"}, resolve=Dns([PUBLIC]))
        assert tls.seen == []

    def test_the_next_address_is_tried(self, tls, monkeypatch):
        reach = network.connect  # type: ignore[attr-defined]  # as it is found there

        def first_is_down(address, port, seconds):
            if address == OTHER_PUBLIC:
                raise httpcore.ConnectError
            return reach(address, port, seconds)

        monkeypatch.setattr(network, "connect", first_is_down)
        dns = Dns([OTHER_PUBLIC, PUBLIC])
        assert run({"type": "http", "url": "https://tools.example/"}, resolve=dns) == "hello"

    def test_a_name_is_resolved_once_for_a_connection(self, tls):
        """The classic rebinding: public when it is checked, inner when it is used."""
        dns = Dns([PUBLIC], ["127.0.0.1"])
        assert run({"type": "http", "url": "https://tools.example/"}, resolve=dns) == "hello"
        assert dns.asked == ["tools.example"]
        assert tls.reached == [(PUBLIC, 443)]

    def test_and_judged_again_for_a_redirect(self, tls):
        tls.answers["/"] = (302, {"Location": "/next"}, "")
        dns = Dns([PUBLIC], ["127.0.0.1"])
        with pytest.raises(ToolFailed, match="its address is loopback"):
            run({"type": "http", "url": "https://tools.example/"}, resolve=dns)
        assert dns.asked == ["tools.example"] * 2
        assert [seen.path for seen in tls.seen] == ["/"]

    def test_unknown_names(self):
        with pytest.raises(ToolFailed, match=r"the host tools.example is not found"):
            run({"type": "http", "url": "https://tools.example/"})

    def test_proxies_of_the_environment_are_not_used(self, server, monkeypatch):
        with serving() as proxy:
            for name in ("http_proxy", "https_proxy", "all_proxy"):
                monkeypatch.setenv(name, proxy.url)
            assert run(http(f"{server.url}/")) == "hello"
            assert proxy.seen == []
