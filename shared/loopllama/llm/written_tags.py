"""Tool calls whose parameters a model wrote in tags, each in its own.

`<function=search><parameter=q>…` (Qwen3 Coder, Seed), `<invoke name="search"><parameter name="q">…` (Claude, MiniMax,
DeepSeek 3.2, Step 3, each with a prefix of its own), `<tool_call>search<arg_key>q</arg_key><arg_value>…` (GLM:
github.com/ml-explore/mlx-lm, pull request 792). Qwen3 Coder leaves out ends of parameters
(github.com/vllm-project/vllm, vllm/entrypoints/openai/tool_parsers/qwen3coder_tool_parser.py).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Any

from loopllama.core import exact_json
from loopllama.core.patterns import late
from loopllama.llm.written_values import value

_NAME = r"[\w.:-]{1,80}"
_PREFIX = "(?:\\w{1,20}:|\uff5cDSML\uff5c)?"
_FUNCTION = late(
    rf"<function(?:=|\s+name=)[\"']?({_NAME})[\"']?\s*>(.*?)(?:(?P<closed></function>)|\Z|(?=<function(?:=|\s)))",
    re.DOTALL,
)
_INVOKE = late(
    rf"<{_PREFIX}invoke name=[\"']({_NAME})[\"']\s*>(.*?)(?:(?P<closed></{_PREFIX}invoke>)|\Z|(?=<{_PREFIX}invoke\s))",
    re.DOTALL,
)
_PARAMETER = late(
    rf"<{_PREFIX}parameter(?:=|\s+name=)[\"']?({_NAME})[\"']?[^>\n]{{0,80}}>\n?(.*?)\n?"
    rf"(?:</{_PREFIX}parameter>|\Z|(?=<{_PREFIX}parameter[=\s]))",
    re.DOTALL,
)
_GLM = late(rf"<tool_call>\s*({_NAME})\s*((?:<arg_key>.*?)?)\s*(?:(?P<closed></tool_call>)|\Z)", re.DOTALL)
_GLM_PARAMETER = late(r"<arg_key>\s*([^<]{1,80}?)\s*</arg_key>\s*<arg_value>\n?(.*?)\n?</arg_value>", re.DOTALL)
_FORMS = ((_FUNCTION, _PARAMETER), (_INVOKE, _PARAMETER), (_GLM, _GLM_PARAMETER))


def calls(text: str, schema_of: Mapping[str, Mapping[str, Any]]) -> Iterator[tuple[int, str, Mapping[str, Any]]]:
    """Yield the place, name and arguments of each call. `schema_of` has the schemas of the tools' parameters, by any
    name that a model may write."""
    for form, parameter in _FORMS:
        for match in form.finditer(text):
            schema = schema_of.get(match[1], {})
            body = match[2].strip()
            if not body and not match["closed"]:
                continue  # it may be named only
            given = {name: _typed(said, schema, name) for name, said in parameter.findall(match[2])}
            arguments = given or ({} if not body else value(body))
            if isinstance(arguments, dict):
                yield match.start(), match[1], arguments


_TYPES: tuple[tuple[Any, frozenset[str]], ...] = (
    (bool, frozenset({"boolean"})),
    (int, frozenset({"integer", "number"})),
    (Decimal, frozenset({"integer", "number"})),
    (list, frozenset({"array"})),
    (dict, frozenset({"object"})),
    (type(None), frozenset({"null"})),
)


def _typed(text: str, schema: Mapping[str, Any], name: str) -> Any:
    """Return the value of a parameter, whose texts have no quotes: what the text is as JSON, unless that is of none of
    the types that the parameter may have and a text is: a postal code of digits stays as it is written."""
    try:
        read = exact_json.loads(text, by_model=True)
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
