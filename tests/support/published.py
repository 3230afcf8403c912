"""The published exchanges of LoopLlama's v1, sent to an API and compared with its answers (tests/published/v1.yaml)."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import yaml

EXAMPLES: list[dict[str, Any]] = yaml.load(
    (Path(__file__).parents[1] / "published" / "v1.yaml").read_text("utf-8"),
    yaml.CSafeLoader,
)
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")
_LONG = re.compile(r"(.*)(.)\*(\d+)")
_SNAKE, _CAMEL = re.compile(r"[a-z][a-z0-9_]*"), re.compile(r"[a-z][a-zA-Z0-9]*")
Ask = Callable[[str, str, Any, Mapping[str, str | None]], tuple[int, Any]]
"""(method, path, body, headers beside the key's; `None` takes one away) to (status, JSON)."""


def replay(ask: Ask, base: str, until_over: Callable[[str], object], default_model: str) -> int:
    """Send every example under `base` and hold its answer against what is published; how many there were.

    `until_over` brings a run to where it goes no further by itself. Fails with the example's name."""
    kept = {"default": default_model}
    for example in EXAMPLES:
        if "ended" in example:
            until_over(_filled(example["ended"], kept))
        method, path = _filled(example["request"], kept).split(" ")
        headers = {"authorization": example["authorization"]} if "authorization" in example else {}
        status, answer = ask(method, base + path, _filled(example.get("body"), kept), headers)
        name = f"{example['name']} ({method} {base}{path})"
        assert status == example["status"], (name, answer)
        compare(answer, _filled(example["answer"], kept), name, bool(example.get("only")))
        data = answer.get("data")
        for absent in example.get("without", ()):
            assert absent not in (data[0] if isinstance(data, list) else data), (name, absent)
        kept |= {key: data[field] for key, field in example.get("keep", {}).items()}
    return len(EXAMPLES)


def compare(found: Any, wanted: Any, where: str, only: bool = False) -> None:
    """Fail where `found` is not what `wanted` says. The names of fields are snake_case, in a crew camelCase."""
    if isinstance(wanted, dict):
        assert isinstance(found, dict), (where, found)
        assert wanted.keys() <= found.keys(), (where, sorted(wanted.keys() - found.keys()))
        assert not only or wanted.keys() == found.keys(), (where, found)
        spelling = _CAMEL if where.rpartition(".")[2].startswith("crew[") else _SNAKE
        assert all(spelling.fullmatch(name) for name in found), (where, list(found))
        for name, value in wanted.items():
            compare(found[name], value, f"{where}.{name}")
    elif isinstance(wanted, list):
        assert isinstance(found, list), (where, found)
        assert len(found) >= len(wanted), (where, found)
        for place, value in enumerate(wanted):
            compare(found[place], value, f"{where}[{place}]")
    elif isinstance(wanted, str) and wanted.startswith("~"):
        kind, _, part = wanted[1:].partition(" ")
        good = {
            "any": True,
            "id": isinstance(found, str) and found != "",
            "text": isinstance(found, str) and found != "" and part in found,
            "time": isinstance(found, str) and _TIME.fullmatch(found),
            "count": isinstance(found, int) and not isinstance(found, bool) and found > 0,
        }
        assert good[kind], (where, wanted, found)
    else:
        assert (found, type(found)) == (wanted, type(wanted)), where


def _filled(value: Any, kept: Mapping[str, str]) -> Any:
    """`value` with what was kept in the place of names in braces, and `x*3` written out as `xxx`."""
    if isinstance(value, dict):
        return {name: _filled(inner, kept) for name, inner in value.items()}
    if isinstance(value, list):
        return [_filled(inner, kept) for inner in value]
    if not isinstance(value, str):
        return value
    if long := _LONG.fullmatch(value):
        return long[1] + long[2] * int(long[3])
    for name, text in kept.items():
        value = value.replace(f"{{{name}}}", text)
    return value
