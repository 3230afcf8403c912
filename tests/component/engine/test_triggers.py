"""What events ask for: runs by RunRequested, and by uploads."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from support.deployment import Deployment, deployment

from loopllama.aws import clients
from loopllama.engine.accept import run_id_of
from loopllama.engine.triggers import accept_event
from loopllama.errors import InvalidRequest, RunNotFound, WorkflowNotFound
from loopllama.queries.runs import RunReader

BUCKET = "uploads"


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> Iterator[Deployment]:
    with deployment(monkeypatch) as running:
        clients.client("s3").create_bucket(Bucket=BUCKET)
        running.push([{"name": "a"}], name="Support")
        yield running


def upload(key: str, body: bytes, sequencer: str = "1", **more: Any) -> dict[str, Any]:
    """Put an object; returns the event that S3 makes of it."""
    tag = clients.client("s3").put_object(Bucket=BUCKET, Key=key, Body=body)["ETag"].strip('"')
    return {
        "id": f"event-{sequencer}",
        "source": "aws.s3",
        "detail-type": "Object Created",
        "detail": {
            "bucket": {"name": BUCKET},
            "object": {"key": key, "size": len(body), "etag": tag, "sequencer": sequencer, **more},
        },
    }


def read(made: Deployment, run_id: str | None) -> dict[str, Any]:
    assert run_id
    return {**RunReader(made.settings).get(run_id)}


def test_an_uploads_text_is_the_input_of_its_folders_workflow(made: Deployment) -> None:
    run = read(made, accept_event(made.settings, upload("support/2026/ticket é.txt", "Wo ist es? äöü".encode())))
    assert (run["workflow_id"], run["input"], run["status"]) == ("support", "Wo ist es? äöü", "queued")


def test_an_upload_called_json_is_its_value(made: Deployment) -> None:
    run = read(made, accept_event(made.settings, upload("support/ticket.json", b'{"order": 7}')))
    assert run["input"] == {"order": 7}


def test_a_list_in_json_is_the_input_of_one_run(made: Deployment) -> None:
    run = read(made, accept_event(made.settings, upload("support/tickets.json", b'[{"order": 7}, "x"]')))
    assert run["input"] == [{"order": 7}, "x"]
    assert len(RunReader(made.settings).list()[0]) == 1


def test_an_upload_may_be_saved_by_windows(made: Deployment) -> None:
    run = read(made, accept_event(made.settings, upload("support/TICKET.JSON", b'\xef\xbb\xbf{"order": 7}')))
    assert run["input"] == {"order": 7}
    run = read(made, accept_event(made.settings, upload("support/ticket.txt", b"\xef\xbb\xbfhello")))
    assert run["input"] == "hello"
    run = read(made, accept_event(made.settings, upload("support/lines.txt", b"a\r\nb\r\n")))
    assert run["input"] == "a\r\nb\r\n"


def test_an_upload_told_of_twice_is_one_run_and_a_second_upload_another(made: Deployment) -> None:
    event = upload("support/a.txt", b"one")
    first = accept_event(made.settings, event)
    assert accept_event(made.settings, {**event, "id": "another event of the same write"}) == first
    assert accept_event(made.settings, upload("support/a.txt", b"one", sequencer="2")) != first


def test_a_folder_asks_for_nothing(made: Deployment) -> None:
    assert accept_event(made.settings, upload("support/", b"")) is None


@pytest.mark.parametrize(
    ("key", "body", "why"),
    [
        ("ticket.txt", b"hello", "below a workflow's id"),
        ("support/a.txt", b"\xff\xfe", "is UTF-16, not UTF-8: save it as UTF-8"),
        ("support/a.JSON", '{"n": 1}'.encode("utf-16"), "is UTF-16"),
        ("support/a.txt", "größe".encode("latin-1"), r"is not UTF-8 \(line 1, byte 3\): save it as UTF-8"),
        ("support/a.json", b"{", "is no JSON"),
        ("support/deep.json", b"[" * 100_000, "nested too deeply"),
        ("support/number.json", b'{"items": [1e5000]}', r"\$.items\[0\] is out of range"),
        ("support/half.json", b'["\\ud83e"]', "half a surrogate pair"),
        ("support/empty.txt", b"", "empty"),
        ("support/mark.txt", b"\xef\xbb\xbf", "empty"),
        ("support/twice.json", b'{"items": [{"id": 1, "id": 2}]}', r"\$.items\[0\].id is there twice; keep one"),
    ],
)
def test_uploads_that_cannot_be_taken_say_why(made: Deployment, key: str, body: bytes, why: str) -> None:
    with pytest.raises(InvalidRequest, match=why):
        accept_event(made.settings, upload(key, body))


def test_an_upload_without_a_workflow_says_so(made: Deployment) -> None:
    with pytest.raises(WorkflowNotFound):
        accept_event(made.settings, upload("nobody/a.txt", b"hello"))


def test_a_large_upload_is_not_even_read(made: Deployment) -> None:
    event = upload("support/a.txt", b"hello", size=17_000_000)
    clients.client("s3").delete_object(Bucket=BUCKET, Key="support/a.txt")
    with pytest.raises(InvalidRequest, match="at most 16,777,216"):
        accept_event(made.settings, event)


def test_a_replaced_or_deleted_upload_is_not_mistaken_for_another(made: Deployment) -> None:
    event = upload("support/a.txt", b"one")
    upload("support/a.txt", b"two")
    with pytest.raises(InvalidRequest, match="replaced or deleted"):
        accept_event(made.settings, event)
    clients.client("s3").delete_object(Bucket=BUCKET, Key="support/a.txt")
    with pytest.raises(InvalidRequest, match="replaced or deleted"):
        accept_event(made.settings, event)


def test_a_request_on_the_bus_is_its_events_run(made: Deployment) -> None:
    detail = {"workflow": "support", "input": "hello", "models": {"a": "test:b"}, "tags": {"by": "bus"}}
    event = {"id": "e-1", "detail-type": "RunRequested", "detail": detail}
    run_id = accept_event(made.settings, event)
    assert run_id == run_id_of("event/e-1")
    run = read(made, run_id)
    assert (run["input"], run["models"], run["tags"]) == ("hello", {"a": "test:b"}, {"by": "bus"})


@pytest.mark.parametrize(
    "said", [{"input": "\ud83e"}, {"input": {"\ud83e": 1}}, {"input": "x", "tags": {"by": "\udd99"}}]
)
def test_a_request_that_is_no_text_is_refused_before_anything_is_stored(made: Deployment, said: Any) -> None:
    event = {"id": "e-2", "detail-type": "RunRequested", "detail": {"workflow": "support", **said}}
    with pytest.raises(InvalidRequest, match="half a surrogate pair"):
        accept_event(made.settings, event)
    with pytest.raises(RunNotFound):
        read(made, run_id_of("event/e-2"))


def test_a_request_without_a_workflow_says_what_is_missing(made: Deployment) -> None:
    with pytest.raises(InvalidRequest, match="its id"):
        accept_event(made.settings, {"id": "e", "detail-type": "RunRequested", "detail": {"input": "x"}})
