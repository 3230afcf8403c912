"""Loops, cell by cell of the two tables of docs/workflows.md: what their steps read, and how they end."""

from __future__ import annotations

import io
import re
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from support.deployment import Deployment
from support.scripts import by_system

from loopllama.engine.replay import replay_run
from loopllama.errors import WorkflowInvalid
from loopllama.queries.runs import RunReader
from loopllama_cli.console.trace import print_trace

VERDICT = {"type": "object", "properties": {"ok": {"type": "boolean"}, "todo": {"type": "array"}, "n": {}}}
NEXT = "first round: {}; then: its output of the last round"
READS = {
    ("a `prompt`", "before the loop"): "its output",
    ("a `prompt`", "before it"): "its output of this round",
    ("a `prompt`", "after it"): NEXT.format("nothing"),
    ("no `prompt`", "before the loop"): "its output, under its role",
    ("no `prompt`", "before it"): "its output of this round, under its role",
    ("no `prompt`", "after it"): NEXT.format("nothing") + ', under its role and "last time"',
    ("`when`", "before the loop"): "its output",
    ("`when`", "before it"): "its output of this round",
    ("`when`", "after it"): NEXT.format("null"),
    ("`forEach`", "before the loop"): "its output",
    ("`forEach`", "before it"): "its output of this round",
    ("`forEach`", "after it"): NEXT.format("null, which is refused"),
    ("`until`", "before the loop"): "its output",
    ("`until`", "before it"): "its output of this round",
    ("`until`", "after it"): "its own output of this round",
}
NAMED = "completes, with the loop in `unsatisfied_loops`"
ENDS = {
    "satisfied": ("`until` held", "all of that round", "that round's outputs", "runs", "completes"),
    "max_reached": ("`until` did not hold in round `max`", "all of that round", "that round's outputs", "runs", NAMED),
    "stopped": (
        "the `when` of its first step was false in a later round",
        "none of that round",
        "the outputs of the round before",
        "runs",
        NAMED,
    ),
    "unjudged": (
        "the `when` of its last step was false",
        "all but the last step's",
        "that round's outputs, null of the last step",
        "is skipped",
        NAMED,
    ),
    "skipped": ("its first step was skipped in the first round", "none", "null", "is skipped", "completes"),
}


def table(first: str) -> list[list[str]]:
    """The rows of a table of the page, its heads left out."""
    page = (Path(__file__).parents[3] / "docs" / "workflows.md").read_text(encoding="utf-8")
    rows = page[page.index(f"| {first} |") :].split("\n\n")[0].splitlines()[2:]
    return [[cell.strip() for cell in row.strip("|").split(" | ")] for row in rows]


def test_the_page_says_what_is_tried_here() -> None:
    columns = ("before the loop", "before it", "after it")
    told = {(place, column): cell for place, *cells in table("in") for column, cell in zip(columns, cells, strict=True)}
    assert told == READS
    assert {how.strip("`"): tuple(cells) for how, *cells in table("`loop_ended`")} == ENDS


def crew(most: int = 3, **fields: dict[str, Any]) -> list[dict[str, Any]]:
    """A loop of three steps between two others."""
    repeat = {"backTo": "write", "until": "steps.judge.output.ok", "max": most}
    steps = ("plan", "write", "polish", "judge", "send")
    own: dict[str, dict[str, Any]] = {
        "plan": {"outputSchema": VERDICT, "prompt": "plan"},
        "write": {"prompt": "write"},
        "polish": {"prompt": "polish"},
        "judge": {"outputSchema": VERDICT, "repeat": repeat, "prompt": "judge"},
        "send": {"prompt": "<{{ steps.write.output }}|{{ steps.polish.output }}|{{ steps.judge.output }}>"},
    }
    return [
        {"name": name, "role": name.title(), "systemPrompt": f"Be {name}.", **own[name], **fields.get(name, {})}
        for name in steps
    ]


def played(
    live: Deployment, steps: list[dict[str, Any]], verdicts: list[dict[str, Any]], run_input: Any = "in"
) -> tuple[dict[str, Any], dict[str, list[str]]]:
    """The run, and what each agent was told, turn by turn. Agents answer with their name and the turn's number."""
    told: dict[str, list[str]] = {step["name"]: [] for step in steps}

    def answer(call: Any) -> Any:
        name = call.system.split("Be ")[1].split(".")[0]
        told[name].append(call.messages[0].text)
        if name == "judge":
            return verdicts[len(told[name]) - 1]
        return {"ok": True, "todo": ["p"]} if name == "plan" else f"{name} {len(told[name])}"

    live.provider.script = by_system({"Be": answer})
    run_id = live.accept(live.push(steps), run_input)
    live.play(run_id)
    run = live.read(run_id)
    assert (run["status"], run["error"]) == ("completed", None)
    return run, told


NO = {"ok": False, "todo": ["a", "b"]}
LAST = {"ok": False, "todo": []}
YES = {"ok": True, "todo": []}


# What steps read. Three rounds: the judge says NO, LAST, YES


@pytest.mark.parametrize(
    ("column", "reference", "shown"),
    [
        ("before the loop", "{{ steps.plan.output.todo }}", ['["p"]', '["p"]', '["p"]']),
        ("before it", "{{ steps.write.output }}", ["write 1", "write 2", "write 3"]),
        ("after it", "{{ steps.judge.output.todo }}", ["", '["a", "b"]', "[]"]),
        ("after it", "{{ steps.judge.output.n }}{{ steps.judge.output.todo }}", ["", 'null["a", "b"]', "null[]"]),
        ("after it", "{{ steps.polish.output }}", ["", "polish 1", "polish 2"]),
    ],
)
def test_a_prompt(live: Deployment, column: str, reference: str, shown: list[str]) -> None:
    assert ("a `prompt`", column) in READS
    verdicts = [{"n": None, **one} for one in (NO, LAST, YES)]
    _, told = played(live, crew(polish={"prompt": f"Now: {reference}"}), verdicts)
    assert told["polish"] == [f"Now: {text}" for text in shown]


def test_no_prompt(live: Deployment) -> None:
    _, told = played(live, crew(polish={"prompt": None}), [NO, LAST, YES])
    plan = '# Input\n\nin\n\n# Plan (plan)\n\n{"ok": true, "todo": ["p"]}'
    assert told["polish"][0] == f"{plan}\n\n# Write (write)\n\nwrite 1"
    again = '# Polish, last time (polish)\n\npolish {}\n\n# Judge, last time (judge)\n\n{{"ok": false, "todo": {}}}'
    assert told["polish"][1] == f"{plan}\n\n# Write (write)\n\nwrite 2\n\n" + again.format(1, '["a", "b"]')
    assert told["polish"][2] == f"{plan}\n\n# Write (write)\n\nwrite 3\n\n" + again.format(2, "[]")


SAID_MORE = "steps.judge.output == `null` || length(steps.judge.output.todo) == `2`"


@pytest.mark.parametrize(
    ("column", "step", "condition", "turns"),
    [
        ("before the loop", "write", 'steps.plan.output.todo == `["p"]`', (3, 3)),
        ("before it", "judge", "steps.write.output != 'write 2'", (2, 1)),
        ("after it", "write", SAID_MORE, (2, 2)),
        ("after it", "judge", SAID_MORE, (3, 2)),
        ("after it", "write", "steps.write.output == `null` || steps.write.output == 'write 1'", (2, 2)),
    ],
)
def test_a_condition(live: Deployment, column: str, step: str, condition: str, turns: tuple[int, int]) -> None:
    """It is asked in each round, and ends the loop in the one that it is false in."""
    assert ("`when`", column) in READS
    fields: dict[str, Any] = {step: {"when": condition}}
    run, told = played(live, crew(**fields), [NO, LAST, YES])
    assert (len(told["write"]), len(told["judge"])) == turns
    ended = [one for one in run["steps"] if one["step"] == "judge"][-1]["loop_ended"]
    assert ended == ("satisfied" if turns == (3, 3) else "stopped" if step == "write" else "unjudged")


@pytest.mark.parametrize(
    ("column", "expression", "items"),
    [
        ("before the loop", "steps.plan.output.todo", [["p"], ["p"], ["p"]]),
        ("before it", "[steps.write.output]", [["write 1"], ["write 2"], ["write 3"]]),
        ("after it", "steps.judge.output.todo || input", [["x", "y"], ["a", "b"], ["x", "y"]]),
        ("after it", "not_null(steps.judge.output.todo, input)", [["x", "y"], ["a", "b"], []]),
        ("after it", "(steps.polish.output || input)[:1]", [["x"], ["polish 1"], ["polish 2"]]),
    ],
)
def test_a_list(live: Deployment, column: str, expression: str, items: list[list[str]]) -> None:
    assert ("`forEach`", column) in READS
    steps = crew(polish={"forEach": expression, "prompt": "{{ item }}"}, judge={"prompt": "{{ steps.polish.output }}"})
    run, told = played(live, steps, [NO, LAST, YES], ["x", "y"])
    assert told["polish"] == [item for round_items in items for item in round_items]
    made = iter(range(1, 100))
    outputs = [[f"polish {next(made)}" for _ in round_items] for round_items in items]
    assert [one["output"] for one in run["steps"] if one["step"] == "polish" and one["item"] is None] == outputs
    assert told["judge"] == [str(output).replace("'", '"') for output in outputs], "it sees the list of its own round"


def test_a_list_that_the_first_round_lacks_is_refused(live: Deployment) -> None:
    with pytest.raises(WorkflowInvalid, match="is null in the loop's first round; name another for that with"):
        live.push(crew(polish={"forEach": "steps.judge.output.todo"}))


@pytest.mark.parametrize(
    ("column", "until", "rounds"),
    [
        ("before the loop", "steps.plan.output.ok", 1),
        ("before it", "steps.write.output == 'write 2' && steps.polish.output == 'polish 2'", 2),
        ("after it", "steps.judge.output.todo == `[]`", 2),
        ("after it", "steps.judge.output.ok", 3),
    ],
)
def test_until(live: Deployment, column: str, until: str, rounds: int) -> None:
    assert ("`until`", column) in READS
    _, told = played(live, crew(judge={"repeat": {"backTo": "write", "until": until, "max": 4}}), [NO, LAST, YES])
    assert len(told["judge"]) == rounds


# How loops end


def trace(run: Any) -> str:
    text = io.StringIO()
    print_trace(run, Console(file=text, width=300))
    return text.getvalue()


STOPS = "steps.judge.output == `null` || steps.judge.output.todo"
UNJUDGED = "steps.write.output != 'write 2'"
WAYS: dict[str, tuple[list[dict[str, Any]], int, str, str]] = {
    # the crew, the judge's last round, what send is told, what the trace says
    "satisfied": (crew(), 3, '<write 3|polish 3|{"ok": true, "todo": []}>', ""),
    "max_reached": (crew(2), 2, '<write 2|polish 2|{"ok": false, "todo": []}>', "after 2 rounds, the most that it may"),
    "stopped": (
        crew(write={"when": STOPS}), 3, '<write 2|polish 2|{"ok": false, "todo": []}>', "ended it after round 2, whose",
    ),
    "unjudged": (crew(judge={"when": UNJUDGED}), 2, "<write 2|polish 2|>", "nobody judged its loop: its `when` skipp"),
    "skipped": (crew(write={"when": "input == 'out'"}), 1, "<||>", ""),
}  # fmt: skip


@pytest.mark.parametrize("how", ENDS)
def test_a_loop_that_ended(live: Deployment, how: str) -> None:
    """Every cell of its row: turns, what the steps behind it read, whether they run, what the run says."""
    steps, last_round, behind, said = WAYS[how]
    because, turns, _, following, run_says = ENDS[how]
    # One that needs the plan too runs whatever becomes of the loop.
    also = {**steps[-1], "name": "also", "needs": ["plan", "judge"], "systemPrompt": "Be also."}
    run, told = played(live, [*steps, also], [NO, LAST, YES])
    rounds = {name: [one for one in run["steps"] if one["step"] == name] for name in ("write", "judge")}
    assert [one["loop_ended"] for one in rounds["judge"]] == [None] * (last_round - 1) + [how], because
    assert {one["loop_ended"] for one in run["steps"] if one["step"] != "judge"} == {None}
    statuses = {name: ones[-1]["status"] for name, ones in rounds.items()}
    ran = {"write": "completed", "judge": "completed"}
    assert (
        statuses
        == {
            "all of that round": ran,
            "none of that round": dict.fromkeys(ran, "skipped"),
            "all but the last step's": {**ran, "judge": "skipped"},
            "none": dict.fromkeys(ran, "skipped"),
        }[turns]
    )
    assert told["also"] == [behind]
    assert told["send"] == ([behind] if following == "runs" else [])
    assert run["unsatisfied_loops"] == (["judge"] if run_says == NAMED else None)
    assert live.runs.run(run["id"]).get("unsatisfied_loops") == run["unsatisfied_loops"], "its last event says it too"
    assert RunReader(live.settings).list()[0][0]["unsatisfied_loops"] == run["unsatisfied_loops"]
    assert bool(re.search("loop", trace(run))) == bool(said)
    assert said in trace(run)
    assert run["total_steps"] == sum(map(len, told.values()))


def test_a_loop_that_was_stopped_is_the_runs_output(live: Deployment) -> None:
    run, told = played(live, crew(write={"when": STOPS})[:-1], [NO, LAST, YES])
    assert run["output"] == LAST
    assert [one["output"] for one in run["steps"] if one["step"] == "write"] == ["write 1", "write 2", "write 2"]
    assert len(told["write"]) == 2


def test_a_step_behind_a_stopped_loop_is_shown_what_stands(live: Deployment) -> None:
    _, told = played(live, crew(write={"when": STOPS}, send={"prompt": None}), [NO, LAST, YES])
    assert "# Write (write)\n\nwrite 2\n\n# Polish (polish)\n\npolish 2\n\n# Judge (judge)" in told["send"][0]


def test_a_loop_of_one_step_is_stopped_by_its_condition(live: Deployment) -> None:
    repeat = {"backTo": "judge", "until": "steps.judge.output.ok", "max": 5}
    own = {"needs": ["plan"], "when": STOPS, "repeat": repeat}
    steps = [step for step in crew(judge=own, send={"prompt": "{{ steps.judge.output.todo }}"}) if step["name"] in
             ("plan", "judge", "send")]  # fmt: skip
    run, told = played(live, steps, [NO, LAST, YES])
    assert [one["loop_ended"] for one in run["steps"] if one["step"] == "judge"] == [None, None, "stopped"]
    assert (len(told["judge"]), told["send"]) == (2, ["[]"])


def test_an_until_that_fails_in_the_last_round_is_not_held(live: Deployment) -> None:
    repeat = {"backTo": "write", "until": "length(steps.judge.output.n) == `1`", "max": 2}
    verdicts: list[dict[str, Any]] = [{"n": "ab"}, {"n": 5}]
    run, _ = played(live, crew(judge={"repeat": repeat}), verdicts)
    assert run["unsatisfied_loops"] == ["judge"]


def test_a_replay_from_behind_a_loop_keeps_how_it_ended(live: Deployment) -> None:
    run, _ = played(live, crew(2), [NO, LAST])
    again = replay_run(live.settings, run["id"], "send")
    live.play(again)
    assert live.read(again)["unsatisfied_loops"] == ["judge"]
    assert trace(live.read(again)).count("after 2 rounds") == 1
