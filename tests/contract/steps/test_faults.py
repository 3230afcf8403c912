"""What a step makes of a provider's trouble: what it does, what the record says, what it costs.

The engine's own step runner, over tables in this process, calls the adapters; the provider is a server on loopback.
Each fault meets a step that has no other model, and one that has a fallback at another provider.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pytest
from support.deployment import Killed, dies_once_settled
from support.dialects import KEY, WIRE_FORMATS, Dialect
from support.step_dialects import OPENAI, every_dialect
from support.step_here import NUMBERS, PROMPT, USAGE, Here, cost_of
from support.wire_server import Drip, Raw, Reply, Reset, Step, nobody_listens

from loopllama.aws import clients
from loopllama.errors import RunFailed

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 5000\r\n\r\n"


@dataclass(frozen=True)
class Fault:
    """A row of the table. `reply` is what the first provider does, `None` for nobody there; `seconds` is set where the
    step, without another model, is tried later; `then` is whether a fallback is called."""

    name: str
    error: str
    says: str
    reply: Any = None
    seconds: int | None = None
    then: bool = True
    basis: str = "measured"
    usage: tuple[int, int] | None = (0, 0)
    remaining_ms: int = 60_000
    once: bool = False
    """Whether it is slow, and the same whatever the wire format: tried with one."""

    def step(self, dialect: Dialect) -> Step:
        reply: Step = self.reply(dialect) if callable(self.reply) else self.reply
        return reply


USUAL_SECONDS = 2
"""The wait where no provider says how long, before it is spread."""
FAULTS = [
    Fault("connection refused", "ModelUnavailable", "cannot connect", None, 2),
    Fault(
        "reset in the middle",
        "ModelUnavailable",
        "the connection broke",
        Reset(HEAD + b'{"choi'),
        2,
        basis="unknown",
        usage=None,
    ),
    Fault(
        "closed in the middle",
        "ModelUnavailable",
        "the connection broke",
        Raw(HEAD + b'{"choi'),
        2,
        basis="unknown",
        usage=None,
    ),
    Fault(
        "slow headers",
        "ModelTimeout",
        "no whole answer within",
        Drip(b"HTTP/1.1 200 OK\r\nX-Slow: "),
        None,
        basis="unknown",
        usage=None,
        remaining_ms=1500,
        once=True,
    ),
    Fault(
        "slow body",
        "ModelTimeout",
        "no whole answer within",
        Drip(HEAD),
        None,
        basis="unknown",
        usage=None,
        remaining_ms=1500,
        once=True,
    ),
    Fault("429", "ModelThrottled", "HTTP 429", lambda d: d.error(*d.throttled), 2),
    Fault("429 and when", "ModelThrottled", "HTTP 429", lambda d: d.error(*d.throttled, {"retry-after": "41"}), 41),
    Fault(
        "429 and when, in words",
        "ModelThrottled",
        "try again in 37s",
        lambda d: d.error(*d.throttled[:2], "Rate limit reached. Please try again in 37s."),
        37,
    ),
    Fault(
        "larger than the quota",
        "ContextTooLong",
        "Requested 31024",
        lambda d: d.error(*d.throttled[:2], "Request too large: Limit 30000, Requested 31024. Try again in 2s."),
    ),
    Fault("500", "ModelUnavailable", "HTTP 500", Reply(500, b"<html>Internal Server Error</html>"), 2),
    Fault("529", "ModelUnavailable", "HTTP 529", Reply(529, {"error": {"message": "Overloaded"}}), 2),
    Fault("529 and when", "ModelUnavailable", "HTTP 529", Reply(529, b"{}", {"retry-after": "12"}), 12),
    Fault("context length", "ContextTooLong", "", lambda d: d.error(*d.too_long)),
    Fault("401", "CredentialsRejected", "", lambda d: d.error(*d.unauthorized)),
    Fault("no such model", "ModelNotAvailable", "", lambda d: d.error(*d.unknown_model)),
    Fault("404", "ModelNotAvailable", "HTTP 404", Reply(404, b"<html>Not Found</html>")),
    Fault("403", "ModelNotAvailable", "HTTP 403", Reply(403, b"<html>Forbidden</html>")),
    Fault("410", "ModelNotAvailable", "HTTP 410", Reply(410, b"<html>Gone</html>")),
    Fault("bad request", "ModelRequestRejected", "temperature", lambda d: d.error(*d.bad_request)),
    *(
        Fault(
            f"bad request, {said}", "ModelRequestRejected", said, lambda d, said=said: d.error(*d.bad_request[:2], said)
        )
        for said in (
            "The stars are not right.",
            "Unexpected role 'user' after role 'tool'",
            "`max_tokens` must be greater than `thinking.budget_tokens`.",
        )
    ),
    *(
        Fault(
            f"bad request, {said}",
            "ModelRequestRejected",
            said,
            lambda d, said=said: d.error(*d.bad_request[:2], said),
            then=False,
        )
        for said in ("messages: at least one message is required", "Could not parse the JSON body of your request.")
    ),
    *(
        Fault(f"too long, {said}", "ContextTooLong", said, lambda d, said=said: d.error(*d.bad_request[:2], said))
        for said in (
            "Input length (40000 tokens) exceeds the maximum allowed length (32768 tokens).",
            "Prompt exceeds max length",
            "too many tokens: size limit exceeded by 1523 tokens.",
        )
    ),
    *(
        Fault(f"no money, {said}", "ModelThrottled", said, lambda d, said=said: d.error(*d.throttled[:2], said))
        for said in (
            "Insufficient balance or no resource package. Please recharge.",
            "ExceededBudget: User=u over budget. Spend=10.2, Budget=10.0",
            "Your prepayment credits are depleted.",
        )
    ),
    # The provider may have served the call: what it costs is estimated from the texts.
    Fault("malformed JSON", "InvalidModelResponse", "", Reply(200, b'{"choices": ['), basis="estimated", usage=None),
    *(
        Fault(name, "InvalidModelResponse", "", Reply(200, body, {"content-type": kind}), basis="estimated", usage=None)
        for name, kind, body in (
            ("a page", "text/html", b"<html><body>Sign in to the network</body></html>"),
            ("no body", "application/json", b""),
            ("a stream", "text/event-stream", b'data: {"choices": [{"delta": {"content": "So"}}]}\n\n'),
            ("another format", "application/json", b'{"candidates": [{"content": {"parts": [{"text": "Hi"}]}}]}'),
        )
    ),
    Fault("redirect", "ModelRequestRejected", "", Reply(307, b"", {"location": "http://127.0.0.1:9/"})),
    Fault(
        "reset behind the head",
        "ModelUnavailable",
        "the connection broke",
        Reset(HEAD),
        2,
        basis="unknown",
        usage=None,
    ),
    Fault(
        "a byte a second",
        "ModelTimeout",
        "no whole answer within",
        Drip(HEAD, 1.0),
        None,
        basis="unknown",
        usage=None,
        remaining_ms=3500,
        once=True,
    ),
    Fault("refusal", "ContentFiltered", "declined", lambda d: Reply(200, d.answer("", stop="refusal")), usage=USAGE),
    Fault(
        "cut off before any text",
        "InvalidModelResponse",
        "max_tokens",
        lambda d: Reply(200, d.answer("", stop="length")),
        usage=USAGE,
    ),
]
ROWS = [
    pytest.param(dialect, fault, id=f"{fault.name}-{dialect.name}")
    for fault in FAULTS
    for dialect in ([OPENAI] if fault.once else WIRE_FORMATS)
]


def check_cost(attempt: Mapping[str, Any], fault: Fault) -> None:
    assert attempt["cost_basis"] == fault.basis
    if fault.basis == "unknown":
        assert (attempt["tokens_in"], attempt["tokens_out"], attempt["cost_usd"]) == (None, None, None)
        return
    if fault.usage is not None:
        assert (attempt["tokens_in"], attempt["tokens_out"]) == fault.usage
    else:
        assert 5 < attempt["tokens_in"] < 40
    assert attempt["cost_usd"] == cost_of(attempt["tokens_in"], attempt["tokens_out"])


@pytest.fixture
def refusing() -> Iterator[str]:
    """The address of a server that is not there, as long as the test runs."""
    with nobody_listens() as url:
        yield url


@pytest.mark.parametrize(("dialect", "fault"), ROWS, indirect=["dialect"])
def test_a_fault(
    here: Here, fault: Fault, refusing: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    if fault.reply is None:
        here.dialect.adapter(refusing, monkeypatch)

    # Without another model.
    if fault.reply is not None:
        here.first.script(fault.step(here.dialect))
    run_id, work = here.start()
    outcome = here.live.step(work, remaining_ms=fault.remaining_ms)
    assert outcome["outcome"] == ("retry_later" if fault.seconds else "failed")
    if fault.seconds == USUAL_SECONDS:
        assert USUAL_SECONDS <= outcome["seconds"] <= USUAL_SECONDS * 3 / 2
    else:
        assert outcome.get("seconds") == fault.seconds
    step = here.read(run_id)
    [attempt] = step["attempts"]
    assert (attempt["model"], attempt["provider"]) == (here.models[0], here.dialect.name)
    assert attempt["outcome"] == fault.error
    assert fault.says in attempt["error"]
    assert here.dialect.name in attempt["error"]
    assert attempt["retry_after"] == (fault.seconds if fault.seconds not in (None, USUAL_SECONDS) else None)
    check_cost(attempt, fault)
    assert (step["cost_basis"], step["cost_usd"]) == (fault.basis, attempt["cost_usd"])
    if not fault.seconds:
        assert (step["status"], step["error"]) == ("failed", f"{fault.error}: {attempt['error']}")
    assert len(here.first.requests) == (fault.reply is not None)

    # With a fallback.
    if fault.reply is not None:
        here.first.script(fault.step(here.dialect))
    if fault.then:
        here.second.script(Reply(200, OPENAI.answer("Sorry about that.")))
    fallen_id, work = here.start(fallback=True)
    # The fallback needs time of its own: a slow model takes all of the first invocation.
    outcome = here.live.step(work, "first", remaining_ms=fault.remaining_ms)
    if outcome["outcome"] == "continue":
        outcome = here.live.step(outcome, "second")
    step = here.read(fallen_id)
    check_cost(step["attempts"][0], fault)
    assert len(here.second.requests) == fault.then
    if fault.then:
        assert outcome["outcome"] == "done"
        assert (step["status"], step["output"], step["model"]) == ("completed", "Sorry about that.", here.models[1])
        assert [one["outcome"] for one in step["attempts"]] == [fault.error, "ok"]
        assert step["cost_usd"] == cost_of(*USAGE) + (step["attempts"][0]["cost_usd"] or 0)
    else:
        assert outcome["outcome"] == "failed"
        assert [one["outcome"] for one in step["attempts"]] == [fault.error]
    assert step["cost_basis"] == fault.basis

    # Neither key nor prompt in what is kept of the error, or logged: the prompt is the record's `input` only.
    kept = [here.stored(run_id), here.stored(fallen_id)]
    assert all(one.pop("input").endswith(PROMPT) for one in kept)
    said = str(kept) + "".join(capsys.readouterr())
    assert KEY not in said
    assert PROMPT not in said


def test_a_wrong_key_names_the_secret_and_the_command_in_the_runs_error(here: Here) -> None:
    here.first.script(here.dialect.error(*here.dialect.unauthorized))
    run_id, work = here.start()
    assert here.live.step(work)["outcome"] == "failed"
    with pytest.raises(RunFailed, match="CredentialsRejected; the run's record says more"):
        here.live.advance(work | {"round": 0}, [{"outcome": "failed"}])
    run = here.live.read(run_id)
    assert run["status"] == "failed"
    assert run["error"].startswith("step 'reply': CredentialsRejected: openai (HTTP 401")
    assert run["error"].endswith(
        "The key came from environment variable OPENAI_API_KEY; set the right one with: loopllama providers set openai"
    )
    assert KEY not in run["error"]


@pytest.mark.parametrize("secret", [None, {"api_key": "sk-of-the-secret-1"}], ids=["missing", "wrong"])
def test_a_key_in_a_secret(here: Here, secret: dict[str, str] | None, monkeypatch: pytest.MonkeyPatch) -> None:
    import json
    from dataclasses import replace

    from loopllama.providers import credentials

    name = f"prod-{next(NUMBERS)}/providers/openai"
    settings = replace(here.live.settings, provider_secrets_prefix=name.removesuffix("openai"))
    monkeypatch.setattr(here.live, "settings", settings)
    for variable in ("OPENAI_API_KEY", "OPENAI_BASE_URL"):
        monkeypatch.delenv(variable)
    credentials._kept.clear()
    clients.client.cache_clear()
    if secret is not None:
        value = json.dumps({**secret, "base_url": f"{here.first.url}/v1"})
        clients.client("secretsmanager").create_secret(Name=name, SecretString=value)
        here.first.script(here.dialect.error(401, "invalid_api_key", f"Incorrect API key: {secret['api_key']}"))
    run_id, work = here.start()
    assert here.live.step(work)["outcome"] == "failed"
    error = here.read(run_id)["error"]
    assert error.startswith("CredentialsRejected: ")
    assert f"secret '{name}'" in error
    assert error.endswith("with: loopllama providers set openai")
    assert "sk-of-the-secret-1" not in error
    assert here.read(run_id)["cost_usd"] == 0
    assert len(here.first.requests) == (secret is not None)
    clients.client.cache_clear()


@every_dialect
def test_an_answer_that_was_cut_off_is_an_answer_and_says_so(here: Here) -> None:
    here.first.script(Reply(200, here.dialect.answer("Sorry to", stop="length")))
    run_id, work = here.start(maxTokens=2)
    assert here.live.step(work)["outcome"] == "done"
    step = here.read(run_id)
    assert step["output"] == "Sorry to"
    [attempt] = step["attempts"]
    assert (attempt["outcome"], attempt["stop_reason"]) == ("ok", "max_tokens")
    assert (attempt["cost_usd"], attempt["cost_basis"]) == (cost_of(*USAGE), "measured")


@every_dialect
@pytest.mark.parametrize(
    ("name", "arguments", "says"),
    [
        ("calculator", '{"expression": ', "not a JSON object"),
        ("calculator", '{"expression": 1e99999999999999999999}', "$.expression is out of range"),
        ("calculator", {"formula": "1+1"}, "do not follow its schema"),
        ("shell", {"command": "ls"}, "there is no tool 'shell'; the tools are: calculator"),
        ("now", {}, "there is no tool 'now'; the tools are: calculator"),
    ],
    ids=["broken arguments", "a number without end", "other arguments", "unknown", "not the agent's"],
)
def test_a_tool_call_that_makes_no_sense_goes_back_to_the_model(
    here: Here, name: str, arguments: Any, says: str
) -> None:
    here.first.script(
        Reply(200, here.dialect.answer("", [("call_1", name, arguments)], "tools")),
        Reply(200, here.dialect.answer("Two.")),
    )
    run_id, work = here.start(tools=["calculator"])
    assert here.live.step(work)["outcome"] == "done"
    step = here.read(run_id)
    assert (step["output"], len(step["attempts"])) == ("Two.", 2)
    [call] = step["tool_calls"]
    assert (call["name"], call["outcome"]) == (name, "failed")
    assert says in call["result"]
    [given] = [content for role, _, content in here.dialect.seen(here.first.requests[1]).messages if role == "tool"]
    assert given == ("call_1", call["result"])
    assert (step["cost_usd"], step["cost_basis"]) == (2 * cost_of(*USAGE), "measured")


@every_dialect
def test_an_answer_of_five_megabytes_goes_to_the_bucket(here: Here) -> None:
    text = "All work and no play. " * (5 * 1024 * 1024 // 22)
    here.first.script(Reply(200, here.dialect.answer(text)))
    run_id, work = here.start()
    assert here.live.step(work)["outcome"] == "done"
    assert len(str(here.stored(run_id))) < 3000
    assert here.stored(run_id)["output"]["bytes"] > 5_000_000
    step = here.read(run_id)
    assert step["output"] == text
    assert step["cost_usd"] == cost_of(*USAGE)


def test_a_process_that_dies_after_a_large_answer_pays_once(here: Here) -> None:
    text = "x" * 5_000_000
    here.first.script(Reply(200, here.dialect.answer(text)))
    run_id, work = here.start()
    with dies_once_settled(), pytest.raises(Killed):
        here.live.step(work, "first")
    assert len(str(here.stored(run_id))) < 3000
    here.live.wait(60)
    assert here.live.step(work, "second")["outcome"] == "done"
    assert here.read(run_id)["output"] == text
    assert len(here.first.requests) == 1
