"""mypy sees an attribute of a record that is misspelt: in real code, wherever records are read and written.

Each mutant misspells one attribute at one place. All stand in one copy of the code, each in a statement of its own, and
mypy looks at them together: a copy and a run for each would find the same and take minutes.
"""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

import pytest

from loopllama import errors
from loopllama.events import derive
from loopllama.events.types import EventType
from loopllama.runs import records
from loopllama.runs.store import FINAL

ROOT = Path(__file__).parents[2]
PACKAGES = ("shared/loopllama", "cli/loopllama_cli")
CONFIGURATION = ("pyproject.toml", "tests/support/mypy_keys.py")

MUTANTS = """
run            shared/loopllama/engine/advance.py          advance_run                 status
run            shared/loopllama/engine/step.py             StepRunner._stops           stopping
run            shared/loopllama/engine/start.py            start_run                   execution_arn
run            shared/loopllama/engine/reconcile.py        reconcile_run               pending
step           shared/loopllama/runs/step_writer.py        reopen                      error
step           shared/loopllama/engine/step.py             StepRunner._settled         lease_until
step           shared/loopllama/engine/step_ending.py      _times                      waited_ms
step           shared/loopllama/engine/for_each.py         gather                      output
attempt        shared/loopllama/runs/attempt_log.py        StepLedger.open_attempt     provider
attempt        shared/loopllama/runs/attempt_log.py        StepLedger.failed           retry_after
attempt        shared/loopllama/runs/totals.py             totals                      cost_usd
tool call      shared/loopllama/runs/attempt_log.py        StepLedger.settled_tool     result
pending        shared/loopllama/engine/human_input.py      wait                        expires_at
pending        shared/loopllama/engine/human_input.py      _meant                      expires_at
human answer   shared/loopllama/engine/human_input.py      check_start                 approved
crew step      shared/loopllama/workflows/reads.py         named_by                    for_each
crew step      shared/loopllama/agent/tool_calls.py        ToolCalls.__init__          output_schema
crew step      shared/loopllama/workflows/graph.py         ready                       needs
repeat         shared/loopllama/engine/loops.py            verdict                     until
definition     shared/loopllama/routing/pins.py            pin_routes                  pin
budget         shared/loopllama/budgets/budget.py          of_day                      daily
route row      shared/loopllama/routing/store.py           RouteStore.expected_change  policy
route row      cli/loopllama_cli/commands/routes/overrides.py  _until                  expires_at
decision       shared/loopllama/routing/decision.py        Route.from_record           route_version
event          shared/loopllama/events/derive.py           _of_run                     resumed
event          shared/loopllama/events/log.py              EventLog.after              detail
event          cli/loopllama_cli/console/event_stream.py   print_event                 error
usage row      shared/loopllama/queries/usage_sums.py      Sums.add_rows               tags
run object     shared/loopllama/queries/whatif.py          _Change.of_run              attempts
advice         shared/loopllama/queries/advice/lines.py    to_model                    try_command
advice         cli/loopllama_cli/commands/advise.py        _about                      once_usd
run object     cli/loopllama_cli/console/trace.py          header                      workflow_version
"""
"""The record, and where one of its attributes is misspelt: file, function, attribute."""


@dataclass(frozen=True)
class Mutant:
    record: str
    path: str
    function: str
    attribute: str

    def __str__(self) -> str:
        return f"{self.record}: {self.attribute!r} in {self.function} of {self.path}"


def mutants() -> Iterator[Mutant]:
    for line in MUTANTS.strip().splitlines():
        yield Mutant(*re.split(r"\s{2,}", line))


def function_named(tree: ast.AST, name: str) -> ast.AST | None:
    """The function or method of a dotted name."""
    for part in name.split("."):
        kinds = (ast.ClassDef, ast.FunctionDef)
        found = [node for node in ast.iter_child_nodes(tree) if isinstance(node, kinds) and node.name == part]
        if not found:
            return None
        tree = found[0]
    return tree


def keys(node: ast.AST) -> Iterator[ast.expr]:
    """Where attributes are named: `record["name"]`, `record.get("name")`, `{"name": …}`."""
    for inner in ast.walk(node):
        if isinstance(inner, ast.Subscript):
            yield inner.slice
        elif isinstance(inner, ast.Call) and isinstance(inner.func, ast.Attribute) and inner.func.attr == "get":
            yield from inner.args[:1]
        elif isinstance(inner, ast.Dict):
            yield from (key for key in inner.keys if key is not None)


def place_of(source: str, mutant: Mutant) -> tuple[ast.Constant, range]:
    """The first place in the function that names the attribute, and the lines of its statement."""
    function = function_named(ast.parse(source), mutant.function)
    assert function is not None, f"{mutant.path} has no {mutant.function} any more: take another place for {mutant}"
    named = [key for key in keys(function) if isinstance(key, ast.Constant) and key.value == mutant.attribute]
    assert named, f"{mutant.function} does not name the attribute any more: take another place for {mutant}"
    place = min(named, key=lambda key: (key.lineno, key.col_offset))
    around = [
        node
        for node in ast.walk(function)
        if isinstance(node, ast.stmt) and node.lineno <= place.lineno <= (node.end_lineno or 0)
    ]
    innermost = max(around, key=lambda node: node.lineno)
    return place, range(innermost.lineno, (innermost.end_lineno or 0) + 1)


def misspelt(source: str, place: ast.Constant) -> str:
    """The source with another letter behind the attribute."""
    lines = source.encode().splitlines(keepends=True)
    line, end = lines[place.lineno - 1], (place.end_col_offset or 0) - 1
    lines[place.lineno - 1] = line[:end] + b"x" + line[end:]
    return b"".join(lines).decode()


def checked(tree: Path, cache: Path) -> list[str]:
    """What mypy says of a copy of the code, a line for each error."""
    # What the configuration says to check is for `make lint`; here it is the two packages.
    command = [sys.executable, "-m", "mypy", "--cache-dir", str(cache), "-p", "loopllama", "-p", "loopllama_cli"]
    done = subprocess.run(
        [*command, "--no-error-summary", "--no-pretty"], cwd=tree, capture_output=True, text=True, check=False
    )
    assert done.returncode in (0, 1), done.stdout + done.stderr
    return [line for line in done.stdout.splitlines() if ": error: " in line]


def test_mypy_finds_each_misspelt_attribute(tmp_path: Path, pytestconfig: pytest.Config) -> None:
    cache = pytestconfig.cache
    assert cache is not None
    for name in PACKAGES:
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in CONFIGURATION:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    assert checked(tmp_path, cache.mkdir("mypy")) == []
    statements: dict[Mutant, range] = {}
    for mutant in mutants():
        file = tmp_path / mutant.path
        source = file.read_text()
        place, lines = place_of(source, mutant)
        taken = [other for other in statements if other.path == mutant.path and set(statements[other]) & set(lines)]
        assert not taken, f"{mutant} stands in one statement with {taken[0]}"
        file.write_text(misspelt(source, place))
        statements[mutant] = lines
    found = {
        (match[1], int(match[2]))
        for error in checked(tmp_path, cache.mkdir("mypy"))
        if (match := re.match(r"(.+?):(\d+): error: ", error))
    }
    missed = [mutant for mutant, lines in statements.items() if not any((mutant.path, line) in found for line in lines)]
    assert not missed, "mypy does not see:\n" + "\n".join(map(str, missed))
    assert len(statements) >= 10


def test_outcomes_of_attempts_are_the_errors_of_models() -> None:
    def names(kind: type[errors.ModelError]) -> Iterator[str]:
        if kind.__module__ == errors.__name__:
            yield kind.__name__
            for other in kind.__subclasses__():
                yield from names(other)

    # Of a model that is busy nothing was called, so there is no attempt.
    assert set(get_args(records.AttemptOutcome)) == {"ok", "open", *names(errors.ModelError)} - {"ModelBusy"}


def test_statuses_are_said_once() -> None:
    assert set(get_args(records.RunStatus)) == {"queued", "running", *FINAL}
    assert set(get_args(EventType)) == set(derive.TYPES)
