"""Tool calls that came as text: each form that models write, and what only looks like one."""

from __future__ import annotations

import time

import pytest

from loopllama.llm.written_calls import found

TOOLS = ["search", "json_answer"]
BAR, UNDER = "\uff5c", "\u2581"


def deepseek(*words: str) -> str:
    return f"<{BAR}{UNDER.join(words)}{BAR}>"


FORMS = {
    "hermes": '<tool_call>\n{"name": "search", "arguments": {"q": "a}b", "n": 1.50}}\n</tool_call>',
    "not closed": '<tool_call>{"name": "search", "arguments": {"q": "a}b", "n": 1.50}}',
    "qwen coder": "<tool_call>\n<function=search>\n<parameter=q>\na}b\n</parameter>\n<parameter=n>\n1.50\n"
    "</parameter>\n</function>\n</tool_call>",
    "llama": '<function=search>{"q": "a}b", "n": 1.50}</function>',
    "mistral": '[TOOL_CALLS][{"name": "search", "arguments": {"q": "a}b", "n": 1.50}}]',
    "kimi": "<|tool_calls_section_begin|><|tool_call_begin|>functions.search:0<|tool_call_argument_begin|>"
    '{"q": "a}b", "n": 1.50}<|tool_call_end|><|tool_calls_section_end|>',
    "deepseek": f"{deepseek('tool', 'calls', 'begin')}{deepseek('tool', 'call', 'begin')}search"
    f'{deepseek("tool", "sep")}{{"q": "a}}b", "n": 1.50}}{deepseek("tool", "call", "end")}'
    f"{deepseek('tool', 'calls', 'end')}",
    "deepseek r1": f"{deepseek('tool', 'call', 'begin')}function{deepseek('tool', 'sep')}search\n```json\n"
    f'{{"q": "a}}b", "n": 1.50}}\n```{deepseek("tool", "call", "end")}',
    "python tag": '<|python_tag|>{"name": "search", "parameters": {"q": "a}b", "n": 1.50}}',
    "bare": '{"type": "function", "name": "search", "parameters": {"q": "a}b", "n": 1.50}}',
}


@pytest.mark.parametrize("text", FORMS.values(), ids=FORMS)
def test_each_form_is_a_call(text: str) -> None:
    rest, [call] = found(f" {text}\n", TOOLS)
    assert (call.id, call.name, dict(call.arguments or {})["q"]) == ("call_0", "search", "a}b")
    assert str(dict(call.arguments or {})["n"]) == "1.50"
    assert rest == ""


def test_what_is_said_before_stays_and_several_are_several() -> None:
    one = FORMS["hermes"]
    rest, calls = found(f"Let me look.\n{one}\n{one.replace('search', 'json_answer')}", TOOLS)
    assert (rest, [(call.id, call.name) for call in calls]) == (
        "Let me look.",
        [("call_0", "search"), ("call_1", "json_answer")],
    )


@pytest.mark.parametrize(
    "text",
    [
        "",
        "The answer is 2.",
        '{"name": "Ada", "parameters": {}}',
        '{"name": "search", "parameters": {}, "price": 3}',  # something else that is called so
        '{"name": "search", "arguments": "q"}',
        "Write <tool_call> before the call and </tool_call> behind it.",
        '<tool_call>{"name": "search", "arguments": </tool_call>',
        '<tool_call>{"name": "other", "arguments": {}}</tool_call>',
        "<function=search>no object</function>",
        "[TOOL_CALLS] none",
    ],
)
def test_what_is_no_call_stays_an_answer(text: str) -> None:
    assert found(text, TOOLS) == (text, ())


def test_without_tools_nothing_is_a_call() -> None:
    assert found(FORMS["hermes"], []) == (FORMS["hermes"], ())


def test_a_long_text_is_looked_through_in_no_time() -> None:
    began = time.monotonic()
    for piece in ("<tool_call>{", "<function=search>", "<|tool_call_begin|>search", "[TOOL_CALLS][", "<parameter=q>"):
        for times in (100, 8000):
            text = piece * times
            assert found(text, TOOLS) == (text, ())
    assert time.monotonic() - began < 5
