"""A step's `input` is the prompt that its agent received, to the character; and a run's `total_steps`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.api_client import InProcess
from support.deployment import Deployment

from loopllama.aws import clients
from loopllama.core import exact_json
from loopllama.engine.cancel import cancel_run
from loopllama.engine.replay import replay_run
from loopllama.errors import ModelRequestRejected, ModelUnavailable, RunFailed
from loopllama.queries.runs import RunReader
from loopllama.runs import prompts
from loopllama.runs.value_store import INLINE_BYTES, ValueStore
from loopllama.settings import Settings
from loopllama.workflows.store import DefinitionStore

LONG = "The parcel is late; the customer is angry. " * 40
HUGE = "A page of the contract, as long as the others. " * 1500
LIST = {"type": "object", "properties": {"list": {"type": "array"}, "ok": {"type": "boolean"}}}


def received(live: Deployment) -> list[str]:
    """The prompts that the provider got, in order."""
    return [call.messages[0].text for call in live.provider.calls]


def inputs(run: dict[str, Any]) -> dict[str, str | None]:
    """The inputs of a run object's steps, by the steps' ids."""
    return {step["id"].removeprefix("STEP#"): step["input"] for step in run["steps"]}


def by_system(answers: dict[str, Any]) -> Callable[[Any], str]:
    def script(call: Any) -> str:
        answer = answers[call.system.split()[0]]
        answer = answer(call) if callable(answer) else answer
        return answer if isinstance(answer, str) else exact_json.dumps(answer)

    return script


@pytest.mark.parametrize(
    "given_input", ["Hello.", LONG, HUGE, {"text": LONG, "n": 1.50}, {"text": HUGE}, ["é", "\U0001f600"], 7]
)
@pytest.mark.parametrize("answer", ["short", LONG + "é", HUGE])
def test_the_usual_prompt(live: Deployment, given_input: Any, answer: str) -> None:
    live.provider.script = lambda call: f"{len(live.provider.calls)} {answer}"
    run_id = live.accept(live.push([{"name": "a"}, {"name": "b"}, {"name": "c"}]), given_input)
    live.play(run_id)
    assert list(inputs(live.read(run_id)).values()) == received(live)


def test_a_template_and_texts_that_quote_each_other(live: Deployment) -> None:
    crew = [
        {"name": "a", "prompt": "{{ input.text }} / {{ input.order }}"},
        {"name": "b", "prompt": "{{ steps.a.output }}{{ steps.a.output }} of {{ input }}"},
        {"name": "c", "prompt": "no values"},
    ]
    live.provider.script = lambda call: f"So: {LONG} And: {LONG}"
    run_id = live.accept(live.push(crew), {"text": LONG, "order": 7})
    live.play(run_id)
    assert list(inputs(live.read(run_id)).values()) == received(live)


def test_each_round_of_a_loop_and_each_item_has_its_own(live: Deployment) -> None:
    loop = {"back_to": "write", "until": "steps.judge.output.ok", "max": 3}
    crew = [
        {"name": "split", "systemPrompt": "Split.", "outputSchema": LIST},
        {"name": "each", "systemPrompt": "Each.", "forEach": "steps.split.output.list", "maxConcurrency": 1},
        {"name": "write", "systemPrompt": "Write."},
        {"name": "judge", "systemPrompt": "Judge.", "outputSchema": LIST, "repeat": loop},
        {"name": "never", "systemPrompt": "Never.", "when": "steps.judge.output.list"},
    ]
    turns = iter([False, False, True])
    live.provider.script = by_system(
        {
            "Split.": {"list": [LONG, "two"]},
            "Each.": lambda call: f"{len(live.provider.calls)} {LONG}",
            "Write.": lambda call: f"{len(live.provider.calls)} {LONG}",
            "Judge.": lambda call: {"ok": next(turns)},
        }
    )
    run_id = live.accept(live.push(crew), LONG)
    live.play(run_id)
    run, got = live.read(run_id), iter(received(live))
    order = ["split#0#0", "each#0#1", "each#0#2"]
    order += [f"{name}#{turn}#0" for turn in range(3) for name in ("write", "judge")]
    assert inputs(run) == {key: next(got) for key in order} | {"each#0#0": None, "never#0#0": None}
    assert next(got, None) is None
    assert run["total_steps"] == 9  # neither the list itself nor the step that was skipped
    [listed] = RunReader(live.settings).list(run["workflow_id"])[0]
    assert listed["total_steps"] == 9


def test_it_stays_whatever_becomes_of_the_workflow(live: Deployment) -> None:
    crew = [{"name": "a", "prompt": "Once: {{ input }}"}, {"name": "b"}]
    run_id = live.accept(workflow := live.push(crew), LONG)
    live.play(run_id)
    live.push([{"name": "a", "prompt": "Now: {{ input }}"}])
    assert list(inputs(live.read(run_id)).values()) == received(live)
    DefinitionStore(live.settings).delete(workflow)
    assert list(inputs(live.read(run_id)).values()) == received(live)


def test_a_replay_shows_what_the_kept_step_received_and_what_the_others_do(live: Deployment) -> None:
    loop = {"back_to": "b", "until": "steps.c.output.ok", "max": 2}
    crew = [
        {"name": "a", "systemPrompt": "A."},
        {"name": "b", "systemPrompt": "B."},
        {"name": "c", "systemPrompt": "C.", "outputSchema": LIST, "repeat": loop},
        {"name": "d", "systemPrompt": "D."},
    ]
    live.provider.script = by_system({"A.": LONG + "a", "B.": HUGE, "C.": {"ok": False}, "D.": "d", "E.": "e"})
    first = live.accept(live.push(crew), LONG)
    live.play(first)
    got = dict(zip(["a#0#0", "b#0#0", "c#0#0", "b#1#0", "c#1#0", "d#0#0"], received(live), strict=True))
    assert inputs(live.read(first)) == got
    second = replay_run(live.settings, first, "d", run_input="Something else.", system_prompts={"d": "E."})
    for item in clients.client("s3").list_objects_v2(Bucket="values", Prefix=f"runs/{first}/")["Contents"]:
        clients.client("s3").delete_object(Bucket="values", Key=item["Key"])
    assert live.read(second)["total_steps"] == 0
    live.play(second)
    run = live.read(second)
    assert received(live)[-1].startswith("# Input\n\nSomething else.")
    kept = {key: got[key] for key in ("a#0#0", "b#1#0", "c#1#0")}
    assert inputs(run) == kept | {"d#0#0": received(live)[-1]}
    assert run["total_steps"] == 1


def test_a_step_that_has_not_begun_has_none_and_one_under_way_has(live: Deployment) -> None:
    run_id = live.accept(live.push([{"name": "a"}, {"name": "b"}]), LONG)
    seen: list[dict[str, Any]] = []
    live.provider.script = lambda call: seen.append(live.read(run_id)) or "fine"
    queued = live.read(run_id)
    assert inputs(queued) == {"a#0#0": None, "b#0#0": None}
    live.play(run_id)
    assert [inputs(run) for run in seen] == [
        {"a#0#0": received(live)[0], "b#0#0": None},
        dict(zip(["a#0#0", "b#0#0"], received(live), strict=True)),
    ]
    assert [run["steps"][0]["model"] for run in seen] == ["test:base", "test:base"]
    assert [run["total_steps"] for run in (queued, *seen, live.read(run_id))] == [0, 0, 1, 2]
    assert RunReader(live.settings).accepted(run_id)["total_steps"] == 0


def test_tries_failures_and_redrives_keep_it(live: Deployment) -> None:
    fail: list[Exception] = [ModelUnavailable("later"), ModelUnavailable("later"), ModelRequestRejected("no")]

    def script(call: Any) -> str:
        if fail and len(live.provider.calls) > 1:
            raise fail.pop(0)
        return LONG

    live.provider.script = script
    run_id = live.accept(workflow := live.push([{"name": "a"}, {"name": "b"}, {"name": "c"}]), LONG)
    with pytest.raises(RunFailed):
        live.play(run_id)
    run = live.read(run_id)
    assert inputs(run) == {"a#0#0": received(live)[0], "b#0#0": received(live)[1], "c#0#0": None}
    assert (run["total_steps"], RunReader(live.settings).list(workflow)[0][0]["total_steps"]) == (2, 2)
    state = live.advance({"contract": 1, "run_id": run_id, "round": 0})
    assert RunReader(live.settings).list(workflow)[0][0]["total_steps"] == 1  # one of them is under way again
    live.chain(live.map(state)[0])
    live.advance(state)
    assert live.read(run_id)["total_steps"] == 3
    assert list(inputs(live.read(run_id)).values()) == [received(live)[place] for place in (0, 1, -1)]


def test_totals_of_runs_that_go_on_or_were_cancelled_are_listed(live: Deployment) -> None:
    workflow = live.push([{"name": "a"}, {"name": "b"}])
    run_id = live.accept(workflow)
    reader = RunReader(live.settings)
    names = ("status", "total_steps", "tokens_in", "tokens_out", "output", "error", "started_at", "finished_at")
    [queued] = reader.list(workflow)[0]
    assert [queued.get(name) for name in names] == ["queued", 0, 0, 0, None, None, None, None]
    live.step(live.map(live.start(run_id))[0])
    [running] = reader.list(workflow)[0]
    assert [running.get(name) for name in names[:4]] == ["running", 1, 100, 10]
    assert reader.list()[0] == [running]
    gone = live.settings.state_machine_arn.replace(":stateMachine:", ":execution:") + f":{run_id}"
    live.runs.change(run_id, {"execution_arn": gone}, only_from=("running",))
    cancel_run(live.settings, run_id)
    [cancelled] = reader.list(workflow)[0]
    assert [cancelled.get(name) for name in names[:4]] == ["cancelled", 1, 100, 10]


def test_a_step_without_calls_makes_no_unknown_cost_known(live: Deployment) -> None:
    live.put_model("test:free", "test", "free", prices=[])
    crew = [{"name": "a", "model": "test:free"}, {"name": "b", "when": "`false`"}]
    run_id = live.accept(workflow := live.push(crew))
    live.play(run_id)
    [listed] = RunReader(live.settings).list(workflow)[0]
    assert (listed["cost_usd"], listed["unpriced"]) == (None, True)
    assert live.read(run_id)["cost_usd"] is None


def test_the_record_says_no_long_text_twice(live: Deployment) -> None:
    live.provider.script = lambda call: f"{len(live.provider.calls)} {LONG}"
    run_id = live.accept(live.push([{"name": name} for name in "abcdefgh"]), LONG)
    live.play(run_id)
    records = live.runs.items(run_id, [f"STEP#{name}#0#0" for name in "abcdefgh"])
    assert all(len(str(record["input"])) < 1000 for record in records.values())


def test_prompts_too_large_for_an_answer_are_links(live: Deployment) -> None:
    """The outputs come first, so that they stay whole as long as they can."""
    long = "word " * 12_000
    live.provider.script = lambda call: f"{len(live.provider.calls)} {long[: len(long) // 4]}"
    run_id = live.accept(live.push([{"name": name} for name in "abcdef"]), long)
    live.play(run_id)
    steps = InProcess(live.settings).ask("GET", f"/v1/runs/{run_id}")[1]["data"]["steps"]
    assert all(isinstance(step["output"], str) for step in steps)
    links = [step["input"] for step in steps if isinstance(step["input"], dict)]
    assert 0 < len(links) < 6
    key = links[-1]["url"].partition("/runs/")[2].partition("?")[0]
    found = clients.client("s3").get_object(Bucket="values", Key=f"runs/{key}")["Body"].read()
    assert exact_json.loads(found) == received(live)[-1]


TEXTS = st.text(st.sampled_from("ab é\n"), max_size=8).map(lambda text: text * 30)


@given(st.lists(st.one_of(st.text(max_size=20), TEXTS), max_size=8), st.lists(TEXTS, max_size=4))
def test_whatever_is_held_the_prompt_is_read_back_to_the_character(pieces: list[str], held: list[str]) -> None:
    values = ValueStore(Settings())
    text = "".join([*pieces, *held[:2], *pieces[:2]])
    items: Any = {f"STEP#{place}#0#0": {"output": one} for place, one in enumerate(held)} | {
        "RUN": {"input": "x" * 100}
    }
    texts = {key: item.get("output", item.get("input")) for key, item in items.items()}
    kept = prompts.keep(values, "run", "input", text, texts)
    assert values.load(prompts.whole(kept, items)) == text
    assert set(prompts.items_of(kept)) <= items.keys()


def test_many_names_are_not_kept_in_the_place_of_one_text(live: Deployment) -> None:
    values = ValueStore(live.settings)
    part = "a" * prompts.LEAST
    kept = prompts.keep(values, "run", "input", part * 2000, {"RUN": part})
    assert ValueStore.is_reference(kept)
    assert len(str(prompts.keep(values, "run", "input", part * 9, {"RUN": part}))) < INLINE_BYTES
    assert prompts.whole({"$parts": ["a", {"$of": "STEP#gone#0#0"}], "bytes": 9}, {}) is None
