"""The conversation of a call in a form that every provider takes."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loopllama.llm.history import LONGEST_ID, MOST_CALLS, NO_RESULT, fitted, meant, tool_name, without_system
from loopllama.llm.types import Message, ModelRequest, Thoughts, ToolCall, ToolSpec

SEARCH = ToolSpec("search", "Search.", {"type": "object"})
ODD = ToolSpec("3d-print", "Print.", {"type": "object"})
ASKED = Message("user", "When?")


def request(*messages: Message, tools: tuple[ToolSpec, ...] = (SEARCH,), model: str = "m") -> ModelRequest:
    return ModelRequest(model=model, catalog_id="p:m", system="", messages=messages, timeout=1.0, tools=tools)


def asking(*ids: str, name: str = "search", text: str = "") -> Message:
    return Message("assistant", text, tool_calls=tuple(ToolCall(one, name, {}, "{}") for one in ids))


def giving(*ids: str) -> list[Message]:
    return [Message("tool", f"result {n}", tool_call_id=one) for n, one in enumerate(ids)]


def ids_of(call: ModelRequest) -> tuple[list[str], list[str]]:
    calls = [one.id for message in call.messages for one in message.tool_calls]
    return calls, [message.tool_call_id for message in call.messages if message.role == "tool"]


@pytest.mark.parametrize(
    "name", ["search</arg_value>", "search<arg_key>q", "search()", "`search`", '"search"', "search\n"]
)
def test_what_stands_around_a_name_is_no_part_of_it(name: str) -> None:
    [call] = meant([ToolCall("a", name, {}, "{}")], [SEARCH])
    assert call.name == "search"


def test_a_conversation_that_is_right_stays_as_it_is() -> None:
    plain = request(ASKED, Message("assistant", "Now."), Message("user", "Really?"))
    assert fitted(plain, "p") is plain
    right = request(ASKED, asking("a", "functions.search:0"), *giving("a", "functions.search:0"))
    assert fitted(right, "p") == right


@pytest.mark.parametrize(
    ("name", "harmless"),
    [
        ("multi_tool_use.parallel", "multi_tool_use_parallel"),
        ("search the web", "search_the_web"),
        ("functions.search", "functions_search"),
        ("", "tool_"),
        ("2nd", "tool_2nd"),
        ("-x", "tool_-x"),
        ("suche/\U0001f999\x00", "suche___"),
        ("x" * 70, "x" * 64),
        ("_private", "_private"),
    ],
)
def test_a_name_that_there_is_not(name: str, harmless: str) -> None:
    assert tool_name(name) == harmless
    call = fitted(request(ASKED, asking("a", name=name), *giving("a")), "p")
    assert [one.name for one in call.messages[1].tool_calls] == [harmless]


@given(st.text(max_size=80))
def test_any_name(name: str) -> None:
    assert re.fullmatch("[a-zA-Z_][a-zA-Z0-9_-]{0,63}", tool_name(name))
    assert tool_name(tool_name(name)) == tool_name(name)


def test_a_real_tools_name_stays() -> None:
    call = fitted(request(ASKED, asking("a", name=ODD.name), *giving("a"), tools=(ODD,)), "p")
    assert call.messages[1].tool_calls[0].name == ODD.name


def test_ids_that_repeat_in_one_answer_and_in_later_rounds() -> None:
    rounds = [asking("a", "a", "b"), *giving("a", "a", "b"), asking("a", "a_2", ""), *giving("a", "a_2", "")]
    call = fitted(request(ASKED, *rounds), "p")
    calls, results = ids_of(call)
    assert calls == results == ["a", "a_2", "b", "a_3", "a_2_2", "call"]
    assert [one.text for one in call.messages if one.role == "tool"] == ["result 0", "result 1", "result 2"] * 2
    # A later request begins as the one before, so that a cache of the prompt holds.
    assert fitted(request(ASKED, *rounds[:4]), "p").messages == call.messages[:5]


def test_ids_that_differ_only_in_what_some_provider_does_not_take() -> None:
    calls, _ = ids_of(
        fitted(request(ASKED, asking("f.x:0", "f_x_0", "f x 0"), *giving("f.x:0", "f_x_0", "f x 0")), "p")
    )
    assert calls == ["f.x:0", "f_x_0_2", "f_x_0_3"]


def test_long_ids_that_begin_alike() -> None:
    long = "call_" + "x" * 300
    calls, results = ids_of(
        fitted(request(ASKED, asking(f"{long}1", f"{long}2"), *giving(f"{long}1", f"{long}2")), "p")
    )
    assert calls == results
    assert len(set(calls)) == 2
    assert all(len(one) <= LONGEST_ID for one in calls)


def test_results_follow_in_the_order_of_the_calls_and_none_is_missing_or_extra() -> None:
    results = [Message("tool", text, tool_call_id=text) for text in ("c", "nobody's", "a")]
    call = fitted(request(Message("tool", "early", tool_call_id="e"), ASKED, asking("a", "b", "c"), *results), "p")
    given = [(one.tool_call_id, one.text) for one in call.messages if one.role == "tool"]
    assert given == [("a", "a"), ("b", NO_RESULT), ("c", "c")]
    assert [one.role for one in call.messages] == ["user", "assistant", "tool", "tool", "tool"]


def test_more_calls_than_any_provider_takes() -> None:
    ids = [str(n) for n in range(MOST_CALLS + 2)]
    calls, results = ids_of(fitted(request(ASKED, asking(*ids), *giving(*ids)), "p"))
    assert calls == results == ids[:MOST_CALLS]


def test_halves_of_characters_in_arguments() -> None:
    broken = Message(
        "assistant",
        tool_calls=(ToolCall("a", "search", {"q": "x\ud83d", "n": 1}, "{}"), ToolCall("b", "search", None, "\udd99{")),
    )
    [_, message, *_] = fitted(request(ASKED, broken, *giving("a", "b")), "p").messages
    assert message.tool_calls[0].arguments == {"q": "x?", "n": 1}
    assert message.tool_calls[1].raw == "?{"


def test_a_request_without_tools_says_in_words_what_was_called() -> None:
    messages = (ASKED, asking("a", name="web search", text="I look."), *giving("a"), Message("assistant", "So."))
    call = fitted(request(*messages, tools=()), "p")
    assert [(one.role, one.text) for one in call.messages] == [
        ("user", "When?"),
        ("assistant", "I look.\n[called web_search with {}]"),
        ("user", "[web_search gave: result 0]"),
        ("assistant", "So."),
    ]
    assert ids_of(call) == ([], [])


@pytest.mark.parametrize(
    ("held", "goes"),
    [
        (Thoughts("p", "", {"x": "y"}), True),
        (Thoughts("p", "m", {"x": "y"}), True),
        (Thoughts("p", "another", {"x": "y"}), False),
        (Thoughts("another", "", {"x": "y"}), False),
        (Thoughts("another", "m", {"x": "y"}), False),
    ],
)
def test_thoughts_go_back_to_whoever_had_them(held: Thoughts, goes: bool) -> None:
    message = replace(asking("a"), thoughts=held)
    assert fitted(request(ASKED, message, *giving("a")), "p").messages[1].thoughts == (held if goes else None)
    assert all(one.thoughts is None for one in fitted(request(ASKED, message, *giving("a"), tools=()), "p").messages)


@pytest.mark.parametrize(
    ("said", "tool"),
    [
        # gpt-oss, Kimi, Gemini, and white space of small models
        ("search<|channel|>commentary", "search"),
        ("search<|constrain|>json", "search"),
        ("functions.search", "search"),
        ("functions.search:0", "search"),
        ("default_api.search", "search"),
        ("default_api:search", "search"),
        (" search\n", "search"),
        ("search:12", "search"),
        # A tool of that very name, and what is no tool's name however it is read
        ("functions.real", "functions.real"),
        ("research", "research"),
        ("search_all", "search_all"),
        ("other.search", "other.search"),
        ("", ""),
        ("<|channel|>search", "<|channel|>search"),
    ],
)
def test_the_tool_that_is_meant(said: str, tool: str) -> None:
    tools = (SEARCH, ToolSpec("functions.real", "", {}))
    [call] = meant([ToolCall("functions.search:0", said, {}, "{}")], tools)
    assert (call.name, call.id) == (tool, "functions.search:0")


def test_a_system_prompt_for_a_model_that_takes_none() -> None:
    call = replace(request(replace(ASKED, stable=True), asking("a"), *giving("a")), system="Be brief.")
    made = without_system(call)
    assert (made.system, made.messages[0].text, made.messages[0].stable) == ("", "Be brief.\n\nWhen?", True)
    assert made.messages[1:] == call.messages[1:]
    assert without_system(made) is made
