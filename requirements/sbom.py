"""Write the bill of materials of what is deployed or installed: `python sbom.py LOCK NAME VERSION > FILE`.

The form is CycloneDX 1.6, as JSON (https://cyclonedx.org/docs/1.6/json/). Everything in it follows from the lock and
the packages' own metadata, so the same commit gives the same file.
"""

from __future__ import annotations

import json
import re
import sys
import uuid
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

from licences import Package, licence_of, locked


def bill(lock: Path, name: str, version: str) -> dict[str, Any]:
    """Return the bill of the packages of a lock, as parts of `name`."""
    packages = locked(lock)
    ours = {
        "type": "application",
        "bom-ref": f"{name}@{version}",
        "name": name,
        "version": version,
        "licenses": [{"license": {"id": "Apache-2.0"}}],
    }
    # Of some packages there are two versions, for Pythons that are older or newer; either may be what is needed.
    known: dict[str, list[str]] = {}
    for package in packages:
        known.setdefault(_plain(package.name), []).append(_url(package))
    depends = [
        {"ref": _url(package), "dependsOn": [url for one in sorted(_needs(package.name)) for url in known.get(one, ())]}
        for package in packages
    ]
    content = {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {"component": ours},
        "components": [_component(package) for package in packages],
        "dependencies": [{"ref": ours["bom-ref"], "dependsOn": sorted(map(_url, packages))}, *depends],
    }
    serial = uuid.uuid5(uuid.NAMESPACE_URL, json.dumps(content, sort_keys=True))
    return {"bomFormat": "CycloneDX", "specVersion": "1.6", "serialNumber": f"urn:uuid:{serial}", **content}


def _component(package: Package) -> dict[str, Any]:
    component: dict[str, Any] = {
        "type": "library",
        "bom-ref": _url(package),
        "name": package.name,
        "version": package.version,
        "purl": _url(package),
    }
    try:
        licence = licence_of(distribution(package.name))
    except PackageNotFoundError:
        licence = ""  # for another platform
    if licence:
        component["licenses"] = [{"expression": licence}]
    # The files that may be installed, of each platform: which one is, its system says.
    component["externalReferences"] = [
        {
            "type": "distribution",
            "url": _url(package),
            "hashes": [{"alg": "SHA-256", "content": digest} for digest in package.hashes],
        }
    ]
    return component


def _url(package: Package) -> str:
    return f"pkg:pypi/{_plain(package.name)}@{package.version}"


def _plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _needs(name: str) -> set[str]:
    """Return the packages that a package names as its own; those of extras count where they are locked."""
    try:
        written = distribution(name).requires or []
    except PackageNotFoundError:
        return set()
    return {_plain(match[0]) for line in written if (match := re.match(r"[\w.-]+", line)) and "extra ==" not in line}


if __name__ == "__main__":
    json.dump(bill(Path(sys.argv[1]), sys.argv[2], sys.argv[3]), sys.stdout, indent=1)
    sys.stdout.write("\n")
