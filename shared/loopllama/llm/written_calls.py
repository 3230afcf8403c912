"""Tool calls that a model wrote into its answer's text.

A server that has no parser for its model's calls, or whose parser gives up, hands them on as text: vLLM without
`--tool-call-parser`, Ollama and llama.cpp with a template of somebody else's, gateways. Taken for the answer, such a
text would end the turn. Forms by family: `<tool_call>` with JSON (Hermes, Qwen) or with tags (Qwen3 Coder;
GLM: github.com/ml-explore/mlx-lm, pull request 792), `<function=…>` (Llama 3, Groq), `[TOOL_CALLS]` (Mistral, its later
models with the name before the arguments), `<|tool_call|>` with a list (Granite, Phi), `<invoke name=…>` (MiniMax and
DeepSeek 3.2), `<|python_tag|>` and the bare object (Llama 3.1 and later), alone, in a list or in a code fence,
`<|tool_call_begin|>` (Kimi), its like in full-width signs (DeepSeek), `<longcat_tool_call>` (LongCat), `<tools>` (Qwen
2.5 Coder), `to=functions.NAME` in a channel (gpt-oss), `<|tool_call>call:NAME{…}` with quotes of its own (Gemma 4, also
without its sign: github.com/vllm-project/vllm, issue 54256), `<|tools_prefix|>` (Apertus: github.com/ml-explore/mlx-lm,
pull request 1663), the name before the object alone, and Python (`written_python`).

Only what names a tool of the request, and has an object of arguments, is a call; a text in which none does is an
answer.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Any

from loopllama.core import exact_json
from loopllama.llm import written_python
from loopllama.llm.history import MOST_CALLS
from loopllama.llm.types import ToolCall

_BAR = "\uff5c"


def _sign(*words: str) -> str:
    """Return one of DeepSeek's signs: words between full-width bars."""
    return f"<{_BAR}{{}}{_BAR}>".format("\u2581".join(words))


_SECTIONS = ("<|tool_calls_section_begin|>", _sign("tool", "calls", "begin"))
_DEEPSEEK_BEGINS = _sign("tool", "call", "begin")
_SIGNS = (
    "<tool_call>",
    "<|tool_call|>",
    "<minimax:tool_call>",
    "<function_calls>",
    f"<{_BAR}DSML{_BAR}",
    "<invoke name=",
    "<function=",
    "[TOOL_CALLS]",
    "<|python_tag|>",
    "<|tool_call_begin|>",
    _DEEPSEEK_BEGINS,
    *_SECTIONS,
    "<longcat_tool_call>",
    "<tools>",
    "<|tool_call>",
    "<|tools_prefix|>",
    "<|tool_call_start|>",
    "<|python_start|>",
    "```tool_code",
    "<|start|>assistant",
    "<|channel|>",
    "assistantcommentary to=",
    "commentary to=functions.",
)
_HERMES = re.compile(r"<(?P<tag>(?:longcat_)?tool_call|tools)>\s*(?P<call>\{.*?\})\s*(?:</(?P=tag)>|\Z)", re.DOTALL)
_HARMONY = re.compile(
    r"\bto=functions\.([\w.:-]{1,80})(?:\s|<\||\|>|\w){0,80}?(\{.*?\})\s*"
    r"(?:<\|(?:call|end|return)\|>|\Z|(?=<\|start\|>|<\|channel\|>|assistant(?:commentary|final|analysis)))",
    re.DOTALL,
)
_GEMMA = re.compile(
    r"(?:<\|tool_call>\s*|\A)call:([\w.:-]{1,80})\s*(\{.*?\})\s*(?:<tool_call\|>|\Z|(?=<\|tool_call>))", re.DOTALL
)
_GEMMA_PIECE = re.compile(
    r'<\|"\|>(?P<text>.*?)<\|"\|>|(?P<json>"(?:\\.|[^"\\])*")|(?P<sign>[{}\[\],:])|(?P<bare>[^{}\[\],:"<]+)', re.DOTALL
)
_APERTUS = re.compile(r"<\|tools_prefix\|>\s*(\[.*?\])\s*(?:<\|tools_suffix\|>|\Z)", re.DOTALL)
_AS_PYTHON = re.compile(
    r"<\|tool_call_start\|>(.*?)(?:<\|tool_call_end\|>|\Z)|<\|python_start\|>(.*?)(?:<\|python_end\|>|\Z)"
    r"|<function_calls>(.*?)(?:</function_calls>|\Z)|```tool_code\s*(.*?)(?:```|\Z)",
    re.DOTALL,
)
_NAME_FIRST = re.compile(r"([\w.-]{1,80})\s*(\{.*\})", re.DOTALL)
_PYTHON_LIST = re.compile(r"\[\s*[\w.]{1,80}\(.*\)\s*\]", re.DOTALL)
_FUNCTION = re.compile(r"<function=([\w.:-]{1,80})>\s*(.*?)\s*(?:</function>|\Z)", re.DOTALL)
_PARAMETER = re.compile(r"<parameter=([\w.:-]{1,80})>\n?(.*?)\n?</parameter>", re.DOTALL)
_INVOKE = re.compile(
    rf'<(?:{_BAR}DSML{_BAR})?invoke name="([\w.:-]{{1,80}})"\s*>(.*?)</(?:{_BAR}DSML{_BAR})?invoke>', re.DOTALL
)
_NAMED_PARAMETER = re.compile(
    rf'<(?:{_BAR}DSML{_BAR})?parameter name="([\w.:-]{{1,80}})"[^>]{{0,80}}>\n?(.*?)\n?'
    rf"</(?:{_BAR}DSML{_BAR})?parameter>",
    re.DOTALL,
)
_GLM = re.compile(r"<tool_call>\s*([\w.:-]{1,80})\s*((?:<arg_key>.*?)?)\s*(?:</tool_call>|\Z)", re.DOTALL)
_GLM_PARAMETER = re.compile(r"<arg_key>\s*([^<]{1,80}?)\s*</arg_key>\s*<arg_value>\n?(.*?)\n?</arg_value>", re.DOTALL)
_LISTED = re.compile(r"<\|?tool_call\|?>\s*(\[.*?\])\s*(?:<\|?/tool_call\|?>|\Z)", re.DOTALL)
_MISTRAL = re.compile(r"\[TOOL_CALLS\]\s*(\[.*\])", re.DOTALL)
_MISTRAL_ONE = re.compile(
    r"\[TOOL_CALLS\]\s*([\w.-]{1,80})(?:\[CALL_ID\][\w-]{1,80})?(?:\[ARGS\])?\s*(\{.*?\})\s*"
    r"(?=\[TOOL_CALLS\]|</s>|\Z)",
    re.DOTALL,
)
_FENCED = re.compile(r"```[a-z_]{0,20}\s*([\[{].*[\]}])\s*```", re.DOTALL)
_PYTHON = re.compile(r"<\|python_tag\|>\s*(\{.*\})", re.DOTALL)
_KIMI = re.compile(
    r"<\|tool_call_begin\|>\s*([\w.:-]{1,80})\s*<\|tool_call_argument_begin\|>\s*(.*?)\s*<\|tool_call_end\|>",
    re.DOTALL,
)
_DEEPSEEK_SEP = _sign("tool", "sep")
_DEEPSEEK = re.compile(
    rf"{_DEEPSEEK_BEGINS}(?:function{_DEEPSEEK_SEP})?\s*([\w.:-]{{1,80}})(?:{_DEEPSEEK_SEP}|\s*```json)\s*"
    rf"(\{{.*?\}})\s*(?:```)?\s*{_sign('tool', 'call', 'end')}",
    re.DOTALL,
)
_LONGEST = 100_000
"""Characters; a longer text is no call, and takes long to look through."""
_BEFORE_NAME = re.compile(r"^functions?[.:]")
_BEHIND_NAME = re.compile(r":\d+$")


def found(text: str, tools: Mapping[str, Mapping[str, Any]]) -> tuple[str, tuple[ToolCall, ...]]:
    """Return what is said before the calls that a text holds, and the calls; the text itself where it holds none.
    `tools` are the schemas of the parameters, by the tools' names."""
    bare = text.strip()
    if len(text) > _LONGEST or sum(map(text.count, _SIGNS)) > MOST_CALLS:
        return text, ()
    if fenced := _FENCED.fullmatch(bare):
        bare = fenced[1]
    if not tools or not (any(sign in text for sign in _SIGNS) or _may_be_bare(bare, tools)):
        return text, ()
    calls = [
        ToolCall(f"call_{place}", name, arguments, exact_json.dumps(arguments))
        for place, (name, arguments) in enumerate(_read(bare, tools))
        if name in tools
    ]
    if not calls:
        return text, ()
    start = min((text.index(sign) for sign in _SIGNS if sign in text), default=0)
    return text[:start].strip(), tuple(calls)


def _may_be_bare(text: str, tools: Mapping[str, Any]) -> bool:
    """Return whether a text without signs may be nothing but calls."""
    if text.startswith(("{", "[")):
        return '"name"' in text or bool(_PYTHON_LIST.fullmatch(text))
    named = _NAME_FIRST.fullmatch(text)
    return text.startswith("call:") or bool(named and named[1] in tools)


def _read(text: str, tools: Mapping[str, Mapping[str, Any]]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    if _PYTHON_LIST.fullmatch(text):
        yield from written_python.calls(text)
        return
    if text.startswith(("{", "[")) and not text.startswith("[TOOL_CALLS]"):
        yield from _of_value(_json(text))
        return
    if named := _NAME_FIRST.fullmatch(text):
        yield from _named(named[1], _json(named[2]))
    for match in _HERMES.finditer(text):
        yield from _of_object(_json(match["call"]))
    for match in _AS_PYTHON.finditer(text):
        yield from written_python.calls(next(part for part in match.groups() if part is not None))
    for match in _HARMONY.finditer(text):
        yield from _named(match[1], _json(match[2]))
    for match in _GEMMA.finditer(text):
        yield from _named(match[1], _json(_as_json(match[2])))
    for match in _APERTUS.finditer(text):
        listed = _json(match[1])
        for one in listed if isinstance(listed, list) else ():
            for name, arguments in one.items() if isinstance(one, dict) else ():
                yield from _named(name, arguments)
    for pattern, parameter in ((_FUNCTION, _PARAMETER), (_INVOKE, _NAMED_PARAMETER), (_GLM, _GLM_PARAMETER)):
        for match in pattern.finditer(text):
            schema = tools.get(_tool_of(match[1]), {})
            parameters = {name: _value(value, schema, name) for name, value in parameter.findall(match[2])}
            yield from _named(match[1], parameters or _json(match[2].strip() or "{}"))
    for match in _MISTRAL.finditer(text):
        yield from _of_value(_json(match[1]))
    for pattern in (_LISTED, _PYTHON):
        for match in pattern.finditer(text):
            yield from _of_value(_json(match[1]))
    for pattern in (_MISTRAL_ONE, _KIMI, _DEEPSEEK):
        for match in pattern.finditer(text):
            yield from _named(match[1], _json(match[2]))


def _of_value(value: Any) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield the calls that a JSON value is: one, a list of them, or a message of Chat Completions that holds them."""
    if isinstance(value, dict) and value.keys() == {"tool_calls"}:
        value = value["tool_calls"]
    for one in value if isinstance(value, list) else [value]:
        yield from _of_object(one)


def _of_object(value: Any) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield the call that an object of a name and arguments is. One with other members is something else."""
    if isinstance(value, dict) and isinstance(value.get("function"), dict) and value.keys() <= _AROUND:
        value = value["function"]
    if isinstance(value, dict) and value.keys() <= {"name", "arguments", "parameters", "id", "type"}:
        arguments = value.get("arguments", value.get("parameters"))
        yield from _named(value.get("name"), _json(arguments) if isinstance(arguments, str) else arguments)


_AROUND = frozenset({"id", "type", "index", "function"})


def _tool_of(name: str) -> str:
    return _BEHIND_NAME.sub("", _BEFORE_NAME.sub("", name))


def _named(name: Any, arguments: Any) -> Iterator[tuple[str, Mapping[str, Any]]]:
    if isinstance(name, str) and isinstance(arguments, dict):
        yield _tool_of(name), arguments


def _as_json(text: str) -> str:
    """Return arguments as Gemma 4 writes them, as JSON: keys and words are bare, texts have quotes of their own."""
    made, end = [], 0
    for piece in _GEMMA_PIECE.finditer(text):
        if piece.start() != end:
            return ""
        end = piece.end()
        if (bare := piece["bare"]) is None:
            made.append(piece[0] if piece["text"] is None else exact_json.dumps(piece["text"]))
        elif word := bare.strip():
            plain = not text.startswith(":", end) and (word == "null" or _json(word) is not None)
            made.append(word if plain else exact_json.dumps(word))
    return "".join(made)


def _json(text: str) -> Any:
    try:
        return exact_json.loads(text, last_wins=True)
    except ValueError:
        return None


_TYPES: tuple[tuple[Any, frozenset[str]], ...] = (
    (bool, frozenset({"boolean"})),
    (int, frozenset({"integer", "number"})),
    (Decimal, frozenset({"integer", "number"})),
    (list, frozenset({"array"})),
    (dict, frozenset({"object"})),
    (type(None), frozenset({"null"})),
)


def _value(text: str, schema: Mapping[str, Any], name: str) -> Any:
    """Return the value of a parameter in tags, where texts have no quotes: what the text is as JSON, unless that is of
    none of the types that the parameter may have and a text is: a postal code of digits stays as it is written."""
    try:
        read = exact_json.loads(text, last_wins=True)
    except ValueError:
        return text
    parts = schema.get("properties")
    part = parts.get(name) if isinstance(parts, Mapping) else None
    types = part.get("type") if isinstance(part, Mapping) else None
    types = [types] if isinstance(types, str) else types
    if not isinstance(types, list) or "string" not in types or isinstance(read, str):
        return read
    fits = next((names for kind, names in _TYPES if isinstance(read, kind)), frozenset())
    return read if fits & set(types) else text
