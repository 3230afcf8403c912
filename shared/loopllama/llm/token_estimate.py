"""An estimate of tokens, for what no provider has counted.

The rule: a word of Latin letters or digits is one token for each eight characters begun, of another script one for
each two, and each other sign that is not a space is one. For English that is near OpenAI's own rule of thumb, 100
tokens to 75 words with their punctuation (https://help.openai.com/en/articles/4936856); other tokenizers and texts
differ by tens of percent, which is why figures made this way are marked.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any

from loopllama.core.patterns import late
from loopllama.llm.types import ModelRequest, Usage

UNKNOWN_MAX_OUTPUT = 8192
"""Tokens that the answer of a model is taken to have at most where nobody knows its limit and nobody sets one: every
current one can give them. Who must be told a limit is told this one, servers of one's own are held to it (llama.cpp's
and Ollama's write until they are stopped, `n_predict` and `num_predict` being -1: github.com/ggml-org/llama.cpp,
tools/server/README.md; https://docs.ollama.com/modelfile), and budgets reserve it."""
BYTES_PER_TOKEN = 3
"""OpenAI's rule of thumb says four (https://help.openai.com/en/articles/4936856); three, so that code and other
languages fit."""
_THINKING = (
    ("thinking", "budget_tokens"),
    ("additionalModelRequestFields", "thinking", "budget_tokens"),
    ("additionalModelRequestFields", "reasoning_config", "budget_tokens"),
    ("extra_body", "google", "thinking_config", "thinking_budget"),
)
_LEAST = late(r"[A-Za-z0-9]{1,16}|[^\W_A-Za-z0-9]{1,4}|[^\w\s]+")
TOKEN = late(r"[A-Za-z0-9]{1,8}|[^\W_A-Za-z0-9]{1,2}|[^\w\s]|_")


def count_tokens(text: str) -> int:
    """Return the tokens of a text, by the rule above."""
    return sum(1 for _ in TOKEN.finditer(text))


def most_tokens(text: str) -> int:
    """Return a rough count on the high side, for checks before a call: quicker than `count_tokens`."""
    return len(text.encode("utf-8", "surrogatepass")) // BYTES_PER_TOKEN


def least_tokens(text: str) -> int:
    """Return a count on the low side: no tokenizer makes fewer tokens of a text but for one of few words."""
    return sum(1 for _ in _LEAST.finditer(text))


def prompt_tokens(call: ModelRequest, count: Callable[[str], int] = count_tokens) -> int:
    """Return the tokens of everything that a call hands to the model: system prompt, messages, tools, schema."""
    texts = [call.system]
    for message in call.messages:
        texts.append(message.text)
        for asked in message.tool_calls:
            texts += [asked.name, _json(asked.arguments) if asked.arguments else asked.raw]
        if message.thoughts is not None:
            texts.append(_json(message.thoughts.value))
    for tool in call.tools:
        texts += [tool.name, tool.description, _json(tool.parameters)]
    if call.output_schema is not None:
        texts.append(_json(call.output_schema))
    return sum(map(count, texts))


def estimated_usage(call: ModelRequest, answer: str) -> Usage:
    """Usage of an answered call whose provider gave none."""
    return Usage(prompt_tokens(call), count_tokens(answer), estimated=True)


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, default=str)


def thinking_budget(options: Mapping[str, Any]) -> int:
    """Return the tokens that a model's options let it think, 0 where they say nothing. They count towards the longest
    answer, which must have room for more.

    Claude's `thinking.budget_tokens` (https://platform.claude.com/docs/en/build-with-claude/extended-thinking), on
    Bedrock below `additionalModelRequestFields`; Gemini's `thinking_config.thinking_budget` below `extra_body.google`
    (https://ai.google.dev/gemini-api/docs/openai#thinking).
    """
    for path in _THINKING:
        value: Any = options
        for name in path:
            value = value.get(name) if isinstance(value, Mapping) else None
        if isinstance(value, int | Decimal) and value > 0:
            return int(value)
    return 0
