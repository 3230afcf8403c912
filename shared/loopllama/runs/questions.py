"""What a run asks people: the `pending` of its item, in the order in which they have to be answered.

The run's item holds the open questions of all its chains side by side, cut to their beginning; the step's item holds
its own whole (`Question.prompt` and `tool_input` are values of `ValueStore` there).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from loopllama.core import clock, exact_json
from loopllama.core.patterns import late
from loopllama.runs.step_ref import question_id
from loopllama.runs.store import FINAL

if TYPE_CHECKING:
    from loopllama.runs.records import Question, Run

MAX_SHOWN_PROMPT, MAX_SHOWN_INPUT = 300, 300
"""Characters of a question that the run's item holds. An item ends at 400 KB, and hundreds of items of lists may ask
side by side. Of longer arguments a part would be no JSON: then they are in the step's item alone."""
NOTICE_SHARE: Final = 0.8
"""When so much of a question's time has gone, an event says that it ends: of the usual seven days a day and a half is
left, of ten minutes two."""
_STEP_KEY = late(r"STEP#.+#([0-9]+)#([0-9]+)")


def open_questions(run: Run) -> list[tuple[str, Question]]:
    """Return what an unfinished run asks, by the step's key: first what ends first."""
    if run["status"] in FINAL:
        return []
    asked = (run.get("pending") or {}).items()
    return sorted(asked, key=lambda entry: (str(entry[1].get("expires_at")), str(entry[1].get("asked_at")), entry[0]))


def id_of(key: str, question: Question) -> str:
    """Return what names the question of the step with that key to people."""
    return question_id(key, str(question.get("key")))


def place_of(key: str) -> tuple[int, int | None]:
    """Return the iteration and item that a step's key names; the item is `None` outside a forEach."""
    match = _STEP_KEY.fullmatch(key)
    iteration, item = (int(match[1]), int(match[2])) if match else (0, 0)
    return iteration, item or None


def beginning(question: Question, prompt: str, tool_input: Any) -> Question:
    """Return what the run's item holds of a step's question, whose whole `prompt` and `tool_input` are given."""
    shown: Question = {**question, "prompt": prompt[:MAX_SHOWN_PROMPT]}
    shown.pop("tool_input", None)
    whole = len(prompt) <= MAX_SHOWN_PROMPT
    if tool_input is not None and len(exact_json.dumps(tool_input)) <= MAX_SHOWN_INPUT:
        shown["tool_input"] = question["tool_input"]
    else:
        whole = whole and tool_input is None
    return shown if whole else {**shown, "cut": True}


def notice_ms(question: Question) -> int:
    """Return how many milliseconds after it was asked the question's end is told."""
    return round(clock.ms_between(question["asked_at"], question["expires_at"]) * NOTICE_SHARE)
