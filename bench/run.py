"""The benchmark: mock, bare relay, Tollway and (with --peers) LiteLLM and Portkey, in one run on two cores.

Repetitions are interleaved, so that a slow minute of the machine hits everyone. Results go to a JSON file
and, as a table, to the terminal; bench/table.py carries them into the README.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

from msgspec import structs
from rich.console import Console
from rich.table import Table

from bench import results
from bench.measure import FULL, QUICK, Measured, Plan, launch, measure, measure_mock
from bench.peers.install import LITELLM as LITELLM_VERSION
from bench.peers.install import PORTKEY as PORTKEY_VERSION
from bench.processes import (
    LOAD_CORE,
    SUBJECT_CORE,
    NeverReady,
    Programs,
    free_port,
    raise_file_limit,
    wait_for,
)
from bench.results import LATEST, Entry, Results
from bench.subjects import ALL, BY_NAME, ROOT, Subject
from bench.witness import Wrong

console = Console(stderr=True, highlight=False)

VERSIONS = {"litellm": LITELLM_VERSION, "portkey": PORTKEY_VERSION}


class MockEnded(RuntimeError):
    """Without the mock there is nothing to measure."""


def start_mock(programs: Programs, folder: Path) -> tuple[int, int]:
    """Port and process id of a simulator that keeps no books of its own."""
    port, log = free_port(), folder / "mock.log"
    command = [sys.executable, "-m", "tollway.simulator", "--port", str(port)]
    mock = programs.start(
        [*command, "--bill-entries", "0", "--record", "0"], core=LOAD_CORE, log=log, cwd=ROOT
    )
    wait_for(mock, port, "/health", log=log, limit=20)
    return port, mock.pid


def run(subjects: list[Subject], plan: Plan, *, quick: bool) -> Results:
    """Measures every subject ``plan.repetitions`` times; ``skipped`` names those that could not be."""
    found: dict[str, list[Measured]] = {"mock": []}
    skipped: dict[str, str] = {}
    with tempfile.TemporaryDirectory(prefix="tollway-bench-") as scratch, Programs() as programs:
        folder = Path(scratch)
        mock_port, mock_pid = start_mock(programs, folder)
        mock = programs.running[0]
        for repetition in range(plan.repetitions):
            turn = f"[dim]{repetition + 1}/{plan.repetitions}[/]"
            console.print(f"{turn} mock")
            found["mock"].append(measure_mock(mock_pid, mock_port, plan))
            for subject in subjects:
                if subject.name in skipped:
                    continue
                began = time.monotonic()
                running = None
                try:
                    running = launch(subject, programs, folder / f"{subject.name}-{repetition}", mock_port)
                    measured = measure(running, mock_port, plan, held=repetition == 0)
                except (NeverReady, Wrong, OSError, RuntimeError) as error:
                    if mock.poll() is not None:
                        raise MockEnded(f"the mock ended with {mock.returncode}") from error
                    skipped[subject.name] = str(error)
                    console.print(f"  {subject.label}: {error}", style="red", markup=False)
                    continue
                finally:
                    if running is not None:
                        programs.stop(running.process)
                found.setdefault(subject.name, []).append(measured)
                console.print(
                    f"{turn} {subject.label}: "
                    f"{measured['request_us']:.1f} µs/request, {time.monotonic() - began:.0f} s"
                )
    labels = {"mock": "mock alone"} | {subject.name: subject.label for subject in ALL}
    return Results(
        taken=results.now(),
        quick=quick,
        machine=results.machine(),
        subjects=[
            Entry(
                name=name,
                label=labels[name],
                version=VERSIONS.get(name, results.own_version()),
                repetitions=repetitions,
                median=results.median(repetitions),
            )
            for name, repetitions in found.items()
        ],
        skipped=skipped,
    )


ROWS = (
    ("CPU per request, µs", "request_us", 1),
    ("requests/s, {connections} connections", "request_rps", 0),
    ("core used meanwhile", "request_busy", 2),
    ("CPU per event, 100 streams, µs", "event_us_at_100", 1),
    ("CPU per event, 400 streams, µs", "event_us_at_400", 1),
    ("first event, 100 streams, p99 ms", "first_p99_ms_at_100", 2),
    ("first event, 400 streams, p99 ms", "first_p99_ms_at_400", 2),
    ("streams lost", "lost_at_100", 0),
    ("CPU per translated request, µs", "translated_us", 1),
    ("times a relayed one", "translated_ratio", 2),
    ("CPU per translated event, µs", "translated_event_us", 1),
    ("times a relayed one", "translated_event_ratio", 2),
    ("translated streams lost", "translated_lost", 0),
    ("first event, p50 ms", "first_event_ms", 3),
    ("p99 ms, 1 connection", "p99_ms_at_1", 3),
    ("p99 ms, 64 connections", "p99_ms_at_64", 2),
    ("p99 ms, 256 connections", "p99_ms_at_256", 2),
    ("streams held", "streams_held", 0),
    ("cold start, ms", "cold_ms", 0),
    ("RSS idle, MB", "idle_rss_mb", 0),
    ("RSS after load, MB", "steady_rss_mb", 0),
    ("PSS after load, MB", "steady_pss_mb", 0),
    ("requests failed", "failed", 0),
    ("requests missing in the ledger", "ledger_missing", 0),
)


def show(found: Results, plan: Plan) -> None:
    table = Table(title=f"{found.taken}, {found.machine.processor}, medians of {plan.repetitions}")
    table.add_column("")
    for entry in found.subjects:
        table.add_column(entry.label, justify="right", overflow="fold")
    relay = found.of("relay")
    for label, name, digits in ROWS:
        cells = []
        for entry in found.subjects:
            value = entry.median.get(name)
            cell = "" if value is None else f"{value:,.{digits}f}"
            base = relay.get(name)
            if value and base and entry.name not in ("relay", "mock") and "_us" in name:
                cell += f" (×{value / base:.1f})"
            cells.append(cell)
        if any(cells):
            table.add_row(label.format(connections=plan.connections), *cells)
    terminal = Console()
    Console(width=terminal.width if terminal.is_terminal else 160).print(table)
    for name, reason in found.skipped.items():
        console.print(f"[red]not measured: {BY_NAME[name].label}[/]: {reason.splitlines()[0]}")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.run", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one short repetition")
    parser.add_argument(
        "--peers", action="store_true", help="LiteLLM and Portkey too (bench.peers.install first)"
    )
    parser.add_argument("--only", action="append", choices=sorted(BY_NAME), help="these subjects; repeatable")
    parser.add_argument("--repetitions", type=int, help="instead of three")
    parser.add_argument("--out", type=Path, help="where the JSON goes")
    given = parser.parse_args()
    if LOAD_CORE == SUBJECT_CORE:
        console.print("Two cores are needed: one for the subject, one for mock and load.")
        return 1
    raise_file_limit()
    plan = QUICK if given.quick else FULL
    if given.repetitions:
        plan = structs.replace(plan, repetitions=given.repetitions)
    subjects = [s for s in ALL if (s.name in given.only if given.only else given.peers or not s.peer)]
    try:
        found = run(subjects, plan, quick=given.quick)
    except RuntimeError as error:
        console.print(f"[red]stopped: {error}[/]")
        return 1
    # Only a full run with everybody in it replaces the kept results.
    whole = given.peers and not given.quick and not given.only and not found.skipped
    out = given.out or (LATEST if whole else ROOT / "build" / "bench" / "last.json")
    results.save(found, out)
    show(found, plan)
    console.print(f"kept in {out}")
    return 1 if found.skipped else 0


if __name__ == "__main__":
    raise SystemExit(main())
