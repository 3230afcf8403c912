"""How long a provider asks to wait, wherever it says so."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from loopllama.providers.error_mapping import read_error
from loopllama.providers.waits import asked, is_too_long, until_reset
from loopllama.providers.waits import in_text as wait_in


@pytest.mark.parametrize(
    ("said", "seconds"),
    [
        # Gemini, github.com/NousResearch/hermes-agent/issues/29071
        ("You exceeded your current quota. Please retry in 39.207s.", 39.207),
        # OpenAI and Groq
        ("Rate limit reached for gpt-4o on tokens per min. Please try again in 20s. Visit …", 20.0),
        ("Please try again in 6m0s.", 360.0),
        ("Please try again in 1h2m3.5s.", 3723.5),
        ("Please try again in 182ms.", 0.182),
        ("Too many requests, retry after 30 seconds", 30.0),
        ("Please wait 5 seconds before you send another request", 5.0),
        ("Try again in 2 minutes", 120.0),
        ("Please wait 1 minute and 30 seconds before trying again.", 90.0),
        ("try again in 1 hour, 2 minutes", 3720.0),
        ("Request was throttled. Expected available in 7 seconds.", 7.0),
        ("Rate limit reached: 20 requests in 60 s", None),
        ("Please retry in a moment", None),
        ("try again in 999999999h", 24 * 3600.0),
        ("", None),
    ],
)
def test_the_wait_that_a_message_names(said: str, seconds: float | None) -> None:
    assert wait_in(said) == (None if seconds is None else pytest.approx(seconds))


def _of_body(body: Any) -> float | None:
    return asked({}, read_error(json.dumps(body).encode())[1])


@pytest.mark.parametrize("written", ["%Y-%m-%d %H:%M:%S +0000 CST", "%Y-%m-%dT%H:%M:%SZ", "%Y-%m-%d %H:%M UTC"])
def test_the_moment_that_a_message_names(written: str) -> None:
    moment = datetime.now(UTC) + timedelta(hours=3)
    said = f"You have exceeded the 5-hour usage quota. It will reset at {moment.strftime(written)}."
    wait = wait_in(said)
    assert wait is not None
    assert 3 * 3600 - 65 < wait <= 3 * 3600
    assert wait_in("It will reset at 2020-01-01 00:00:00 +0800.") is None


def test_the_wait_beside_the_message() -> None:
    reset = str(int((time.time() + 40) * 1000))
    limits = {"X-RateLimit-Limit": "20", "X-RateLimit-Remaining": "0", "X-RateLimit-Reset": reset}
    error = {"message": "Rate limit exceeded: free-models-per-min. ", "code": 429}
    assert _of_body({"error": {**error, "metadata": {"headers": limits}}}) == pytest.approx(40, abs=2)
    assert _of_body({"error": {**error, "metadata": {"headers": {"Retry-After": "12"}}}}) == 12
    assert _of_body({"error": {**error, "metadata": {"retry_after_seconds": 28}}}) == 28
    assert _of_body({"error": {**error, "retry_after": 17}}) == 17
    assert _of_body({"message": "slow down", "retry_after": 2.5}) == 2.5
    assert _of_body({"error": {"message": "try again in 3s", "retry_after": 17}}) == 3  # the message is nearer
    for broken in (-1, "soon", True, None, {}):
        assert _of_body({"error": {**error, "retry_after": broken}}) is None
    assert _of_body({"error": {**error, "retry_after": 10**30}}) == 24 * 3600


def _headers(name: str, left: str, reset: str) -> dict[str, str]:
    return {f"x-ratelimit-remaining{name}": left, f"x-ratelimit-reset{name}": reset}


def test_the_wait_until_a_quota_that_is_used_up_is_there_again() -> None:
    both = {**_headers("-requests", "0", "6m0s"), **_headers("-tokens", "900", "20m0s")}
    assert until_reset(both) == 360
    assert until_reset({**_headers("-requests", "0", "1s"), **_headers("-tokens", "0", "1m2.5s")}) == 62.5
    assert until_reset(_headers("-tokens", "0", "200ms")) == pytest.approx(0.2)
    assert until_reset(_headers("", "0", "30")) == 30
    assert until_reset(_headers("", "0", str(int(time.time()) + 30))) == pytest.approx(30, abs=2)
    assert until_reset(_headers("", "0", str(int((time.time() + 30) * 1000)))) == pytest.approx(30, abs=2)
    then = (datetime.now(UTC) + timedelta(seconds=30)).strftime("%Y-%m-%dT%H:%M:%SZ")
    anthropic = {"anthropic-ratelimit-input-tokens-remaining": "0", "anthropic-ratelimit-input-tokens-reset": then}
    assert until_reset(anthropic) == pytest.approx(30, abs=2)
    assert asked({**anthropic, "retry-after": "5"}, "") == 5
    assert asked(anthropic, "try again in 7s") == 7
    for past in ("2020-01-01T00:00:00Z", str(int(time.time()) - 30), "", "soon", "-5", "9" * 40, "0"):
        assert until_reset(_headers("", "0", past)) is None, past
    assert until_reset(_headers("", "3", "30")) is None
    assert until_reset(_headers("", "0", "999999h")) == 24 * 3600


@pytest.mark.parametrize(
    ("said", "names", "wait", "too_long"),
    [
        # A quota of a minute, whoever says so.
        ("Rate limit reached for requests", [], None, False),
        ("Too many tokens, please wait before trying again.", ["ThrottlingException"], None, False),
        ("Quota exceeded", ["RESOURCE_EXHAUSTED", "GenerateRequestsPerMinutePerProjectPerModel"], 39, False),
        ("This request would exceed the limit of 50,000 input tokens per minute", [], 3_600, False),
        # A day's, of Bedrock, OpenRouter, and Cohere's of a month.
        ("Too many tokens per day, please wait before trying again.", ["ThrottlingException"], None, True),
        ("Rate limit exceeded: free-models-per-day", [], None, True),
        ("You are using a Trial key, which is limited to 1000 API calls / month.", [], None, True),
        ("You have exceeded the daily limit", [], None, True),
        # Gemini names the wait of a minute beside it.
        ("Quota exceeded. Please retry in 39.2s.", ["GenerateRequestsPerDayPerProject-FreeTier"], 39.2, True),
        # GitHub's models
        ("Rate limit of 50 per 86400s exceeded for UserByModelByDay. Please wait 43200 s", [], 43_200, True),
        # OpenAI's and Groq's move: the wait that they name is as long as it takes.
        ("Rate limit reached on requests per day (RPD). Please try again in 8.64s.", [], 8.64, False),
        ("Rate limit reached on tokens per day (TPD). Please try again in 15m35s.", [], 935, True),
        # Nobody waits for longer than an hour.
        ("Slow down", [], 3_601, True),
        # Words that only look like it.
        ("Your request yesterday was fine; today we are busy", [], None, False),
    ],
)
def test_quotas_that_no_step_waits_for(said: str, names: list[str], wait: float | None, too_long: bool) -> None:
    assert is_too_long(names, said, wait) is too_long
