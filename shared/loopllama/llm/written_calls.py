"""Tool calls that a model wrote into its answer's text.

A server that has no parser for its model's calls, or whose parser gives up, hands them on as text: vLLM without
`--tool-call-parser`, Ollama and llama.cpp with a template of somebody else's, gateways. Taken for the answer, such a
text would end the turn. Forms by family:

- JSON behind a sign (`written_values`): `<tool_call>` (Hermes, Qwen), `<tools>` (Qwen 2.5 Coder), `<tool_calls>`
  (Jamba, Hunyuan), `<TOOLCALL>` (Nemotron), `<longcat_tool_call>` (LongCat), `<functioncall>`, `[TOOL_REQUEST]` (LM
  Studio), `[TOOL_CALLS]` (Mistral), `<|tool_call|>` (Granite, Phi 4), `functools` (Phi 4 mini), `<|python_tag|>` (Llama
  3), `<|action_start|>` (InternLM), `<|START_ACTION|>` and `Action:` (Command), `<|tools_prefix|>` (Apertus:
  github.com/ml-explore/mlx-lm, pull request 1663); or without any, alone, in a code fence, or behind what is said first
  (github.com/NousResearch/hermes-agent, pull request 87900; github.com/jundot/omlx, issue 2565);
- the name and then the object: `[TOOL_CALLS]search{…}` (Mistral's later models), `<|tool_call_begin|>` (Kimi), its like
  in full-width signs (DeepSeek), `to=functions.search` in a channel (gpt-oss), `<function=search>{…}` (Llama 3, Groq),
  `✿FUNCTION✿` (Qwen), `Action:` and `Action Input:` (prompts' own habit), the name alone;
- parameters in tags (`written_tags`) and Python (`written_python`);
- `call:search{…}` with bare words and quotes of its own: Gemma 4, also without its sign (github.com/vllm-project/vllm,
  issue 54256), and Gemini in a tag (github.com/bayesimpact/bayes-platform, pull request 620).

Only what names a tool of the request, and has an object of arguments, is a call; a text in which none does is an
answer. What names none behind a sign that nothing is said before is a call by an invented name, and the model is told.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from loopllama.core import exact_json
from loopllama.core.patterns import late
from loopllama.llm import written_python, written_tags, written_values
from loopllama.llm.history import MOST_CALLS, bare_name
from loopllama.llm.types import ToolCall

_BAR = "\uff5c"


def _sign(*words: str) -> str:
    """Return one of DeepSeek's signs: words between full-width bars."""
    return f"<{_BAR}{{}}{_BAR}>".format("\u2581".join(words))


_DEEPSEEK_BEGINS, _DEEPSEEK_SEP = _sign("tool", "call", "begin"), _sign("tool", "sep")
_ENDS_TURN = late(
    r"(?:<\|(?:im_end|eot_id|eom_id|end|endoftext|return|end_of_text)\|>|</s>|<end_of_turn>|"
    rf"{_sign('end', 'of', 'sentence')})\s*\Z"
)
"""Signs of a turn's end that a server has left in the text."""
_NAME = r"([\w.:-]{1,80})"
_JSON_SIGNS = (
    *("<tool_call>", "<tool_calls>", "<|tool_call|>", "<longcat_tool_call>", "<tools>", "<TOOLCALL>"),
    *("<function_call>", "<functioncall>", "[TOOL_CALLS]", "[TOOL_REQUEST]", "<|python_tag|>", "functools["),
    *("<|START_ACTION|>", "<|action_start|><|plugin|>", "<|tools_prefix|>"),
)
_BEFORE_VALUE = late(
    "(?:" + "|".join(re.escape(sign.removesuffix("[")) for sign in _JSON_SIGNS) + r"|(?m:^)Action:\s*(?=```))"
    r"\s*(?:```[a-z]{0,10}\s*)?(?=[\[{])"
)
_BEFORE_OBJECT = tuple(
    late(form + r"\s*(?=\{)", re.MULTILINE)
    for form in (
        rf"\[TOOL_CALLS\]\s*{_NAME}(?:\[CALL_ID\][\w-]{{1,80}})?(?:\[ARGS\])?",
        rf"<tool_call>\s*{_NAME}\s*```(?:json)?",
        rf"<\|tool_call_begin\|>\s*{_NAME}\s*<\|tool_call_argument_begin\|>",
        rf"{_DEEPSEEK_BEGINS}(?:function{_DEEPSEEK_SEP})?\s*{_NAME}(?:{_DEEPSEEK_SEP}|\s*```json)",
        rf"\bto={_NAME}(?:\s|<\||\|>|\w){{0,80}}?",
        rf"^✿FUNCTION✿:\s*{_NAME}\s*✿ARGS✿:",
        rf"^Action:\s*{_NAME}\s*^Action Input:",
    )
)
_NAME_FIRST = late(rf"\A{_NAME}\s*(?=\{{)")
_PREFIXES = ("steptml", "antml")
_OTHER_SIGNS = (
    *(f"<{prefix}:{tag}" for prefix in _PREFIXES for tag in ("function_calls>", "invoke name=")),
    *("<minimax:tool_call>", "<function_calls>", "<invoke name=", "<function=", "<function name="),
    *("<|tool_call_begin|>", "<|tool_calls_section_begin|>", _DEEPSEEK_BEGINS, _sign("tool", "calls", "begin")),
    *(f"<{_BAR}DSML{_BAR}", "<|tool_call>", "<|tool_call_start|>", "<|python_start|>", "```tool_code", "<call:"),
    *("<|start|>assistant", "<|channel|>", "assistantcommentary to=", "commentary to=", "✿FUNCTION✿", "Action:"),
)
_SIGNS = (*_JSON_SIGNS, *_OTHER_SIGNS)
_BEGUN = late(r"\s*(?:<\|?/?tool_calls?\|?>\s*|\[TOOL_CALLS\]\s*|<TOOLCALL>\s*)+(?:[\[{]|<function=|\w+[\[{<])")
_GEMMA = late(
    rf"(?:<\|tool_call>\s*|<|\A)call:{_NAME}\s*(\{{.*?\}})\s*(?:<tool_call\|>|/?>|\Z|(?=<\|tool_call>))", re.DOTALL
)
_GEMMA_PIECE = late(
    r'<\|"\|>(?P<text>.*?)<\|"\|>|(?P<json>"(?:\\.|[^"\\])*")|(?P<sign>[{}\[\],:])|(?P<bare>[^{}\[\],:"<]+)', re.DOTALL
)
_AS_PYTHON = late(
    r"<\|tool_call_start\|>(.*?)(?:<\|tool_call_end\|>|\Z)|<\|python_start\|>(.*?)(?:<\|python_end\|>|\Z)"
    r"|<function_calls>(.*?)(?:</function_calls>|\Z)|```tool_code\s*(.*?)(?:```|\Z)|<\|python_tag\|>(.*)\Z",
    re.DOTALL,
)
_PYTHON = late(r"\[\s*[\w.]{1,80}\(.*\)\s*\]|[\w.]{1,80}\(.*\)", re.DOTALL)
_LINE = late(r"^[ \t]*(?=[{\[])", re.MULTILINE)
_MOST_LINES = 100
_LONGEST = 100_000
"""Characters; a longer text is no call, and takes long to look through."""

Tools = Mapping[str, Mapping[str, Any]]
Placed = tuple[int, str, Mapping[str, Any]]
"""A call: where it begins, its name, its arguments."""


def found(text: str, tools: Tools) -> tuple[str, tuple[ToolCall, ...]]:
    """Return what is said before the calls that a text holds, and the calls; the text itself where it holds none.
    `tools` are the schemas of the parameters, by the tools' names."""
    if not tools or len(text) > _LONGEST or sum(map(text.count, _SIGNS)) > MOST_CALLS:
        return text, ()
    signs = [place for sign in _SIGNS if (place := text.find(sign)) >= 0]
    bare = _ENDS_TURN.sub("", text).strip()
    calls = [_meant(call, tools) for call in _behind_signs(bare, tools)] if signs else []
    known = [call for call in calls if call[1] in tools]
    if calls and not known and not text[: min(signs)].strip():
        known = calls
    if not known:
        before, known = _without_signs(bare, tools)
        return (before, _made(known)) if known else (text, ())
    return text[: min(signs)].strip(), _made(sorted(known, key=lambda call: call[0]))


def is_broken(text: str) -> bool:
    """Return whether a text in which no call was found begins like one."""
    return bool(_BEGUN.match(text))


def _made(calls: Sequence[Placed]) -> tuple[ToolCall, ...]:
    return tuple(
        ToolCall(f"call_{number}", name, arguments, exact_json.dumps(arguments))
        for number, (_, name, arguments) in enumerate(calls[:MOST_CALLS])
    )


def _meant(call: Placed, tools: Tools) -> Placed:
    return call if call[1] in tools else (call[0], bare_name(call[1]), call[2])


def _behind_signs(text: str, tools: Tools) -> Iterator[Placed]:
    for match in _BEFORE_VALUE.finditer(text):
        for value, _ in written_values.values(text, match.end()):
            for name, arguments in (
                *written_values.calls(value, tools),
                *(written_values.by_name(value) if match[0].startswith("<|tools_prefix|>") else ()),
            ):
                yield match.start(), name, arguments
    for form in _BEFORE_OBJECT:
        for match in form.finditer(text):
            for value, _ in itertools.islice(written_values.values(text, match.end()), 1):
                if isinstance(value, dict):
                    yield match.start(), match[1], value
    yield from written_tags.calls(text, _by_any_name(text, tools))
    yield from _gemma(text)
    for match in _AS_PYTHON.finditer(text):
        inside = next(part for part in match.groups() if part is not None)
        for name, arguments in _python(inside, tools):
            yield match.start(), name, arguments


def _without_signs(text: str, tools: Tools) -> tuple[str, list[Placed]]:
    """Return the calls that stand without a sign, and what is said before them. Nothing may stand behind them or
    between them, and each must name a tool."""
    if not any(name in text for name in tools):
        return text, []
    for before, inside in _last_parts(text):
        calls = _listed(inside, tools)
        if not calls:
            calls = [*_python_alone(inside, tools), *_gemma(inside), *_named(inside)]
        calls = [_meant(call, tools) for call in calls]
        if calls and all(name in tools for _, name, _ in calls):
            return before, calls
    return text, []


def _listed(text: str, tools: Tools) -> list[Placed]:
    """Return the calls that a text is one behind the other; none where something else stands among them."""
    calls: list[Placed] = []
    end = 0
    for value, behind in written_values.values(text, 0):
        one = [(0, *call) for call in written_values.calls(value, tools)]
        if not one:
            return []
        calls, end = [*calls, *one], behind
    return calls if end == len(text) else []


def _last_parts(text: str) -> Iterator[tuple[str, str]]:
    """Yield what the calls without a sign may be, each with what stands before it: the whole text, its last code fence,
    or what begins with one of its lines."""
    yield "", text
    if text.endswith("```"):
        start = text.rfind("```", 0, -3)
        label = text[start + 3 : -3].partition("\n") if start >= 0 else ("", "", "")
        if start >= 0 and text[:start].rpartition("\n")[2].strip() == "" and len(label[0]) < 20:
            inside = label[2] if label[1] else text[start + 3 : -3].removeprefix("json")
            yield text[:start].strip(), inside.strip()
    for number, line in enumerate(_LINE.finditer(text)):
        if number == _MOST_LINES:
            return
        if line.start():
            yield text[: line.start()].strip(), text[line.end() :]


def _python(text: str, tools: Tools) -> Iterator[tuple[str, Mapping[str, Any]]]:
    def order_of(name: str) -> Sequence[str]:
        return list(tools.get(name, tools.get(bare_name(name), {})).get("properties") or ())

    yield from written_python.calls(text, order_of)


def _python_alone(text: str, tools: Tools) -> list[Placed]:
    return [(0, *call) for call in _python(text, tools)] if _PYTHON.fullmatch(text) else []


def _named(text: str) -> list[Placed]:
    match = _NAME_FIRST.match(text)
    value, end = next(written_values.values(text, match.end()), (None, 0)) if match else (None, 0)
    return [(0, match[1], value)] if match and isinstance(value, dict) and end == len(text) else []


def _by_any_name(text: str, tools: Tools) -> Tools:
    """Return the schemas by the tools' names as the text may write them."""
    written = {name for name in re.findall(r"[\w.:-]{1,80}", text) if bare_name(name) in tools}
    return {**{name: tools[bare_name(name)] for name in written}, **tools}


def _gemma(text: str) -> Iterator[Placed]:
    for match in _GEMMA.finditer(text):
        if isinstance(arguments := written_values.value(_as_json(match[2])), dict):
            yield match.start(), match[1], arguments


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
            plain = not text.startswith(":", end) and (word == "null" or written_values.value(word) is not None)
            made.append(word if plain else exact_json.dumps(word))
    return "".join(made)
