"""`trace --step` and `--outputs`: what one step received, did and gave."""

from decimal import Decimal

import pytest
from support.run_objects import at, attempt, of_list, printed, run, step

from loopllama.errors import InvalidRequest
from loopllama_cli.console.step_detail import named, print_outputs, print_steps

TOOLS = [
    {
        "name": "lookup",
        "outcome": "failed",
        "started_at": at(700),
        "latency_ms": 90,
        "arguments": {"order": "A-1", "total": Decimal("0.10")},
        "result": "the shop\nis closed",
    },
    {"name": "now", "outcome": "ok", "started_at": at(710), "latency_ms": 0, "arguments": {}, "result": "12:00"},
]
CALLS = [
    attempt("ModelThrottled", 0, 500, model="gpt-5", error="slow down", cost_usd=None, cost_basis="unknown"),
    attempt("ok", 600, 100, tokens_in=90, tokens_out=7, cost_usd=Decimal("0.5"), cost_basis="estimated"),
    attempt("ok", 900, 100, tokens_in=99, tokens_out=8, cost_usd=Decimal("0.25"), simulated=True),
]
WRITER = step(
    *("writer", 1, 0, 1000),
    input="# Input\n\nWhere is my order?",
    output={"text": "Here: é"},
    attempts=CALLS,
    tool_calls=TOOLS,
    waited_ms=60_000,
)


def test_a_step_is_shown_whole_and_in_the_order_of_its_calls():
    lines = printed(lambda console: print_steps([WRITER], {"writer": "Write."}, console)).splitlines()
    assert lines[0].split() == [
        *("writer", "✓", "completed", "claude-sonnet-4-6", "agent", "1.00", "s", "$0.004200", "simulated")
    ]
    assert lines[1:] == [
        "  system prompt",
        "    Write.",
        "  prompt",
        "    # Input",
        "    ",
        "    Where is my order?",
        "✗ gpt-5 ModelThrottled  500 ms  unknown  slow down",
        "✓ claude-sonnet-4-6 answered  100 ms  90 tokens in  7 tokens out  ~$0.5000",
        "✗ tool lookup failed  90 ms",
        "  arguments",
        "    {",
        '      "order": "A-1",',
        '      "total": 0.1',
        "    }",
        "  result",
        "    the shop",
        "    is closed",
        "✓ tool now  0 ms",
        "  arguments",
        "    {}",
        "  result",
        "    12:00",
        "✓ claude-sonnet-4-6 answered  100 ms  99 tokens in  8 tokens out  $0.2500  simulated",
        "⏸ 1m 00s of waiting for people, beside the latency",
        "  output",
        "    {",
        '      "text": "Here: é"',
        "    }",
        "",
    ]


def test_a_step_that_was_skipped_or_waits_says_why():
    skipped = step("call", status="skipped", model=None, skipped_because="`when` is false: input.vip")
    waits = [{"reason": "retry", "since": at(0), "until": None}]
    tried = step("pay", status="running", attempts=[attempt("ModelThrottled")], waits=waits)
    text = printed(lambda console: print_steps([skipped, tried], {}, console))
    assert "↷ skipped: `when` is false: input.vip" in text
    assert "claude-sonnet-4-6 ModelThrottled" in text.split("waits to be tried again since ")[1]
    assert "0 ms" not in text.splitlines()[0]


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("plan", ["plan"]),
        ("each", ["each", "each[1]", "each[2]"]),
        ("each[2]", ["each[2]"]),
        ("write", ["write", "write #2"]),
        ("write#2", ["write #2"]),
        ("write #1", ["write"]),
    ],
)
def test_steps_are_named_with_their_items_and_rounds(name, found):
    from loopllama_cli.console.places import label

    rounds = [step("write", 2, iteration=again) for again in range(2)]
    assert [label(one) for one in named(run(step("plan"), *of_list("each", 2, 1), *rounds), name)] == found


def test_a_step_that_is_not_there_names_those_that_are():
    with pytest.raises(InvalidRequest, match="run run_1 has no step 'paln'; it has: plan, each"):
        named(run(step("plan"), *of_list("each", 2, 1)), "paln")


def test_outputs_are_whole():
    text = printed(lambda console: print_outputs(run(WRITER, step("b", 2, output="x" * 300)), console))
    assert text.splitlines()[0] == "writer  output"
    assert "    " + "x" * 300 in text


def test_nothing_moves_the_cursor():
    hostile = step("a", input="\x1b]0;x\x07", output="\x1b[2J", tool_calls=[{**TOOLS[1], "result": "\x1b[1m"}])
    assert "\x1b" not in printed(lambda console: print_steps([hostile], {"a": "\x1b[5m"}, console))
