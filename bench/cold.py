"""Cold start: from spawning the process to its first answered chat completion, with a new data directory and
with one that a former start left behind. Medians of some starts; the files are in the system's cache."""

from __future__ import annotations

import argparse
import statistics
import tempfile
from pathlib import Path

from msgspec import Struct, json
from rich.console import Console

from bench import results
from bench.measure import launch
from bench.processes import NeverReady, Programs, raise_file_limit
from bench.run import start_mock
from bench.subjects import ALL, BY_NAME, GOVERNED, Subject

OUT = results.FOLDER / "cold.json"


class Cold(Struct, frozen=True, kw_only=True):
    """Milliseconds of every start."""

    subject: str
    new_ms: list[float]
    existing_ms: list[float]

    @property
    def medians(self) -> tuple[float, float]:
        return statistics.median(self.new_ms), statistics.median(self.existing_ms)


class ColdResults(Struct, frozen=True, kw_only=True):
    taken: str
    machine: results.Machine
    starts: list[Cold]


def measure_starts(subject: Subject, programs: Programs, folder: Path, mock: int, *, times: int) -> Cold:
    """Raises NeverReady."""
    new: list[float] = []
    existing: list[float] = []
    for number in range(times):
        for kept in (new, existing):
            running = launch(subject, programs, folder / f"{subject.name}-{number}", mock)
            kept.append(round(running.cold_seconds * 1000, 1))
            programs.stop(running.process)
    return Cold(subject=subject.name, new_ms=new, existing_ms=existing)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.cold", description=__doc__)
    parser.add_argument("--times", type=int, default=5)
    parser.add_argument("--peers", action="store_true")
    parser.add_argument("--only", action="append", choices=sorted(BY_NAME))
    parser.add_argument("--out", type=Path, default=OUT)
    given = parser.parse_args()
    raise_file_limit()
    chosen = [
        s for s in ALL if (s.name in given.only if given.only else s is GOVERNED or (given.peers and s.peer))
    ]
    console, starts = Console(), []
    with tempfile.TemporaryDirectory(prefix="tollway-cold-") as scratch, Programs() as programs:
        mock, _ = start_mock(programs, Path(scratch))
        for subject in chosen:
            try:
                cold = measure_starts(subject, programs, Path(scratch), mock, times=given.times)
            except NeverReady as error:
                console.print(f"{subject.label}: {error}", markup=False)
                return 1
            starts.append(cold)
            new, existing = cold.medians
            console.print(
                f"{subject.label}: {new:.0f} ms with a new data directory, {existing:.0f} ms with its own"
            )
    found = ColdResults(taken=results.now(), machine=results.machine(), starts=starts)
    given.out.parent.mkdir(parents=True, exist_ok=True)
    given.out.write_bytes(json.format(json.encode(found), indent=1) + b"\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
