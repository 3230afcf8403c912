"""Every number, and what people write for one, in every number of the API's bodies and addresses: it is taken and read
back exactly as it was sent, or it is a 400 that names its field; never a 500, never another value."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from fractions import Fraction
from typing import Any
from urllib.parse import quote

import pytest
from support.api_client import InProcess
from support.deployment import Deployment
from support.numerals import NO_NUMBERS, TABLE, number, soon, taken

from loopllama.aws import clients, dynamo
from loopllama.core import exact_json

NAMES = itertools.count()
NUMBERS = [
    *("0 -0.0 1 1.0 -1 2 2.5 19.99 0.30000000000000004 1E-100 1E-101 1E-131 1e101 1e400 NaN".split()),  # noqa: SIM905
    *("1" + "0" * 40, "9" * 39, "0." + "1" * 38, "0." + "1" * 39, "9" * 5000),
]
"""Of `TABLE`, those that bodies treat each in its way."""
ROUTE, MODEL = "/v1/workflows/w/routes/a", "/v1/models/openai%3Anumber-{}"


@pytest.fixture(scope="module")
def ask(live: Deployment) -> Callable[..., Any]:
    live.put_model("plain", "openai", "plain")
    live.put_model("other", "openai", "other")
    return InProcess(live.settings).ask


def crew(field: str, more: str = "") -> str:
    return f'{{"name": "N%", "crew": [{{"role": "A", "systemPrompt": "x"{more}, "{field}": @}}]}}'


def model(field: str, value: str = "@") -> str:
    return f'{{"provider": "openai", "providerModel": "m", "{field}": {value}}}'


def price(**more: str) -> str:
    made = {"input": "1", "output": "1", **more}
    return model("prices", "[{" + ", ".join(f'"{name}": {value}' for name, value in made.items()) + "}]")


CANDIDATES = '[{"model": "plain", "weight": @}, {"model": "other", "weight": 1}]'
SCHEMA = '{"type": "object", "properties": {"a": {"type": "number", "maximum": @}}}'
EACH = ', "forEach": "input"'
DOORS: dict[str, tuple[str, str, str, Any]] = {
    # What leads to it in what was kept; None where nothing is.
    **{
        f"a route's {field}": ("PUT", ROUTE, f'{{"model": "plain", "force": true, "{field}": @}}', kept)
        for field, kept in {
            "maxTokens": ("max_tokens",),
            "temperature": ("temperature",),
            "maxCost": ("max_cost",),
            "maxLatency": ("max_latency",),
            "expiresIn": None,
            "expectedVersion": None,
        }.items()
    },
    "a route's weight": (
        "PUT",
        ROUTE,
        f'{{"policy": "weighted", "candidates": {CANDIDATES}, "force": true}}',
        ("candidates", 0, "weight"),
    ),
    "a model's contextWindow": ("PUT", MODEL, model("contextWindow"), ("context_window",)),
    "a model's maxOutput": ("PUT", MODEL, model("maxOutput"), ("max_output",)),
    "a model's expectedVersion": ("PUT", MODEL, model("expectedVersion"), None),
    "a model's option": ("PUT", MODEL, model("options", '{"x": @}'), ("options", "x")),
    **{
        f"a price's {field}": ("PUT", MODEL, price(**{field: "@"}), ("prices", 0, kept))
        for field, kept in {
            "input": "input",
            "output": "output",
            "cacheRead": "cache_read",
            "cacheWrite": "cache_write",
        }.items()
    },
    "a tier's above": (
        "PUT",
        MODEL,
        price(tiers='[{"above": @, "input": 2, "output": 2}]'),
        ("prices", 0, "tiers", 0, "above"),
    ),
    "a tier's input": (
        "PUT",
        MODEL,
        price(tiers='[{"above": 9, "input": @, "output": 2}]'),
        ("prices", 0, "tiers", 0, "input"),
    ),
    **{
        f"an agent's {field}": ("POST", "/v1/workflows", crew(field, more), ("definition", "crew", 0, kept))
        for field, kept, more in (
            ("maxTokens", "max_tokens", ""),
            ("temperature", "temperature", ""),
            ("maxTurns", "max_turns", ""),
            ("timeoutSeconds", "timeout_seconds", ""),
            ("retries", "retries", ""),
            ("maxConcurrency", "max_concurrency", EACH),
            ("maxFailures", "max_failures", EACH),
        )
    },
    "an agent's schema": (
        "POST",
        "/v1/workflows",
        crew("outputSchema").replace("@", SCHEMA),
        ("definition", "crew", 0, "output_schema", "properties", "a", "maximum"),
    ),
    "an agent's weight": (
        "POST",
        "/v1/workflows",
        crew("candidates", ', "policy": "weighted"').replace("@", CANDIDATES),
        ("definition", "crew", 0, "candidates", 0, "weight"),
    ),
    **{
        f"a budget's {field}": (
            "POST",
            "/v1/workflows",
            f'{{"name": "N%", "budget": {{"{field}": @}}, "crew": [{{"role": "A", "systemPrompt": "x"}}]}}',
            ("definition", "budget", kept),
        )
        for field, kept in {"maxSteps": "max_steps", "maxTokens": "max_tokens", "maxCostUsd": "max_cost_usd"}.items()
    },
    "a run's tag": ("POST", "/v1/workflows/w/runs", '{"input": "x", "tags": {"a": @}}', None),
    "a run's model": ("POST", "/v1/workflows/w/runs", '{"input": "x", "models": {"a": @}}', None),
}


def kept_by(live: Deployment, path: str, answer: Any) -> Any:
    """The item that a write has left."""
    tables = {
        "routes": (live.settings.routes_table, {"workflow": "w", "step": "a"}),
        "models": (live.settings.models_table, {"model": path.removeprefix("/v1/models/").replace("%3A", ":")}),
        "workflows": (live.settings.workflows_table, {"workflow_id": answer["data"].get("id"), "version": 0}),
    }
    table, key = tables["routes" if "/routes/" in path else path.split("/")[2]]
    found = clients.client("dynamodb").get_item(TableName=table, Key=dynamo.to_item(key), ConsistentRead=True)
    return dynamo.from_item(found["Item"])


def check_written(ask: Callable[..., Any], live: Deployment, door: str, literal: str) -> None:
    method, path, body, place = DOORS[door]
    name = str(next(NAMES))
    path = path.format(name)
    with soon():
        status, answer = ask(method, path, body.replace("@", literal).replace("%", name))
    if status >= 300:
        assert status == 400 or (status == 409 and "Version" in door), (literal, answer)
        assert status == 409 or all(detail["field"] for detail in answer["details"]), (literal, answer)
        return
    value = json.loads(literal) if literal in NO_NUMBERS else taken(literal)
    if place is None or value is None:
        return
    found = kept_by(live, path, answer)
    for step in place:
        found = found[step]
    if isinstance(value, Fraction):
        assert Fraction(found) == value, literal
    else:
        assert door in ("a model's option", "a budget's maxCostUsd"), (literal, found)
        assert exact_json.dumps(found) == literal.replace(": ", ":")


@pytest.mark.parametrize("door", DOORS)
def test_a_body(ask: Callable[..., Any], live: Deployment, door: str) -> None:
    for literal in (*NUMBERS, *NO_NUMBERS):
        check_written(ask, live, door, literal)


ADDRESSES = {
    "limit": "/v1/workflows?limit=@",
    "limit of runs": "/v1/workflows/w/runs?limit=@",
    "limit of models": "/v1/models?limit=@",
    "after": "/v1/runs/{run}/events?after=@",
    "first day": "/v1/usage?from=@",
}


@pytest.mark.parametrize("door", ADDRESSES)
def test_an_address(ask: Callable[..., Any], live: Deployment, door: str) -> None:
    run = live.accept("w", {"n": 1})
    for literal in (*TABLE, *NO_NUMBERS, "", "01", "1_000", "\u0661", "0x1", "+1"):
        path = ADDRESSES[door].replace("@", quote(literal)).format(run=run)
        with soon():
            status, answer = ask("GET", path)
        assert status in (200, 400), (literal, answer)
        assert status == 200 or answer["error"], literal


@pytest.mark.parametrize("literal", TABLE)
def test_from_input_to_the_last_answer_digit_for_digit(ask: Callable[..., Any], live: Deployment, literal: str) -> None:
    """Through a run's input, an expression, a step's output by its schema, the record and the API's answer."""
    status, answer = ask("POST", "/v1/workflows/exact/runs", f'{{"input": {{"n": [{literal}]}}}}')
    if taken(literal) is None:
        assert (status, answer["details"][0]["field"]) == (400, "input.n.0")
        return
    assert status == 202
    written = exact_json.dumps(exact_json.loads(literal))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(live.provider, "script", lambda _: f'{{"n": {literal}}}')
        live.play(answer["data"]["id"])
    assert f"Say {written}." in live.provider.calls[-1].messages[0].text
    status, answer = ask("GET", f"/v1/runs/{answer['data']['id']}")
    run = answer["data"]
    assert (status, run["status"]) == (200, "completed")
    for value in (run["input"]["n"][0], run["output"][0]["n"]):
        assert number(value) == taken(literal)
        assert exact_json.dumps(value) == written


@pytest.fixture(scope="module", autouse=True)
def _exact(live: Deployment) -> None:
    schema = {"type": "object", "properties": {"n": {"type": "number"}}, "required": ["n"]}
    step = {"name": "a", "forEach": "input.n", "prompt": "Say {{ item }}.", "outputSchema": schema}
    live.push([step], name="exact")
