"""The documented exchanges of the HTTP API, field by field, over HTTP against the local stack: overrides."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from support.api_client import TIME, Client, at_once, ended, make

pytestmark = pytest.mark.aws


# The dial


def test_the_dial(api: Client) -> None:
    workflow = make(api, "Dial")["id"]
    base = f"/v1/workflows/{workflow}/routes"
    assert api.raw("GET", base).json()["next_cursor"] is None
    told = api.get(base)
    assert [(one["step"], one["source"]) for one in told] == [("extractor", "agent"), ("writer", "deployment-default")]
    body = {"model": "small", "fallbacks": ["balanced"], "maxTokens": 500, "temperature": 0.25, "expiresIn": 3600}
    row = api.put(f"{base}/writer", {**body, "reason": "cheaper", "expectedVersion": 0})
    assert (row["model"], row["fallbacks"], row["max_tokens"], row["temperature"]) == ("small", ["balanced"], 500, 0.25)
    assert (row["version"], row["reason"], row["updated_by"]) == (1, "cheaper", api.key_id)
    assert abs(row["expires_at"] - time.time() - 3600) < 60
    one = api.get(f"{base}/writer")
    assert (one["source"], one["route_version"], one["row"]) == ("step-override", 1, row)
    assert one["fallbacks"]
    run = ended(api, api.post(f"/v1/workflows/{workflow}/runs", {"input": "x"}, 202)["id"])
    assert (run["steps"][1]["source"], run["steps"][1]["route_version"]) == ("step-override", 1)
    assert run["steps"][1]["model"] == one["model"]

    bounded = {"policy": "cheapest", "candidates": ["small", {"model": "balanced"}], "maxCost": 0.25}
    row = api.put(f"{base}/extractor", {**bounded, "max_latency": 90_000, "pin": "run"})
    assert (row["max_cost"], row["max_latency"], row["pin"]) == (0.25, 90_000, "run")
    assert row["candidates"] == ["small", "balanced"]
    assert api.get(f"{base}/extractor")["policy"] == "cheapest"
    api.delete(f"{base}/extractor")

    api.put(f"{base}/*", {"model": "frontier"})
    assert api.get(f"{base}/*")["row"]["model"] == "frontier"
    assert api.get(f"{base}/extractor")["workflow_row"]["model"] == "frontier"
    assert api.delete(f"{base}/writer?expectedVersion=1&reason=enough") == {
        "workflow": workflow,
        "step": "writer",
        "removed": True,
    }
    assert api.delete(f"{base}/writer")["removed"] is False
    assert api.get(f"{base}/writer")["source"] == "workflow-override"


def test_a_write_of_the_dial_loses_to_a_faster_one(api: Client) -> None:
    workflow = make(api, "Dial race")["id"]
    path = f"/v1/workflows/{workflow}/routes/writer"
    bodies = [{"model": "small", "reason": str(number), "expectedVersion": 0} for number in range(6)]
    with ThreadPoolExecutor(6) as pool:
        codes = list(pool.map(lambda body: api.raw("PUT", path, body).status_code, bodies))
    assert sorted(codes) == [200, 409, 409, 409, 409, 409]
    assert api.raw("DELETE", f"{path}?expectedVersion=7").status_code == 409
    assert api.get(path)["row"]["version"] == 1


def test_the_history_of_a_route_and_the_way_back(api: Client) -> None:
    workflow = make(api, "Dial past")["id"]
    path = f"/v1/workflows/{workflow}/routes/writer"
    assert api.get(f"{path}/history") == []
    for model in ("small", "balanced"):
        api.put(path, {"model": model, "reason": f"to {model}"})
    newest, first = api.until(f"{path}/history", lambda entries: len(entries) == 2)
    assert TIME.fullmatch(newest.pop("at"))
    assert int(newest.pop("sequence")) > int(first["sequence"])
    assert newest["before"].pop("updated_at") < newest["after"].pop("updated_at")
    stamp = {"updated_by": api.key_id}
    assert newest == {
        "workflow": workflow,
        "step": "writer",
        "change": "set",
        "version": 2,
        "before": {"model": "small", "version": 1, "reason": "to small", **stamp},
        "after": {"model": "balanced", "version": 2, "reason": "to balanced", **stamp},
        "differences": [{"field": "model", "from": "small", "to": "balanced"}],
        "reason": "to balanced",
        "problems": [],
        **stamp,
    }
    assert (first["version"], first["before"]) == (1, None)
    page = api.raw("GET", f"{path}/history?limit=1").json()
    assert [one["version"] for one in page["data"]] == [2]
    rest = api.raw("GET", f"{path}/history?cursor={page['next_cursor']}").json()
    assert ([one["version"] for one in rest["data"]], rest["next_cursor"]) == ([1], None)

    answers = at_once(
        4, lambda: api.raw("POST", f"{path}/rollback", {"version": 1, "reason": "dear"}, {"Idempotency-Key": "back-1"})
    )
    assert {(one.status_code, one.text) for one in answers} == {(200, answers[0].text)}
    row = answers[0].json()["data"]["row"]
    assert (row["model"], row["version"], row["reason"], row["updated_by"]) == ("small", 3, "dear", api.key_id)
    assert api.get(path)["row"] == row
    assert api.raw("POST", f"{path}/rollback", {"expectedVersion": 2}).status_code == 409
    assert api.raw("POST", f"{path}/rollback", {"version": 77}).status_code == 404
    api.until(f"{path}/history", lambda entries: len(entries) == 3)
    assert api.post(f"{path}/rollback", {"expected_version": 3}, 200)["row"]["model"] == "balanced"
    api.put(f"/v1/workflows/{workflow}/routes/extractor", {"model": "small"})
    other = f"/v1/workflows/{workflow}/routes/extractor"
    api.until(f"{other}/history", lambda entries: len(entries) == 1)
    assert api.post(f"{other}/rollback", {}, 200) == {"workflow": workflow, "step": "extractor", "row": None}
    # A version is given out once, also over the removal of the row.
    api.until(f"{other}/history", lambda entries: len(entries) == 2)
    assert api.put(other, {"model": "small"})["version"] == 3

    for method, last, body in (("GET", "history", None), ("POST", "rollback", {})):
        for where in (f"{workflow}/routes/nobody", "nowhere/routes/writer"):
            assert api.raw(method, f"/v1/workflows/{where}/{last}", body).status_code == 404, (where, last)


def test_rows_with_whatever_dynamodb_holds_are_shown_changed_and_taken_back(api: Client) -> None:
    workflow = make(api, "By hand")["id"]
    dynamodb, outputs = api.stack.client("dynamodb"), api.stack.outputs
    odd = {
        "binary": {"B": b"\xff\x00"},
        "binaries": {"BS": [b"a"]},
        "numbers": {"NS": ["1.5", "2"]},
        "nothing": {"NULL": True},
        "large": {"N": "1E+120"},
        "inside": {"M": {"list": {"L": [{"B": b"b"}, {"SS": ["x"]}]}}},
    }
    row = {"workflow": {"S": workflow}, "step": {"S": "writer"}, "model": {"S": "small"}, **odd}
    dynamodb.put_item(TableName=outputs["RoutesTableName"], Item=row)
    entry = {"model": {"S": "gpt-4.1"}, "capabilities": {"SS": ["tools"]}, "version": {"B": b"v"}, **odd}
    dynamodb.put_item(TableName=outputs["ModelsTableName"], Item=entry)
    path = f"/v1/workflows/{workflow}/routes/writer"
    told = api.get(path)
    assert (told["source"], told["row"]["binary"], told["row"]["numbers"]) == ("step-override", "ff00", [1.5, 2])
    assert api.get(f"/v1/workflows/{workflow}/routes")[1]["row"] == told["row"]
    model = api.get("/v1/models/gpt-4.1")
    assert (model["capabilities"], model["entry"]["inside"]) == (["tools"], {"list": ["62", ["x"]]})
    assert api.put("/v1/models/gpt-4.1", {"contextWindow": 9})["nothing"] is None
    assert api.delete("/v1/models/gpt-4.1")["deleted"] is True
    api.put(path, {"model": "balanced"})
    newest, by_hand = api.until(f"{path}/history", lambda entries: len(entries) == 2)
    assert (by_hand["updated_by"], by_hand["after"]["model"], newest["version"]) == ("unknown", "small", 1)
    assert api.post(f"{path}/rollback", {}, 200)["row"]["model"] == "small"


def test_bad_routes_are_refused(api: Client) -> None:
    workflow = make(api, "Bad dial")["id"]
    base = f"/v1/workflows/{workflow}/routes"
    assert api.raw("PUT", f"{base}/nowhere", {"model": "small"}).status_code == 404
    assert api.raw("GET", f"{base}/nowhere").status_code == 404
    for body in (
        {},
        {"model": "no-such-model"},
        {"model": "small", "unknown": 1},
        {"model": 5},
        {"model": "small", "temperature": 3},
        {"model": "small", "maxTokens": 0},
        {"model": "small", "maxTokens": 1e30},
        {"model": "small", "expiresIn": -5},
        {"model": "small", "expectedVersion": "1"},
        {"model": "small", "pin": "day"},
        {"model": "small", "policy": "magic"},
        {"policy": "weighted", "candidates": [{"model": "small", "weight": -1}]},
        {"model": "small", "reason": "x" * 501},
    ):
        answer = api.raw("PUT", f"{base}/writer", body)
        assert answer.status_code == 400, body
        assert answer.json()["details"], body
    for text, field in (
        ('{"model": "small", "policy": "magic"}', "policy"),
        ('{"model": "small", "maxCost": 0}', "maxCost"),
        ('{"model": "small", "max_cost": 0.1234567890123456789012345678901234567890123}', "maxCost"),
        ('{"model": "small", "maxCost": 1e-300}', "maxCost"),
        ('{"model": "small", "maxLatency": 1.5}', "maxLatency"),
        ('{"model": "small", "temperature": 0.1234567890123456789012345678901234567890123}', "temperature"),
        ('{"model": "small", "fallbacks": ["nosuch"]}', "fallbacks"),
        ('{"policy": "cheapest"}', "candidates"),
        ('{"policy": "cheapest", "candidates": ["nosuch"]}', "candidates"),
        ('{"policy": "weighted", "candidates": [{"model": "small", "weight": "1"}]}', "candidates.0.weight"),
        ('{"policy": "weighted", "candidates": [7]}', "candidates.0"),
    ):
        answer = api.raw("PUT", f"{base}/writer", text)
        assert answer.status_code == 400, text
        assert [one["field"] for one in answer.json()["details"]] == [field], answer.text
        assert field in answer.json()["error"]
    assert api.get(f"{base}/writer")["row"] is None
