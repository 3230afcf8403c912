"""`loopllama providers`: keys in Secrets Manager."""

from __future__ import annotations

import pytest
from support.command_line import answer, invoke

from loopllama.aws import clients

NAME = "test/providers/openai"


@pytest.mark.parametrize("deleted", [False, True], ids=["there", "deleted within 30 days"])
def test_a_key_is_set_again(deleted: bool) -> None:
    """As after `loopllama destroy` and another deployment of that name."""
    invoke("providers", "set", "openai", input="sk-first\n")
    secrets = clients.client("secretsmanager")
    if deleted:
        secrets.delete_secret(SecretId=NAME)
        listed = {one["provider"]: one["key"] for one in answer("providers", "list")}
        assert listed["openai"] == "missing"
    invoke("providers", "set", "openai", input="sk-second\n")
    assert "sk-second" in secrets.get_secret_value(SecretId=NAME)["SecretString"]
    listed = {one["provider"]: one["key"] for one in answer("providers", "list")}
    assert listed["openai"] == "set"
