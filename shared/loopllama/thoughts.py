"""Thoughts that a model wrote into its answer's text.

Reasoning models behind vLLM, Ollama, llama.cpp, gateways and Bedrock's imported models write `<think>…</think>` before
the answer where the server does not part the two; where the chat template opens the tag itself, the closing one comes
alone. Names by family: `think` (DeepSeek, Qwen, GLM, Nemotron), `seed:think` (ByteDance Seed), `[THINK]` (Magistral),
`◁think▷` (Kimi), `<|START_THINKING|>` (Command A), `<|channel|>analysis` (gpt-oss), and by prompts' own habit
`thinking`, `thought` and `reasoning`.
"""

from __future__ import annotations

import json
import re
from functools import lru_cache

_OPENING = re.compile(
    r"\s*(?:<(?P<tag>(?:[a-z]+:)?(?:think(?:ing)?|thoughts?|reasoning))>"
    r"|\[(?P<bracket>THINK)\]|◁(?P<kimi>think)▷|<\|START_(?P<command>THINKING)\|>)",
    re.IGNORECASE,
)
_CLOSING = {"tag": "</{}>", "bracket": "[/{}]", "kimi": "◁/{}▷", "command": "<|END_{}|>"}
_UNOPENED = re.compile(r"</(?:[a-z]+:)?think(?:ing)?>|\[/THINK\]|◁/think▷|<\|END_THINKING\|>", re.IGNORECASE)
_LATER = re.compile(r"(?ms)^[ \t]*<think>.*?(?:</think>|\Z)[ \t]*\n?")
_FINAL = re.compile(
    r"(?s)\s*(?:<\|start\|>assistant)?<\|channel\|>(?:analysis|commentary)\b.*<\|channel\|>final<\|message\|>"
)
_CHANNEL_ENDS = ("<|return|>", "<|end|>")
_AMBIGUOUS = re.compile(r"thinking|thoughts?|reasoning", re.IGNORECASE)
"""Tags that a prompt may also ask for as a part of the answer."""
_AFTER = re.compile(r"\s*(\S)")
_QUOTES = frozenset("`'\"\u201c\u2018«\\")


def apart(text: str) -> tuple[str, str]:
    """Return `(answer, thoughts)`. A text without thoughts comes back as it is, to the letter.

    Thoughts stand at the beginning, in one block or several, to the end where they are not closed; or before a closing
    tag that nothing opened; or, where there are such, in later blocks that begin a line. A tag that is quoted, or that
    stands in a text which is JSON as a whole, is what the answer is about.
    """
    if not ("<" in text or "THINK]" in text or "◁" in text) or _is_json(text):
        return text, ""
    start = channels.end() if (channels := _FINAL.match(text)) else 0
    while (end := _behind_block(text, start)) > start:
        start = end
    start = _behind_unopened(text, start)
    if not start:
        return text, ""
    rest = text[start:]
    for sign in _CHANNEL_ENDS if channels else ():
        rest = rest.removesuffix(sign)
    later = [found[0] for found in _LATER.finditer(rest)]
    return _LATER.sub("", rest).strip(), "\n".join(part.strip() for part in (text[:start], *later))


def _is_json(text: str) -> bool:
    if text.lstrip()[:1] not in ("{", "[", '"'):
        return False
    try:
        json.loads(text, parse_int=str, parse_float=str)
    except (ValueError, RecursionError):
        return False
    return True


def _behind_block(text: str, start: int) -> int:
    """The place behind a block of thoughts that begins at `start`; `start` where there is none."""
    opened = _OPENING.match(text, start)
    if opened is None:
        return start
    kind = str(opened.lastgroup)
    closing = _closing(_CLOSING[kind].format(opened[kind]))
    position, depth = opened.end(), 1
    while depth:
        found = closing.search(text, position)
        if found is None and position > opened.end():
            break  # the tag was only mentioned in the thoughts
        if found is None:
            return start if _AMBIGUOUS.fullmatch(opened["tag"] or "") else len(text)
        # A model that thinks about thinking may open the same tag again.
        depth += len(_same(kind, opened[kind]).findall(text, position, found.start())) - 1
        position = found.end()
    if _AMBIGUOUS.fullmatch(opened["tag"] or "") and not _OPENING.match(text, position):
        follows = _AFTER.match(text, position)
        if follows is None or follows[1] == "<":
            return start  # all that there is, or one part among others: the prompt wanted it so
    return position


def _behind_unopened(text: str, start: int) -> int:
    """The place behind the last closing tag from `start` on that nothing opened and nothing quotes; else `start`."""
    last = start
    opened = _ANY_OPENING.search(text, start)
    for found in _UNOPENED.finditer(text, start, opened.start() if opened else len(text)):
        if text[found.start() - 1 : found.start()] not in _QUOTES:
            last = found.end()
    return last


_ANY_OPENING = re.compile(_OPENING.pattern.removeprefix(r"\s*"), re.IGNORECASE)


@lru_cache(maxsize=32)
def _closing(tag: str) -> re.Pattern[str]:
    return re.compile(re.escape(tag), re.IGNORECASE)


@lru_cache(maxsize=32)
def _same(kind: str, name: str) -> re.Pattern[str]:
    return re.compile(re.escape(_CLOSING[kind].format(name).replace("/", "").replace("END_", "START_")), re.IGNORECASE)
