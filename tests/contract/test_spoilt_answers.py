"""Whatever a provider answers, an adapter makes an answer of it or one of our errors, and its bill makes sense."""

from __future__ import annotations

import json
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.dialects import DIALECTS, Dialect
from support.numerals import NUMERALS, taken
from support.rubbish import ANYTHING, places, spoilt, with_numeral

from loopllama.errors import ModelError, ModelRequestRejected, ModelThrottled, ModelUnavailable
from loopllama.llm.types import Message, ModelRequest, Provider, ToolSpec, Usage
from loopllama.providers import http

STATUSES = st.sampled_from([200, 200, 200, 201, 204, 302, 400, 401, 404, 408, 413, 418, 429, 500, 503, 529, 599])
HEADERS = st.dictionaries(
    st.sampled_from(["retry-after", "retry-after-ms", "location"]), st.text(max_size=12), max_size=2
)
CALLS = [("call-1", "get_order", {"order_id": "7"}), ("call-2", "get_order", "{broken")]
ORDER = ToolSpec("get_order", "Look up an order.", {"type": "object", "properties": {"order_id": {"type": "string"}}})
SCHEMA = {"type": "object", "properties": {"ok": {"type": "boolean"}}, "required": ["ok"]}


DEEP = st.builds(
    lambda levels, pair: (pair[0] * levels + "1.5" + pair[1] * levels).encode(),
    st.sampled_from([100, 250, 900, 30_000]),
    st.sampled_from([("[", "]"), ('{"a":', "}"), ('{"error":', "}"), ('{"error":{"message":[', "]}}"), ("[", "")]),
)
"""What ends Python's recursion, and what does not yet."""


def document(dialect: Dialect, text: str, calls: list[Any]) -> Any:
    made = dialect.answer(text, calls, "tools" if calls else "end")
    return json.loads(made) if isinstance(made, str | bytes) else made


def bodies(dialect: Dialect) -> st.SearchStrategy[bytes]:
    """Good answers with odd values in them, any JSON, and what is none."""
    good = [document(dialect, "Sorry to hear that.", []), document(dialect, "", CALLS[:1])]
    written = st.one_of(*map(spoilt, good), ANYTHING).map(lambda value: json.dumps(value).encode())
    numbers = st.one_of(*map(with_numeral, good)).map(str.encode)
    return st.one_of(written, written, numbers, numbers, st.binary(max_size=60), DEEP)


@pytest.mark.parametrize("dialect", DIALECTS, ids=lambda dialect: dialect.name)
def test_whatever_is_answered(dialect: Dialect, monkeypatch: pytest.MonkeyPatch) -> None:
    adapter = dialect.adapter("http://127.0.0.1:9", monkeypatch)
    replies: list[http.Reply] = []
    monkeypatch.setattr(http, "post", lambda *_: replies.pop())

    @settings(max_examples=150)
    @given(STATUSES, HEADERS, bodies(dialect), st.booleans())
    def check(status: int, headers: dict[str, str], body: bytes, wants_object: bool) -> None:
        replies.append(http.Reply(status, headers, body))
        check_answer(adapter, call(dialect, wants_object))

    check()


@pytest.mark.parametrize("dialect", DIALECTS, ids=lambda dialect: dialect.name)
def test_numbers_of_a_tool_call_and_of_the_usage(dialect: Dialect, monkeypatch: pytest.MonkeyPatch) -> None:
    """A number that is not taken spoils what it belongs to and nothing beside it: what the call cost is known."""
    adapter = dialect.adapter("http://127.0.0.1:9", monkeypatch)
    replies: list[http.Reply] = []
    monkeypatch.setattr(http, "post", lambda *_: replies.pop())
    asked = document(dialect, "", [("call-1", "get_order", {"order_id": "@numeral@"})])
    figures = [way for way in places(asked) if dialect.usage_field in way and way[-1] in dialect.counts]
    assert figures

    @settings(max_examples=150)
    @given(NUMERALS, st.sampled_from(figures))
    def check(numeral: str, figure: tuple[Any, ...]) -> None:
        text = json.dumps(asked).replace('"@numeral@"', numeral).replace('\\"@numeral@\\"', numeral)
        replies.append(http.Reply(200, {}, text.encode()))
        answer = adapter.complete(call(dialect, wants_object=False))
        [made] = answer.tool_calls
        assert (answer.usage.input_tokens, answer.usage.output_tokens, answer.usage.estimated) == (21, 7, False)
        if taken(numeral) is None:
            assert made.arguments is None
            assert numeral in made.raw
        else:
            assert made.arguments is not None
            assert Fraction(made.arguments["order_id"]) == taken(numeral)
        told = json.loads(json.dumps(asked))
        holder = told
        for key in figure[:-1]:
            holder = holder[key]
        holder[figure[-1]] = "@figure@"
        replies.append(http.Reply(200, {}, json.dumps(told).replace('"@figure@"', numeral).encode()))
        check_usage(adapter.complete(call(dialect, wants_object=False)).usage)

    check()


@pytest.mark.parametrize("dialect", DIALECTS, ids=lambda dialect: dialect.name)
def test_what_stands_in_an_errors_body_changes_nothing_about_its_status(
    dialect: Dialect, monkeypatch: pytest.MonkeyPatch
) -> None:
    adapter = dialect.adapter("http://127.0.0.1:9", monkeypatch)
    replies: list[http.Reply] = []
    monkeypatch.setattr(http, "post", lambda *_: replies.pop())
    kinds = {429: ModelThrottled, 503: ModelUnavailable, 400: ModelRequestRejected}
    plain = st.one_of(with_numeral({"error": {"message": "no", "param": 1}}), with_numeral({"message": "no"}))

    @given(st.sampled_from(sorted(kinds)), plain.map(str.encode) | DEEP)
    def check(status: int, body: bytes) -> None:
        replies.append(http.Reply(status, {}, body))
        with pytest.raises(kinds[status]) as caught:
            adapter.complete(call(dialect, wants_object=False))
        assert type(caught.value) is kinds[status]
        assert caught.value.status == status
        assert caught.value.usage is None  # an error costs nothing
        assert len(str(caught.value)) < 1000

    check()


def call(dialect: Dialect, wants_object: bool) -> ModelRequest:
    return ModelRequest(
        model=dialect.model,
        catalog_id=f"{dialect.name}-test",
        system="You sort support tickets.",
        messages=(Message("user", "I was charged twice."),),
        timeout=10.0,
        tools=() if wants_object else (ORDER,),
        output_schema=SCHEMA if wants_object else None,
    )


def check_answer(adapter: Provider, asked: ModelRequest) -> None:
    try:
        answer = adapter.complete(asked)
    except ModelError as error:
        check_error(error)
        return
    assert isinstance(answer.text, str)
    assert answer.stop_reason in ("end", "tool_calls", "max_tokens")
    assert answer.text.strip() or answer.tool_calls
    for made in answer.tool_calls:
        assert isinstance(made.name, str)
        assert isinstance(made.id, str)
        assert made.arguments is None or isinstance(made.arguments, dict)
        assert isinstance(made.raw, str)
    check_usage(answer.usage)


def check_error(error: ModelError) -> None:
    assert str(error)
    assert error.retry_after is None or 0 <= error.retry_after <= 86_400
    if error.usage is not None:
        check_usage(error.usage)


def check_usage(usage: Any) -> None:
    assert isinstance(usage, Usage)
    for value in (
        usage.input_tokens,
        usage.output_tokens,
        usage.cached_tokens,
        usage.cache_write_tokens,
        usage.reasoning_tokens,
    ):
        assert type(value) is int
        assert 0 <= value < 10**12
    assert usage.cached_tokens + usage.cache_write_tokens <= usage.input_tokens
    assert usage.reasoning_tokens <= usage.output_tokens
