"""/v1/runs/{id}/events: a run's events, as pages or as server-sent events."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

from aws_lambda_powertools.event_handler import Response
from aws_lambda_powertools.event_handler.api_gateway import Router
from aws_lambda_powertools.event_handler.openapi.params import Header, Query

from loopllama.api import response_models
from loopllama.api.dependencies import Services, new_router, possible_run
from loopllama.api.event_models import Event
from loopllama.api.parameters import LongLimit, RunId
from loopllama.api.responses import data
from loopllama.api.waiting import WaitingPlaces
from loopllama.core import exact_json
from loopllama.events.log import EventLog

if TYPE_CHECKING:
    from loopllama.api.auth import Caller
    from loopllama.events.types import ShownEvent

STREAM = "text/event-stream"
WAIT_SECONDS = 20.0
"""How long an answer waits for something new: API Gateway gives up after 30 s."""
RETRY_MS = 500
"""When a client shall come back after an answer."""
LATER_MS = 5000
"""When one for whom there was no place to wait."""

EventId = Annotated[
    str | None, Query(pattern="^[0-9]{0,8}$", description="The `id` of the last event that was seen: what follows it.")
]
LastEventId = Annotated[
    str | None,
    Header(alias="Last-Event-ID", pattern="^[0-9]{0,8}$", description="Goes before `after`: browsers resume by it."),
]

_DESCRIPTION = """\
In the order of their happening. `next_cursor` is for `after` (`cursor` is taken too) and null at the end of what has
happened so far.

With `Accept: text/event-stream`, server-sent events: an answer holds what is new, waits up to 20 s for it, and ends;
the client comes back with the last `id` as `Last-Event-ID`, as browsers' `EventSource` does by itself. 204 says that
the run is over and its end was seen, for any id from that on; a step's event behind it says `late`. An id that the run
has not come to is refused while it goes on. Where the key has as many waiting readers as it may have, the answer comes
at once and names a later `retry`."""


class Events(response_models.Page[Event]):
    """A page of a run's events, in order."""


def routes(services: Services) -> Router:
    """Return the resource's routes."""
    router = new_router()
    log, places = EventLog(services.settings), WaitingPlaces(services.settings)
    responses = response_models.answers((200, "The events", Events))
    responses[200]["content"][STREAM] = {"schema": {"type": "string"}}
    responses[204] = {"description": "The run is over, and its end was seen"}

    @router.get(
        "/v1/runs/<run_id>/events",
        summary="Follow a run's events",
        description=_DESCRIPTION,
        responses=responses,
    )
    def read_events(
        run_id: RunId,
        after: EventId = None,
        cursor: EventId = None,
        limit: LongLimit = 100,
        last: LastEventId = None,
    ) -> Response[str]:
        possible_run(run_id)
        seen = int(last or after or cursor or 0)
        if STREAM in str(router.current_event.headers.get("accept", "")):
            return _stream(log, places, router.context["caller"], run_id, seen, limit)
        events = log.after(run_id, seen, limit + 1)
        if not events:
            log.status(run_id)  # says so where the run does not exist
        page = events[:limit]
        return data(page, next_cursor=page[-1]["id"] if len(events) > limit else None)

    return router


def _stream(log: EventLog, places: WaitingPlaces, caller: Caller, run_id: str, seen: int, limit: int) -> Response[str]:
    if not log.wait(run_id, seen, 0):
        if log.is_over(run_id, seen):
            return Response(204, STREAM, "")
        place = places.take(caller, WAIT_SECONDS)
        if place is None:
            return Response(200, STREAM, server_sent((), LATER_MS))
        try:
            if not log.wait(run_id, seen, WAIT_SECONDS) and log.is_over(run_id, seen):
                return Response(204, STREAM, "")
        finally:
            places.give_back(caller, place)
    return Response(200, STREAM, server_sent(log.after(run_id, seen, limit)))


def server_sent(events: Sequence[ShownEvent], retry_ms: int = RETRY_MS) -> str:
    """Events as server-sent events, and when to come back. https://html.spec.whatwg.org/multipage/server-sent-events.html"""
    text = [f"retry: {retry_ms}\n\n"]
    text += [f"id: {event['id']}\nevent: {event['type']}\ndata: {exact_json.dumps(event)}\n\n" for event in events]
    return "".join(text) if events else text[0] + ": nothing new\n\n"
