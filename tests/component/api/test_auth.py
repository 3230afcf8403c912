"""API keys: what is stored of them, who is let in, how much they may ask for."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from typing import Any

import pytest
from support.deployment import template_tables
from support.moto_account import account, create_tables

from loopllama.api import auth
from loopllama.api.auth import Caller, KeyStore, RateLimit, TooManyRequests, Unauthorized
from loopllama.aws import dynamo
from loopllama.errors import Conflict, InvalidRequest, NotFound
from loopllama.settings import Settings

TABLE = "ApiKeysTable"


@pytest.fixture
def dynamodb(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    with account(monkeypatch) as client:
        create_tables({TABLE: template_tables()[TABLE]})
        yield client("dynamodb")


class Time:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def store(dynamodb: Any, time: Any = None) -> KeyStore:
    return KeyStore(Settings(api_keys_table=TABLE), dynamodb, time or Time())


def items(dynamodb: Any) -> list[dict[str, Any]]:
    return [dynamo.from_item(item) for item in dynamodb.scan(TableName=TABLE)["Items"]]


def test_only_the_hash_of_a_key_is_stored(dynamodb: Any) -> None:
    key, kept = store(dynamodb).create("billing service")
    assert len(key) == 48
    assert key.startswith("ll_live_")
    assert key[8:].isalnum()
    [item] = items(dynamodb)
    assert item["key_hash"] == hashlib.sha256(key.encode()).hexdigest()
    assert item["prefix"] == key[:12] == kept["prefix"]
    assert item["name"] == "billing service"
    assert key not in json.dumps(item)
    assert "key_hash" not in kept


@pytest.mark.parametrize("name", ["", " ", "x" * 61, "a\nb"])
def test_a_bad_name_is_refused(dynamodb: Any, name: str) -> None:
    with pytest.raises(InvalidRequest):
        store(dynamodb).create(name)
    assert items(dynamodb) == []


@pytest.mark.parametrize(
    ("header", "message"),
    [
        (None, "Missing Bearer token"),
        ("", "Missing Bearer token"),
        ("Bearer", "Missing Bearer token"),
        ("Bearer  ", "Missing Bearer token"),
        ("Basic dXNlcjpwYXNz", "Missing Bearer token"),
        ("Bearer sk-1234", "Invalid token format"),
        ("Bearer LL_LIVE_" + "a" * 40, "Invalid token format"),
        ("Bearer ll_live_", "Invalid API key"),
        ("Bearer ll_live_" + "a" * 39, "Invalid API key"),
        ("Bearer ll_live_" + "a" * 41, "Invalid API key"),
        ("Bearer ll_live_" + "é" * 40, "Invalid API key"),
        ("Bearer ll_live_" + "a" * 40 + "\n", "Invalid API key"),
        ("Bearer ll_live_" + "a" * 40, "Invalid API key"),
    ],
)
def test_who_is_refused_and_how(dynamodb: Any, header: str | None, message: str) -> None:
    store(dynamodb).create("other")
    with pytest.raises(Unauthorized) as caught:
        store(dynamodb).authenticate(header)
    assert str(caught.value) == message


def test_a_key_says_who_asks(dynamodb: Any) -> None:
    key, _ = store(dynamodb).create("ci")
    caller = store(dynamodb).authenticate(f"bearer {key}")
    assert caller.name == "ci"
    assert caller.id == hashlib.sha256(key.encode()).hexdigest()[:16]


def test_revoking_acts_within_the_cache_time(dynamodb: Any) -> None:
    time = Time()
    here, elsewhere = store(dynamodb, time), store(dynamodb)
    key, kept = here.create("ci")
    here.authenticate(f"Bearer {key}")
    elsewhere.revoke(kept["prefix"])
    here.authenticate(f"Bearer {key}")  # still cached
    time.now += auth.CACHE_SECONDS
    with pytest.raises(Unauthorized, match="Invalid API key"):
        here.authenticate(f"Bearer {key}")
    with pytest.raises(Unauthorized, match="Invalid API key"):
        elsewhere.authenticate(f"Bearer {key}")


def test_a_new_key_acts_at_once_even_where_it_was_asked_for_before(dynamodb: Any) -> None:
    keys_ = store(dynamodb)
    key, _ = keys_.create("ci")
    [item] = items(dynamodb)
    dynamodb.delete_item(TableName=TABLE, Key={"key_hash": {"S": item["key_hash"]}})
    with pytest.raises(Unauthorized):
        keys_.authenticate(f"Bearer {key}")
    dynamodb.put_item(TableName=TABLE, Item=dynamo.to_item(item))
    assert keys_.authenticate(f"Bearer {key}").name == "ci"


def test_revoking_by_prefix_by_key_and_twice(dynamodb: Any) -> None:
    keys_ = store(dynamodb)
    first, _ = keys_.create("a")
    second, _ = keys_.create("b")
    revoked = keys_.revoke(first[:12])
    assert revoked["name"] == "a"
    assert keys_.revoke(first[:12])["revoked_at"] == revoked["revoked_at"]
    assert keys_.revoke(second)["name"] == "b"
    with pytest.raises(NotFound):
        keys_.revoke(second[:20] + "A" * 28)
    with pytest.raises(NotFound):
        keys_.revoke("ll_live_")
    with pytest.raises(NotFound):
        keys_.revoke("")


def test_a_prefix_of_several_keys_revokes_none(dynamodb: Any) -> None:
    for letter in "ab":
        dynamodb.put_item(
            TableName=TABLE, Item=dynamo.to_item({"key_hash": letter, "prefix": "ll_live_xxx" + letter, "name": letter})
        )
    with pytest.raises(Conflict, match="2 API keys"):
        store(dynamodb).revoke("ll_live_xxx")
    assert not any("revoked_at" in item for item in items(dynamodb))


def test_the_list_is_newest_first_and_shows_no_hash(dynamodb: Any) -> None:
    for number, letter in enumerate("abc"):
        item = {"key_hash": letter * 64, "prefix": "p", "name": letter, "created_at": f"2026-01-0{number + 1}"}
        dynamodb.put_item(TableName=TABLE, Item=dynamo.to_item(item))
    listed = store(dynamodb).all()
    assert [one["name"] for one in listed] == ["c", "b", "a"]
    assert all(set(one) == {"prefix", "name", "created_at", "last_used_at", "revoked_at"} for one in listed)


def test_last_use_is_written_once_a_minute(dynamodb: Any) -> None:
    time = Time()
    keys_ = store(dynamodb, time)
    key, _ = keys_.create("ci")
    written: list[str] = []
    update = dynamodb.update_item
    dynamodb.update_item = lambda **request: written.append(request["TableName"]) or update(**request)
    for _ in range(5):
        keys_.authenticate(f"Bearer {key}")
    assert len(written) == 1
    assert keys_.all()[0]["last_used_at"].endswith("Z")
    time.now += auth.TOUCH_SECONDS
    keys_.authenticate(f"Bearer {key}")
    assert len(written) == 2


def test_a_lost_note_of_the_last_use_fails_nothing(dynamodb: Any) -> None:
    from botocore.exceptions import EndpointConnectionError

    keys_ = store(dynamodb)
    key, _ = keys_.create("ci")

    def fail(**_: Any) -> None:
        raise EndpointConnectionError(endpoint_url="http://nowhere")

    dynamodb.update_item = fail
    assert keys_.authenticate(f"Bearer {key}").name == "ci"


def test_a_key_gets_its_rate_and_no_other_keys(dynamodb: Any) -> None:
    time = Time()
    limit = RateLimit(2.0, time)
    a, b = Caller("a", "a"), Caller("b", "b")
    for _ in range(4):
        limit.take(a)
    with pytest.raises(TooManyRequests) as caught:
        limit.take(a)
    assert caught.value.retry_after == 1
    limit.take(b)
    time.now += 0.5
    limit.take(a)
    with pytest.raises(TooManyRequests):
        limit.take(a)


def test_a_slow_rate_says_when_to_come_back() -> None:
    limit = RateLimit(0.1, Time())
    limit.take(Caller("a", "a"))
    with pytest.raises(TooManyRequests) as caught:
        limit.take(Caller("a", "a"))
    assert caught.value.retry_after == 10
