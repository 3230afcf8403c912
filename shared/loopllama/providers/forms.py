"""Saying a call in another way after its refusal said which.

Some differences between servers can be seen in their refusals only: what a deployment's name stands for, which version
of a server answers. A refusal costs nothing, so the call is said in the way that the refusal asks for and sent once
more; the process remembers a form for the model. Thoughts that are refused are left out of that one call, and so is a
limit that nobody has asked for.
"""

from __future__ import annotations

import re
from dataclasses import replace

from loopllama.catalog.model import EFFORTS
from loopllama.core.patterns import late
from loopllama.errors import ContextTooLong, ModelError
from loopllama.llm import history
from loopllama.llm.types import Forms, ModelRequest
from loopllama.providers import error_words, wire
from loopllama.providers.error_mapping import without_addresses

_NO_TEMPERATURE = late(
    r"temperature\b.{0,60}(?:(?:un|not |n't )support|deprecated|not (?:allowed|permitted)|only (?:be set to"
    r"|the default|1(?:\.0)? is)|default \(1\))"
    r"|(?:(?:un|not )support\w*|unknown|unrecogni[sz]ed|incompatible)\b.{0,60}\btemperature\b",
    re.IGNORECASE | re.DOTALL,
)
"""OpenAI "Unsupported value: 'temperature' does not support 0.2 with this model. Only the default (1) value is
supported", Anthropic "`temperature` is deprecated for this model", "`temperature` may only be set to 1 when thinking is
enabled", gpt-4o-search-preview "Model incompatible request argument supplied: temperature", Kimi "invalid temperature:
only 1 is allowed for this model"."""
_MOST_TEMPERATURE = late(
    r"temperature\b.{0,160}?(?:less than or equal to|at most|<=|\.\.|between 0(?:\.0)? and|[\[(] ?0(?:\.0)?, ?) ?"
    r"(\d(?:\.\d{1,3})?)(?P<below>\))?",
    re.IGNORECASE | re.DOTALL,
)
"""The highest temperature, as refusals of a higher one name it: Anthropic "temperature: range: 0..1", Bedrock "Value
'1.5' at 'inferenceConfig.temperature' failed to satisfy constraint: Member must have value less than or equal to 1",
Mistral the same in its own words (github.com/vegu-ai/talemate, issue 102), DeepSeek "the valid range of temperature is
[0, 2.0]", MiniMax "temperature should be in (0, 1]", Qwen "must be float in [0.0, 2.0)"."""
_NO_SYSTEM = late(
    r"system[' _-]?(?:role|message|prompt|instruction)s?\b.{0,40}(?:not|n't|un)[ -]?(?:support|enabled|allowed)"
    r"|n['o]t support (?:the use of )?['\"`]?system\b|developer instruction is not enabled|roles must alternate"
    r"|only user and assistant roles|\bgot ['\"`]?system\b|role: ?['\"`]?system\b",
    re.IGNORECASE,
)
"""vLLM and SGLang with Gemma's template "System role not supported" (github.com/sgl-project/sglang, issue 892), with
Mistral's first "Conversation roles must alternate user/assistant/…", Gemma at Google "Developer instruction is not
enabled" (github.com/QuantumNous/new-api, issue 989), OpenAI's o1-mini "'messages[0].role' does not support 'system'",
Gemma's template elsewhere "Only user and assistant roles are supported!", Bedrock "This model doesn't support system
messages", MiniMax "invalid message role: system"."""
_USE_OTHER = late(r"use ['\"`]?(max_completion_tokens|max_tokens)\b", re.IGNORECASE)
_NO_SUCH_LIMIT = late(
    r"(?:unsupported|unknown|unrecogni[sz]ed|unexpected|extra|not permitted|not allowed|invalid)\b.{0,120}?"
    r"\b(max_completion_tokens|max_tokens)\b|\b(max_completion_tokens|max_tokens)\b.{0,80}(?:extra|not permitted"
    r"|not supported|unsupported|unknown|unrecogni[sz]ed|unexpected)",
    re.IGNORECASE | re.DOTALL,
)
_LIMITS = ("max_tokens", "max_completion_tokens")
_CHOICE = late(r"tool.?choice", re.IGNORECASE)
_ABOUT_FORM = late(
    r"type: ?'?object|string|input should be|expected|supported (?:string )?values|must be|one of|invalid|named",
    re.IGNORECASE,
)
_WORD = late(r"\b(required|any)\b", re.IGNORECASE)
_NEITHER = late(r"'?auto'?,? (?:or|and) '?none'?|'?none'?,? (?:or|and) '?auto'?", re.IGNORECASE)
_FIELD = r"(?:reasoning|thinking|thought|signature|encrypted[ _]content)"
_REFUSED = (
    r"(?:un(?:supported|known|recogni[sz]ed|expected)|not (?:supported|permitted|allowed)|cannot contain|invalid"
    r"|forbidden|extra|could not be (?:verified|decrypted|parsed)|without its required following)"
)
_ABOUT_THOUGHTS = late(f"{_FIELD}.{{0,200}}{_REFUSED}|{_REFUSED}.{{0,200}}{_FIELD}", re.IGNORECASE | re.DOTALL)
"""What refusals of thoughts say: Cerebras "property 'messages.2.assistant.reasoning_content' is unsupported", Mistral
"Extra inputs are not permitted" with the field, Anthropic "Invalid `signature` in `thinking` block", OpenAI "The
encrypted content … could not be verified" of what another organization's key was given."""
_MOST_OUTPUT = late(
    r"max_tokens: \d{1,12} > (\d{1,12}), which is the maximum allowed"
    r"|\bmax_(?:completion_)?tokens\b[^.]{0,60}?(?:(?:is|should be|in) [\[(]\d+, ?|between \d+ and )(\d{1,12})"
    r"|\bmax_(?:completion_)?tokens\b.{0,60}?(?:at most|<=|maximum allowed (?:\w+ ){0,2}of) (\d{1,12})\b"
    r"|maximum output(?: length| limit)? is (\d{1,12}) tokens"
    r"|supports? at most (\d{1,12}) (?:completion|output) tokens|exceeds the model limit of (\d{1,12})\b"
    r"|max_(?:completion_)?tokens\W{0,3} must be less than or equal to \W?(\d{1,12})\b"
    r"|maxoutputtokens value of \d{1,12} but the supported range is from \d+ \(inclusive\) to "
    r"(?P<below>\d{1,12}) \(exclusive",
    re.IGNORECASE,
)
"""The longest answer that a model may be asked for, as refusals of a longer one name it: Anthropic, DeepSeek and Qwen,
OpenAI, Bedrock, Groq, Gemini, and gateways in words of their own."""
_ABOUT_LIMIT = late(r"max_(?:\w+_)?tokens", re.IGNORECASE)
_ABOUT_TIER = late(
    r"(service|inference)[ _-]?tier|\b(?:flex|priority)\b.{0,40}(?:not (?:available|supported|enabled)|unavailable)",
    re.IGNORECASE,
)
"""What refusals of a service tier say: a model or a region may not have it, and answer at the standard one."""


def is_about_tier(error: ModelError) -> bool:
    """Return whether a refusal is about the service tier that was asked for."""
    return bool(_ABOUT_TIER.search(without_addresses(error)))


def otherwise(call: ModelRequest, error: ModelError, sent_limit: str, *, streams: bool = False) -> ModelRequest | None:
    """Return the call as it can be said after a refusal, `None` where no other way is left. `sent_limit` is the field
    in which the answer's limit was sent, empty in a wire format that has one form of it and of forced tools. `streams`:
    answers in pieces are understood."""
    too_long, said = isinstance(error, ContextTooLong), without_addresses(error)
    if not too_long and (forms := _learnt(said, call, sent_limit, streams)) is not None:
        return applied(replace(call, forms=forms))
    if call.limit_unasked and (too_long or _ABOUT_LIMIT.search(said)):
        return replace(call, max_tokens=None, limit_unasked=False)
    bare = history.without_thoughts(call)
    return None if bare is call or too_long or not _ABOUT_THOUGHTS.search(said) else bare


def applied(call: ModelRequest) -> ModelRequest:
    """Return the call as its `forms` say it."""
    forms, limit = call.forms, call.max_tokens
    if limit is not None and forms.most_output:
        limit = min(limit, forms.most_output)
    temperature = call.temperature if forms.temperature else None
    if temperature is not None and forms.most_temperature is not None:
        temperature = min(temperature, forms.most_temperature)
    call = replace(call, temperature=temperature, max_tokens=limit)
    if forms.effort is not None and effort_of(call):
        call = _with_effort(call, forms.effort)
    return call if forms.system else history.without_system(call)


def _learnt(said: str, call: ModelRequest, sent_limit: str, streams: bool) -> Forms | None:
    """Return the forms in which the call can be sent after a refusal that says `said`; `None` where that names no form
    that was not tried."""
    forms = call.forms
    if call.temperature is not None and forms.temperature and _NO_TEMPERATURE.search(said):
        return forms._replace(temperature=False)
    if call.temperature is not None and (hottest := _most_temperature(said)) is not None and hottest < call.temperature:
        return forms._replace(most_temperature=hottest)
    if call.system.strip() and forms.system and _NO_SYSTEM.search(said):
        return forms._replace(system=False)
    sent = call.max_tokens or (0 if sent_limit else wire.answer_limit(call))
    if not forms.most_output and 0 < (most := _most_output(said)) < sent:
        return forms._replace(most_output=most)
    if (effort := effort_of(call)) and error_words.EFFORT.search(said):
        return forms._replace(effort=_other_effort(said, effort) if forms.effort is None else "")
    if error_words.STREAM_ONLY.search(said):
        if streams:
            return None if forms.stream else forms._replace(stream=True)
        if not forms.most_output and sent > wire.LONGEST_UNASKED:
            return forms._replace(most_output=wire.LONGEST_UNASKED)
    if not sent_limit:
        return None
    if call.max_tokens is not None and not forms.limit and (other := _other_limit(said, sent_limit)):
        return forms._replace(limit=other)
    if call.forced_tool and not forms.forced and (word := _forcing_word(said)):
        return forms._replace(forced=word)
    return None


def _most_temperature(said: str) -> float | None:
    """Return the highest temperature that a refusal allows; `None` where it names none."""
    if (found := _MOST_TEMPERATURE.search(said)) is None:
        return None
    return float(found[1]) - (0.01 if found["below"] else 0)


def _most_output(said: str) -> int:
    """Return the longest answer that a refusal allows, in tokens; 0 where it names none."""
    if (found := _MOST_OUTPUT.search(said)) is None:
        return 0
    return int(found[found.lastindex or 0]) - (found["below"] is not None)


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


_EFFORTS_IN_OPTIONS = (("reasoning", "effort"), ("output_config", "effort"))
_WHICH = late(
    r"(?:(?:supported|valid|allowed|available|accepted|possible)\W{1,3}(?:\w+\W{1,3}){0,2}(?:values|types|levels|efforts)"
    r"|one of|should be|must be|expected|(?:are|is):|\bset reasoning_effort to)(.*)",
    re.IGNORECASE | re.DOTALL,
)
_EFFORT_WORDS = late(rf"\b(?:{'|'.join(EFFORTS)})\b")


def effort_of(call: ModelRequest) -> str:
    """Return the reasoning effort that a call asks for, by itself or by its options; empty where it asks for none."""
    said = call.effort or call.options.get("reasoning_effort")
    for group, name in _EFFORTS_IN_OPTIONS:
        said = said or wire.member(call.options, group).get(name)
    return said if isinstance(said, str) else ""


def _with_effort(call: ModelRequest, effort: str) -> ModelRequest:
    """Return the call at another effort, or with none where that is empty."""
    options = dict(call.options)
    places = [(options, "reasoning_effort")]
    for group, name in _EFFORTS_IN_OPTIONS:
        if name in wire.member(options, group):
            options[group] = dict(options[group])
            places.append((options[group], name))
    for holder, name in places:
        if name in holder and effort:
            holder[name] = effort
        else:
            holder.pop(name, None)
    options = {name: value for name, value in options.items() if value != {} or call.options[name] == {}}
    return replace(call, effort=effort if call.effort else "", options=options)


def _other_effort(said: str, asked: str) -> str:
    """Return the effort nearest to the one that was asked for, the lower of two, among those that its refusal names;
    empty where it names none. Not to reason at all is near to nothing else."""
    which = _WHICH.search(said)
    named = {word for word in _EFFORT_WORDS.findall(which[1]) if word != asked} if which else set()
    if named != {"none"} or (which and "default" in which[1].lower()):
        named.discard("none")
    if asked not in EFFORTS or not named:
        return ""
    place = EFFORTS.index(asked)
    nearest: str = min(named, key=lambda word: (abs(EFFORTS.index(word) - place), EFFORTS.index(word)))
    return nearest
