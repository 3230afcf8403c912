"""What a catalog entry puts into requests: the model's `options`, and the longest answer it can give."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from support.dialects import Dialect
from support.wire_server import Reply, WireServer

from loopllama.llm.token_estimate import UNKNOWN_MAX_OUTPUT
from loopllama.llm.types import Message, ModelRequest, Provider, ToolCall, ToolSpec
from loopllama.providers.wire import LONGEST_UNASKED

Make = Callable[..., ModelRequest]


def body_of(server: WireServer, adapter: Provider, dialect: Dialect, call: ModelRequest) -> dict[str, Any]:
    server.script(Reply(200, dialect.answer("ok")))
    adapter.complete(call)
    dialect.seen(server.requests[-1])  # it is a request that the provider takes
    body: dict[str, Any] = server.requests[-1].json
    return body


@pytest.mark.parametrize("limit", [None, 4096, 64_000])
def test_a_call_without_a_limit(
    dialect: Dialect, server: WireServer, adapter: Provider, make_call: Make, limit: int | None
) -> None:
    body_of(server, adapter, dialect, make_call(max_output=limit))
    asked = dialect.seen(server.requests[-1]).max_tokens
    if not dialect.takes_the_models_limit:
        assert asked is None
    elif limit is None:
        assert asked == (UNKNOWN_MAX_OUTPUT if dialect.asks_for_a_limit else None)
    else:
        assert asked == min(limit, LONGEST_UNASKED)


def test_a_limit_that_is_set_counts(dialect: Dialect, server: WireServer, adapter: Provider, make_call: Make) -> None:
    body_of(server, adapter, dialect, make_call(max_output=64_000, max_tokens=30_000))
    assert dialect.seen(server.requests[-1]).max_tokens == 30_000


def test_options_go_out_as_they_are(dialect: Dialect, server: WireServer, adapter: Provider, make_call: Make) -> None:
    body = body_of(server, adapter, dialect, make_call(options=dialect.options, max_tokens=2000))
    for name, value in dialect.options.items():
        assert body[name] == value or {**body[name], **value} == body[name]
    assert dialect.seen(server.requests[-1]).max_tokens == 2000


def test_options_replace_nothing_that_the_call_says(
    dialect: Dialect, server: WireServer, adapter: Provider, make_call: Make
) -> None:
    tool = ToolSpec("now", "The time.", {"type": "object", "properties": {}})
    values: dict[str, Any] = {
        "max_tokens": 500,
        "tools": (tool,),
        "messages": (
            Message("user", "When?"),
            Message("assistant", "", tool_calls=(ToolCall("a", "now", {}),)),
            Message("tool", "noon", tool_call_id="a"),
        ),
    }
    plain = body_of(server, adapter, dialect, make_call(**values))
    # The catalog refuses these names; the adapters do not rely on it.
    options = {name: "replaced" for name in plain if name not in dialect.merged_options}
    assert body_of(server, adapter, dialect, make_call(**values, options=options)) == plain
    assert server.requests[0].path == server.requests[1].path


@pytest.mark.parametrize(
    ("said", "most"),
    [
        ("max_tokens: 30000 > 8192, which is the maximum allowed number of output tokens for claude-3-5-haiku", 8192),
        ("Invalid max_tokens value, the valid range of max_tokens is [1, 8192]", 8192),
        ("max_tokens is too large: 30000. This model supports at most 16384 completion tokens, whereas", 16384),
        ("The maximum tokens you requested exceeds the model limit of 5000. Try again with a lower value.", 5000),
        ("`max_completion_tokens` must be less than or equal to `8192`, less than the `context_window`", 8192),
        (
            "maxOutputTokens value of 30000 but the supported range is from 1 (inclusive) to 8193 (exclusive).",
            8192,
        ),
        ("`max_tokens` is too large. Must be <= 4096", 4096),
        ("The value of max_tokens must be between 1 and 4096", 4096),
        ("max_tokens (30000) exceeds the maximum allowed output tokens of 4096", 4096),
        ("This model's maximum output is 4096 tokens; you requested 30000", 4096),
    ],
)
def test_the_longest_answer_that_a_refusal_names_is_learnt(
    dialect: Dialect, server: WireServer, adapter: Provider, make_call: Make, said: str, most: int
) -> None:
    status, code, _ = dialect.bad_request
    server.script(dialect.error(status, code, said))
    body_of(server, adapter, dialect, make_call(max_output=64_000, max_tokens=30_000))
    assert [dialect.seen(one).max_tokens for one in server.requests] == [30_000, most]
    # It is known from then on, and a shorter one stays.
    for asked, sent in ((30_000, most), (100, 100)):
        body_of(server, adapter, dialect, make_call(max_output=64_000, max_tokens=asked))
        assert dialect.seen(server.requests[-1]).max_tokens == sent
    assert len(server.requests) == 4
