"""The state machine is whole: its substitutions, transitions and error names."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import run_workflow
from template.project import ROOT, levels, machine, states, template

from loopllama import CONTRACT, errors
from loopllama.runs.step_ref import LINE

DEPLOYED = ROOT / "state_machines/run_workflow.asl.json"
TASKS = [(name, state) for name, state in states() if state["Type"] == "Task"]


def test_the_deployed_file_is_what_its_source_says() -> None:
    assert DEPLOYED == run_workflow.MADE
    assert ROOT / template()["Resources"]["RunWorkflow"]["Properties"]["DefinitionUri"] == DEPLOYED
    assert DEPLOYED.read_text("utf-8") == run_workflow.text(), "make machine"
    assert machine()["Comment"].startswith("Made from state_machines/run_workflow.py by `make machine`")


def test_a_stale_file_is_told_and_written_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    made = tmp_path / DEPLOYED.name
    monkeypatch.setattr(run_workflow, "MADE", made)
    for text in (None, DEPLOYED.read_text("utf-8").replace('"MaxAttempts": 4', '"MaxAttempts": 5', 1)):
        if text is not None:
            made.write_text(text, "utf-8")
        assert run_workflow.main(["--check"]) == 1
        assert "run `make machine`" in capsys.readouterr().err
    assert run_workflow.main([]) == 0
    assert run_workflow.main(["--check"]) == 0
    assert made.read_bytes() == DEPLOYED.read_bytes()


def test_every_substitution_is_defined_and_used() -> None:
    text = DEPLOYED.read_text()
    given = template()["Resources"]["RunWorkflow"]["Properties"]["DefinitionSubstitutions"]
    assert set(re.findall(r"\$\{(\w+)\}", text)) == set(given)


def targets(state: dict[str, Any]) -> set[str]:
    choices = [*state.get("Choices", ()), *state.get("Catch", ())]
    return {one["Next"] for one in choices} | {state[key] for key in ("Next", "Default") if key in state}


@pytest.mark.parametrize("level", list(levels(machine())), ids=lambda level: level["StartAt"])
def test_every_state_is_reached_and_every_target_exists(level: dict[str, Any]) -> None:
    reached, waiting = set(), {level["StartAt"]}
    while waiting:
        name = waiting.pop()
        assert name in level["States"], f"{name} is not a state here"
        reached.add(name)
        waiting |= targets(level["States"][name]) - reached
    assert reached == set(level["States"])


@pytest.mark.parametrize("level", list(levels(machine())), ids=lambda level: level["StartAt"])
def test_every_path_ends(level: dict[str, Any]) -> None:
    ends = {name for name, state in level["States"].items() if state.get("End") or state["Type"] in ("Succeed", "Fail")}
    ending, before = set(ends), set()
    while ending != before:
        before = set(ending)
        ending |= {name for name, state in level["States"].items() if targets(state) & ending}
    assert ending == set(level["States"])


@pytest.mark.parametrize(("name", "state"), TASKS, ids=[name for name, _ in TASKS])
def test_errors_are_ours_or_aws(name: str, state: dict[str, Any]) -> None:
    ours = {
        name for name, one in vars(errors).items() if isinstance(one, type) and issubclass(one, errors.LoopLlamaError)
    }
    said = [error for rule in (*state.get("Retry", ()), *state.get("Catch", ())) for error in rule["ErrorEquals"]]
    assert said, "a task says what becomes of its errors"
    unknown = [one for one in said if one not in ours and not re.match(r"(States|Lambda|Runtime|Sandbox)\.\w+$", one)]
    assert not unknown


@pytest.mark.parametrize(("name", "state"), TASKS, ids=[name for name, _ in TASKS])
def test_tasks_survive_throttling_and_crashes(name: str, state: dict[str, Any]) -> None:
    retried = {error for rule in state["Retry"] for error in rule["ErrorEquals"]}
    # Sources: https://docs.aws.amazon.com/step-functions/latest/dg/sfn-best-practices.html (transient Lambda errors);
    # Runtime.ExitError and Sandbox.Timedout are what Lambda says of a process that died or was cut off.
    wanted = {
        *("Lambda.TooManyRequestsException", "Lambda.ServiceException", "Lambda.AWSLambdaException"),
        *("Lambda.SdkClientException", "Lambda.ClientExecutionTimeoutException", "Lambda.Unknown"),
        *("Runtime.ExitError", "Sandbox.Timedout"),
    }
    assert wanted <= retried
    assert "States.ALL" not in retried, "a mistake of ours would be paid for several times"


def test_a_name_means_one_state() -> None:
    """Step Functions takes no name twice, at whichever level."""
    names = [name for level in levels(machine()) for name in level["States"]]
    assert len(names) == len(set(names)) == len(list(states()))


def test_it_says_the_numbers_that_the_functions_do() -> None:
    assert (run_workflow.CONTRACT, run_workflow.LINE) == (CONTRACT, LINE)


def test_a_line_is_left_whatever_ends_it() -> None:
    """Not by the name of the error, of which AWS does not say how it comes out of a Map."""
    line = dict(states())["RunLine"]
    assert [(rule["ErrorEquals"], rule["Next"]) for rule in line["Catch"]] == [(["States.ALL"], "AdvanceRun")]
    assert line["MaxConcurrency"] == 1, "one after the other, in their order"


def test_run_failed_is_not_caught() -> None:
    advance = dict(states())["AdvanceRun"]
    assert "Catch" not in advance, "redriving the execution re-enters AdvanceRun only if its error is what ended it"


@pytest.mark.parametrize(("name", "state"), TASKS, ids=[name for name, _ in TASKS])
def test_state_is_what_functions_return(name: str, state: dict[str, Any]) -> None:
    """Lambda's envelope around the answer, with its headers, is dropped: state stays small."""
    assert state.get("OutputPath") == "$.Payload" or state["ResultPath"] is None
