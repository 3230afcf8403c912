"""Audit locked packages by pip-audit: `python audit.py LOCK`. Ends with 1 where one has a known vulnerability.

pip-audit asks a package index for its advisories. Where that cannot be reached, or has none (a mirror, say), nothing is
known and nothing fails; the output says so.
"""

from __future__ import annotations

import json
import subprocess
import sys

_UNREACHABLE = ("ConnectionError", "Could not connect", "ServiceError", "timed out")


def main(lock: str) -> int:
    """Print what is known of the packages in `lock`; the exit status."""
    command = [sys.executable, "-m", "pip_audit", "--requirement", lock, "--disable-pip", "--require-hashes"]
    done = subprocess.run(  # noqa: S603 - this interpreter, a file of ours
        [*command, "--format", "json", "--progress-spinner", "off"], capture_output=True, text=True, check=False
    )
    try:
        found = json.loads(done.stdout)["dependencies"]
    except ValueError:
        last = (done.stderr.strip().splitlines() or ["no output"])[-1]
        if not any(word in done.stderr for word in _UNREACHABLE):
            print(f"pip-audit failed: {last}")
            return 1
        print(f"pip-audit: its data cannot be reached, so nothing was audited ({last[:200]})")
        return 0
    audited = [one for one in found if "vulns" in one]
    if not audited:
        print(f"pip-audit: its data has none of the {len(found)} packages of {lock}, so nothing was audited")
        return 0
    for one in audited:
        for flaw in one["vulns"]:
            better = ", ".join(flaw["fix_versions"]) or "no version yet"
            print(f"{one['name']} {one['version']}: {flaw['id']}, fixed in {better}")
    unknown = len(found) - len(audited)
    print(f"pip-audit: {len(audited)} packages of {lock} audited{f', {unknown} unknown to it' if unknown else ''}")
    return int(any(one["vulns"] for one in audited))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
