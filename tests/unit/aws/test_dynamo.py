"""What becomes of AWS's errors, and of batches of which AWS takes only a part."""

from __future__ import annotations

import time
from typing import Any

import pytest
from botocore.exceptions import ClientError, ParamValidationError, ReadTimeoutError

from loopllama.aws import dynamo, errors
from loopllama.errors import AwsRefused, AwsUnavailable, Conflict


def told(code: str, status: int = 400) -> ClientError:
    answer: Any = {"Error": {"Code": code}, "ResponseMetadata": {"HTTPStatusCode": status}}
    return ClientError(answer, "GetItem")


@pytest.mark.parametrize(
    "code", ["AccessDeniedException", "AccessDenied", "ResourceNotFoundException", "ValidationException"]
)
def test_what_would_fail_again_is_refused(code: str) -> None:
    found = errors.trouble(told(code))
    assert isinstance(found, AwsRefused)
    assert code in str(found)


@pytest.mark.parametrize("error", [told("ThrottlingException"), told("InternalServerError", 500), told("NewTrouble"),
                                   ReadTimeoutError(endpoint_url="https://a")])  # fmt: skip
def test_what_may_pass_is_unavailable(error: Exception) -> None:
    assert isinstance(errors.trouble(error), AwsUnavailable)


def test_a_request_that_the_sdk_refuses_is_not_quoted_and_other_errors_are_not_ours() -> None:
    assert str(errors.trouble(ParamValidationError(report="the prompt"))) == "ParamValidationError"
    assert errors.trouble(Conflict("no")) is None
    ours = AwsUnavailable("it took nothing")
    assert errors.trouble(ours) is ours


class Slow:
    """A table that takes `at_once` rows of each batch, for `rounds` rounds nothing, and gives the others back in
    another order."""

    def __init__(self, at_once: int, rounds: int = 0) -> None:
        self.at_once, self.rounds = at_once, rounds
        self.taken: list[str] = []

    def batch_write_item(self, *, RequestItems: Any) -> Any:  # noqa: N803
        [(table, wanted)] = RequestItems.items()
        self.rounds -= 1
        part = wanted[: self.at_once] if self.rounds < 0 else []
        self.taken += [one["PutRequest"]["Item"]["id"]["S"] for one in part]
        left = wanted[len(part) :][::-1]
        return {"UnprocessedItems": {table: left} if left else {}}


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    slept: list[float] = []
    monkeypatch.setattr(time, "sleep", slept.append)
    return slept


def test_a_batch_goes_on_with_what_was_not_taken_and_waits_where_nothing_was(pauses: list[float]) -> None:
    rows = [{"id": str(number)} for number in range(30)]
    table = Slow(10, rounds=2)
    dynamo.batch_put(table, "t", rows)
    assert sorted(table.taken, key=int) == [row["id"] for row in rows]
    assert len(pauses) == 2


def test_a_batch_of_which_nothing_is_taken_gives_up(pauses: list[float]) -> None:
    with pytest.raises(AwsUnavailable, match="unprocessed 5 times"):
        dynamo.batch_put(Slow(10, rounds=99), "t", [{"id": "1"}, {"id": "2"}])
    assert len(pauses) == 4
