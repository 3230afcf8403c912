"""Secrets in the headers of HTTP tools."""

from __future__ import annotations

import pytest
from support.tool_server import FakeSecrets, http, run

from loopllama.errors import ToolFailed
from loopllama.tools import secrets

ORDERS_KEY = {"name": "stack/tools/orders", "header": "X-Api-Key"}


class TestSecrets:
    def test_sent_read_once_and_never_shown(self, server):
        aws = FakeSecrets(**{"stack/tools/orders": "sk-12345678\n"})
        tool = http(f"{server.url}/", secret=ORDERS_KEY)
        server.answers["/"] = (200, {}, "your key is sk-12345678, again: sk-12345678")
        for _ in range(2):
            assert run(tool, aws=aws) == "your key is [secret], again: [secret]"
        assert [seen.headers["x-api-key"] for seen in server.seen] == ["sk-12345678"] * 2
        assert aws.reads == ["stack/tools/orders"]

    def test_in_errors_neither(self, server):
        server.answers["/"] = (500, {}, "bad key sk-12345678")
        with pytest.raises(ToolFailed, match=r"HTTP 500: bad key \[secret\]"):
            run(http(f"{server.url}/", secret=ORDERS_KEY), aws=FakeSecrets(**{"stack/tools/orders": "sk-12345678"}))

    def test_a_field_and_a_prefix(self, server):
        aws = FakeSecrets(s='{"api_key": "abc"}')
        run(http(f"{server.url}/", secret={"name": "s/tools/s", "prefix": "Bearer ", "field": "api_key"}), aws=aws)
        assert server.seen[0].headers["authorization"] == "Bearer abc"

    def test_read_again_once_it_is_refused(self, server):
        aws = FakeSecrets(s="old")
        tool = http(f"{server.url}/", secret={"name": "s/tools/s", "header": "X-Key"})
        server.answers["/"] = (401, {}, "")
        with pytest.raises(ToolFailed, match="HTTP 401"):
            run(tool, aws=aws)
        server.answers.clear()
        aws.values["s/tools/s"] = "new"
        run(tool, aws=aws)
        assert [seen.headers["x-key"] for seen in server.seen] == ["old", "new"]

    def test_read_again_after_a_while_and_kept_where_it_cannot_be(self, server, monkeypatch):
        aws = FakeSecrets(s="old")
        tool = http(f"{server.url}/", secret={"name": "s/tools/s", "header": "X-Key"})
        run(tool, aws=aws)
        monkeypatch.setattr(secrets, "REREAD_SECONDS", -1)
        del aws.values["s/tools/s"]
        run(tool, aws=aws)
        aws.values["s/tools/s"] = "new"
        run(tool, aws=aws)
        assert [seen.headers["x-key"] for seen in server.seen] == ["old", "old", "new"]

    @pytest.mark.parametrize(
        ("values", "secret", "reason"),
        [
            (
                {},
                {"name": "s/tools/s"},
                r"'s/tools/s' cannot be read \(ResourceNotFoundException\).*create-secret --name s/tools/s",
            ),
            ({"s/tools/s": ""}, {"name": "s/tools/s"}, "not a line of printable ASCII"),
            ({"s/tools/s": "a\nb"}, {"name": "s/tools/s"}, "not a line of printable ASCII"),
            ({"s/tools/s": "plain"}, {"name": "s/tools/s", "field": "key"}, "no JSON object with the field 'key'"),
            (
                {"s/tools/s": '{"other": "topsecret"}'},
                {"name": "s/tools/s", "field": "key"},
                "no JSON object with the field 'key'",
            ),
            ({"s/tools/s": '{"key": 5}'}, {"name": "s/tools/s", "field": "key"}, "not a line of printable ASCII"),
        ],
    )
    def test_unusable(self, server, values, secret, reason):
        with pytest.raises(ToolFailed, match=reason) as caught:
            run(http(f"{server.url}/", secret=secret), aws=FakeSecrets(**values))
        assert "topsecret" not in str(caught.value)
        assert server.seen == []
