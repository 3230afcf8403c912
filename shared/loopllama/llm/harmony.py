"""gpt-oss's own format, where a server hands it on: messages in channels.

`<|start|>assistant<|channel|>analysis<|message|>…<|end|>` holds thoughts, `final` the answer, `commentary` what is said
on the way or, with `to=functions.NAME`, a call (https://cookbook.openai.com/articles/openai-harmony). llama.cpp with
`--reasoning-format none` leaves out the header of the answer (github.com/ggml-org/llama.cpp, pull request 15181). Where
a server drops the signs, their words stay: `analysisWe need…assistantfinalfour`.
"""

from __future__ import annotations

from loopllama.core.patterns import late

_OPENS = late(
    r"[\s\ufeff\u200b]*(?:<\|start\|>assistant(?: to=[\w.:-]{1,100})?)?<\|channel\|>(?:analysis|commentary|final)"
    r"(?: to=[\w.:-]{1,100})?\s*(?:<\|constrain\|>)?\s*\w{0,20}\s*(?:<\|message\|>(?![ \t]+[a-z]+[ \t,])|\Z)"
)
"""An answer that is about these signs may begin with them, but no answer of a model goes on in the middle of a
sentence."""
_FINAL = late(r"<\|channel\|>final\s*(?:<\|constrain\|>)?\s*\w{0,20}\s*<\|message\|>")
_MESSAGE = late(
    r"(?s)(?:<\|start\|>(?P<role>[^<]{0,120}))?<\|channel\|>(?P<channel>\w{1,20})(?P<header>[^<]{0,120}"
    r"(?:<\|constrain\|>[^<]{0,40})?)(?:<\|message\|>(?P<content>.*?))?"
    r"(?:<\|end\|>|<\|call\|>|<\|return\|>|(?=<\|start\|>|<\|channel\|>)|\Z)"
)
_ENDS = ("<|return|>", "<|end|>")
_BARE = late(r"\s*(?:assistant)?analysis(?=[^\W_]|[:\n])")
_BARE_ANSWER = late(r"""(?<![`'" ])assistantfinal|(?=assistantcommentary to=)""")
_BARE_CUT = late(r"\s*(?:assistant)?analysis(?:We|User|The user|I|Need|Let)\b")
"""Words that it begins to think with; without an answer nothing else tells it from a name."""


def apart(text: str) -> tuple[str, str] | None:
    """Return `(answer, thoughts)`; `None` where the text is not in this format. Calls stay in the answer as they are
    written."""
    if _BARE.match(text):
        return _without_signs(text)
    if not _OPENS.match(text):
        return None
    finals = list(_FINAL.finditer(text))
    if finals:
        rest = text[finals[-1].end() :]
        for sign in _ENDS:
            rest = rest.removesuffix(sign)
        return rest.strip(), text[: finals[-1].end()].strip()
    said, thought, position = [], [], 0
    for message in _MESSAGE.finditer(text):
        said.append(text[position : message.start()])
        position = message.end()
        if "to=" in (message["role"] or "") + message["header"]:
            said.append(message[0])
        elif message["channel"] == "analysis":
            thought.append(message[0])
        else:
            said.append(message["content"] or "")
    said.append(text[position:])
    return "\n".join(part.strip() for part in said if part.strip()), "\n".join(part.strip() for part in thought)


def _without_signs(text: str) -> tuple[str, str] | None:
    answers = list(_BARE_ANSWER.finditer(text))
    if answers:
        return text[answers[-1].end() :].strip(), text[: answers[-1].end()].strip()
    return ("", text.strip()) if _BARE_CUT.match(text) else None
