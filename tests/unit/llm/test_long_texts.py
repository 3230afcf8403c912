"""What models write without end, whitespace most of all, takes no time to look through.

A pattern that begins with whitespace of any length and is searched for takes the square of a run of whitespace: 60,000
characters took 15 s.
"""

from __future__ import annotations

import contextlib
import time

import pytest

from loopllama.errors import OutputInvalid
from loopllama.llm import thoughts, written_calls
from loopllama.llm.structured_output import parse_answer

LENGTH = 60_000
BEGINNINGS = ("", "<think>a</think>", "x</think>", "<think>", "\n<think>", "<tool_call>", "[TOOL_CALLS]", "search(")
REPEATED = (
    *(" ", "\n", " \n", "\t", "x\n", "(", "{", "[", "<", "```\n"),
    *("<think>", "</think>", "<function=search>", "search("),
)
SCHEMA = {"type": "object"}


@pytest.mark.parametrize("beginning", BEGINNINGS)
def test_a_text_that_does_not_end_takes_no_time(beginning: str) -> None:
    started = time.process_time()
    for part in REPEATED:
        text = beginning + part * (LENGTH // len(part))
        thoughts.apart(text)
        written_calls.found(text, {"search": SCHEMA})
        with contextlib.suppress(OutputInvalid):
            parse_answer(text, SCHEMA)
    assert time.process_time() - started < 10, "a second where all is well; a text alone takes 15 where one is not"
