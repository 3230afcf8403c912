"""What the benchmarks share: contestants in turn, medians and spread, the table on the screen, the result as JSON.

Machines drift and others use them, so no figure stands alone. Contestants take turns within each round, every other
round backwards; a ratio is taken within a round and reported as the median over the rounds with its quartiles.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import statistics
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
RESULTS = HERE / "results"
LITELLM, CREWAI, PLAIN = (ROOT / f".venv-{name}" / "bin" / "python" for name in ("litellm", "crewai", "plain"))
"""The Pythons of the peers, each in an environment of its own, and of the layer's libraries with boto3 and httpx."""
SHORT_ROUNDS = 3

Figures = dict[str, list[float]]


def arguments(doc: str | None, rounds: int) -> argparse.ArgumentParser:
    """A parser that knows what every benchmark takes."""
    parser = argparse.ArgumentParser(description=(doc or "").split("\n")[0])
    parser.add_argument("--rounds", type=int, default=rounds)
    parser.add_argument("--short", action="store_true", help="a few rounds for a look; nothing is written")
    return parser


def parse(parser: argparse.ArgumentParser) -> argparse.Namespace:
    """The arguments, rounds cut down where it shall be short."""
    options = parser.parse_args()
    if options.short:
        options.rounds = min(options.rounds, SHORT_ROUNDS)
    return options


def take_turns(contestants: Mapping[str, Callable[[], Any]], rounds: int) -> dict[str, list[Any]]:
    """What each contestant gives in each round: a figure, or several. One round before warms up and does not count."""
    figures: dict[str, list[Any]] = {name: [] for name in contestants}
    for number in range(-1, rounds):
        for name in contestants if number % 2 else [*contestants][::-1]:
            figure = contestants[name]()
            if number >= 0:
                figures[name].append(figure)
    return figures


class Worker:
    """A contestant in a process of its own: answers each line with a line of JSON, the first without being asked."""

    def __init__(self, python: str | Path, *command: str, environment: Mapping[str, str] | None = None) -> None:
        self._process = subprocess.Popen(
            [str(python), *command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, **(environment or {})},
        )
        self.hello = self._read()

    def ask(self, line: str = "") -> Any:
        """The answer to a line."""
        assert self._process.stdin
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()
        return self._read()

    def _read(self) -> Any:
        assert self._process.stdout
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit(f"a contestant died: {self._process.args!r}")
        return json.loads(line)

    def close(self) -> None:
        """End the process."""
        self._process.communicate(timeout=60)


def table(title: str, unit: str, figures: Figures, base: str, notes: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Medians with quartiles, and ratios to `base` within each round. `notes` says something beside a name."""
    rows = []
    for name, mine in figures.items():
        ratios = [own_time / other for own_time, other in zip(mine, figures[base], strict=True)]
        low, high = quartiles(mine)
        ratio_low, ratio_high = quartiles(ratios)
        row = {"name": name, "median": median(mine), "low": low, "high": high}
        row |= {"ratio": median(ratios), "ratio_low": ratio_low, "ratio_high": ratio_high}
        rows.append({**row, "note": (notes or {}).get(name, "")})
    return {"title": title, "unit": unit, "base": base, "rounds": len(figures[base]), "rows": rows}


def ratio(table: Mapping[str, Any], name: str, other: str | None = None) -> float:
    """How many times `other`'s figure (the base's) a contestant's is."""
    ratios = {row["name"]: row["ratio"] for row in table["rows"]}
    return round_to(ratios[name] / (ratios[other] if other else 1))


def value(name: str, value: float, unit: str = "", aim: float | None = None) -> dict[str, Any]:
    """A single figure, with the most it shall be."""
    row: dict[str, Any] = {"name": name, "value": value, "unit": unit}
    return row if aim is None else {**row, "aim": aim, "met": value <= aim}


def median(figures: Sequence[float]) -> float:
    """Rounded to three digits."""
    return round_to(statistics.median(figures))


def quartiles(figures: Sequence[float]) -> tuple[float, float]:
    """The lower and the upper one, rounded to three digits."""
    if len(figures) < 2:
        return round_to(figures[0]), round_to(figures[0])
    low, _, high = statistics.quantiles(figures, n=4, method="inclusive")
    return round_to(low), round_to(high)


def round_to(figure: float, digits: int = 3) -> float:
    """Rounded to so many significant digits."""
    return float(f"{figure:.{digits}g}")


def versions(python: str | Path, *packages: str) -> dict[str, str]:
    """The versions of packages in a Python's environment, and its own."""
    code = (
        "import json, sys; from importlib import metadata; found = {n: metadata.version(n) for n in sys.argv[1:]}; "
        "print(json.dumps(found | {'python': sys.version.split()[0]}))"
    )
    done = subprocess.run([str(python), "-c", code, *packages], capture_output=True, text=True, check=True)
    versions: dict[str, str] = json.loads(done.stdout)
    return versions


def publish(
    name: str,
    title: str,
    tables: Sequence[Mapping[str, Any]],
    rows: Sequence[Mapping[str, Any]],
    versions: Mapping[str, str],
    short: bool,
    **more: Any,
) -> None:
    """Print the result, and unless it is short write it as `results/<name>.json`."""
    for table in tables:
        width = max(len(row["name"]) for row in table["rows"])
        print(f"\n{table['title']} ({table['rounds']} rounds; times {table['base']})")
        for row in table["rows"]:
            shown = f"{row['median']:>10,.4g} {table['unit']} ({row['low']:,.4g} to {row['high']:,.4g})"
            times = f"{row['ratio']:>8.3g} x ({row['ratio_low']:.3g} to {row['ratio_high']:.3g})"
            print(f"  {row['name']:<{width}} {shown}  {times}  {row['note']}")
    print()
    for row in rows:
        aim = "" if "aim" not in row else f"   aim {row['aim']:g}: {'met' if row['met'] else 'missed'}"
        print(f"  {row['name']:<70} {row['value']:>10,.4g} {row.get('unit', '')}{aim}")
    if short:
        return
    machine = {
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}, {os.cpu_count()} processors",
        "load": [round(load, 1) for load in os.getloadavg()],
        "at": datetime.datetime.now(datetime.UTC).date().isoformat(),
    }
    result = {
        "name": name,
        "title": title,
        "machine": machine,
        "versions": {**versions},
        "tables": tables,
        "rows": rows,
    }
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}.json").write_text(json.dumps({**result, **more}, indent=1, ensure_ascii=False) + "\n")


def pin() -> None:
    """Stay on the first processor, where the provider is as well: waking another one up costs more than the call. The
    scheduler stays the system's own: another one would switch between the two at other moments."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})


def installed_mb(python: str | Path, package: str) -> float:
    """Megabytes (10^6) of a package and what it requires, extras and bytecode left out."""
    done = subprocess.run([str(python), __file__, package], capture_output=True, text=True, check=True)
    return float(done.stdout)


def _size(package: str, seen: set[str]) -> int:
    from packaging.requirements import Requirement

    if package in seen:
        return 0
    seen.add(package)
    try:
        distribution = metadata.distribution(package)
    except metadata.PackageNotFoundError:
        return 0
    files = [
        Path(str(distribution.locate_file(file))) for file in distribution.files or () if "__pycache__" not in str(file)
    ]
    size = sum(file.stat().st_size for file in files if file.exists())
    for text in distribution.requires or ():
        wanted = Requirement(text)
        if wanted.marker is None or wanted.marker.evaluate({"extra": ""}):
            size += _size(wanted.name.lower().replace("_", "-"), seen)
    return size


if __name__ == "__main__":
    print(_size(sys.argv[1], set()) / 1e6)
