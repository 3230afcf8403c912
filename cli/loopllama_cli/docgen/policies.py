"""The routing policies, from their objects."""

from __future__ import annotations

from loopllama.policies.registry import POLICIES
from loopllama_cli.docgen import markdown


def table() -> str:
    """Return a table of every policy: what it chooses by, the figures that it needs, and how candidates are written."""
    return markdown.table(
        ["policy", "chooses by", "figures", "candidates"],
        (
            [
                f"`{policy.name}`",
                policy.by,
                ", ".join(sorted(policy.needs)),
                ("`{model, weight}`" if policy.takes_weights else "names") if policy.chooses else "",
            ]
            for policy in POLICIES.values()
        ),
    )
