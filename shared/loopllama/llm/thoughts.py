"""Thoughts that a model wrote into its answer's text.

Reasoning models behind vLLM, Ollama, llama.cpp, gateways and Bedrock's imported models write `<think>…</think>` before
the answer where the server does not part the two; where the chat template opens the tag itself, the closing one comes
alone. Names by family: `think` (DeepSeek, Qwen, GLM, Nemotron), `seed:think` (ByteDance Seed), `[THINK]` (Magistral),
`◁think▷` (Kimi), `<|START_THINKING|>` (Command A), `<|begin_of_thought|>` (OpenThinker, Sky-T1), `longcat_think`
(github.com/ai-dynamo/dynamo, pull request 5424), `<|channel>thought` (Gemma 4: github.com/lmstudio-ai/
lmstudio-bug-tracker, issue 2013), `<unused94>thought` (MedGemma: github.com/ollama/ollama, issue 15754),
`<|inner_prefix|>` (Apertus: github.com/ml-explore/mlx-lm, pull request 1663), `<|channel|>analysis` (gpt-oss:
`harmony`), and by prompts' own habit `thinking`, `thought` and `reasoning`.
"""

from __future__ import annotations

import json
import re
from functools import lru_cache

from loopllama.core.patterns import late
from loopllama.llm import harmony

_BEFORE = r"[\s\ufeff\u200b]*"
_TAG = (
    r"(?:<(?P<tag>(?:[a-z]+:|longcat_)?(?:think(?:ing)?|thoughts?|reasoning))\s*>"
    r"|\[(?P<bracket>THINK)\]|◁(?P<kimi>think)▷|<\|START_(?P<command>THINKING)\|>|<\|begin_of_(?P<begin>thought)\|>"
    r"|<\|(?P<gemma>channel)>thought\b|<(?P<unused>unused)94>(?:thought\b)?|<\|(?P<inner>inner)_prefix\|>)"
)
_OPENING = late(_BEFORE + _TAG, re.IGNORECASE)
_ANY_OPENING = late(_TAG, re.IGNORECASE)
_CLOSING = {
    "tag": r"</{}\s*>",
    "bracket": r"\[/{}\]",
    "kimi": "◁/{}▷",
    "command": r"<\|END_{}\|>",
    "begin": r"<\|end_of_{}\|>",
    "gemma": r"<{}\|>",
    "unused": "<{}95>",
    "inner": r"<\|{}_suffix\|>",
}
_SAME = {
    "tag": r"<{}\s*>",
    "bracket": r"\[{}\]",
    "kimi": "◁{}▷",
    "command": r"<\|START_{}\|>",
    "begin": r"<\|begin_of_{}\|>",
    "gemma": r"<\|{}>",
    "unused": "<{}94>",
    "inner": r"<\|{}_prefix\|>",
}
_UNOPENED = late(
    r"</(?:[a-z]+:|longcat_)?think(?:ing)?\s*>|\[/THINK\]|◁/think▷|<\|END_THINKING\|>|<\|end_of_thought\|>"
    r"|<channel\|>|<unused95>|<\|inner_suffix\|>",
    re.IGNORECASE,
)
_CODE = r"(?P<code>^[ \t]*```.*?(?:^[ \t]*```|\Z))"
_LATER = late(rf"(?ms){_CODE}|^[ \t]*<think>.*?(?:</think>|\Z)[ \t]*\n?")
_AMID = late(rf"(?ms){_CODE}|^[ ]{{0,3}}<think>(?:(?!</?think>).)*</think>[ \t]*(?:\n|\Z)")
"""Where nothing else says that the model thinks: the block has its lines for itself."""
_SOLUTION = late(r"<\|(?:begin_of_solution|START_RESPONSE)\|>|<\|(?:end_of_solution|END_RESPONSE)\|>\s*\Z")
_AMBIGUOUS = late(r"thinking|thoughts?|reasoning", re.IGNORECASE)
"""Tags that a prompt may also ask for as a part of the answer."""
_AFTER = late(r"\s*(\S)")
_QUOTES = frozenset("`'\"\u201c\u2018«\\")
_GOES_ON = late(r"[.,;:!?)]|[ \t]+[a-z]+[ \t,]")
"""What follows a tag that a sentence is about; no answer begins so."""
_MID_SENTENCE = late(r"[^\s.!?…:][ \t]\Z")


def apart(text: str) -> tuple[str, str]:
    """Return `(answer, thoughts)`. A text without thoughts comes back as it is, to the letter.

    Thoughts stand at the beginning, in one block or several, to the end where they are not closed; or before a closing
    tag that nothing opened; or in blocks that begin a line outside of code. A tag that is quoted or named in a
    sentence, or that stands in a text which is JSON as a whole, is what the answer is about.
    """
    if (channels := harmony.apart(text)) is not None:
        return channels
    if not ("<" in text or "THINK]" in text or "◁" in text) or _is_json(text):
        return text, ""
    start = 0
    while (end := _behind_block(text, start)) > start:
        start = end
    start = _behind_unopened(text, start)
    rest, taken = text[start:], [text[:start]] if start else []
    if start:
        rest = _SOLUTION.sub("", rest)

    def kept(match: re.Match[str]) -> str:
        if match["code"]:
            return match["code"]
        taken.append(match[0])
        return ""

    rest = (_LATER if start else _AMID).sub(kept, rest)
    return (rest.strip(), "\n".join(part.strip() for part in taken)) if taken else (text, "")


def blocks(text: str) -> list[tuple[int, int]]:
    """Return the places of all closed blocks of thoughts in a text, in order, wherever they stand: nothing in them is
    the answer."""
    places: list[tuple[int, int]] = []
    position, without_end = 0, set[str]()
    while opened := _ANY_OPENING.search(text, position):
        position = opened.end()
        kind = str(opened.lastgroup)
        closing = _pattern(_CLOSING[kind], opened[kind])
        if closing.pattern in without_end or text[opened.start() - 1 : opened.start()] in _QUOTES:
            continue
        if closed := closing.search(text, position):
            position = closed.end()
            places.append((opened.start(), position))
        else:
            without_end.add(closing.pattern)
    return places


def is_open(thoughts: str) -> bool:
    """Return whether thoughts that `apart` has found do not end: the model may have begun to act within them."""
    places = blocks(thoughts)
    return not places or places[-1][1] < len(thoughts.rstrip())


def _is_json(text: str) -> bool:
    if text.lstrip()[:1] not in ("{", "[", '"'):
        return False
    try:
        json.loads(text, parse_int=str, parse_float=str)
    except (ValueError, RecursionError):
        return False
    return True


def _behind_block(text: str, start: int) -> int:
    """Return the place behind a block of thoughts that begins at `start`; `start` where there is none."""
    opened = _OPENING.match(text, start)
    if opened is None:
        return start
    kind = str(opened.lastgroup)
    closing, same = _pattern(_CLOSING[kind], opened[kind]), _pattern(_SAME[kind], opened[kind])
    position, depth = opened.end(), 1
    while depth:
        closed = closing.search(text, position)
        if closed is None and position > opened.end():
            break  # the tag was only mentioned in the thoughts
        if closed is None:
            return start if _AMBIGUOUS.fullmatch(opened["tag"] or "") else len(text)
        # A model that thinks about thinking may open the same tag again.
        depth += len(same.findall(text, position, closed.start())) - 1
        position = closed.end()
    if _AMBIGUOUS.fullmatch(opened["tag"] or "") and not _OPENING.match(text, position):
        follows = _AFTER.match(text, position)
        if follows is None or follows[1] == "<":
            return start  # all that there is, or one part among others: the prompt wanted it so
    return position


def _behind_unopened(text: str, start: int) -> int:
    """Return the place behind the last closing tag from `start` on that nothing opened and nothing quotes; else
    `start`."""
    last = start
    opened = _ANY_OPENING.search(text, start)
    for closed in _UNOPENED.finditer(text, start, opened.start() if opened else len(text)):
        if text[closed.start() - 1 : closed.start()] not in _QUOTES and not _is_named(text, closed):
            last = closed.end()
    return last


def _is_named(text: str, tag: re.Match[str]) -> bool:
    """Return whether a sentence is about the tag, as in "it looks for </think> and drops what is before it"."""
    follows = _GOES_ON.match(text, tag.end())
    if follows is None:
        return False
    before = text[max(0, tag.start() - 2) : tag.start()]
    return follows[0] in ".,;:!?)" or bool(_MID_SENTENCE.search(before))


@lru_cache(maxsize=64)
def _pattern(form: str, name: str) -> re.Pattern[str]:
    return re.compile(form.format(re.escape(name)), re.IGNORECASE)
