"""The one list of usage figures: everything that names them is made from it, so that a new one needs a line there."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Any, cast

import pytest
import yaml

from loopllama.api.event_models import Totals as EventTotals
from loopllama.api.run_models import Attempt
from loopllama.api.usage_models import Totals, UsageSum
from loopllama.llm.types import Usage
from loopllama.llm.usage import FIGURES, SUMMED, SUMMED_NAMES, TITLED, TOTALS, of_record, of_shown, record_of, shown
from loopllama.queries import runs
from loopllama.runs.totals import totals
from loopllama.telemetry.metrics import METRICS

ROOT = Path(__file__).parents[3]
EDGE = re.compile(r"['\"]tokens_(in|out|cached|cache_write|reasoning)['\"]|^ +tokens_(in|out|cached)\b:", re.MULTILINE)
"""A figure's name in the API, written out as a key or a field."""
TABLES = {"cli/loopllama_cli/commands/runs.py", "shared/loopllama/queries/advice/moves.py"}
"""What shows no columns of figures but a sum of its own, the tokens of a run; what gives a call another's length."""


def test_each_figure_is_one_of_usage() -> None:
    counts = {field.name for field in dataclasses.fields(Usage) if field.type == "int"}
    assert sorted(figure.name for figure in FIGURES) == sorted(counts)
    assert {figure.metric for figure in FIGURES} - {""} <= METRICS.keys()
    assert [figure.title for figure in TITLED][:3] == ["Tokens in", "Tokens out", "Cached"]


ALL = Usage(**{figure.name: count for count, figure in enumerate(FIGURES, 1)})  # type: ignore[arg-type]
"""Each figure another number."""


def test_a_record_says_the_usage_and_the_api_says_it_again() -> None:
    attempt = record_of(ALL)
    assert attempt == {figure.name: getattr(ALL, figure.name) for figure in FIGURES}
    assert of_record(attempt) == of_shown(shown(attempt)) == ALL
    assert (attempt["input_tokens"], attempt["output_tokens"], attempt["cached_tokens"]) == (1, 2, 3)
    told = shown({"tokens": 7, **attempt})
    assert (told["tokens"], told["tokens_in"], told["tokens_out"], told["tokens_cached"]) == (7, 1, 2, 3)
    assert not told.keys() & attempt.keys()
    # What only some calls have is left out where it is 0.
    assert {name for name, count in record_of(Usage(0, 0)).items() if count is None} == {
        figure.name for figure in FIGURES if not figure.summed
    }


@pytest.mark.parametrize("model", [Totals, UsageSum, EventTotals])
def test_answers_and_events_name_what_is_summed(model: Any) -> None:
    assert [name for name in model.model_fields if name.startswith("tokens_")] == [figure.shown for figure in SUMMED]


def test_calls_name_every_figure() -> None:
    named = {figure.shown for figure in FIGURES}
    assert named <= Attempt.model_fields.keys()
    attempt: Any = runs._attempt(cast("Any", {"outcome": "ok", **record_of(ALL)}), step_ended=True)
    assert {name: attempt[name] for name in named} == {figure.shown: getattr(ALL, figure.name) for figure in FIGURES}


def test_totals_sum_what_is_summed() -> None:
    sums: Any = totals(cast("Any", record_of(ALL)) | {"cost_basis": "measured"} for _ in range(3))
    assert {name: sums[name] for name in SUMMED_NAMES} == {
        figure.name: 3 * getattr(ALL, figure.name) for figure in SUMMED
    }
    assert set(TOTALS) <= sums.keys()


class _Loader(yaml.SafeLoader):
    """The template's YAML; what its functions give does not matter here."""


_Loader.add_multi_constructor("!", lambda loader, suffix, node: None)


def test_the_index_of_runs_holds_what_lists_show() -> None:
    template = yaml.load((ROOT / "template.yaml").read_text(), _Loader)  # noqa: S506 - a safe loader
    indexes = template["Resources"]["RunsTable"]["Properties"]["GlobalSecondaryIndexes"]
    (projected,) = [one["Projection"]["NonKeyAttributes"] for one in indexes if one["IndexName"] == "by_workflow"]
    assert set(TOTALS) <= set(projected)


TYPES = {
    "shared/loopllama/queries/types.py",
    "shared/loopllama/events/types.py",
    "shared/loopllama/api/advice_models.py",
    "shared/loopllama/queries/advice/types.py",
}
"""Types for those who read a figure by its name; one that nobody reads so need not stand there."""


@pytest.mark.parametrize("package", ["shared/loopllama", "cli/loopllama_cli", "functions"])
def test_nobody_else_writes_the_names_out(package: str) -> None:
    """Else a new figure would have to be added there too."""
    found = [
        f"{path.relative_to(ROOT)}:{source.count(chr(10), 0, match.start()) + 1}"
        for path in sorted((ROOT / package).rglob("*.py"))
        if path.relative_to(ROOT).as_posix() not in {"shared/loopllama/llm/usage.py", *TABLES, *TYPES}
        for source in [path.read_text()]
        for match in EDGE.finditer(source)
    ]
    assert not found, "derive it from llm.usage"
