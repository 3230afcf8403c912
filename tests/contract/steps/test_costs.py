"""What a step's calls cost, and what caching saves."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any, cast

import pytest
from support.dialects import Figures
from support.step_dialects import OPENAI, with_cache_points
from support.step_here import Here, cost_of
from support.wire_server import Reply, Reset

from loopllama.queries.runs import RunReader
from loopllama_cli.console import output, trace

# Prompt caching and the sums


@with_cache_points
def test_cache_points_are_used_on_purpose_and_cached_tokens_priced_as_such(here: Here) -> None:
    here.start()  # for its models
    price = {
        "effective_from": "2020-01-01",
        "input": Decimal(3),
        "output": Decimal(15),
        "cache_read": Decimal("0.3"),
        "cache_write": Decimal("3.75"),
    }
    here.live.put_model(
        here.models[0], here.dialect.name, here.dialect.model, prices=[price], capabilities=["tools", "prompt_cache"]
    )
    written, read = Figures(5000, 20, written=4000), Figures(5200, 30, cached=4000, written=150)
    here.first.script(
        Reply(200, here.dialect.answer("", [("call_1", "now", {})], "tools", usage=written)),
        Reply(200, here.dialect.answer("Noon.", usage=read)),
    )
    crew = [{"name": "reply", "model": here.models[0], "tools": ["now"]}]
    run_id = here.live.accept(here.live.push(crew, name=f"Cache {here.dialect.name}"), "When?")
    here.live.play(run_id)
    # Behind the system prompt (tools come before it) and the opening; then behind the tool's result too.
    assert [here.dialect.seen(one).cache_points for one in here.first.requests] == [2, 3]

    run = here.live.read(run_id)
    [first, second] = run["steps"][0]["attempts"]
    assert first["cost_usd"] == (1000 * 3 + 4000 * Decimal("3.75") + 20 * 15) / 1_000_000
    assert second["cost_usd"] == (1050 * 3 + 4000 * Decimal("0.3") + 150 * Decimal("3.75") + 30 * 15) / 1_000_000
    assert (second["tokens_in"], second["tokens_cached"], second["tokens_cache_write"]) == (5200, 4000, 150)
    saved = [-4000 * Decimal("0.75") / 1_000_000, (4000 * Decimal("2.7") - 150 * Decimal("0.75")) / 1_000_000]
    assert [one["cache_saving_usd"] for one in (first, second)] == saved
    assert run["cache_saving_usd"] == run["steps"][0]["cache_saving_usd"] == sum(saved) > 0
    assert run["cost_usd"] == first["cost_usd"] + second["cost_usd"]
    # What the calls would have cost without: the same tokens at the plain price.
    assert run["cost_usd"] + run["cache_saving_usd"] == cost_of(10_200, 50)


@with_cache_points
def test_a_model_without_a_cache_gets_no_points(here: Here) -> None:
    here.first.script(Reply(200, here.dialect.answer("ok")))
    _, work = here.start(tools=["now"])
    assert here.live.step(work)["outcome"] == "done"
    assert here.dialect.seen(here.first.requests[0]).cache_points == 0


def test_a_runs_cost_is_the_sum_of_its_attempts_to_the_last_digit(
    here: Here, capsys: pytest.CaptureFixture[str]
) -> None:
    """A measured call, one whose provider gave no usage, and one that broke off, over two steps."""
    odd = {"effective_from": "2020-01-01", "input": Decimal("0.123457"), "output": Decimal("7.654321")}
    here.start()
    here.live.put_model(here.models[0], "openai", "m", prices=[odd])
    crew = [
        {"name": "one", "model": here.models[0], "fallbacks": [here.models[1]]},
        {"name": "two", "model": here.models[0]},
        {"name": "three", "model": here.models[0]},
    ]
    workflow = here.live.push(crew, name="Sums")
    here.first.script(
        Reset(),
        Reply(200, OPENAI.answer("two", usage=None)),
        Reply(200, OPENAI.answer("three", usage=Figures(1_234_567, 89))),
    )
    here.second.script(Reply(200, OPENAI.answer("one", usage=Figures(333, 7))))
    run_id = here.live.accept(workflow, "Go.")
    here.live.play(run_id)

    run = here.live.read(run_id)
    attempts = [attempt for step in run["steps"] for attempt in step["attempts"]]
    assert [one["cost_basis"] for one in attempts] == ["unknown", "measured", "estimated", "measured"]
    assert [step["cost_basis"] for step in run["steps"]] == ["unknown", "estimated", "measured"]
    exact = sum(one["cost_usd"] for one in attempts if one["cost_usd"] is not None)
    assert attempts[3]["cost_usd"] == Decimal("0.152415938119") + Decimal("0.000681234569") == Decimal("0.153097172688")
    # In the record, in the list of runs, in the trace, in the command line's JSON.
    record = here.live.runs.run(run_id)
    [listed], _ = RunReader(here.live.settings).list(workflow)
    assert record["cost_usd"] == listed["cost_usd"] == run["cost_usd"] == exact
    assert record["cost_basis"] == listed["cost_basis"] == run["cost_basis"] == "unknown"
    assert sum(step["cost_usd"] for step in run["steps"]) == exact

    capsys.readouterr()
    output.print_json(run)
    printed = json.loads(capsys.readouterr().out, parse_float=Decimal)
    assert printed["cost_usd"] == exact
    assert sum(a["cost_usd"] or 0 for step in printed["steps"] for a in step["attempts"]) == exact

    trace.print_trace(cast("Any", run))
    shown = capsys.readouterr().out
    assert "The provider reported no usage for some calls: their tokens are estimated." in shown
    assert "what they cost is unknown and not counted" in shown
    [total] = [line for line in shown.splitlines() if line.strip().startswith("Total")]
    assert "≥" in total


def test_the_trace_shows_what_caching_saved(here: Here, capsys: pytest.CaptureFixture[str]) -> None:
    price = {"effective_from": "2020-01-01", "input": Decimal(3), "output": Decimal(15), "cache_read": Decimal("0.3")}
    here.start()
    here.live.put_model(here.models[0], "openai", "m", prices=[price])
    here.first.script(Reply(200, OPENAI.answer("ok", usage=Figures(20_000, 10, cached=10_000))))
    run_id = here.live.accept(here.live.push([{"name": "one", "model": here.models[0]}], name="Saved"), "Go.")
    here.live.play(run_id)
    run = here.live.read(run_id)
    assert run["cache_saving_usd"] == Decimal("0.027")

    capsys.readouterr()
    trace.print_trace(cast("Any", run))
    shown = capsys.readouterr().out
    assert "Cached tokens saved $0.027" in shown
    assert "10,000" in shown
    output.print_json(run)
    printed = json.loads(capsys.readouterr().out, parse_float=Decimal)
    assert printed["cache_saving_usd"] == printed["steps"][0]["attempts"][0]["cache_saving_usd"] == Decimal("0.027")


@pytest.mark.parametrize(
    ("provider", "cost", "charged"),
    [
        ("openrouter", Decimal("0.00512"), "0.00512"),
        ("perplexity", {"input_tokens_cost": Decimal("0.00001"), "total_cost": Decimal("0.005"), "x": 1}, "0.005"),
        ("corp", Decimal("0.00512"), None),
    ],
)
def test_what_the_provider_says_that_a_call_costs_is_its_cost(
    here: Here, monkeypatch: pytest.MonkeyPatch, provider: str, cost: Any, charged: str | None
) -> None:
    """Fees are in it that no price of a token holds. A server whose words nobody knows says nothing."""
    monkeypatch.setenv(f"{provider.upper()}_API_KEY", "sk-0123456789")
    monkeypatch.setenv(f"{provider.upper()}_BASE_URL", f"{here.first.url}/v1")
    body = json.loads(json.dumps(OPENAI.answer("ok")))
    body["usage"]["cost"] = cost if isinstance(cost, dict) else float(cost)
    here.first.script(Reply(200, json.dumps(body, default=float).encode(), {"content-type": "application/json"}))
    model = here.live.put_model(f"said-{provider}", provider, "sonar")
    run_id = here.live.accept(here.live.push([{"name": "reply", "model": model}], name=f"Said {provider}"), "Hi")
    here.live.play(run_id)
    [attempt] = here.read(run_id)["attempts"]
    plain = cost_of(attempt["tokens_in"], attempt["tokens_out"])
    assert (attempt["cost_usd"], attempt["cost_basis"]) == (Decimal(charged) if charged else plain, "measured")
    assert attempt["cost_usd"] != plain or charged is None
