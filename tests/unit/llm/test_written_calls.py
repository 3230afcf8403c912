"""Tool calls that came as text: each form that models write, and what only looks like one."""

from __future__ import annotations

import time
from typing import Any

import pytest

from loopllama.llm.written_calls import found, is_broken

TOOLS: dict[str, dict[str, Any]] = {"search": {}, "json_answer": {}}
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
    "mistral's later models": '[TOOL_CALLS]search[ARGS]{"q": "a}b", "n": 1.50}',
    "mistral with an id": '[TOOL_CALLS]search[CALL_ID]abcdefghi[ARGS]{"q": "a}b", "n": 1.50}</s>',
    "glm": "<tool_call>search\n<arg_key>q</arg_key>\n<arg_value>a}b</arg_value>\n<arg_key>n</arg_key>\n"
    "<arg_value>1.50</arg_value>\n</tool_call>",
    "minimax": '<minimax:tool_call>\n<invoke name="search">\n<parameter name="q">a}b</parameter>\n'
    '<parameter name="n">1.50</parameter>\n</invoke>\n</minimax:tool_call>',
    "deepseek 3.2": f'<{BAR}DSML{BAR}function_calls>\n<{BAR}DSML{BAR}invoke name="search">\n<{BAR}DSML{BAR}parameter '
    f'name="q" string="true">a}}b</{BAR}DSML{BAR}parameter>\n<{BAR}DSML{BAR}parameter name="n" string="false">1.50'
    f"</{BAR}DSML{BAR}parameter>\n</{BAR}DSML{BAR}invoke>\n</{BAR}DSML{BAR}function_calls>",
    "granite": '<|tool_call|>[{"name": "search", "arguments": {"q": "a}b", "n": 1.50}}]',
    "in a fence": '```json\n{"name": "search", "arguments": {"q": "a}b", "n": 1.50}}\n```',
    "over lines": '{\n  "name": "search",\n  "arguments": {"q": "a}b", "n": 1.50}\n}',
    "in a list": '[{"name": "search", "arguments": {"q": "a}b", "n": 1.50}}]',
    "as a message": '{"tool_calls": [{"id": "c", "type": "function", "function": {"name": "search", "arguments": '
    '"{\\"q\\": \\"a}b\\", \\"n\\": 1.50}"}}]}',
    "longcat": '<longcat_tool_call>\n{"name": "search", "arguments": {"q": "a}b", "n": 1.50}}\n</longcat_tool_call>',
    "qwen 2.5 coder": '<tools>\n{"name": "search", "arguments": {"q": "a}b", "n": 1.50}}\n</tools>',
    "gpt-oss": '<|channel|>commentary to=functions.search <|constrain|>json<|message|>{"q": "a}b", "n": 1.50}<|call|>',
    "gpt-oss to a role": "<|start|>assistant to=functions.search<|channel|>commentary json<|message|>"
    '{"q": "a}b", "n": 1.50}',
    "gpt-oss without signs": 'assistantcommentary to=functions.search json{"q": "a}b", "n": 1.50}',
    "gemma 4": '<|tool_call>call:search{n:1.50,q:<|"|>a}b<|"|>}<tool_call|><|tool_response>',
    "gemma 4 without a sign": 'call:search{q:<|"|>a}b<|"|>,n:1.50}',
    "apertus": '<|tools_prefix|>[{"search": {"q": "a}b", "n": 1.50}}]<|tools_suffix|>',
    "lfm2": "<|tool_call_start|>[search(q='a}b', n=1.50)] <|tool_call_end|>",
    "llama 4": '[search(q="a}b", n=1.50)]',
    "llama 4 with signs": '<|python_start|>[search(q="a}b", n=1.50)]<|python_end|>',
    "olmo 3": '<function_calls>\nsearch(q="a}b", n=1.50)\n</function_calls>',
    "gemma 3": '```tool_code\nprint(search(q="a}b", n=1.50))\n```',
    "the name first": 'search{"q": "a}b", "n": 1.50}',
    "a call of old": '<functioncall> {"name": "search", "arguments": \'{"q": "a}b", "n": 1.50}\'}',
    "a function call": '<function_call>{"name": "search", "arguments": {"q": "a}b", "n": 1.50}}</function_call>',
    "jamba": '<tool_calls>[\n{"name": "search", "arguments": {"q": "a}b", "n": 1.50}}\n]</tool_calls>',
    "nemotron": '<TOOLCALL>[{"name": "search", "arguments": {"q": "a}b", "n": 1.50}}]</TOOLCALL>',
    "lm studio": '[TOOL_REQUEST]{"name": "search", "arguments": {"q": "a}b", "n": 1.50}}[END_TOOL_REQUEST]',
    "phi 4 mini": 'functools[{"name": "search", "arguments": {"q": "a}b", "n": 1.50}}]',
    "internlm": '<|action_start|><|plugin|>\n{"name": "search", "parameters": {"q": "a}b", "n": 1.50}}<|action_end|>',
    "command r": 'Action: ```json\n[{"tool_name": "search", "parameters": {"q": "a}b", "n": 1.50}}]\n```',
    "command a": '<|START_ACTION|>[{"tool_call_id": "0", "tool_name": "search", "parameters": '
    '{"q": "a}b", "n": 1.50}}]<|END_ACTION|>',
    "hunyuan": '<tool_calls>\n<tool_call>search\n```json\n{"q": "a}b", "n": 1.50}\n```</tool_call></tool_calls>',
    "react": 'Thought: I look.\nAction: search\nAction Input: {"q": "a}b", "n": 1.50}\nObservation: It is x.',
    "qwen's agent": '✿FUNCTION✿: search\n✿ARGS✿: {"q": "a}b", "n": 1.50}\n✿RESULT✿',
    "gpt-oss to a bare name": '<|channel|>commentary to=search<|message|>{"q": "a}b", "n": 1.50}<|call|>',
    "a function in an attribute": '<function name="search">{"q": "a}b", "n": 1.50}</function>',
    "parameters without an end": "<function=search>\n<parameter=q>\na}b\n<parameter=n>\n1.50\n</function>",
    "step 3": '<steptml:invoke name="search"><steptml:parameter name="q">a}b</steptml:parameter>'
    '<steptml:parameter name="n">1.50</steptml:parameter></steptml:invoke>',
    "claude without its end": "<invoke name='search'>\n<parameter name='q'>a}b</parameter>\n"
    "<parameter name='n'>1.50</parameter>",
    "gemini": '<call:default_api:search{n:1.50,q:"a}b"}/>',
    "gemini as Python": '```tool_code\nprint(default_api.search(q="a}b", n=1.50))\n```',
    "python in a fence": '```python\nsearch(q="a}b", n=1.50)\n```',
    "python alone": 'search(q="a}b", n=1.50)',
    "llama's own tools": '<|python_tag|>search.call(q="a}b", n=1.50)',
    "an end too many": '<tool_call>{"name": "search", "arguments": {"q": "a}b", "n": 1.50}}}</tool_call>',
    "another's end": '<tool_call>{"name": "search", "arguments": {"q": "a}b", "n": 1.50}}<tool_call>',
    "as Python writes it": "<tool_call>{'name': 'search', 'arguments': {'q': 'a}b', 'n': 1.50}}</tool_call>",
    "a turn's end": '{"name": "search", "parameters": {"q": "a}b", "n": 1.50}}<|eom_id|>',
    "langchain's names": '{"action": "search", "action_input": {"q": "a}b", "n": 1.50}}',
    "anthropic's names": '{"type": "tool_use", "id": "c", "name": "search", "input": {"q": "a}b", "n": 1.50}}',
    "a tool": '{"tool": "search", "args": {"q": "a}b", "n": 1.50}}',
    "a function": '{"type": "function", "function": "search", "parameters": {"q": "a}b", "n": 1.50}}',
    "the call of old in an object": '{"function_call": {"name": "search", "arguments": '
    '"{\\"q\\": \\"a}b\\", \\"n\\": 1.50}"}}',
    "bare": '{"type": "function", "name": "search", "parameters": {"q": "a}b", "n": 1.50}}',
}


@pytest.mark.parametrize("text", FORMS.values(), ids=FORMS)
def test_each_form_is_a_call(text: str) -> None:
    rest, [call] = found(f" {text}\n", TOOLS)
    rest = rest.removeprefix("Thought: I look.")
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
        "<function=search>no object</function>",
        "[TOOL_CALLS] none",
        "gpt-oss writes <|channel|>commentary to=functions.search before the arguments.",
        "<|tool_call>call:search{q:<tool_call|>",
        "call: search for {it}",
        "<|tool_call_start|>[search(os.system('x'))]<|tool_call_end|>",
        "<|tool_call_start|>[search(q=f(1))]<|tool_call_end|>",
        "<|tool_call_start|>[search(**{})]<|tool_call_end|>",
        '[search("x")]',
        "[other(q=1)]",
        "search(q=1) finds it.",
        "[see search(q=1)]",
        "<tools> are in the box",
        '<tools>{"name": "search", "description": "Look.", "parameters": {}}</tools>',
        'search {"q": }',
        "<|tools_prefix|>[1, {}]<|tools_suffix|>",
    ],
)
def test_what_is_no_call_stays_an_answer(text: str) -> None:
    assert found(text, TOOLS) == (text, ())


@pytest.mark.parametrize(
    ("arguments", "value"),
    [
        ("{}", {}),
        ('{a:<|"|>x: {y}, [z] "w"<|"|>}', {"a": 'x: {y}, [z] "w"'}),
        ("{a:true,b:false,c:null,d:-3}", {"a": True, "b": False, "c": None, "d": -3}),
        ('{a:[<|"|>x<|"|>,2],b:{c:{d:1}}}', {"a": ["x", 2], "b": {"c": {"d": 1}}}),
        ('{"a":"x",b: some words }', {"a": "x", "b": "some words"}),
        ("{1:2}", {"1": 2}),
    ],
)
def test_arguments_in_gemmas_notation(arguments: str, value: Any) -> None:
    _, [call] = found(f"<|tool_call>call:search{arguments}<tool_call|>", TOOLS)
    assert call.arguments == value


@pytest.mark.parametrize(
    ("arguments", "value"),
    [
        ("", {}),
        ("a=True, b=false, c=None, d=null", {"a": True, "b": False, "c": None, "d": None}),
        ("a=-3, b=[1, 'x'], c={'d': (1, 2)}", {"a": -3, "b": [1, "x"], "c": {"d": [1, 2]}}),
        ("a=12345678901234567890123", {"a": 12345678901234567890123}),
    ],
)
def test_arguments_in_python(arguments: str, value: Any) -> None:
    _, calls = found(f"[search({arguments}), json_answer()]", TOOLS)
    assert [(call.name, call.arguments) for call in calls] == [("search", value), ("json_answer", {})]


SEARCH: dict[str, Any] = {"properties": {"q": {"type": "string"}, "n": {"type": "integer"}}, "required": ["q"]}
NOW: dict[str, Any] = {"properties": {}}
WITH_PARAMETERS = {"search": SEARCH, "now": NOW}


@pytest.mark.parametrize(
    ("text", "arguments"),
    [
        ('[search("x")]', {"q": "x"}),
        ('[search("x", 3)]', {"q": "x", "n": 3}),
        ('<|python_start|>[search("x", n=3)]<|python_end|>', {"q": "x", "n": 3}),
        ('[search("x", 3, 4)]', None),  # more than there are
        ('[search("x", q="y")]', None),  # one of them twice
    ],
)
def test_arguments_without_a_name_are_the_parameters_in_their_order(text: str, arguments: Any) -> None:
    _, calls = found(text, WITH_PARAMETERS)
    assert [call.arguments for call in calls] == ([arguments] if arguments else [])


@pytest.mark.parametrize(
    "text",
    [
        '{"name": "search", "arguments": {"q": "x"}}\n{"name": "now", "arguments": {}}',
        '{"name": "search", "parameters": {"q": "x"}}; {"name": "now", "parameters": {}}',
        '<tool_call>\n{"name": "search", "arguments": {"q": "x"}}\n{"name": "now"}\n</tool_call>',
        '<function_calls>\nsearch(q="x")\nnow()\n</function_calls>',
        '[search("x"), now()]',
    ],
)
def test_several_calls_behind_one_another(text: str) -> None:
    _, calls = found(text, WITH_PARAMETERS)
    assert [(call.name, call.arguments) for call in calls] == [("search", {"q": "x"}), ("now", {})]


@pytest.mark.parametrize("call", ['{"name": "now"}', '<tool_call>{"name": "now"}</tool_call>', "now()"])
def test_a_tool_that_wants_no_arguments_needs_none(call: str) -> None:
    assert [one.name for one in found(call, WITH_PARAMETERS)[1]] == ["now"]
    assert found(call.replace("now", "search"), WITH_PARAMETERS)[1] == () or "()" in call


@pytest.mark.parametrize(
    "call",
    [
        '```json\n{"name": "search", "arguments": {"q": "x"}}\n```',
        '{"name": "search", "arguments": {"q": "x"}}',
        '{\n  "name": "search",\n  "arguments": {"q": "x"}\n}',
    ],
)
def test_what_is_said_before_a_call_without_a_sign(call: str) -> None:
    rest, [made] = found(f"I look for it.\n{call}", WITH_PARAMETERS)
    assert (rest, made.arguments) == ("I look for it.", {"q": "x"})
    for text in (f"I wrote:\n{call}\nThen it was there.", f"Not {call}"):
        assert found(text, WITH_PARAMETERS) == (text, ())


@pytest.mark.parametrize(
    "text",
    [
        '<tool_call>{"name": "other", "arguments": {}}</tool_call>',
        "<|channel|>commentary to=functions.other<|message|>{}<|call|>",
        "<|tool_call>call:other{}<tool_call|>",
        "<function=other></function>",
    ],
)
def test_an_invented_name_behind_a_sign_is_a_call_that_can_be_answered(text: str) -> None:
    assert [(call.name, call.arguments) for call in found(text, TOOLS)[1]] == [("other", {})]
    assert found(f"Write {text}", TOOLS) == (f"Write {text}", ())


@pytest.mark.parametrize(
    ("text", "broken"),
    [
        ('<tool_call>{"name": "search", "arguments": {"q": "x', True),
        ('<tool_call>{"name": search, "arguments": {"q": "x"}}</tool_call>', True),
        ('[TOOL_CALLS][{"name": "search", "arguments": {"q": "x"', True),
        ("[TOOL_CALLS] none", False),
        ("<tools> are in the box", False),
        ("Write <tool_call>{ before it", False),
        ("The answer is 2.", False),
    ],
)
def test_what_begins_like_a_call_and_is_none(text: str, broken: bool) -> None:
    assert found(text, WITH_PARAMETERS) == (text, ())
    assert is_broken(text) is broken


def test_without_tools_nothing_is_a_call() -> None:
    assert found(FORMS["hermes"], {}) == (FORMS["hermes"], ())


@pytest.mark.parametrize("form", ["<parameter={}>\n{}\n</parameter>", "<arg_key>{}</arg_key><arg_value>{}</arg_value>"])
def test_a_text_in_tags_is_of_a_type_that_the_parameter_may_have(form: str) -> None:
    one = {"zip": "10001", "days": "3", "maybe": "null", "flag": "true", "any": "1e3", "says": "[1]", "none": "no"}
    inner = "".join(form.format(*pair) for pair in one.items())
    text = f"<function=search>{inner}</function>" if "=" in form else f"<tool_call>search{inner}</tool_call>"
    types: dict[str, Any] = {"zip": "string", "days": "integer", "maybe": ["string", "null"], "flag": ["string"]}
    schema = {"properties": {name: {"type": type_} for name, type_ in types.items()} | {"says": {"type": "array"}}}
    _, [call] = found(text, {"search": schema})
    told = {"zip": "10001", "days": 3, "maybe": None, "flag": "true", "any": 1000, "says": [1], "none": "no"}
    assert call.arguments == told


def test_a_call_in_tags_may_have_no_arguments() -> None:
    _, [call] = found("<tool_call>search</tool_call>", TOOLS)
    assert call.arguments == {}


def test_a_long_text_is_looked_through_in_no_time() -> None:
    began = time.monotonic()
    for piece in (
        "<tool_call>{",
        "<function=search>",
        "<|tool_call_begin|>search",
        "[TOOL_CALLS][",
        "<parameter=q>",
        "[TOOL_CALLS]a{",
        '<invoke name="a">',
        "<|channel|>commentary to=functions.search <|message|>{",
        "<|tool_call>call:search{a:",
        "<tools>{",
        "<|tools_prefix|>[",
        "<|tool_call_start|>[search(",
        "search{",
        "call:search{",
        "{}\n",
        "\n[1]",
        '\n{"name":"x"}',
        "Action: search\nAction Input: {",
    ):
        for times in (100, 8000):
            text = piece * times
            assert found(text, TOOLS) == (text, ())
    assert time.monotonic() - began < 5
