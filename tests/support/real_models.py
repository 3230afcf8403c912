"""What the tests on real models share: the two models, the program, the figures that they note."""

from __future__ import annotations

from typing import Any

from harness import value
from typer.testing import CliRunner

from loopllama.core import exact_json
from loopllama_cli.main import app
from support.system import ROOT, System

SMOL, GEMMA = "llamacpp:smollm2-135m", "gemma:gemma3-270m"
"""SmolLM2 135M Instruct, and Gemma 3 270M as a provider with a name of one's own."""
SLOTS = 2
PRICES = {SMOL: ("1", "4"), GEMMA: ("2", "8")}
"""USD per million tokens, of prompt and answer."""
LLAMA_CPP = "b" + next(
    line.split(":=")[1].strip().partition(".")[0]
    for line in (ROOT / "Makefile").read_text("utf-8").splitlines()
    if line.startswith("LLAMA ")
)


class Figures:
    """What was measured, for the table at the end."""

    def __init__(self) -> None:
        self.rows: list[dict[str, Any]] = []

    def add(self, name: str, figure: float, unit: str = "", aim: float | None = None) -> None:
        """Note a figure, with the most that it may be."""
        self.rows.append(value(name, round(float(figure), 4), unit, aim))


def loopllama(system: System, *arguments: object) -> Any:
    """Run the program on the stack; what it prints as JSON."""
    done = CliRunner().invoke(app, [*map(str, arguments), "--json", "--local", system.stack.aws_endpoint_url])
    assert done.exit_code == 0, (arguments, done.stdout, done.stderr, done.exception)
    return exact_json.loads(done.stdout)
