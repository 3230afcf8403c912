"""Scan the licences of locked packages: `python licences.py LOCK…`. Ends with 1 where one is not known to be taken.

Licences are those that the installed packages name (PEP 639's expression, else classifiers, else the old field). What
goes to AWS and to people's machines must let anybody pass it on without conditions on their own code. Tools for
development, which nobody gets, may ask for more.
"""

from __future__ import annotations

import re
import sys
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path
from typing import NamedTuple

TAKEN = frozenset(
    (
        *("MIT", "MIT-0", "0BSD", "ISC", "Apache-2.0", "BSD-2-Clause", "BSD-3-Clause", "PSF-2.0", "Python-2.0"),
        *("CNRI-Python", "Unlicense", "Zlib", "MPL-2.0", "AFL-2.1"),
    )
)
"""By SPDX. MPL-2.0 asks for the source of changed files of its own only."""
_WORDS = {
    "MIT License": "MIT",
    "MIT No Attribution License (MIT-0)": "MIT-0",
    "Apache Software License": "Apache-2.0",
    "Apache License 2.0": "Apache-2.0",
    "BSD License": "BSD-3-Clause",
    "BSD": "BSD-3-Clause",
    "ISC License (ISCL)": "ISC",
    "Mozilla Public License 2.0 (MPL 2.0)": "MPL-2.0",
    "Python Software Foundation License": "PSF-2.0",
}
"""What classifiers and the old field say, by SPDX. A BSD licence without a number is the one of three clauses or, with
fewer conditions, of two."""
TOOLS = {
    "docutils": "public domain, PSF-2.0 and BSD-2-Clause; GPL for its Emacs mode, which is not in the package",
    "text-unidecode": "Artistic-1.0-Perl or GPL-2.0-or-later; a library of sam init's, which we do not pass on",
    "cookiecutter": "BSD-3-Clause, by the licence's text alone",
}
"""Packages of `dev.txt` alone whose licence was read by a person, and why they may be there."""


class Package(NamedTuple):
    """A locked package; `hashes` are those of its files, by SHA-256."""

    name: str
    version: str
    hashes: tuple[str, ...]


def locked(lock: Path) -> list[Package]:
    """Return the packages of a lock, in its order."""
    parts = re.split(r"^(?=[A-Za-z0-9])", lock.read_text("utf-8"), flags=re.MULTILINE)[1:]
    heads = [(part, re.match(r"([\w.-]+)==([^\s;\\]+)", part)) for part in parts]
    return [
        Package(head[1], head[2], tuple(re.findall(r"--hash=sha256:([0-9a-f]{64})", part)))
        for part, head in heads
        if head
    ]


def licence_of(package: Distribution) -> str:
    """Return a package's licence as an SPDX expression; empty where none can be told."""
    metadata = package.metadata
    if expression := metadata.get("License-Expression"):
        return str(expression)
    said = [
        str(line).rpartition(" :: ")[2] for line in metadata.get_all("Classifier") or () if "License ::" in str(line)
    ]
    said = [word for word in said if word != "OSI Approved"] or [str(metadata.get("License") or "").strip()]
    names = [_WORDS.get(word, word) for word in said]
    return " AND ".join(dict.fromkeys(names)) if all(re.fullmatch(r"[\w .+-]+", name) for name in names) else ""


def is_taken(expression: str) -> bool:
    """Return whether one of an expression's choices asks for nothing that is not taken."""
    choices = re.sub(r"[()]", " ", expression).split(" OR ")
    return bool(expression) and any(all(name.strip() in TAKEN for name in choice.split(" AND ")) for choice in choices)


def refused(lock: Path) -> list[str]:
    """Return what is wrong with the licences of a lock's packages, a sentence for each."""
    wrong = []
    for package in locked(lock):
        try:
            licence = licence_of(distribution(package.name))
        except PackageNotFoundError:
            continue  # for another platform
        if not is_taken(licence) and not (lock.name == "dev.txt" and package.name in TOOLS):
            wrong.append(f"{package.name} {package.version}: {licence or 'no licence that can be told'}")
    return wrong


def main(locks: list[str]) -> int:
    """Print what is wrong; the exit status."""
    found = False
    for lock in locks:
        wrong = refused(Path(lock))
        for sentence in wrong:
            print(f"{lock}: {sentence} is not among the licences that are taken (requirements/licences.py)")
        found = found or bool(wrong)
        if not wrong:
            print(f"licences: {len(locked(Path(lock)))} packages of {lock} are free to pass on")
    return int(found)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
