"""The documented exchanges of the HTTP API, field by field, over HTTP against the local stack: models and usage."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from typing import Any

import pytest
from support.api_client import Client, ended, make

pytestmark = pytest.mark.aws


# Models


def test_models_with_todays_prices(api: Client) -> None:
    models = api.get("/v1/models?provider=openai")
    assert [one["model"] for one in models] == sorted(one["model"] for one in models)
    mini = next(one for one in models if one["model"] == "gpt-5-mini")
    assert mini["price"]["input"] > 0
    assert mini["provider"] == "openai"
    first = api.raw("GET", "/v1/models?provider=openai&limit=2").json()
    second = api.raw("GET", f"/v1/models?provider=openai&limit=2&cursor={first['next_cursor']}").json()
    assert [one["model"] for one in first["data"] + second["data"]] == [one["model"] for one in models[:4]]
    assert "small" in api.get("/v1/models/small")["aliases"]
    assert api.raw("GET", "/v1/models/no-such-model").status_code == 404


def test_an_entry_of_the_models_table(api: Client) -> None:
    path = "/v1/models/openrouter:acme/llama-1"
    body = {
        "prices": [{"effectiveFrom": "2026-01-01", "input": 0.1, "output": 1.23456789, "cacheRead": 0.01}],
        "contextWindow": 1000,
        "capabilities": ["tools"],
    }
    stored = api.put(path, {**body, "reason": "ours", "expectedVersion": 0})
    assert (stored["context_window"], stored["updated_by"], stored["reason"]) == (1000, api.key_id, "ours")
    assert stored["version"] == 1
    assert api.get(path)["entry"] == stored
    assert api.raw("PUT", path, {"contextWindow": 2000, "expectedVersion": 0}).status_code == 409
    found = json.loads(api.raw("GET", path).text, parse_float=Decimal)["data"]
    assert found["price"]["output"] == Decimal("1.23456789")
    assert found["capabilities"] == ["tools"]
    # The kill switch leaves what is not named as it is; null takes a field out.
    assert api.put(path, {"enabled": False, "replacedBy": "small"})["prices"] == stored["prices"]
    assert "context_window" not in api.put(path, {"contextWindow": None})
    assert (api.get(path)["enabled"], api.get(path)["context_window"]) == (False, None)
    workflow = make(api, "Switched off", model="openrouter:acme/llama-1")["id"]
    writer = api.get(f"/v1/workflows/{workflow}/routes/writer")
    assert writer["model"] == api.get("/v1/models/small")["model"]
    assert any("disabled" in one["reason"] for one in writer["ignored"])
    # What has been charged is not rewritten.
    assert api.raw("PUT", path, {"prices": [{"input": 9, "output": 9}]}).json()["details"][0]["field"] == "prices"
    later = {"effective_from": "2999-01-01", "input": 9, "output": 9}
    assert api.put(path, {"prices": [*stored["prices"], later]})["prices"][1] == later
    assert api.raw("DELETE", f"{path}?expectedVersion=1").status_code == 409
    assert api.delete(f"{path}?reason=enough") == {"model": "openrouter:acme/llama-1", "deleted": True}
    assert api.raw("DELETE", path).status_code == 404
    assert api.get(path)["enabled"] is True


def test_an_entry_counts_however_the_model_is_written(api: Client) -> None:
    assert api.put("/v1/models/openai:gpt-5-nano", {"contextWindow": 9000})["model"] == "gpt-5-nano"
    assert api.get("/v1/models/gpt-5-nano")["context_window"] == 9000
    assert api.delete("/v1/models/openai:gpt-5-nano") == {"model": "gpt-5-nano", "deleted": True}
    alias = api.put("/v1/models/quick", {"aliasOf": "gpt-5-nano"})
    assert (alias["alias_of"], api.get("/v1/models/quick")["model"]) == ("gpt-5-nano", "gpt-5-nano")
    assert api.get("/v1/models/quick")["entry"] == alias
    assert api.get("/v1/models/gpt-5-nano")["aliases"] == ["quick"]
    assert api.delete("/v1/models/quick")["model"] == "quick"


def test_twenty_writers_of_an_entry_lose_nothing(api: Client) -> None:
    fields = [{"contextWindow": 5000 + number, "expectedVersion": 0} for number in range(20)]
    with ThreadPoolExecutor(20) as pool:
        codes = list(pool.map(lambda body: api.raw("PUT", "/v1/models/gpt-4.1-nano", body).status_code, fields))
    assert sorted(codes) == [200] + 19 * [409]
    assert api.get("/v1/models/gpt-4.1-nano")["entry"]["version"] == 1
    api.delete("/v1/models/gpt-4.1-nano")


def test_bad_entries_of_the_models_table_are_refused(api: Client) -> None:
    for model, body in [
        ("acme-1", {"prices": [{"input": 1, "output": 2}]}),  # no provider
        ("gpt-5-mini", {}),
        ("gpt-5-mini", {"prices": []}),
        ("gpt-5-mini", {"prices": [{"input": -1, "output": 2}]}),
        ("gpt-5-mini", {"prices": [{"input": "1", "output": 2}]}),
        ("gpt-5-mini", {"prices": [{"input": 1, "output": 2, "effectiveFrom": "soon"}]}),
        ("gpt-5-mini", {"contextWindow": 1.5}),
        ("gpt-5-mini", {"contextWindow": 10**40}),
        ("gpt-5-mini", {"capabilities": ["flying"]}),
        ("gpt-5-mini", {"enabled": "no"}),
        ("gpt-5-mini", {"replacedBy": "no-such-model"}),
        ("round", {"aliasOf": "round"}),
        ("gpt-5-mini", {"unknown": 1}),
        ("gpt-5-mini", '{"prices": [{"input": 0.1234567890123456789012345678901234567890123, "output": 2}]}'),
    ]:
        answer = api.raw("PUT", f"/v1/models/{model}", body)
        assert answer.status_code == 400, (body, answer.text)
        assert answer.json()["details"], body
    assert api.get("/v1/models/gpt-5-mini")["origin"].get("prices") == "bundled"


# Usage


def test_usage_is_what_the_records_say(api: Client) -> None:
    workflow = make(api, "Usage")["id"]
    other = api.with_key("billing")
    for client, tags in ((api, {"team": "a"}), (other, {"team": "b", "x": "y"}), (other, {})):
        started = client.post(f"/v1/workflows/{workflow}/runs", {"input": "count me", "tags": tags}, 202)
        ended(api, started["id"])
    answer = json.loads(api.raw("GET", f"/v1/workflows/{workflow}/runs").text, parse_float=Decimal)
    cost = sum(run["cost_usd"] for run in answer["data"])
    tokens = sum(run["tokens_in"] for run in answer["data"])

    def usage(by: str) -> list[dict[str, Any]]:
        text = api.raw("GET", f"/v1/usage?workflow={workflow}&by={by}").text
        told = json.loads(text, parse_float=Decimal)["data"]
        assert (told["total"]["cost_usd"], told["total"]["tokens_in"], told["total"]["steps"]) == (cost, tokens, 6)
        if by != "tag":
            assert sum(one["cost_usd"] for one in told["groups"]) == cost
        return list(told["groups"])

    assert [one["workflow"] for one in usage("workflow")] == [workflow]
    assert {one["step"]: one["steps"] for one in usage("step")} == {"extractor": 3, "writer": 3}
    assert len(usage("model")) == 2
    assert {one["key"]: one["steps"] for one in usage("key")} == {api.key_id: 2, other.key_id: 4}
    assert {one["tag"]: one["steps"] for one in usage("tag")} == {"team=a": 2, "team=b": 2, "x=y": 2, None: 2}
    assert len(usage("day")) == 1
    assert {(one["key"], one["step"]) for one in usage("key,step")} == {
        (api.key_id, "extractor"),
        (api.key_id, "writer"),
        (other.key_id, "extractor"),
        (other.key_id, "writer"),
    }
    assert api.get(f"/v1/usage?workflow={workflow}&from=2026-01-01&to=2026-01-02")["total"]["steps"] == 0


def test_bad_usage_queries(api: Client) -> None:
    for query in ("by=cost", "by=", "from=yesterday", "to=2026-13-01", "from=2026-02-02&to=2026-02-01",
                  "from=2020-01-01&to=2026-01-01", "from=0001-01-01&to=0001-01-01x"):  # fmt: skip
        answer = api.raw("GET", f"/v1/usage?{query}")
        assert answer.status_code == 400, query
    assert api.raw("GET", "/v1/usage?workflow=nowhere").status_code == 404
    assert api.get("/v1/usage?to=0001-01-05&from=0001-01-01")["total"]["steps"] == 0
