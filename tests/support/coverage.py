"""How much of the layer the tests run, lines and branches: `make test` asks for it by LOOPLLAMA_COVERAGE=1.

SlipCover measures, because coverage.py makes the tests take twice as long before Python 3.14. It changes modules while
they are imported, so conftest.py imports this module before anything of the layer. It measures the processes of pytest;
functions of the local stack run in processes of their own and count for nothing.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
import slipcover

ROOT = Path(__file__).parents[2]


class Coverage:
    """A plugin of pytest that measures the modules below `source` and writes what is missing into `listing`."""

    def __init__(self, source: Path, listing: Path) -> None:
        self._listing = listing
        self._probes = slipcover.Slipcover(branch=True, source=[str(source)])
        self._found: list[dict[str, Any]] = []
        slipcover.ImportManager(self._probes, slipcover.FileMatcher(sources=[str(source)])).__enter__()

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Hand this process's measurements over: a worker of xdist to its controller."""
        measured = self._probes.get_coverage()
        output = getattr(session.config, "workeroutput", None)
        if output is None:
            self._found.append(measured)
        else:
            output["coverage"] = json.dumps(measured)

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any) -> None:
        """Take the measurements of a worker that has ended; one that crashed has none."""
        if text := getattr(node, "workeroutput", {}).get("coverage"):
            self._found.append(json.loads(text))

    @pytest.hookimpl(trylast=True)
    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Print one line with the figures, and write the list of what no test ran."""
        merged, *others = self._found
        for other in others:
            slipcover.merge_coverage(merged, other)
        with self._listing.open("w", encoding="utf-8") as file:
            slipcover.print_coverage(merged, outfile=file, skip_covered=True, missing_width=80)
        total = merged["summary"]
        shares = []
        for kind in ("lines", "branches"):
            covered, missing = total[f"covered_{kind}"], total[f"missing_{kind}"]
            shares.append(f"{covered / max(covered + missing, 1):.1%} of {covered + missing:,} {kind}")
        terminalreporter.write_line(f"coverage: {', '.join(shares)}; what no test ran is in {self._listing.name}")


measuring = (
    Coverage(ROOT / "shared" / "loopllama", ROOT / ".coverage.txt") if os.environ.get("LOOPLLAMA_COVERAGE") else None
)
"""The plugin, where it is asked for. It starts here, so that the layer's modules are imported after it."""
