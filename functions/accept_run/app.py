"""AcceptRun: starts a run for a RunRequested event. Events arrive at least once: the event's id makes it one run."""

from loopllama.engine.accept import accept_run
from loopllama.errors import InvalidRequest
from loopllama.settings import settings
from loopllama.tracing import lambda_handler


@lambda_handler
def handler(event, context):
    detail = event["detail"]
    if "workflow" not in detail:
        raise InvalidRequest('the event\'s detail is {"workflow": its id, "input": a text or a JSON value}')
    run_id = accept_run(
        settings(),
        detail["workflow"],
        detail.get("input"),
        models=detail.get("models"),
        tags=detail.get("tags"),
        key=f"event/{event['id']}",
    )
    return {"run_id": run_id}
