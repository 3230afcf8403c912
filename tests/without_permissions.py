"""`make test-permissions`: which tests miss each permission. On ministack, as `make test-foreign` has it, each
statement of a function's role is taken out in turn, and some end-to-end tests that use the function must fail then.

`ROLE=RunStep` looks at the role of one function, `ROLE="RunStep Api"` at those of two. It takes up to an hour for all,
so it is for who changes permissions; `tests/template/test_permissions.py` compares the template with what is called, in
each run of the tests.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

TESTS = Path(__file__).parent
sys.path[:0] = [str(TESTS)]

import on_aws  # noqa: E402 - found through the line before
from foreign import emulator  # noqa: E402
from support.system import ROOT  # noqa: E402

from loopllama.aws import clients  # noqa: E402
from loopllama_cli import removal  # noqa: E402

STACK = "permissions"
RUNS, API = "tests/integration/runs/", "tests/integration/test_api"
LARGE = RUNS + "test_bad_input.py::test_a_large_input_by_hand_goes_through_the_bucket_too"
ANSWERED = API + "_runs.py::test_a_run_waits_for_an_approval_and_goes_on"
TOLD = RUNS + "test_told.py::test_a_run_that_asks_a_person_says_so_and_a_cancelled_one_too"
BUS = RUNS + "test_bus.py"
USES = {
    "AcceptRun": (RUNS + "test_events.py::test_an_event_on_the_bus_starts_a_run",),
    "StartRun": (RUNS + "test_events.py::test_an_execution_started_by_hand_is_a_run", LARGE),
    "RunStep": (RUNS + "test_sequence.py", API + "_runs.py", API + "_tools.py", LARGE),
    "AdvanceRun": (RUNS + "test_branches.py",),
    "Api": tuple(f"{API}_{name}.py" for name in ("workflows", "overrides", "models", "runs", "tools")),
    "ReadEvents": (RUNS + "test_told.py::test_pages",),
    "PublishEvents": (TOLD, BUS),
    "RecordRouteChange": (API + "_overrides.py::test_the_history_of_a_route_and_the_way_back", BUS),
    "RunWorkflow": (RUNS + "test_sequence.py",),
}
"""Tests that can be run again on the same stack, by the resource whose role they need."""
_LAMBDAS_OWN = "Lambda does this in the role's name; ministack does it without asking"
_NO_TEST = "no end-to-end test on a deployed stack needs it; tests/template/test_permissions.py does"
UNMISSED = {
    **dict.fromkeys((f"{name}: WriteLogs" for name in USES if name != "RunWorkflow"), _LAMBDAS_OWN),
    "AcceptRun: ReportLost": _LAMBDAS_OWN,
    "PublishEvents: ReadStream": _LAMBDAS_OWN,
    "PublishEvents: ListStreams": _LAMBDAS_OWN,
    "PublishEvents: ReportLost": _LAMBDAS_OWN,
    "RecordRouteChange: ReadStreams": _LAMBDAS_OWN,
    "RecordRouteChange: ListStreams": _LAMBDAS_OWN,
    "RecordRouteChange: ReportLost": _LAMBDAS_OWN,
    "RunWorkflow: InvokeStates": "ministack does what a state machine does without asking its role",
    "RunWorkflow: DeliverLogs": "ministack delivers no logs of executions",
    "AdvanceRun: StartNextExecution": f"only a run of more than 25,000 events needs it: {_NO_TEST}",
    "StartRun: ReadModels": _NO_TEST,
    "RunStep: DeliverAnswers": f"only an answer that is there before the step's token needs it: {_NO_TEST}",
    **dict.fromkeys(
        (
            f"RunStep: {sid}"
            for sid in (
                "ReadKeys",
                "ReadToolSecrets",
                "CallBedrock",
                "ApplyGuardrails",
                "CallBedrockMantle",
                "ReadInferenceProfiles",
            )
        ),
        "the stack's models are simulated",
    ),
}
"""Statements that no test can miss here, each with the reason."""
NOTHING = {"Effect": "Deny", "Action": "none:None", "Resource": "*"}
"""A policy needs a statement."""


def main(*names: str) -> int:
    """Deploy, and try each role, or those of the resources named. Returns 1 where a statement is missed by no test."""
    with emulator.running(sys.argv[1]) as foreign:
        foreign.enter()
        try:
            if on_aws.deploy(STACK):
                return 1
            unmissed = [line for name in names or USES for line in try_role(name, foreign.by_name)]
        finally:
            [*removal.remove(removal.find(STACK))]
    sys.stderr.write("\n".join(["No test misses:", *unmissed] if unmissed else ["Every statement is missed"]) + "\n")
    return bool(unmissed)


def try_role(name: str, by_name: dict[str, str]) -> Iterator[str]:
    """Take each statement out of the role of a resource, run the tests that use it, and put it back. Yields the
    statements without which all of them pass, unless `UNMISSED` says why."""
    iam = clients.client("iam")
    resources = clients.client("cloudformation").describe_stack_resources(StackName=STACK)["StackResources"]
    role = next(one["PhysicalResourceId"] for one in resources if one["LogicalResourceId"] == f"{name}Role")
    if not passed(name, by_name):
        yield f"{name}: its tests fail with every statement in place"
        return
    for policy in iam.list_role_policies(RoleName=role)["PolicyNames"]:
        document: dict[str, Any] = iam.get_role_policy(RoleName=role, PolicyName=policy)["PolicyDocument"]
        for statement in document["Statement"]:
            rest = [one for one in document["Statement"] if one is not statement]
            put_policy(role, policy, {**document, "Statement": rest or [NOTHING]})
            missed = not passed(name, by_name)
            put_policy(role, policy, document)
            what = f"{name}: {statement.get('Sid') or statement['Action']}"
            known = "" if missed else UNMISSED.get(what, "")
            sys.stderr.write(f"{'missed' if missed else 'NOT MISSED'}: {what}{known and f' ({known})'}\n")
            if not missed and not known:
                yield what


def put_policy(role: str, policy: str, document: dict[str, Any]) -> None:
    clients.client("iam").put_role_policy(RoleName=role, PolicyName=policy, PolicyDocument=json.dumps(document))


def passed(name: str, by_name: dict[str, str]) -> bool:
    """Whether the tests that use a resource pass."""
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-n", "0", "-p", "no:cacheprovider", *USES[name]]
    environment = {**os.environ, **by_name, "LOOPLLAMA_TEST_STACK": STACK}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode in (0, 1), done.stdout + done.stderr
    return done.returncode == 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[2:]))
