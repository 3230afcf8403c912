"""Every event pattern and filter of the template uses operators that AWS documents; what the Models table's filter lets
through to the history."""

from __future__ import annotations

import json
from typing import Any

import pytest
from moto.events.models import EventPattern
from support.stream_records import dynamo_record
from template.project import ROOT, template

from loopllama.routing.change_log import entry_of
from loopllama_cli.local import patterns
from loopllama_cli.local.template import TemplateError, load

ENTRY = {"model": "openai:gpt-5", "enabled": False}
FIGURES = {"model": "observed#support#draft", "delete_at": 1_800_000_000, "wanted_at": 1}
SLOTS = {"model": "observed##openai:gpt-5", "delete_at": 1_800_000_000, "s0": {"by": "a"}}
HEALTH = {"model": "health#", "m:openai:gpt-5": {"at": 1}}


def transformed() -> dict[str, Any]:
    found: dict[str, Any] = load(ROOT, {"Uploads": "Enabled"}, {}, lambda kind: True).body["Resources"]
    return found


def test_every_pattern_is_documented() -> None:
    checked = []
    for name, one in transformed().items():
        if one["Type"] == "AWS::Lambda::EventSourceMapping" and "FilterCriteria" in one["Properties"]:
            patterns.check_filters(one["Properties"]["FilterCriteria"])
            checked.append(name)
        elif one["Type"] == "AWS::Events::Rule" and "EventPattern" in one["Properties"]:
            patterns.check_event_pattern(one["Properties"]["EventPattern"])
            checked.append(name)
    assert sorted(checked) == [
        *("AcceptRunRequested", "ModelChanges", "ReconcileRunsExecutionEnded", "RunChanges", "Uploaded"),
    ]


def test_the_local_stack_refuses_another(tmp_path: Any) -> None:
    text = (ROOT / "template.yaml").read_text()
    other = text.replace('{"anything-but": ["queued"]}', '{"anything-but": {"prefix": "queued"}}')
    assert other != text
    (tmp_path / "template.yaml").write_text(other)
    for folder in ("functions", "shared", "state_machines"):
        (tmp_path / folder).symlink_to(ROOT / folder)
    with pytest.raises(TemplateError, match=r"RunChanges: dynamodb\.NewImage\.status\.S: AWS documents no operator"):
        load(tmp_path, {}, {}, lambda kind: True)


FILTERS = [
    EventPattern.load(one["Pattern"])
    for one in template()["Resources"]["ModelChanges"]["Properties"]["FilterCriteria"]["Filters"]
]


@pytest.mark.parametrize(
    ("old", "new", "is_history"),
    [
        (None, ENTRY, True),
        (ENTRY, {**ENTRY, "enabled": True}, True),
        (ENTRY, None, True),
        # Made to look like what functions note, and back: that changes what the catalog says.
        (ENTRY, {**ENTRY, "delete_at": 1_800_000_000}, True),
        ({**ENTRY, "delete_at": 1_800_000_000}, ENTRY, True),
        (ENTRY, {**ENTRY, "delete_at": "1_800_000_000"}, True),
        *((None, noted, False) for noted in (FIGURES, SLOTS, HEALTH)),
        *((noted, {**noted, "more": 1}, False) for noted in (FIGURES, SLOTS, HEALTH)),
        *((noted, None, False) for noted in (FIGURES, SLOTS, HEALTH)),
    ],
)
def test_models_that_change_come_to_the_history_and_nothing_else(
    old: dict[str, Any] | None, new: dict[str, Any] | None, is_history: bool
) -> None:
    change = dynamo_record(("model",), old, new)
    assert any(pattern.matches_event(change) for pattern in FILTERS) is is_history  # type: ignore[arg-type]
    assert (entry_of(json.loads(json.dumps(change))) is not None) is is_history
