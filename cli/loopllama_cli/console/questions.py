"""What a run asks people, in the terminal: each question whole, with the command that answers it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.text import Text

from loopllama.core import exact_json
from loopllama_cli.console import output
from loopllama_cli.console.places import place
from loopllama_cli.target import next_command

if TYPE_CHECKING:
    from loopllama.queries.types import QuestionView, RunView


def print_questions(run: RunView, console: Console | None = None) -> None:
    """Print all that the run asks, first what ends first."""
    console = console or output.out()
    for asked in run.get("questions") or ():
        print_question(asked, console)
        console.print(Text(command(run, asked), "dim"), soft_wrap=True)
        console.print()


def print_question(asked: QuestionView, console: Console) -> None:
    """Print one question whole, with its id."""
    named = place(asked["step"], asked.get("item"), asked.get("iteration"))
    what = " ".join(text for text in (named, asked["kind"], asked.get("tool")) if text)
    heading = Text.assemble(("asks ", "yellow"), (asked["id"], "bold"), f"  {output.clean(what)}")
    console.print(heading.append(f"  until {output.local_time(asked['expires_at'])}", "dim"), soft_wrap=True)
    prompt = asked["prompt"]
    console.print(output.plain(prompt if isinstance(prompt, str) else _json(prompt)), soft_wrap=True)
    if asked.get("tool_input") is not None:
        console.print(Text(_json(asked["tool_input"])), soft_wrap=True)


def command(run: RunView, asked: QuestionView) -> str:
    """Return the command that answers this question and no other, should another be asked meanwhile."""
    how = "--approve (or --reject)" if asked["kind"] == "approval" else "--text ANSWER"
    return f"{next_command('runs respond', run['id'])} --question {asked['id']} {how}"


def _json(value: Any) -> str:
    """Return a value as JSON in which each character can be seen: what is invisible, or turns the direction of the text
    around it, is escaped."""
    text = exact_json.dumps(value, indent=2, ascii_only=False)
    return "".join(char if char.isprintable() or char == "\n" else _escaped(char) for char in text)


def _escaped(char: str) -> str:
    return exact_json.dumps(char)[1:-1]
