"""What every command's `--help` and the reference show of its use: lines that can be typed as they stand."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

_RUN = "run_5ca05703b2a84f699ecb647b"
EXAMPLES: dict[str, tuple[str, ...]] = {
    "demo": ("demo", "demo --model ollama:qwen3 --small ollama:qwen3"),
    "init": ("init desk", "init reading --example invoice_extraction"),
    "local": ("local", "local --api-port 8080 --aws-port 0", "local --tool rates=rates.py:handler"),
    "deploy": ("deploy --stack prod", "deploy --stack prod --parameter DefaultModel=small"),
    "destroy": ("destroy --stack prod",),
    "doctor": ("doctor --stack prod", "doctor --local --json"),
    "run": (
        "run support_reply --input 'Where is my order?'",
        "run support_reply --input @letter.txt --model draft=small --tag team=desk",
        """run invoice_extraction --input '{"number": 4411}' --no-wait""",
    ),
    "trace": ("trace last", f"trace {_RUN} --svg trace.svg"),
    "compare": (f"compare {_RUN} last",),
    "usage": ("usage --by workflow,step", "usage --by model --from 2026-11-01 --csv"),
    "advise": ("advise support_reply", "advise support_reply --candidate gpt-5-mini --runs-month 3000"),
    "whatif": ("whatif support_reply --set draft=small --since 7d",),
    "workflows push": ("workflows push workflow.yaml", "workflows push workflow.yaml --id desk --strict"),
    "workflows export": ("workflows export support_reply", "workflows export --all backup"),
    "workflows pause": ("workflows pause support_reply",),
    "workflows resume": ("workflows resume support_reply",),
    "workflows delete": ("workflows delete support_reply --yes",),
    "workflows rollback": ("workflows rollback support_reply --to 3",),
    "workflows list": ("workflows list",),
    "workflows show": ("workflows show support_reply --version 2",),
    "workflows validate": ("workflows validate workflow.yaml",),
    "workflows schema": ("workflows schema",),
    "runs list": ("runs list --status failed --since 2h", "runs list support_reply --tag team=desk --csv"),
    "runs show": ("runs show last",),
    "runs watch": ("runs watch last",),
    "runs wait": (f"runs wait {_RUN} --timeout 600",),
    "runs respond": (f"runs respond {_RUN} --approve", f"runs respond {_RUN} --text 'Refund it.'"),
    "runs cancel": (f"runs cancel {_RUN}",),
    "runs redrive": (f"runs redrive {_RUN}", "runs redrive --failed-since 2h"),
    "runs replay": (f"runs replay {_RUN} --from-step draft --model draft=gpt-5",),
    "routes list": ("routes list support_reply",),
    "routes set": (
        "routes set support_reply draft small --reason 'good enough'",
        "routes set support_reply '*' balanced --expires-in 2h",
        "routes set desk draft --policy cheapest --candidate small --candidate gpt-5",
    ),
    "routes unset": ("routes unset support_reply draft",),
    "routes history": ("routes history support_reply draft",),
    "routes diff": ("routes diff support_reply draft --from 2",),
    "routes rollback": ("routes rollback support_reply draft",),
    "routes export": ("routes export support_reply",),
    "routes import": ("routes import routes.yaml --dry-run",),
    "models list": ("models list --provider anthropic", "models list --csv"),
    "models show": ("models show small",),
    "models set": ("models set openai:gpt-5-2026-01-01 --context-window 400000",),
    "models alias": ("models alias small claude-haiku-4-5",),
    "models disable": ("models disable gpt-5 --use claude-sonnet-4-6 --reason outage",),
    "models enable": ("models enable gpt-5",),
    "models remove": ("models remove house-model",),
    "models history": ("models history small",),
    "models price": ("models price house-model --input 0.5 --output 2",),
    "models sync": ("models sync --dry-run",),
    "models probe": ("models probe ollama",),
    "tools push": ("tools push tools.json --reason 'new address'",),
    "tools list": ("tools list",),
    "tools show": ("tools show order_lookup",),
    "tools delete": ("tools delete order_lookup",),
    "tools history": ("tools history order_lookup",),
    "providers list": ("providers list",),
    "providers set": ("providers set openai", "providers set house --base-url https://llm.example.com/v1"),
    "keys create": ("keys create website",),
    "keys list": ("keys list",),
    "keys revoke": ("keys revoke ll_live_4f7a",),
}
"""By command; each line without the program's name."""


ROOT = ("local", "run", "trace", "routes set")
"""Commands whose first example the help of the whole program shows."""
_OF_A_GROUP = 4


def add(app: Any, path: str = "") -> None:
    """Give each command and group of a Typer application its examples, where its help ends."""
    for command in app.registered_commands:
        command.epilog = shown(EXAMPLES.get(f"{path}{command.name or command.callback.__name__}", ()))
    for group in app.registered_groups:
        add(group.typer_instance, f"{path}{group.name} ")
        group.epilog = shown(of_group(f"{path}{group.name} "))


def of_group(path: str) -> tuple[str, ...]:
    """Return the first examples of the first commands of a group."""
    return tuple(lines[0] for name, lines in EXAMPLES.items() if name.startswith(path))[:_OF_A_GROUP]


def shown(lines: Sequence[str]) -> str:
    """Return examples as the end of a help, each a paragraph."""
    return "\n\n".join(["Examples:", *(f"loopllama {line}" for line in lines)])
