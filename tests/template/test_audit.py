"""`make audit` fails for a known vulnerability and for nothing else; the part of pip-audit is played by a stand-in that
prints what it prints, because its data lies on the internet."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from template.project import ROOT

FLAW = {"id": "PYSEC-2026-1", "fix_versions": ["1.2"], "aliases": [], "description": "It lets anybody in."}
GOOD, BAD = {"name": "good", "version": "1", "vulns": []}, {"name": "bad", "version": "1.1", "vulns": [FLAW]}
UNKNOWN = {"name": "odd", "skip_reason": "Dependency not found on PyPI and could not be audited: odd (1)"}


@pytest.mark.parametrize(
    ("found", "stderr", "status", "says"),
    [
        ([GOOD, UNKNOWN], "", 0, "1 packages of lock.txt audited, 1 unknown"),
        ([GOOD, BAD], "", 1, "bad 1.1: PYSEC-2026-1, fixed in 1.2"),
        ([UNKNOWN], "", 0, "nothing was audited"),
        (None, "requests.exceptions.ConnectionError: no route", 0, "cannot be reached, so nothing was audited"),
        (None, "pip_audit: error: no such file", 1, "pip-audit failed: pip_audit: error"),
    ],
    ids=["clean", "vulnerable", "unknown to it", "unreachable", "broken"],
)
def test_what_an_audit_comes_to(tmp_path: Path, found: object, stderr: str, status: int, says: str) -> None:
    (tmp_path / "pip_audit.py").write_text(
        f"import sys\nprint({json.dumps({'dependencies': found})!r} if {found is not None} else '')\n"
        f"sys.stderr.write({stderr!r})\n"
    )
    done = subprocess.run(
        [sys.executable, ROOT / "requirements/audit.py", "lock.txt"],
        env={"PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, says in done.stdout) == (status, True), done.stdout + done.stderr
