"""How much of the layer the tests run, lines and branches: `make test` asks for it by LOOPLLAMA_COVERAGE=1.

SlipCover measures, because coverage.py makes the tests take twice as long before Python 3.14. It changes modules while
they are imported, so conftest.py imports this module before anything of the layer. It measures the processes of pytest;
functions of the local stack run in processes of their own and count for nothing.
"""

from __future__ import annotations

import ast
import json
import os
import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

import pytest
import slipcover
from slipcover import branch

ROOT = Path(__file__).parents[2]


class Coverage:
    """A plugin of pytest that measures the modules below `source` and writes what is missing into `listing`."""

    def __init__(self, source: Path, listing: Path) -> None:
        self._listing = listing
        self._found: list[dict[str, Any]] = []
        # Immediate: a probe that was passed is taken out at once. The other way is a search through all functions now
        # and then, which would stop a test for longer than its deadlines last.
        self._probes = slipcover.Slipcover(branch=True, immediate=True)
        sys.meta_path.insert(0, _Instrumented(self._probes, source))

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


class _Instrumented(MetaPathFinder):
    """Finds the modules below a folder with their probes in place.

    All are made at once, because making them within an import would take the time of a test that imports late.
    """

    def __init__(self, probes: Any, source: Path) -> None:
        self._codes: dict[str, CodeType] = {}
        for path in sorted(source.rglob("*.py")):
            tree = branch.preinstrument(ast.parse(path.read_bytes()))
            self._codes[str(path)] = probes.instrument(compile(tree, str(path), "exec"))

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return the module's spec with a loader of ours, `None` for every other module."""
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is None or spec.origin not in self._codes:
            return None
        spec.loader = _Loader(fullname, spec.origin, self._codes[spec.origin])
        return spec


class _Loader(SourceFileLoader):
    def __init__(self, fullname: str, path: str, code: CodeType) -> None:
        super().__init__(fullname, path)
        self._code = code

    def get_code(self, fullname: str) -> CodeType:
        return self._code


measuring = (
    Coverage(ROOT / "shared" / "loopllama", ROOT / ".coverage.txt") if os.environ.get("LOOPLLAMA_COVERAGE") else None
)
"""The plugin, where it is asked for. It starts here, so that the layer's modules are imported after it."""
