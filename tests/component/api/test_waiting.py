"""Readers that wait for events: a few for each key; and which addresses are open, by which way."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest
from aws_use.cost import GB, lambda_usd
from aws_use.prices import DAYS_A_MONTH, USD
from support.api_client import gateway_event
from support.deployment import template_tables
from support.moto_account import account, create_tables
from template.project import ROOT, template

from loopllama.api.app import Api
from loopllama.api.auth import Caller, KeyStore
from loopllama.api.openapi import PUBLIC
from loopllama.api.resources import events
from loopllama.api.waiting import MARGIN_MS, WaitingPlaces
from loopllama.aws import dynamo
from loopllama.settings import Settings

SETTINGS = Settings(
    api_keys_table="ApiKeysTable", key_use_table="KeyUseTable", runs_table="RunsTable", event_readers_per_key=2
)


@pytest.fixture
def dynamodb(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    with account(monkeypatch) as client:
        create_tables({name: template_tables()[name] for name in ("ApiKeysTable", "KeyUseTable", "RunsTable")})
        yield client("dynamodb")


class Time:
    now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


def caller_of(secret: str) -> Caller:
    return KeyStore(SETTINGS).authenticate(f"Bearer {secret}")


def test_a_key_has_so_many_places_and_another_key_its_own(dynamodb: Any) -> None:
    places, keys = WaitingPlaces(SETTINGS, dynamodb, Time()), KeyStore(SETTINGS)
    one, other = (caller_of(keys.create(name)[0]) for name in ("one", "other"))
    taken = [places.take(one, 20) for _ in range(2)]
    assert sorted(map(str, taken)) == ["waiting_0", "waiting_1"]
    assert places.take(one, 20) is None
    assert places.take(other, 20) is not None
    assert taken[0] is not None
    places.give_back(one, taken[0])
    assert places.take(one, 20) == taken[0]


def test_the_place_of_a_process_that_died_is_free_in_time(dynamodb: Any) -> None:
    clock = Time()
    places = WaitingPlaces(SETTINGS, dynamodb, clock)
    caller = caller_of(KeyStore(SETTINGS).create("one")[0])
    assert [places.take(caller, 20) is None for _ in range(3)] == [False, False, True]
    clock.now += 20 + MARGIN_MS / 1000 + 1
    assert places.take(caller, 20) is not None


def test_who_finds_no_place_is_answered_at_once(dynamodb: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "WAIT_SECONDS", 0.2)
    secret, _ = KeyStore(SETTINGS).create("one")
    run = {"run_id": "r", "item": "RUN", "status": "running", "workflow_id": "w"}
    dynamodb.put_item(TableName="RunsTable", Item=dynamo.to_item(run))
    api = Api(SETTINGS)

    def ask() -> str:
        asked = gateway_event(secret, "GET", "/v1/runs/r/events", accept="text/event-stream")
        return str(api.handle(asked, None)["body"])

    assert ask().startswith(f"retry: {events.RETRY_MS}\n")
    (kept,) = dynamodb.scan(TableName="KeyUseTable")["Items"]
    assert not any(name.startswith("waiting_") for name in kept), "the place was given back"
    places = WaitingPlaces(SETTINGS, dynamodb)
    for _ in range(2):
        assert places.take(caller_of(secret), 20)
    assert ask() == f"retry: {events.LATER_MS}\n\n: nothing new\n\n"


# What is open


def status(api: Api, path: str, route: str | None) -> int:
    event = gateway_event("", "GET", path)
    event["headers"] = {}
    return int(api.handle(event if route is None else {**event, "routeKey": route}, None)["statusCode"])


@pytest.mark.parametrize("prefix", ["", "/api"])
@pytest.mark.parametrize("path", PUBLIC)
def test_an_open_address_has_a_route_that_is_throttled_apart(path: str, prefix: str) -> None:
    resources = template()["Resources"]
    route = f"GET {prefix}{path}"
    limits = resources["HttpApi"]["Properties"]["RouteSettings"][route]
    assert 0 < limits["ThrottlingRateLimit"] <= 5
    assert 0 < limits["ThrottlingBurstLimit"] <= 10
    made = [one["Properties"] for one in resources["Api"]["Properties"]["Events"].values()]
    assert [one for one in made if (one.get("Method"), one.get("Path")) == ("GET", prefix + path)]
    api = Api(Settings())
    assert status(api, prefix + path, route) == 200
    assert status(api, prefix + path, "$default") == 401, "by no other way"


def test_the_bare_address_leads_to_the_documentation_by_a_route_of_its_own() -> None:
    api = Api(Settings())
    event = {**gateway_event("", "GET", "/"), "headers": {}, "routeKey": "GET /"}
    answer = api.handle(event, None)
    assert (answer["statusCode"], answer["headers"]["Location"]) == (302, "/docs")
    assert [status(api, "/", "$default"), status(api, "/api/", "$default")] == [401, 401]


def test_strangers_can_make_open_addresses_cost_so_much() -> None:
    """Asked for as often as the throttles let them, all month, without compression; each takes Api 0.2 s at most."""
    api, total = Api(Settings()), Decimal(0)
    settings = template()["Resources"]["HttpApi"]["Properties"]["RouteSettings"]
    for route, limits in settings.items():
        event = {**gateway_event("", "GET", route.removeprefix("GET ")), "headers": {}, "routeKey": route}
        body = api.handle(event, None)["body"]
        sent = len(body.encode()) / GB * USD["sent_gb"]
        seconds = Decimal("0.01") if route.endswith("/healthz") else Decimal("0.2")
        times = Decimal(str(limits["ThrottlingRateLimit"])) * 86400 * DAYS_A_MONTH
        total += times * (USD["http_api_request"] + lambda_usd(1, seconds, 1024) + sent)
    assert 15 < total < 22
    assert "strangers can make them cost about 20 USD a month" in (ROOT / "docs/security.md").read_text()


def test_every_route_with_settings_of_its_own_is_an_open_one() -> None:
    settings = template()["Resources"]["HttpApi"]["Properties"]["RouteSettings"]
    assert set(settings) == {f"GET {prefix}{path}" for prefix in ("", "/api") for path in PUBLIC} | {"GET /"}


def test_documentation_may_be_closed() -> None:
    closed = Api(replace(Settings(), public_docs=False))
    assert [status(closed, path, f"GET {path}") for path in PUBLIC] == [200, 401, 401]
    environment = template()["Resources"]["Api"]["Properties"]["Environment"]["Variables"]
    assert environment["PUBLIC_DOCS"] == {"Ref": "PublicDocs"}
    assert Settings.from_environment({"PUBLIC_DOCS": "Disabled"}).public_docs is False
    assert Settings.from_environment({"PUBLIC_DOCS": "Enabled"}).public_docs is True
