"""People who answer what runs ask."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from loopllama.engine.human_input import respond
from loopllama.runs import questions
from loopllama.runs.store import RunStore


def answer_all(store: RunStore, run_id: str, answer: Mapping[str, Any]) -> set[str]:
    """Answer all that a run asks; what it asked."""
    asked = questions.open_questions(store.run(run_id))
    return {str(respond(store, run_id, answer, question=questions.id_of(*entry))["prompt"]) for entry in asked}
