"""Saying a call in another way after its refusal said which.

Some differences between servers can be seen in their refusals only: what a deployment's name stands for, which version
of a server answers. A refusal costs nothing, so the call is said in the way that the refusal asks for and sent once
more; the process remembers that for the model.
"""

from __future__ import annotations

import re

from loopllama.llm.types import Forms, ModelRequest

_NO_TEMPERATURE = re.compile(
    r"temperature\b.{0,60}(?:(?:un|not |n't )support|deprecated|not (?:allowed|permitted)|only (?:be set to"
    r"|the default)|default \(1\))|(?:(?:un|not )support\w*|unknown|unrecogni[sz]ed)\b.{0,40}\btemperature\b",
    re.IGNORECASE | re.DOTALL,
)
"""OpenAI "Unsupported value: 'temperature' does not support 0.2 with this model. Only the default (1) value is
supported", Anthropic "`temperature` is deprecated for this model", "`temperature` may only be set to 1 when thinking is
enabled". What is said of a temperature that is out of range is the caller's to hear."""
_USE_OTHER = re.compile(r"use ['\"`]?(max_completion_tokens|max_tokens)\b", re.IGNORECASE)
_NO_SUCH_LIMIT = re.compile(
    r"(?:unsupported|unknown|unrecogni[sz]ed|unexpected|extra|not permitted|not allowed|invalid)\b.{0,120}?"
    r"\b(max_completion_tokens|max_tokens)\b|\b(max_completion_tokens|max_tokens)\b.{0,80}(?:extra|not permitted"
    r"|not supported|unsupported|unknown|unrecogni[sz]ed|unexpected)",
    re.IGNORECASE | re.DOTALL,
)
_LIMITS = ("max_tokens", "max_completion_tokens")
_CHOICE = re.compile(r"tool.?choice", re.IGNORECASE)
_ABOUT_FORM = re.compile(
    r"type: ?'?object|string|input should be|expected|supported (?:string )?values|must be|one of|invalid|named",
    re.IGNORECASE,
)
_WORD = re.compile(r"\b(required|any)\b", re.IGNORECASE)
_NEITHER = re.compile(r"'?auto'?,? (?:or|and) '?none'?|'?none'?,? (?:or|and) '?auto'?", re.IGNORECASE)


def learnt(said: str, call: ModelRequest, sent_limit: str) -> Forms | None:
    """Return the forms in which the call can be sent after a refusal that says `said`; `None` where that names no form
    that was not tried. `sent_limit` is the field in which the answer's limit was sent, empty in a wire format that has
    one form of everything but the temperature."""
    forms = call.forms
    if call.temperature is not None and forms.temperature and _NO_TEMPERATURE.search(said):
        return forms._replace(temperature=False)
    if not sent_limit:
        return None
    if call.max_tokens is not None and not forms.limit and (other := _other_limit(said, sent_limit)):
        return forms._replace(limit=other)
    if call.forced_tool and not forms.forced and (word := _forcing_word(said)):
        return forms._replace(forced=word)
    return None


def _other_limit(said: str, sent: str) -> str:
    """Return the field that limits the answer by what a refusal says of the one that was sent: OpenAI "Use
    'max_completion_tokens' instead", Mistral's models at Azure "Extra inputs are not permitted"."""
    if (use := _USE_OTHER.search(said)) and use[1].lower() != sent:
        return use[1].lower()
    found = _NO_SUCH_LIMIT.search(said)
    named = (found[1] or found[2]).lower() if found else ""
    return next(name for name in _LIMITS if name != sent) if named == sent in _LIMITS else ""


def _forcing_word(said: str) -> str:
    """Return the word for "a tool must be called" that a refusal of a tool's name allows. LM Studio "Invalid
    tool_choice type: 'object'. Supported string values: none, auto, required" (github.com/can1357/llm-git, issue 13),
    Mistral's earlier versions "Input should be 'auto', 'none' or 'any'" (github.com/kyaukyuai/gpt-all-star, issue 670).
    Cerebras "Expected 'auto' or 'none'" (github.com/567-labs/instructor, issue 1766) allows none."""
    if not _CHOICE.search(said) or not _ABOUT_FORM.search(said):
        return ""
    if word := _WORD.search(_CHOICE.split(said, maxsplit=1)[1]):
        return word[1].lower()
    if _NEITHER.search(said) or "object" not in said.lower():
        return ""
    return "required"
