"""Which earlier outputs a step's prompt and expressions name. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from loopllama.workflows import expressions, prompt_template

if TYPE_CHECKING:
    from loopllama.workflows.types import CrewStep


def named_by(step: CrewStep) -> set[str] | None:
    """Return the steps whose outputs a step names; `None` where it takes all that it may: without a template of its
    own, or by an expression that takes the document as a value."""
    texts = (step.get("when"), step.get("for_each"), step.get("repeat", {}).get("until"))
    parsed = [expressions.parse(text) for text in texts if text]
    if not step.get("prompt") or any(expression.whole for expression in parsed):
        return None
    named = {reference.step for reference in prompt_template.parse(step["prompt"]).references if reference.step}
    return named.union(*(expression.steps for expression in parsed))
