"""Thoughts and calls that a server hands on as text, as each family of models writes them, in every wire format."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from support.dialects import Dialect
from support.wire_server import Reply, WireServer

from loopllama.errors import InvalidModelResponse
from loopllama.llm.types import ModelRequest, Provider, ToolSpec

Make = Callable[..., ModelRequest]
SEARCH = ToolSpec("search", "Look.", {"type": "object", "properties": {"q": {"type": "string"}}})
ANALYSIS = "<|channel|>analysis<|message|>We need"


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("<|channel>thought\nTwo and two.<channel|>4", "4"),
        (f"{ANALYSIS} it.<|end|><|start|>assistant<|channel|>final<|message|>4<|return|>", "4"),
        (f"{ANALYSIS} it.<|end|>4", "4"),
        ("analysisWe need it.assistantfinal4", "4"),
        ("<|inner_prefix|>Two.<|inner_suffix|>4", "4"),
        ("<longcat_think>Two.</longcat_think>4", "4"),
        ("<unused94>thought\nTwo.<unused95>4", "4"),
        (
            "The model opens its thoughts with <|channel|>analysis.",
            "The model opens its thoughts with <|channel|>analysis.",
        ),
    ],
)
def test_thoughts_are_not_the_answer(
    server: WireServer, adapter: Provider, dialect: Dialect, make_call: Make, text: str, answer: str
) -> None:
    server.script(Reply(200, dialect.answer(text)))
    assert adapter.complete(make_call()).text == answer


@pytest.mark.parametrize("text", [ANALYSIS, "<|channel>thought\nWe need", "analysisWe need", "<|inner_prefix|>We"])
def test_an_answer_that_is_cut_off_within_thoughts_is_empty(
    server: WireServer, adapter: Provider, dialect: Dialect, make_call: Make, text: str
) -> None:
    server.script(Reply(200, dialect.answer(text, stop="length")))
    with pytest.raises(InvalidModelResponse, match="the answer is empty"):
        adapter.complete(make_call())


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            f'{ANALYSIS} it.<|end|><|start|>assistant<|channel|>commentary to=functions.search<|message|>{{"q": "x"}}',
            "",
        ),
        ('<|channel>thought\nI look.<channel|><|tool_call>call:search{q:<|"|>x<|"|>}<tool_call|>', ""),
        # The thoughts do not end before the call (github.com/ollama/ollama, pull request 18307)
        ('<|channel>thought\nI look.<|tool_call>call:search{q:<|"|>x<|"|>}<tool_call|>', ""),
        ('<think>I look.\n<tool_call>{"name": "search", "arguments": {"q": "x"}}</tool_call>', ""),
        ('I look. <|tool_call_start|>[search(q="x")]<|tool_call_end|>', "I look."),
        ('[search(q="x")]', ""),
    ],
)
def test_calls_that_are_written_are_made(
    server: WireServer, adapter: Provider, dialect: Dialect, make_call: Make, text: str, said: str
) -> None:
    server.script(Reply(200, dialect.answer(text)))
    answer = adapter.complete(make_call(tools=(SEARCH,)))
    assert [(call.name, call.arguments) for call in answer.tool_calls] == [("search", {"q": "x"})]
    assert (answer.text, answer.stop_reason) == (said, "tool_calls")


def test_a_call_that_thoughts_mention_is_none(
    server: WireServer, adapter: Provider, dialect: Dialect, make_call: Make
) -> None:
    text = '<think>Some write <tool_call>{"name": "search", "arguments": {}}</tool_call> here.</think>'
    server.script(Reply(200, dialect.answer(text)), Reply(200, dialect.answer(f"{text}4")))
    with pytest.raises(InvalidModelResponse, match="the answer is empty"):
        adapter.complete(make_call(tools=(SEARCH,)))
    answer = adapter.complete(make_call(tools=(SEARCH,)))
    assert (answer.text, answer.tool_calls) == ("4", ())


def test_a_call_that_is_written_and_cannot_be_read_is_asked_for_again(
    server: WireServer, adapter: Provider, dialect: Dialect, make_call: Make
) -> None:
    text = '<tool_call>{"name": "search", "arguments": {"q": "x'
    server.script(*[Reply(200, dialect.answer(text))] * 2)
    with pytest.raises(InvalidModelResponse, match="a call of a tool that cannot be read") as caught:
        adapter.complete(make_call(tools=(SEARCH,)))
    assert caught.value.repeatable
    assert caught.value.usage is not None
    assert adapter.complete(make_call()).text == text  # without tools it is about something


def test_an_invented_name_in_a_call_that_is_written_is_told_to_the_model(
    server: WireServer, adapter: Provider, dialect: Dialect, make_call: Make
) -> None:
    server.script(Reply(200, dialect.answer('<tool_call>{"name": "find", "arguments": {}}</tool_call>')))
    assert [call.name for call in adapter.complete(make_call(tools=(SEARCH,))).tool_calls] == ["find"]
