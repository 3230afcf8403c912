"""One fault in one call that a function makes: of an AWS service, by the SDK, or of a model, by HTTP.

A **place** is where a call is made: the function that runs, the call, and the way through our code that leads to it.
Each call of a place may fail in the ways of `ways_of`, once: whatever comes after it finds AWS and the provider well
again, as it is after a moment's trouble, or after somebody has fixed a permission.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import botocore.client
from botocore.exceptions import ClientError, ReadTimeoutError

import loopllama
from loopllama.errors import ModelTimeout, ModelUnavailable
from loopllama.providers.http import Reply

HERE = str(Path(loopllama.__file__).parent)
WATCHED = {"lambda:Invoke", "provider:post", "s3:GetObject", "secretsmanager:GetSecretValue"}
"""Calls whose errors our code tells apart by itself; of all others it asks `aws.trouble`, which knows throttling and
silence as one."""
READS = ("BatchGet", "Describe", "Get", "Query", "Scan")
NOT_REPEATED = {"lambda:Invoke", "provider:post"}
"""What we allow the SDK one attempt for, and what never passes through it."""

WAYS = {
    "throttled": "refused for now, the SDK's own repetitions too; nothing was done",
    "silent": "no answer in time; nothing was done",
    "lost": "done, and the answer got lost, the SDK's repetitions too",
    "repeated": "done, the answer got lost, and the SDK did it again",
    "denied": "the role may not do it: refused for good, until somebody fixes it",
}


@dataclass(frozen=True, order=True)
class Place:
    """Where a call is made."""

    function: str
    call: str
    path: str

    def __str__(self) -> str:
        return f"{self.function} | {self.call} | {self.path}"

    @classmethod
    def read(cls, line: str) -> Place:
        """What `str` wrote."""
        function, call, path = line.split(" | ")
        return cls(function, call, path)

    @property
    def ways(self) -> list[str]:
        """How a call of this place may fail. A read that is answered late has done nothing, so two ways of writes are
        none of it."""
        left_out = set() if self.call in WATCHED else {"silent"}
        if self.call.partition(":")[2].startswith(READS):
            left_out |= {"lost", "repeated"}
        elif self.call in NOT_REPEATED:
            left_out |= {"repeated"}
        return [way for way in WAYS if way not in left_out]


@dataclass
class Faults:
    """Notes every call that a function makes, and lets one go wrong. `install` puts it between us and the SDK."""

    answers: dict[str, Callable[[Any, dict[str, Any]], Any]]
    """Stand-ins by call, `events:PutEvents`; what is not among them goes to moto."""
    function: str = ""
    places: list[Place] = field(default_factory=list)
    place: Place | None = None
    way: str = ""
    happened: int = 0

    def arm(self, place: Place | None, way: str = "") -> None:
        """Let the next call of `place` fail, and begin to take notes."""
        self.place, self.way, self.happened, self.places = place, way, 0, []

    @contextlib.contextmanager
    def of(self, function: str) -> Iterator[None]:
        """What is called within is that function's."""
        before, self.function = self.function, function
        try:
            yield
        finally:
            self.function = before

    def install(self, monkeypatch: Any) -> None:
        """For as long as `monkeypatch` lasts."""
        make_api_call = botocore.client.BaseClient._make_api_call  # type: ignore[attr-defined]

        def call(client: Any, operation: str, request: dict[str, Any]) -> Any:
            name = f"{client.meta.service_model.service_name}:{operation}"
            answer = self.answers.get(name)

            def carry_out() -> Any:
                # A copy: the SDK works on what it is given.
                return make_api_call(client, operation, {**request}) if answer is None else answer(client, request)

            if self._now(name):
                return self._fail(name, operation, carry_out)
            return carry_out()

        monkeypatch.setattr(botocore.client.BaseClient, "_make_api_call", call)

    def of_provider(self, serve: Callable[[], Reply]) -> Reply:
        """A model's call: `serve` answers it, and is paid for it."""
        if not self._now("provider:post"):
            return serve()
        self._happens()
        if self.way == "throttled":
            return Reply(429, {"retry-after": "1"}, b'{"error": {"message": "slow down"}}')
        if self.way == "denied":
            return Reply(401, {}, b'{"error": {"message": "wrong key"}}')
        if self.way == "silent":
            raise ModelUnavailable("house: no connection within 10 s")
        serve()
        raise ModelTimeout("house: no whole answer within 120.0 s", maybe_billed=True)

    def _now(self, name: str) -> bool:
        """Notes a call; whether it is the one to fail."""
        if not self.function:
            return False
        place = Place(self.function, name, _path())
        if place not in self.places:
            self.places.append(place)
        return place == self.place and not self.happened

    def _happens(self) -> None:
        self.happened += 1

    def _fail(self, name: str, operation: str, carry_out: Callable[[], Any]) -> Any:
        self._happens()
        if self.way in ("lost", "repeated"):
            carry_out()
        if self.way == "repeated":
            return carry_out()
        if self.way in ("silent", "lost"):
            raise ReadTimeoutError(endpoint_url=f"https://{name.partition(':')[0]}.example.com")
        code = {"throttled": "ThrottlingException", "denied": "AccessDeniedException"}[self.way]
        error = {"Error": {"Code": code, "Message": f"{self.way}, as this test wants it"}}
        raise ClientError(cast("Any", {**error, "ResponseMetadata": {"HTTPStatusCode": 400}}), operation)


def _path() -> str:
    """The last three of our functions on the way to a call, outermost first, without those that only pass it on."""
    found: list[str] = []
    frame = sys._getframe(2)
    while frame is not None and len(found) < 3:
        file, name = frame.f_code.co_filename, frame.f_code.co_name
        if file.startswith(HERE) and not file.startswith(f"{HERE}/aws/") and not name.startswith("<"):
            found.append(f"{Path(file).stem}.{name}")
        frame = frame.f_back  # type: ignore[assignment]
    return " > ".join(reversed(found))
