"""A run's numbers on disk: what was measured where, each repetition, and the medians."""

from __future__ import annotations

import os
import platform
import statistics
import subprocess
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from msgspec import Struct, json

from bench.measure import Measured

FOLDER = Path(__file__).parent / "results"
LATEST = FOLDER / "latest.json"


class Machine(Struct, frozen=True, kw_only=True):
    processor: str
    cores: int
    memory_gb: int
    kernel: str
    python: str
    node: str | None


class Entry(Struct, frozen=True, kw_only=True):
    """One subject. ``repetitions`` in the order they ran; ``median`` over them, name by name."""

    name: str
    label: str
    version: str
    repetitions: list[Measured]
    median: Measured


class Results(Struct, frozen=True, kw_only=True):
    taken: str
    quick: bool
    machine: Machine
    subjects: list[Entry]
    skipped: dict[str, str] = {}

    def of(self, name: str) -> Measured:
        """The medians of a subject; empty when it was not measured."""
        return next((entry.median for entry in self.subjects if entry.name == name), {})


def median(repetitions: list[Measured]) -> Measured:
    """Name by name over the repetitions that have a number there."""
    found: Measured = {}
    for name in dict.fromkeys(name for one in repetitions for name in one):
        values = [value for one in repetitions if (value := one.get(name)) is not None]
        found[name] = round(statistics.median(values), 4) if values else None
    return found


def machine() -> Machine:
    processor = platform.machine()
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            processor = line.split(":", 1)[1].strip()
            break
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    try:
        node = subprocess.run(
            ["node", "--version"], capture_output=True, text=True, check=True
        ).stdout.strip()
    except (FileNotFoundError, subprocess.CalledProcessError):
        node = None
    return Machine(
        processor=processor,
        cores=len(os.sched_getaffinity(0)),
        memory_gb=round(memory / 2**30),
        kernel=platform.release(),
        python=platform.python_version(),
        node=node,
    )


def own_version() -> str:
    try:
        return version("tollway")
    except PackageNotFoundError:
        return "unknown"


def save(results: Results, path: Path = LATEST) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(json.format(json.encode(results), indent=1) + b"\n")


def read(path: Path = LATEST) -> Results:
    return json.decode(path.read_bytes(), type=Results)


def now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
