"""Source of the state machine: `make machine` writes run_workflow.asl.json, the file that is deployed, from this one.

A chain of steps runs in three places: alone, at the top; as an iteration of RunChains; and as one of the Fork inside
it. The Amazon States Language has no way to say that once, so this module does. RunLine is a chain as well, of steps
that follow one another whatever they answer: where that does not do, the state machine leaves it for AdvanceRun.

    python state_machines/run_workflow.py [--check]
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

State = dict[str, Any]
States = dict[str, State]

MADE = Path(__file__).with_name("run_workflow.asl.json")
LONGEST_SECONDS = 30 * 86_400
INVOKE = "arn:${Partition}:states:::lambda:invoke"
PASSED_ON = ("contract", "run_id", "workflow", "version")
"""What every step of a run is told, taken over from what comes before it."""
WORK = (*PASSED_ON, "step", "iteration", "item", "depth")
"""What RunStep is told: the step."""
STEP = {"work.$": "$", "retry.$": "$$.State.RetryCount"}
CONTRACT, LINE = 2, -2
"""`loopllama.CONTRACT`, and the depth of `loopllama.runs.step_ref` that tells RunStep of the line."""
PREFIXES = ("Chain", "Fork")
"""Of the names of a chain's states, by its depth; at the top there is none."""
GOES_ON = {"continue": "RunStep", "retry_later": "WaitToRetry", "waiting": "WaitForResponse"}
"""Where a chain goes on, by what RunStep answers."""
CRASHED = (
    "RunStep itself died, its retries too. Its record may lack the failure: AdvanceRun, or the step that gathers,"
    " writes it."
)


def retry(*errors: str, first: int, times: int, longest: int) -> State:
    """Return a rule that repeats an invocation which ended with one of `errors`, each time after twice as long."""
    return {
        "ErrorEquals": list(errors),
        "IntervalSeconds": first,
        "MaxAttempts": times,
        "BackoffRate": 2,
        "MaxDelaySeconds": longest,
        "JitterStrategy": "FULL",
    }


THROTTLED = retry("Lambda.TooManyRequestsException", first=2, times=125, longest=60)
"""Too many functions run at once, which is no failure: a new account runs ten. For an hour, as a wait is half the
delay in the mean."""
TROUBLE = retry(
    "AwsUnavailable",
    "Lambda.ServiceException",
    "Lambda.AWSLambdaException",
    "Lambda.SdkClientException",
    "Lambda.ClientExecutionTimeoutException",
    "Lambda.Unknown",
    "Runtime.ExitError",
    "Sandbox.Timedout",
    first=1,
    times=4,
    longest=30,
)
"""AWS or the function's process failed. States.ALL is not among these: a mistake of ours would be paid for again."""
TROUBLE_OR_SLOW = {**TROUBLE, "ErrorEquals": [*TROUBLE["ErrorEquals"], "States.Timeout"]}
"""For tasks that wait for no person: there a timeout is AWS's trouble too."""


def machine() -> dict[str, Any]:
    """Return the whole definition."""
    return {
        "Comment": "Made from state_machines/run_workflow.py by `make machine`: change that file, not this one."
        " Runs any LoopLlama workflow: workflows are data. State carries ids and small control values only; see"
        " docs/design.md.",
        "StartAt": "StartRun",
        "TimeoutSeconds": LONGEST_SECONDS,
        "States": {
            "StartRun": task(
                "StartRun",
                {
                    "contract": CONTRACT,
                    "request.$": "$",
                    "execution_arn.$": "$$.Execution.Id",
                    "execution_name.$": "$$.Execution.Name",
                },
                Next="NextState",
            ),
            "NextState": choice(
                "outcome",
                {
                    **GOES_ON,
                    "line": "RunLine",
                    "more": "RunChains",
                    "advance": "AdvanceRun",
                },
                default="RunEnded",
            ),
            "RunLine": {
                "Type": "Map",
                "Comment": "Steps that follow one another whatever they answer: one transition a step. The last one"
                " completes the run.",
                **line(),
                "Catch": [{"ErrorEquals": ["States.ALL"], "ResultPath": None, "Next": "AdvanceRun"}],
                "End": True,
            },
            **steps("", "NextState"),
            "StepCrashed": {
                "Type": "Pass",
                "Comment": CRASHED,
                "Parameters": {
                    **same("contract", "run_id", "round", "left"),
                    "ended": {"outcome": "crashed", **same("step", "item"), "error.$": "$.crash.Error"},
                },
                "Next": "AdvanceRun",
            },
            "RunChains": {
                "Type": "Map",
                "Comment": "Chains that run side by side: two transitions a step.",
                **chains(depth=0),
                "Next": "AdvanceRun",
            },
            "AdvanceRun": task(
                "AdvanceRun",
                {
                    **same("contract", "run_id", "round", "left", "ended"),
                    "execution_arn.$": "$$.Execution.Id",
                    "retry.$": "$$.State.RetryCount",
                },
                comment="Runs when no chain is alive. Raises RunFailed uncaught, so that redriving the execution enters"
                " here again.",
                Next="NextState",
            ),
            "RunEnded": {"Type": "Succeed"},
        },
    }


def chains(depth: int) -> State:
    """Return the fields of a Map that runs a chain for each step that is ready."""
    return {
        "ItemsPath": "$.ready",
        "ItemSelector": {
            **same(*PASSED_ON),
            **{f"{name}.$": f"$$.Map.Item.Value.{name}" for name in ("step", "iteration", "item")},
            "depth": depth,
            "left.$": "$.share",
        },
        "ItemProcessor": {"ProcessorConfig": {"Mode": "INLINE"}, **chain(depth)},
        "ResultPath": "$.ended",
    }


def chain(depth: int) -> State:
    """Return the states of one chain of a Map. Names of states are unique in a state machine, so those of a round's
    chains and of a fork's have prefixes. A fork inside a fork waits for the round: its chain ends, and AdvanceRun finds
    what is ready."""
    prefix = PREFIXES[depth]
    following, ended = f"{prefix}NextState", f"{prefix}Ended"
    outcomes = {name: prefix + state for name, state in GOES_ON.items()} | ({} if depth else {"fork": "Fork"})
    return {
        "StartAt": f"{prefix}RunStep",
        "States": {
            **steps(prefix, following),
            following: choice("outcome", outcomes, default=ended),
            **({} if depth else fork()),
            f"{prefix}StepCrashed": {
                "Type": "Pass",
                "Comment": CRASHED,
                "Parameters": {"outcome": "crashed", **same("step", "item", "left"), "error.$": "$.crash.Error"},
                "End": True,
            },
            ended: {
                "Type": "Pass",
                "Comment": "A thousand of these travel together: no more than is needed.",
                "Parameters": same("outcome", "left"),
                "End": True,
            },
        },
    }


def steps(prefix: str, following: str) -> States:
    """Return the states that take a chain's step, or wait for it; `following` is the state behind it."""
    run_step, step_crashed = f"{prefix}RunStep", f"{prefix}StepCrashed"
    crashed = {"ErrorEquals": ["States.ALL"], "ResultPath": "$.crash", "Next": step_crashed}
    unanswered = {"ErrorEquals": ["States.Timeout"], "ResultPath": None, "Next": run_step}
    return {
        run_step: task("RunStep", STEP, Catch=[crashed], Next=following),
        f"{prefix}WaitToRetry": {"Type": "Wait", "SecondsPath": "$.seconds", "Next": run_step},
        f"{prefix}WaitForResponse": {
            "Comment": "A person is asked. RunStep keeps the task token; whoever answers sends it back. Time over:"
            " RunStep sees that nobody answered.",
            "Type": "Task",
            "Resource": f"{INVOKE}.waitForTaskToken",
            "Parameters": {
                "FunctionName": "${RunStepArn}",
                "Payload": {"work.$": "$", "token.$": "$$.Task.Token"},
            },
            "TimeoutSecondsPath": "$.seconds",
            "ResultPath": None,
            "Retry": [THROTTLED, TROUBLE],
            "Catch": [unanswered, crashed],
            "Next": run_step,
        },
    }


def line() -> State:
    """Return the fields of the Map that runs a line."""
    step = task("RunStep", STEP, ResultPath=None, End=True)
    del step["OutputPath"]
    return {
        "ItemsPath": "$.line",
        "MaxConcurrency": 1,
        "ItemSelector": {**same(*PASSED_ON), "step.$": "$$.Map.Item.Value", "depth": LINE},
        "ItemProcessor": {
            "ProcessorConfig": {"Mode": "INLINE"},
            "StartAt": "LineRunStep",
            "States": {"LineRunStep": step},
        },
        "ResultPath": None,
    }


def fork() -> States:
    """Return the states by which a chain forks and goes on."""
    return {
        "Fork": {
            "Type": "Map",
            "Comment": "The steps that one step unblocked at once, or the items of a forEach step, a chain each. A fork"
            " inside a fork waits for the round.",
            **chains(depth=1),
            "MaxConcurrencyPath": "$.max_concurrency",
            "Next": "Join",
        },
        "Join": choice("join", {True: "GatherItems"}, default="ForkDone"),
        "GatherItems": {"Type": "Pass", "Parameters": same(*WORK, "left", "left_out", "ended"), "Next": "ChainRunStep"},
        "ForkDone": {"Type": "Pass", "Parameters": {"outcome": "done", **same("left", "ended")}, "End": True},
    }


def task(function: str, payload: Any, comment: str = "", **more: Any) -> State:
    """Return a state that invokes a function and goes on with what it answers, without Lambda's envelope."""
    given = {"Payload.$": payload} if isinstance(payload, str) else {"Payload": payload}
    return {
        **({"Comment": comment} if comment else {}),
        "Type": "Task",
        "Resource": INVOKE,
        "Parameters": {"FunctionName": f"${{{function}Arn}}", **given},
        "OutputPath": "$.Payload",
        "Retry": [THROTTLED, TROUBLE_OR_SLOW],
        **more,
    }


def choice(name: str, targets: dict[Any, str], default: str) -> State:
    """Return a state that goes where the value of `name` says."""
    return {
        "Type": "Choice",
        "Choices": [
            {
                "Variable": f"$.{name}",
                "BooleanEquals" if isinstance(value, bool) else "StringEquals": value,
                "Next": target,
            }
            for value, target in targets.items()
        ],
        "Default": default,
    }


def same(*names: str) -> State:
    """Return parameters that hand values on under their own names."""
    return {f"{name}.$": f"$.{name}" for name in names}


def text() -> str:
    """Return the text of the file that is deployed."""
    return json.dumps(machine(), indent=2) + "\n"


def main(arguments: list[str] | None = None) -> int:
    """Run the program; return its exit code."""
    parser = argparse.ArgumentParser(prog="make machine", description=f"Write {MADE.name} from {Path(__file__).name}.")
    parser.add_argument("--check", action="store_true", help="only say whether it is stale")
    stale = not MADE.exists() or MADE.read_text("utf-8") != text()
    if not parser.parse_args(arguments).check:
        MADE.write_text(text(), "utf-8")
    elif stale:
        sys.stderr.write(f"state_machines/{MADE.name} is not what its source says: run `make machine`\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
