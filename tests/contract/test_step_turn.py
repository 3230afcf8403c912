"""An agent's turn with the adapters at work: structured output, tools, prompt caching, and what the record sums up."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any, cast

import pytest
from support.deployment import Killed
from support.dialects import AnthropicDialect, BedrockDialect, Dialect, Figures, GoogleDialect, OpenAIDialect
from support.loopback import Handler, serving
from support.step_here import USAGE, Here, cost_of
from support.wire_server import Reply, Request, Reset, WireServer

from loopllama.catalog.catalog import bundled
from loopllama.errors import RunFailed
from loopllama.llm import structured_output
from loopllama.queries.runs import RunReader
from loopllama.runs.step_writer import StepWriter
from loopllama.telemetry import logs
from loopllama_cli.console import output, trace

OPENAI, GOOGLE = OpenAIDialect(), GoogleDialect()
THREE = (OPENAI, AnthropicDialect(), BedrockDialect())
SCHEMA = {
    "type": "object",
    "properties": {"amount": {"type": "number"}, "label": {"enum": ["billing", "other"]}},
    "required": ["amount", "label"],
    "additionalProperties": False,
}
GOOD, BAD = {"amount": 12.5, "label": "billing"}, {"amount": "twelve", "label": "billing"}
MODES = {"native": ("tools", "structured_output"), "tool": ("tools",), "instructions": ()}
WAIT_SECONDS = 20.0


@pytest.fixture
def dialect(request: pytest.FixtureRequest) -> Dialect:
    """OpenAI's where the test does not say."""
    found: Dialect = getattr(request, "param", OPENAI)
    return found


every_dialect = pytest.mark.parametrize("dialect", THREE, ids=lambda one: one.name, indirect=True)


# Structured output


def said(dialect: Dialect, mode: str, value: Mapping[str, Any]) -> Reply:
    """An answer as the mode has it."""
    if mode == "tool":
        return Reply(200, dialect.answer("", [("call_1", structured_output.TOOL_NAME, value)], "tools"))
    text = json.dumps(value)
    return Reply(200, dialect.answer(f"Here:\n```json\n{text}\n```" if mode == "instructions" else text))


@every_dialect
@pytest.mark.parametrize("mode", MODES)
def test_structured_output_is_asked_for_in_the_mode_that_the_model_has(here: Here, mode: str) -> None:
    here.first.script(said(here.dialect, mode, GOOD))
    run_id, work = here.start(has=MODES[mode], outputSchema=SCHEMA)
    assert here.live.step(work)["outcome"] == "done"
    assert here.read(run_id)["output"] == {"amount": Decimal("12.5"), "label": "billing"}
    seen = here.dialect.seen(here.first.requests[0])
    assert (seen.schema is not None, seen.forced == structured_output.TOOL_NAME, "JSON Schema" in seen.system) == (
        mode == "native",
        mode == "tool",
        mode == "instructions",
    )
    assert set(seen.tools) == ({structured_output.TOOL_NAME} if mode == "tool" else set())


@every_dialect
@pytest.mark.parametrize("mode", MODES)
def test_one_repair_turn_with_what_was_wrong(here: Here, mode: str) -> None:
    here.first.script(said(here.dialect, mode, BAD), said(here.dialect, mode, GOOD))
    run_id, work = here.start(has=MODES[mode], outputSchema=SCHEMA)
    assert here.live.step(work)["outcome"] == "done"
    step = here.read(run_id)
    assert step["output"]["label"] == "billing"
    assert [one["outcome"] for one in step["attempts"]] == ["ok", "ok"]
    assert step["cost_usd"] == 2 * cost_of(*USAGE)
    messages = here.dialect.seen(here.first.requests[1]).messages
    assert [role for role, _, _ in messages] == ["user", "assistant", "user"]
    assert "amount: 'twelve' is not of type 'number'" in str(messages[-1][2])


@pytest.mark.parametrize("mode", MODES)
def test_after_the_repair_the_step_fails(here: Here, mode: str) -> None:
    here.first.script(*[said(here.dialect, mode, BAD)] * 2)
    run_id, work = here.start(has=MODES[mode], outputSchema=SCHEMA)
    assert here.live.step(work)["outcome"] == "failed"
    step = here.read(run_id)
    assert step["error"].startswith("OutputInvalid: The answer does not follow the output schema")
    assert "twelve" in step["error"]
    assert step["cost_usd"] == 2 * cost_of(*USAGE)
    # What the model said stays in the record: what AdvanceRun raises ends up in logs and in the execution's history.
    with pytest.raises(RunFailed, match="failed: OutputInvalid; the run's record says more") as raised:
        here.live.advance(work | {"round": 0}, [{"outcome": "failed"}])
    assert "twelve" not in str(raised.value)
    assert "twelve" in here.live.read(run_id)["error"]
    assert step["cost_basis"] == "measured"


@pytest.mark.parametrize("mode", MODES)
def test_or_the_next_fallback_begins_afresh(here: Here, mode: str) -> None:
    here.first.script(*[said(here.dialect, mode, BAD)] * 2)
    here.second.script(said(OPENAI, mode, GOOD))
    run_id, work = here.start(fallback=True, has=MODES[mode], outputSchema=SCHEMA)
    assert here.live.step(work)["outcome"] == "done"
    step = here.read(run_id)
    assert (step["model"], step["output"]["label"]) == (here.models[1], "billing")
    assert [one["model"] for one in step["attempts"]] == [here.models[0]] * 2 + [here.models[1]]
    assert [role for role, _, _ in OPENAI.seen(here.second.requests[0]).messages] == ["user"]
    assert step["cost_usd"] == 3 * cost_of(*USAGE)


def test_an_answer_that_was_cut_off_is_no_json(here: Here) -> None:
    here.first.script(*[Reply(200, here.dialect.answer('{"amount": 12', stop="length"))] * 2)
    run_id, work = here.start(has=MODES["native"], outputSchema=SCHEMA, maxTokens=5)
    assert here.live.step(work)["outcome"] == "failed"
    assert "cut off by its token limit; raise maxTokens" in here.read(run_id)["error"]
    assert [one["stop_reason"] for one in here.read(run_id)["attempts"]] == ["max_tokens"] * 2


def test_later_steps_see_the_parsed_object(here: Here) -> None:
    here.start()  # for its models
    model = here.models[0]
    crew: list[dict[str, Any]] = [
        {"name": "extract", "model": model, "outputSchema": SCHEMA},
        {"name": "skipped", "model": model, "when": "steps.extract.output.label == 'other'"},
        {
            "name": "write",
            "model": model,
            "needs": ["extract"],
            "prompt": "Refund {{ steps.extract.output.amount }} ({{ steps.extract.output.label }}).",
        },
    ]
    here.first.script(said(here.dialect, "tool", GOOD), Reply(200, here.dialect.answer("Done.")))
    run_id = here.live.accept(here.live.push(crew, name="Parsed"), "x")
    here.live.play(run_id)
    assert [step["status"] for step in here.live.read(run_id)["steps"]] == ["completed", "skipped", "completed"]
    assert here.dialect.seen(here.first.requests[1]).messages == [("user", "text", "Refund 12.5 (billing).")]


# Tools


@dataclass
class ToolServer:
    """An HTTP API on loopback: the tool that calls it, and the idempotency keys that came, by path."""

    definition: dict[str, Any]
    keys: dict[str, list[str]]


@contextmanager
def tool_server(together: int = 1) -> Iterator[ToolServer]:
    """It runs while the context lives. `together` requests must be there at once before any is answered."""
    barrier, lock = threading.Barrier(together), threading.Lock()
    keys: dict[str, list[str]] = {}

    class Orders(Handler):
        def serve(self) -> None:
            with lock:
                keys.setdefault(self.path, []).append(self.headers["idempotency-key"])
            status, body = 200, f'{{"of": "{self.path}"}}'
            try:
                barrier.wait(WAIT_SECONDS)
            except threading.BrokenBarrierError:
                status, body = 504, "nobody else came"
            if "broken" in self.path:
                status, body = 500, "the warehouse is on fire"
            self.answer(status, body)

    with serving(Orders) as url:
        definition = {
            "type": "http",
            "url": f"{url}/orders/{{order_id}}",
            "description": "Finds an order.",
            "parameters": {
                "type": "object",
                "properties": {"order_id": {"type": "string"}},
                "required": ["order_id"],
            },
            "allow_private": True,
        }
        yield ToolServer(definition, keys)


def with_tools(here: Here, monkeypatch: pytest.MonkeyPatch, **tools: Any) -> None:
    monkeypatch.setattr(here.live, "settings", replace(here.live.settings, tools=tools))


@every_dialect
def test_the_tool_calls_of_one_answer_run_side_by_side(here: Here, monkeypatch: pytest.MonkeyPatch) -> None:
    with tool_server(together=3) as api:
        with_tools(here, monkeypatch, order=api.definition)
        orders = ("a", "broken", "c")
        calls = [(f"call_{one}", "order", {"order_id": one}) for one in orders]
        here.first.script(
            Reply(200, here.dialect.answer("", calls, "tools")), Reply(200, here.dialect.answer("All found."))
        )
        run_id, work = here.start(tools=["order", "now"])
        # None is answered before all three are there.
        assert here.live.step(work)["outcome"] == "done"
    step = here.read(run_id)
    assert step["output"] == "All found."
    assert [(one["outcome"], one["arguments"]["order_id"]) for one in step["tool_calls"]] == [
        ("ok", "a"),
        ("failed", "broken"),
        ("ok", "c"),
    ]
    # Its failure is text that the model can act on, in the order in which it asked.
    results = [content for role, _, content in here.dialect.seen(here.first.requests[1]).messages if role == "tool"]
    assert [identifier for identifier, _ in results] == ["call_a", "call_broken", "call_c"]
    assert results[0][1] == '{"of": "/orders/a"}'
    assert "500" in results[1][1]
    assert "the warehouse is on fire" in results[1][1]
    # Each call has a key of its own.
    keys = [key for found in api.keys.values() for key in found]
    assert len(keys) == len(set(keys)) == 3
    assert set(here.dialect.seen(here.first.requests[0]).tools) == {"order", "now"}


def test_a_tool_call_is_repeated_under_the_same_key_when_its_process_died(
    here: Here, monkeypatch: pytest.MonkeyPatch
) -> None:
    with tool_server() as api:
        with_tools(here, monkeypatch, order=api.definition)
        calls = [("call_1", "order", {"order_id": "a"}), ("call_2", "order", {"order_id": "b"})]
        here.first.script(
            Reply(200, here.dialect.answer("", calls, "tools")), Reply(200, here.dialect.answer("Found."))
        )
        run_id, work = here.start(tools=["order"])
        settle = StepWriter.settle

        def die_before_the_second_tool(self: StepWriter, key: str, entry: Any) -> None:
            if key == "tool_0000_01":
                raise Killed
            settle(self, key, entry)

        with monkeypatch.context() as patch:
            patch.setattr(StepWriter, "settle", die_before_the_second_tool)
            with pytest.raises(Killed):
                here.live.step(work, "first")
        here.live.wait(60)
        assert here.live.step(work, "second")["outcome"] == "done"
    # The call that was settled is not made again; the open one is, and its API can tell.
    assert len(api.keys["/orders/a"]) == 1
    [first, second] = api.keys["/orders/b"]
    assert first == second != api.keys["/orders/a"][0]
    assert first == f"{run_id}/STEP#reply#0#0/tool_0000_01"
    assert len(here.first.requests) == 2
    step = here.read(run_id)
    assert [one["outcome"] for one in step["tool_calls"]] == ["ok", "ok"]
    assert step["cost_usd"] == 2 * cost_of(*USAGE)


def test_a_deployments_tools_that_make_no_sense_are_told_at_the_start_and_fail_only_steps_that_use_them(
    here: Here, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[tuple[str, str]] = []
    monkeypatch.setattr(
        logs.logger(), "error", lambda message, extra: told.append((message, extra["error"])), raising=True
    )
    with_tools(here, monkeypatch, order={"type": "http", "url": "ftp://x", "description": "d"})
    here.first.script(Reply(200, here.dialect.answer("ok")))
    _, work = here.start(tools=["now"])
    assert here.live.step(work)["outcome"] == "done"
    [(message, error)] = told
    assert "parameter Tools" in message
    assert "order.url is no URL" in error
    run_id, work = here.start(tools=["order"])
    assert here.live.step(work)["outcome"] == "failed"
    assert here.read(run_id)["error"].startswith("ToolInvalid: order.url is no URL")


# Prompt caching and the sums


@pytest.mark.parametrize("dialect", [AnthropicDialect(), BedrockDialect()], ids=lambda one: one.name, indirect=True)
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


@pytest.mark.parametrize("dialect", [AnthropicDialect(), BedrockDialect()], ids=lambda one: one.name, indirect=True)
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


def test_an_answer_given_beside_tool_calls_is_asked_for_again(here: Here) -> None:
    both = [("call_1", "calculator", {"expression": "5 + 7.5"}), ("call_2", structured_output.TOOL_NAME, BAD)]
    here.first.script(Reply(200, here.dialect.answer("", both, "tools")), said(here.dialect, "tool", GOOD))
    run_id, work = here.start(has=MODES["tool"], outputSchema=SCHEMA, tools=["calculator"])
    assert here.live.step(work)["outcome"] == "done"
    step = here.read(run_id)
    assert step["output"] == {"amount": Decimal("12.5"), "label": "billing"}
    assert [one["outcome"] for one in step["tool_calls"]] == ["ok", "failed"]
    assert "give it again, alone" in step["tool_calls"][1]["result"]


# Gemini's thought signatures: https://ai.google.dev/gemini-api/docs/thought-signatures


def signed(*signatures: str | None) -> Reply:
    """An answer that asks for the time once for each signature."""
    body = GOOGLE.answer("", [(f"call_{n}", "now", {}) for n in range(len(signatures))], "tools")
    for call, signature in zip(body["choices"][0]["message"]["tool_calls"], signatures, strict=True):
        if signature is not None:
            call["extra_content"] = {"google": {"thought_signature": signature}}
    return Reply(200, body)


def signatures_in(request: Request) -> list[str | None]:
    calls = [call for message in request.json["messages"] for call in message.get("tool_calls", ())]
    return [call.get("extra_content", {}).get("google", {}).get("thought_signature") for call in calls]


@pytest.mark.parametrize("dialect", [GOOGLE], ids=["google"], indirect=True)
def test_thought_signatures_are_given_back_also_by_another_invocation(
    here: Here, monkeypatch: pytest.MonkeyPatch
) -> None:
    here.first.script(signed("c2ln", None), Reply(200, here.dialect.answer("Noon.")))
    _, work = here.start(tools=["now"])

    def die(*_: Any, **__: Any) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr("loopllama.runs.attempt_log.StepLedger.open_tool", die)
        with pytest.raises(Killed):
            here.live.step(work, "first")
    here.live.wait(60)
    assert here.live.step(work, "second")["outcome"] == "done"
    # The second of two calls side by side has none.
    assert signatures_in(here.first.requests[1]) == ["c2ln", None]


def test_a_fallback_to_gemini_goes_on_with_another_models_tool_calls(here: Here) -> None:
    here.first.script(
        Reply(200, here.dialect.answer("", [("a", "now", {}), ("b", "now", {})], "tools")), Reply(500, b"down")
    )
    here.start()  # for its models
    gemini = here.live.put_model("gemini-behind", "google", "gemini-3-flash-preview", capabilities=["tools"])
    with WireServer() as google, pytest.MonkeyPatch.context() as patch:
        patch.setenv("GOOGLE_API_KEY", "k")
        patch.setenv("GOOGLE_BASE_URL", google.url)
        google.script(Reply(200, GOOGLE.answer("Noon.")))
        crew = [{"name": "reply", "model": here.models[0], "fallbacks": [gemini], "tools": ["now"]}]
        run_id = here.live.accept(here.live.push(crew, name="Behind"), "When?")
        here.live.play(run_id)
        assert here.live.read(run_id)["output"] == "Noon."
        assert signatures_in(google.requests[0]) == ["skip_thought_signature_validator", None]
    assert [signatures_in(request) for request in here.first.requests] == [[], [None, None]]


# What the catalog's entry says


def test_a_models_options_and_its_longest_answer_go_into_the_call(here: Here) -> None:
    """Put into the Models table between two calls of the same step: no deployment, no change of the workflow."""
    here.first.script(Reply(503, b""), Reply(200, here.dialect.answer("ok")))
    run_id, work = here.start(maxTokens=100_000)
    assert here.live.step(work)["outcome"] == "retry_later"
    plain = here.first.requests[0].json
    # The bundled model's own limit: more would be refused.
    assert plain["max_completion_tokens"] == (bundled().resolve("gpt-4.1-mini").max_output or 0) < 100_000
    assert "reasoning_effort" not in plain

    options = {"reasoning_effort": "low", "seed": 7, "logit_bias": {"50256": Decimal("-1.5")}}
    here.live.put_model(here.models[0], "openai", here.dialect.model, max_output=900, options=options)
    assert here.live.step(work)["outcome"] == "done"
    sent = here.first.requests[1].json
    assert sent == {
        **plain,
        "max_completion_tokens": 900,
        **options,
        "logit_bias": {"50256": -1.5},
    }
    assert here.read(run_id)["output"] == "ok"


def test_options_that_would_replace_the_call_are_not_sent(here: Here) -> None:
    here.first.script(Reply(200, here.dialect.answer("ok")))
    _, work = here.start()
    here.live.put_model(here.models[0], "openai", here.dialect.model, options={"model": "dearer", "n": 9})
    assert here.live.step(work)["outcome"] == "done"
    sent = here.first.requests[0].json
    assert sent["model"] == here.dialect.model
    assert "n" not in sent


# Connections


def test_a_connection_that_idled_a_minute_between_two_steps_is_used_again(
    here: Here, monkeypatch: pytest.MonkeyPatch
) -> None:
    here.first.script(*[Reply(200, here.dialect.answer("ok"))] * 4)

    def step() -> None:
        _, work = here.start()
        assert here.live.step(work)["outcome"] == "done"

    class Later:
        """The pool's clock, ahead by `seconds`."""

        seconds = 0

        @classmethod
        def monotonic(cls) -> float:
            return time.monotonic() + cls.seconds

    monkeypatch.setattr("httpcore._sync.http11.time", Later)
    step()
    Later.seconds = 60
    step()
    Later.seconds += 200
    step()
    assert [one.connection for one in here.first.requests] == [1, 1, 1]
    Later.seconds += 301
    step()
    assert [one.connection for one in here.first.requests] == [1, 1, 1, 2]
