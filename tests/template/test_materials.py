"""What is passed on: its bill of materials, its licences, and the scanners' own lock."""

from __future__ import annotations

import importlib.util
import json
import re
import subprocess
import sys
from email.message import Message
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from template.project import ROOT


def script(name: str) -> Any:
    sys.path.insert(0, str(ROOT / "requirements"))
    try:
        spec = importlib.util.spec_from_file_location(name, ROOT / f"requirements/{name}.py")
        assert spec
        assert spec.loader
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module
    finally:
        sys.path.pop(0)


LICENCES, SBOM = script("licences"), script("sbom")
LAYER = ROOT / "shared/requirements.txt"


def package(**metadata: str | list[str]) -> Any:
    message = Message()
    for name, value in metadata.items():
        for line in [value] if isinstance(value, str) else value:
            message[name.replace("_", "-")] = line
    return SimpleNamespace(metadata=message)


@pytest.mark.parametrize(
    ("metadata", "licence", "taken"),
    [
        ({"License_Expression": "Apache-2.0 OR GPL-3.0-only"}, "Apache-2.0 OR GPL-3.0-only", True),
        ({"License_Expression": "MIT AND GPL-3.0-only"}, "MIT AND GPL-3.0-only", False),
        ({"License_Expression": "(MIT OR Apache-2.0)"}, "(MIT OR Apache-2.0)", True),
        ({"Classifier": ["License :: OSI Approved", "License :: OSI Approved :: MIT License"]}, "MIT", True),
        (
            {"Classifier": ["License :: OSI Approved :: GNU Affero General Public License v3"]},
            "GNU Affero General Public License v3",
            False,
        ),
        ({"License": "BSD"}, "BSD-3-Clause", True),
        ({"License": "Do what you like,\nbut not for money."}, "", False),
        ({}, "", False),
    ],
)
def test_licences_are_told_and_judged(metadata: dict[str, Any], licence: str, taken: bool) -> None:
    assert LICENCES.licence_of(package(**metadata)) == licence
    assert LICENCES.is_taken(licence) is taken


@pytest.mark.parametrize("lock", ["shared/requirements.txt", "requirements/cli.txt", "requirements/dev.txt"])
def test_every_package_that_is_locked_may_be_passed_on(lock: str) -> None:
    assert LICENCES.refused(ROOT / lock) == []


def test_a_package_that_may_not_fails_the_scan(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lock = tmp_path / "cli.txt"
    lock.write_text("rich==1.0 \\\n    --hash=sha256:" + "0" * 64 + "\nnot-here==1\n")
    monkeypatch.setattr(LICENCES, "distribution", lambda name: package(License_Expression="GPL-3.0-only"))
    assert LICENCES.main([str(lock)]) == 1
    assert "rich 1.0: GPL-3.0-only is not among" in capsys.readouterr().out


def test_the_bill_names_every_package_of_the_layer_with_its_files() -> None:
    bill = SBOM.bill(LAYER, "loopllama-layer", "1.2.3")
    locked = dict(re.findall(r"^([\w.-]+)==([^\s;]+)", LAYER.read_text(), re.MULTILINE))
    assert {one["name"]: one["version"] for one in bill["components"]} == locked
    for one in bill["components"]:
        assert one["purl"] == f"pkg:pypi/{one['name']}@{one['version']}"
        assert one["externalReferences"][0]["hashes"]
        assert one["licenses"][0]["expression"]
    refs = {one["bom-ref"] for one in bill["components"]}
    assert len(refs) == len(locked)
    for part in bill["dependencies"]:
        assert set(part["dependsOn"]) <= refs
    needs = {part["ref"].partition("@")[0]: part["dependsOn"] for part in bill["dependencies"]}
    assert any(one.startswith("pkg:pypi/rpds-py@") for one in needs["pkg:pypi/jsonschema"])
    assert (bill["bomFormat"], bill["specVersion"]) == ("CycloneDX", "1.6")
    assert re.fullmatch("urn:uuid:[0-9a-f-]{36}", bill["serialNumber"])
    assert bill == SBOM.bill(LAYER, "loopllama-layer", "1.2.3")


@pytest.mark.parametrize("lock", ["shared/requirements.txt", "requirements/cli.txt"])
def test_each_part_of_a_bill_is_there_once(lock: str) -> None:
    """CycloneDX takes no part and no dependency twice; of some packages two versions are locked, by Python's."""
    bill = SBOM.bill(ROOT / lock, "loopllama", "1")
    refs = [one["bom-ref"] for one in bill["components"]]
    assert sorted(set(refs)) == sorted(refs) == sorted(part["ref"] for part in bill["dependencies"][1:])
    assert all(set(part["dependsOn"]) <= set(refs) for part in bill["dependencies"])
    assert all(len(set(part["dependsOn"])) == len(part["dependsOn"]) for part in bill["dependencies"])


def test_make_build_writes_both_bills() -> None:
    said = subprocess.run(["make", "--dry-run", "build"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for lock, file in (
        ("shared/requirements.txt", "dist/loopllama-layer.cdx.json"),
        ("cli.txt", "dist/loopllama.cdx.json"),
    ):
        assert any(lock in line and file in line for line in said.splitlines()), said
    done = subprocess.run(
        [sys.executable, "requirements/sbom.py", "shared/requirements.txt", "loopllama-layer", "1"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(done.stdout)["metadata"]["component"]["name"] == "loopllama-layer"


def test_the_scanners_are_pinned_by_their_files() -> None:
    packages = LICENCES.locked(ROOT / "requirements/audit.txt")
    assert {"checkov", "pip-audit"} <= {one.name for one in packages}
    assert all(one.hashes for one in packages)
    said = subprocess.run(
        ["make", "--dry-run", "--always-make", "audit"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    assert any("--require-hashes" in line and "requirements/audit.txt" in line for line in said.splitlines())
    assert any("licences.py" in line for line in said.splitlines())
