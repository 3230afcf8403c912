"""What streams, the event bus and people hand to the functions: whatever it holds, it is refused with one of our errors
or skipped, and never holds up what comes behind it.
"""

from __future__ import annotations

import base64
import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.deployment import Deployment, deployment
from support.rubbish import ANYTHING, spoilt
from support.stream_records import TOTALS, moment, record, run_item, step_item

from loopllama.aws import dynamo
from loopllama.core import exact_json
from loopllama.engine.start import start_run
from loopllama.engine.triggers import accept_event
from loopllama.errors import LoopLlamaError
from loopllama.events.derive import TYPES
from loopllama.jobs import publish_events
from loopllama.routing.change_log import entry_of, plain

QUESTION = {"key": "start", "kind": "approval", "asked_at": moment(5), "expires_at": moment(600), "step": "a"}
ENDED = {**TOTALS, "finished_at": moment(9), "error": {"type": "BudgetExceeded", "message": "no", "step": "a"}}
BEFORE = run_item("r", "running", started_at=moment(1), pending={"STEP#a#0#0": QUESTION})
CHANGES = [
    (None, BEFORE),
    (run_item("r", "queued"), BEFORE),
    (BEFORE, {**BEFORE, **ENDED, "status": "failed", "budget": {"max_steps": 3}}),
    (step_item("r", "a", "running"), {**step_item("r", "a", "completed"), **ENDED}),
    (step_item("r", "a", "running"), {**step_item("r", "a", "failed"), **ENDED}),
]
ATTRIBUTES = st.recursive(
    st.one_of(
        st.text(max_size=8).map(lambda text: {"S": text}),
        st.sampled_from(["0", "-1", "1.5", "9" * 38, "1E+120", "1" + "0" * 60, "1E-120", "9.9E+125", "-1E-130"]).map(
            lambda number: {"N": number}
        ),
        st.sampled_from([{"NULL": True}, {"BOOL": False}, {"SS": ["a"]}, {"NS": ["1"]}, {"L": []}, {"M": {}}]),
        st.binary(max_size=4).map(lambda data: {"B": base64.b64encode(data).decode()}),
    ),
    lambda inner: (
        st.lists(inner, max_size=2).map(lambda found: {"L": found})
        | st.dictionaries(st.text(max_size=6), inner, max_size=2).map(lambda found: {"M": found})
    ),
    max_leaves=4,
)
"""What an attribute of an item may be: a table's owner can write any of it by hand."""


@st.composite
def edited(draw: st.DrawFn, image: dict[str, Any], keys: tuple[str, ...]) -> dict[str, Any]:
    """An item's image, some of its attributes written by somebody's hand. Keys are as they must be."""
    names = draw(st.lists(st.sampled_from([name for name in image if name not in keys]), max_size=4))
    return {**image, **{name: draw(ATTRIBUTES) for name in names}}


@given(st.sampled_from(CHANGES), st.data())
@settings(max_examples=150)
def test_a_run_that_was_edited_by_hand_holds_up_no_events(change: Any, data: st.DataObject) -> None:
    told = record(*change)
    for image in ("OldImage", "NewImage"):
        if image in told["dynamodb"]:
            told["dynamodb"][image] = data.draw(edited(told["dynamodb"][image], ("run_id", "item")))
    for event in publish_events._events(told):
        assert event.type in TYPES
        assert event.run_id == "r"
        exact_json.dumps(event.detail)
        dynamo.to_item({"detail": event.detail, "at": event.at, "delete_at": event.delete_at})


ROW = {"workflow": "w", "step": "s", "model": "m", "policy": "weighted", "candidates": ["a"], "version": 1}
ENTRY = {"model": "m", "provider": "p", "prices": [], "enabled": True, "version": 3, "updated_by": "me", "reason": "r"}


@given(st.sampled_from([(ROW, ("workflow", "step")), (ENTRY, ("model",))]), st.sampled_from([0, 1, 2]), st.data())
@settings(max_examples=150)
def test_a_row_that_was_edited_by_hand_has_an_entry_in_the_history(kind: Any, gone: int, data: st.DataObject) -> None:
    row, keys = kind
    image = dynamo.to_item(row)
    change = {"Keys": {name: image[name] for name in keys}, "SequenceNumber": "7"}
    change |= {} if gone == 1 else {"OldImage": data.draw(edited(image, keys))}
    change |= {} if gone == 2 else {"NewImage": data.draw(edited(image, keys))}
    entry = entry_of({"dynamodb": change, "eventName": "MODIFY"})
    if entry is not None:
        dynamo.to_item(entry)
        exact_json.dumps(plain(entry))


@pytest.fixture(scope="module")
def live() -> Iterator[Deployment]:
    with pytest.MonkeyPatch.context() as patch, deployment(patch) as made:
        made.push([{"name": "a"}], name="w")
        yield made


DETAIL = {
    "workflow": "w",
    "input": {"text": "hello"},
    "models": {"a": "test:a"},
    "tags": {"customer": "42"},
    "budget": {"max_steps": 3, "max_cost_usd": 1},
}


def said(call: Callable[[], Any]) -> None:
    """What is asked is done, or refused with a sentence."""
    with contextlib.suppress(LoopLlamaError):
        call()


@given(spoilt(DETAIL) | ANYTHING, st.uuids())
def test_an_event_is_a_run_or_refused(live: Deployment, detail: Any, name: Any) -> None:
    said(lambda: accept_event(live.settings, {"id": str(name), "detail-type": "RunRequested", "detail": detail}))


@given(st.text(min_size=1, max_size=30) | st.text(max_size=10).map("w/".__add__))
def test_an_upload_is_a_run_or_refused_whatever_its_name(live: Deployment, key: str) -> None:
    made = {"bucket": {"name": "values"}, "object": {"key": key, "size": 5, "etag": "x"}}
    said(lambda: accept_event(live.settings, {"id": "e", "detail-type": "Object Created", "detail": made}))


@given(spoilt({**DETAIL, "pin": "run"}) | ANYTHING, st.uuids())
def test_an_execution_started_by_hand_is_a_run_or_refused(live: Deployment, request_: Any, name: Any) -> None:
    event = {"request": request_, "execution_arn": "arn:x", "execution_name": str(name)}
    said(lambda: start_run(live.settings, event))
