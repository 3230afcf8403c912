"""Which addresses tools may reach, and how URLs are read."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loopllama.tools.network import forbidden
from loopllama.tools.urls import parse_url

PRIVATE = [
    "0.0.0.1",
    "10.0.0.1",
    "100.64.0.1",
    "127.0.0.1",
    "127.255.255.254",
    "172.16.0.1",
    "172.31.255.255",
    "192.0.0.8",
    "192.0.2.1",
    "192.168.1.1",
    "198.18.0.1",
    "240.0.0.1",
    "255.255.255.255",
    "::1",
    "fc00::1",
    "fd12:3456::1",
    "fec0::1",
    "2001:db8::1",
    "::ffff:10.0.0.1",
    "::ffff:127.0.0.1",
    "64:ff9b::7f00:1",
    "192.88.99.1",
    "2001:20::1",
    "3fff::1",
    "4000::1",
    "100::1",
]
NEVER = [
    "0.0.0.0",  # noqa: S104
    "::",
    "169.254.169.254",
    "169.254.170.2",
    "::ffff:169.254.169.254",
    "64:ff9b::a9fe:a9fe",
    "fe80::1",
    "fe80::1%eth0",
    "fd00:ec2::254",
    "fd00:ec2::23",
    "224.0.0.1",
    "239.255.255.255",
    "ff02::1",
    "2002:7f00:1::",
    "64:ff9b:1::1",
    "2001:0:1:1:1:1:80ff:fffe",
    "::7f00:1",
    "::a9fe:a9fe",
    "localhost",
    "",
    "0x7f.1",
    "2130706433",
]
PUBLIC = ["1.1.1.1", "8.8.8.8", "52.94.76.1", "2606:4700:4700::1111", "64:ff9b::808:808", "::ffff:8.8.8.8"]


@pytest.mark.parametrize("address", PRIVATE + NEVER)
def test_not_public(address):
    assert forbidden(address, allow_private=False)


@pytest.mark.parametrize("address", NEVER)
def test_never_even_inside_a_vpc(address):
    assert forbidden(address, allow_private=True)


@pytest.mark.parametrize("address", PUBLIC)
def test_public(address):
    assert forbidden(address, allow_private=False) is None


@pytest.mark.parametrize("address", ["10.0.0.1", "127.0.0.1", "::1", "fd12:3456::1", "100.64.0.1", "8.8.8.8"])
def test_inside_a_vpc(address):
    assert forbidden(address, allow_private=True) is None


@given(
    st.ip_addresses(v=4, network="10.0.0.0/8")
    | st.ip_addresses(v=4, network="127.0.0.0/8")
    | st.ip_addresses(v=4, network="169.254.0.0/16")
    | st.ip_addresses(v=4, network="172.16.0.0/12")
    | st.ip_addresses(v=4, network="192.168.0.0/16")
    | st.ip_addresses(v=4, network="224.0.0.0/4")
)
def test_every_spelling_of_an_inner_address(address):
    number = int(address)
    assert forbidden(str(address), allow_private=False)
    for prefix in ("::ffff:0:0", "64:ff9b::", "::"):
        wrapped = ipaddress.IPv6Address(int(ipaddress.IPv6Address(prefix)) + number)
        assert forbidden(str(wrapped), allow_private=False)
    assert forbidden(str(ipaddress.IPv6Address((0x2002 << 112) + (number << 80))), allow_private=False)


class TestUrls:
    @pytest.mark.parametrize(
        ("text", "url"),
        [
            ("https://Example.COM", "https://example.com/"),
            ("https://example.com:443/a?b=c#d", "https://example.com/a?b=c"),
            ("https://example.com:8443/ä?q=ü&r=%C3%BC", "https://example.com:8443/%C3%A4?q=%C3%BC&r=%C3%BC"),
            ("http://[::1]:80/", "http://[::1]/"),
            ("http://[0:0:0:0:0:0:0:1]:81/", "http://[::1]:81/"),
            ("https://a.example#@b.example/", "https://a.example/"),
            ("https://a.example?@b.example/", "https://a.example/?@b.example/"),
        ],
    )
    def test_read(self, text, url):
        assert str(parse_url(text)) == url

    @pytest.mark.parametrize(
        "text",
        [
            "",
            "example.com",
            "//example.com/",
            "file:///etc/passwd",
            "gopher://example.com/",
            "https:///path",
            "https://",
            "https://a.example@b.example/",
            "https://user:password@a.example/",
            "https://a.example\\@b.example/",
            "https://a.example /",
            "https://a.example/\r\nX: y",
            "https://a.example\t.b.example/",
            "https://a.example%2eb.example/",
            "https://a..example/",
            "https://.example/",
            "https://a.example./",
            "https://ä.example/",
            "https://a.example:99999/",
            "https://a.example:x/",
            "https://[::1%25eth0]/",
            "https://[::1/",
            "https://[1.2.3.4]/",
            "https://a.example/" + "x" * 9000,
        ],
    )
    def test_refused(self, text):
        with pytest.raises(ValueError, match=r"\w"):
            parse_url(text)

    @given(st.text(max_size=40).map("https://a.example".__add__) | st.text(max_size=60))
    def test_any_text_is_refused_or_safe_to_send(self, text):
        try:
            url = parse_url(text)
        except ValueError:
            return
        sent = str(url)
        assert sent.isascii()
        assert sent.isprintable()
        assert " " not in sent
        assert parse_url(sent) == url
