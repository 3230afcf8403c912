"""Run objects as `RunReader.get` gives them, and what advice is told of a deployment, in as few words as a test has."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

from loopllama.catalog.model import Model, Price, Speed
from loopllama.errors import ModelUnknown
from loopllama.queries.advice.reckon import Deployment, Incumbent

NOW = datetime(2026, 6, 30, tzinfo=UTC)
ALWAYS = date(2020, 1, 1)


def priced(name: str, given: str, taken: str, **fields: Any) -> Model:
    """A model at these USD a million tokens in and out; it can do all, and answers in 100 ms and 10 a token."""
    cached: dict[str, Any] = {key: Decimal(fields.pop(key)) for key in ("cache_read", "cache_write") if key in fields}
    prices = (Price(ALWAYS, Decimal(given), Decimal(taken), **cached, service_tiers=fields.pop("tiers", {})),)
    fields = {
        "context_window": 100_000,
        "max_output": 10_000,
        "capabilities": frozenset({"tools", "structured_output"}),
        "efforts": (),
        "speed": Speed(100, 100),
        **fields,
    }
    return Model(name, fields.pop("provider", "openai"), fields.pop("provider_model", name), prices=prices, **fields)


DEAR = priced("dear", "10", "30")
CHEAP = priced("cheap", "1", "3")


def call(model: str = "dear", tokens_in: int = 1000, tokens_out: int = 100, **fields: Any) -> Any:
    """An answered call of a second. At `dear` 0.013 USD, at `cheap` 0.0013."""
    return {
        "model": model,
        "outcome": "ok",
        "latency_ms": 1000,
        "tokens_in": tokens_in,
        "tokens_out": tokens_out,
        "cost_basis": "measured",
        "simulated": False,
        "stop_reason": None,
        **fields,
    }


def step(name: str, *calls: Any, **fields: Any) -> Any:
    """A completed turn of a step, as long as its calls."""
    return {
        "id": f"STEP#{name}#{fields.pop('place', '0#0')}",
        "step": name,
        "status": "completed",
        "model": calls[-1]["model"] if calls else None,
        "latency_ms": sum(one["latency_ms"] for one in calls),
        "attempts": list(calls),
        "tool_calls": [],
        "input": None,
        "output": None,
        **fields,
    }


def run(*steps: Any, ago: timedelta = timedelta(0), **fields: Any) -> Any:
    """A completed run that began so long before `NOW`."""
    return {
        "id": "run_1",
        "status": "completed",
        "created_at": (NOW - ago).isoformat(),
        "latency_ms": sum(one["latency_ms"] or 0 for one in steps),
        "steps": list(steps),
        "simulated": False,
        "replayed_from": None,
        **fields,
    }


def agent(name: str, *needs: str, **fields: Any) -> Any:
    """A step of a definition."""
    return {"name": name, "role": name, "system_prompt": "Do it.", "needs": list(needs), **fields}


def deployment(crew: Sequence[Any], *models: Model, now: Mapping[str, Incumbent] | None = None, **fields: Any) -> Any:
    """A deployment with these models, whose steps all use the first of them."""
    models = models or (DEAR, CHEAP)
    by_id = {model.id: model for model in models}

    def resolve(name: str) -> Model:
        base, _, effort = name.partition("@")
        if base not in by_id:
            raise ModelUnknown(name)
        return by_id[base] if not effort else replace(by_id[base], id=name, effort=effort)

    usual = Incumbent(models[0], [models[0].id], "workflow-default")
    return Deployment(
        **{
            "workflow_id": "w",
            "version": 1,
            "crew": crew,
            "incumbents": {one["name"]: (now or {}).get(one["name"], usual) for one in crew},
            "models": models,
            "resolve": resolve,
            "usable": {model.provider: True for model in models},
            **fields,
        }
    )
