"""API keys: what is stored of them, who is let in, how much they may ask for."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pytest
from support.deployment import template_tables
from support.moto_account import account, create_tables

from loopllama.api import auth, key_use
from loopllama.api.auth import Caller, Grant, KeyStore, RateLimit, Unauthorized
from loopllama.api.key_use import KeyUse, TooManyRequests
from loopllama.aws import dynamo
from loopllama.core import clock
from loopllama.errors import Conflict, InvalidRequest, NotFound
from loopllama.settings import Settings

TABLE, USE = "ApiKeysTable", "KeyUseTable"


@pytest.fixture
def dynamodb(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    with account(monkeypatch) as client:
        create_tables({name: template_tables()[name] for name in (TABLE, USE)})
        yield client("dynamodb")


class Time:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def store(dynamodb: Any, time: Any = None) -> KeyStore:
    return KeyStore(Settings(api_keys_table=TABLE, key_use_table=USE), dynamodb, time or Time())


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
    shown = {"id", "prefix", "name", "created_at", "last_used_at", "revoked_at"}
    bounds = {"scopes", "workflows", "max_requests_per_day", "max_usd_per_day"}
    assert all(set(one) == shown | bounds for one in listed)
    assert listed[0]["id"] == "key_" + "c" * 16


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
    time.now += key_use.TOUCH_SECONDS
    keys_.authenticate(f"Bearer {key}")
    assert written == [USE, USE], "never the table of the keys"
    assert keys_.authenticate(f"Bearer {key}").name == "ci"


def test_a_use_that_was_noted_by_a_version_before_is_shown(dynamodb: Any) -> None:
    item = {"key_hash": "a" * 64, "prefix": "p", "name": "a", "last_used_at": "2026-01-01"}
    dynamodb.put_item(TableName=TABLE, Item=dynamo.to_item(item))
    assert store(dynamodb).all()[0]["last_used_at"] == "2026-01-01"


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


def test_a_key_of_a_version_before_opens_everything(dynamodb: Any) -> None:
    key = "ll_live_" + "a" * 40
    item = {"key_hash": hashlib.sha256(key.encode()).hexdigest(), "prefix": key[:12], "name": "old"}
    dynamodb.put_item(TableName=TABLE, Item=dynamo.to_item(item))
    caller = store(dynamodb).authenticate(f"Bearer {key}")
    assert caller == Caller(item["key_hash"][:16], "old", frozenset({"read", "run", "tune", "admin"}))


def test_what_a_key_is_granted_is_what_it_may(dynamodb: Any) -> None:
    grant = Grant(("run", "read"), ("b", "a", "b"), 10, Decimal("2.50"))
    key, kept = store(dynamodb).create("ci", grant)
    assert kept["scopes"] == ["read", "run"]
    assert kept["workflows"] == ["a", "b"]
    caller = store(dynamodb).authenticate(f"Bearer {key}")
    assert (caller.scopes, caller.workflows) == ({"read", "run"}, {"a", "b"})
    assert (caller.max_requests_per_day, caller.max_usd_per_day) == (10, Decimal("2.50"))
    assert caller.key_id == kept["id"]
    assert store(dynamodb).revoke(kept["id"])["revoked_at"]


@pytest.mark.parametrize(
    "grant",
    [
        Grant(scopes=("write",)),
        Grant(workflows=tuple(map(str, range(101)))),
        Grant(max_requests_per_day=0),
        Grant(max_usd_per_day=Decimal(0)),
        Grant(max_usd_per_day=Decimal("NaN")),
    ],
)
def test_a_grant_that_makes_no_sense_makes_no_key(dynamodb: Any, grant: Grant) -> None:
    with pytest.raises(InvalidRequest):
        store(dynamodb).create("ci", grant)
    assert items(dynamodb) == []


@pytest.mark.parametrize(
    "spoilt",
    [
        {"scopes": "read"},
        {"scopes": [1]},
        {"workflows": "a"},
        {"max_requests_per_day": "many"},
        {"max_usd_per_day": 0},
        {"max_usd_per_day": "x"},
    ],
)
def test_a_key_whose_bounds_cannot_be_read_is_refused_and_not_unbounded(dynamodb: Any, spoilt: dict[str, Any]) -> None:
    key, _ = store(dynamodb).create("ci", Grant(("read",)))
    [item] = items(dynamodb)
    dynamodb.put_item(TableName=TABLE, Item=dynamo.to_item({**item, **spoilt}))
    with pytest.raises(Unauthorized):
        store(dynamodb).authenticate(f"Bearer {key}")


def test_an_item_that_a_function_could_have_left_is_no_key(dynamodb: Any) -> None:
    """Before functions lost the right to write the table, an update could make an item without a prefix."""
    key = "ll_live_" + "b" * 40
    item = {"key_hash": hashlib.sha256(key.encode()).hexdigest(), "last_used_at": "2026-01-01"}
    dynamodb.put_item(TableName=TABLE, Item=dynamo.to_item(item))
    with pytest.raises(Unauthorized):
        store(dynamodb).authenticate(f"Bearer {key}")


def test_requests_of_a_day_are_counted_for_all_processes(dynamodb: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    settings, day = Settings(key_use_table=USE), 86_400
    now = 20_000.0 * day + 80_000
    monkeypatch.setattr(clock, "now_seconds", lambda: now)
    caller = Caller("a", "a", max_requests_per_day=3)
    for _ in range(3):
        KeyUse(settings, dynamodb).count(caller)
    with pytest.raises(TooManyRequests, match="used for 3 requests a day") as caught:
        KeyUse(settings, dynamodb).count(caller)
    assert caught.value.retry_after == day - 80_000
    KeyUse(settings, dynamodb).count(Caller("b", "b", max_requests_per_day=3))
    KeyUse(settings, dynamodb).count(Caller("c", "c"))
    now += day - 80_000
    KeyUse(settings, dynamodb).count(caller)
    kept = [dynamo.from_item(item) for item in dynamodb.scan(TableName=USE)["Items"]]
    assert sorted((item["key_id"], item["requests"]) for item in kept) == [("a", 1), ("a", 3), ("b", 1)]
    assert all(item["delete_at"] > now for item in kept)
