"""What an event asks AcceptRun for: a RunRequested event says it in its detail, an upload by where it lies."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from loopllama.aws import clients
from loopllama.core import exact_json, plain_text
from loopllama.engine.accept import accept_run
from loopllama.errors import InvalidRequest
from loopllama.runs.value_store import MAX_BYTES
from loopllama.settings import Settings


def accept_event(settings: Settings, event: Mapping[str, Any]) -> str | None:
    """Accept the run that an event of EventBridge asks for; returns its id, `None` where it asks for none. The same
    event again is the same run. Raises `WorkflowNotFound`, `WorkflowPaused` and `InvalidRequest`."""
    if event.get("detail-type") == "Object Created":
        return _accept_upload(settings, event["detail"])
    detail = event["detail"]
    if not isinstance(detail, Mapping) or "workflow" not in detail:
        raise InvalidRequest('the event\'s detail is {"workflow": its id, "input": a text or a JSON value}')
    return accept_run(
        settings,
        detail["workflow"],
        detail.get("input"),
        models=detail.get("models"),
        tags=detail.get("tags"),
        budget=detail.get("budget"),
        key=f"event/{event['id']}",
    )


def _accept_upload(settings: Settings, detail: Mapping[str, Any]) -> str | None:
    """Return an object `WORKFLOW/NAME`: its text is the input, or its JSON where it is called `….json`.
    https://docs.aws.amazon.com/AmazonS3/latest/userguide/ev-events.html"""
    bucket, s3_object = detail["bucket"]["name"], detail["object"]
    key, tag = s3_object["key"], s3_object.get("etag")
    workflow, _, name = key.partition("/")
    if key.endswith("/"):
        return None  # The console's way to make a folder.
    if not name:
        raise InvalidRequest(f"object {key!r}: put it below a workflow's id, such as support_reply/{key}")
    # S3 may tell of an object twice, by two events; its sequencer is that of the write.
    upload = f"upload/{bucket}/{key}/{s3_object.get('version-id')}/{tag}/{s3_object.get('sequencer')}"
    return accept_run(settings, workflow, _input(bucket, key, tag, int(s3_object["size"])), key=upload)


def _input(bucket: str, key: str, tag: str | None, size: int) -> Any:
    if size > MAX_BYTES:
        raise InvalidRequest(f"object {key!r} has {size:,} bytes; at most {MAX_BYTES:,} are taken")
    from botocore.exceptions import ClientError

    try:
        # The object as it was when the event was made: another one under its key has an event of its own.
        s3_object = clients.client("s3").get_object(Bucket=bucket, Key=key, **({"IfMatch": tag} if tag else {}))
        text = plain_text.decoded(s3_object["Body"].read())
        return exact_json.loads(text) if key.lower().endswith(".json") else text
    except plain_text.NotText as error:
        raise InvalidRequest(f"object {key!r} {error}") from error
    except exact_json.NotTaken as error:
        raise InvalidRequest(f"object {key!r}: {error}") from error
    except ValueError as error:
        raise InvalidRequest(f"object {key!r} is called .json and is no JSON: {error}") from error
    except ClientError as error:
        if error.response["Error"]["Code"] in ("NoSuchKey", "404", "PreconditionFailed", "412"):
            raise InvalidRequest(f"object {key!r} was replaced or deleted before it was read") from error
        raise
