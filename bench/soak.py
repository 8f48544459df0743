"""Soak: what is left after 200,000 requests and 20,000 clients that vanished. Memory must come back to within
10 % of what it was when warm, and nothing may stay held: no reservation, no open request, no file.

It does not judge speed; bench/run.py does.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

from msgspec import Struct, json
from rich.console import Console

from bench import account, results
from bench.measure import Running, launch, load
from bench.processes import Programs, raise_file_limit, request
from bench.run import start_mock
from bench.subjects import ADMIN_KEY, ALL, BY_NAME, GOVERNED

OUT = results.FOLDER / "soak.json"
TOLERANCE = 1.10


class Soak(Struct, frozen=True, kw_only=True):
    """Memory in bytes at the three moments; what was still open at the end (all must be 0)."""

    taken: str
    subject: str
    machine: results.Machine
    requests: int
    aborted: int
    idle: account.Account
    steady: account.Account
    recovered: account.Account
    open_at_mock: int
    open_at_gateway: int | None
    held_nano_usd: int | None
    failures: list[str]


class Stats(Struct):
    open: int


class Status(Struct):
    open_requests: int


class Key(Struct):
    held_nano_usd: int


def exercise(running: Running, requests: int, aborted: int) -> list[str]:
    """Requests and vanishing clients in four rounds, so that each kind meets what the other left behind."""
    failures = []
    for _ in range(4):
        for mode, scenario, count, connections in (
            ("closed", "bench", requests // 4, 64),
            ("abort", "bench-stream", aborted // 4, 200),
        ):
            done = load(
                running.port,
                mode,
                running.subject.model(scenario),
                running.start.headers,
                requests=count,
                connections=connections,
                limit=600,
            )
            if done.errors or done.ok != count:
                failures.append(f"{mode}: {done.ok} of {count} done, {done.statuses}, {done.errors}")
    return failures


def settle(mock: int, *, limit: float = 20.0) -> int:
    """Requests still open at the mock once there are none, or when ``limit`` seconds are over."""
    end = time.monotonic() + limit
    while True:
        left = json.decode(request(mock, "/stats")[1], type=Stats).open
        if left == 0 or time.monotonic() > end:
            return left
        time.sleep(0.2)


def soak(running: Running, mock: int, *, requests: int, aborted: int) -> Soak:
    pid = running.pid
    idle = account.wait_until_quiet(pid)
    failures = exercise(running, requests // 10, aborted // 10)
    settle(mock)
    steady = account.wait_until_quiet(pid, limit=30)
    failures += exercise(running, requests, aborted)
    open_at_mock = settle(mock)
    recovered = account.wait_until_quiet(pid, limit=60)
    open_here: int | None = None
    held: int | None = None
    if running.subject.api:
        admin = {"authorization": f"Bearer {ADMIN_KEY}"}
        open_here = json.decode(
            request(running.port, "/api/status", headers=admin)[1], type=Status
        ).open_requests
        held = json.decode(request(running.port, "/api/keys/bench", headers=admin)[1], type=Key).held_nano_usd
    if recovered.rss > steady.rss * TOLERANCE:
        failures.append(f"memory grew from {steady.rss / 1e6:.0f} to {recovered.rss / 1e6:.0f} MB")
    if recovered.open_files > steady.open_files + 8:
        failures.append(f"open files grew from {steady.open_files} to {recovered.open_files}")
    if open_at_mock:
        failures.append(f"{open_at_mock} requests still open at the mock")
    if open_here:
        failures.append(f"{open_here} reservations still held")
    if held:
        failures.append(f"{held} nano-dollars still held on the key")
    return Soak(
        taken=results.now(),
        subject=running.subject.name,
        machine=results.machine(),
        requests=requests,
        aborted=aborted,
        idle=idle,
        steady=steady,
        recovered=recovered,
        open_at_mock=open_at_mock,
        open_at_gateway=open_here,
        held_nano_usd=held,
        failures=failures,
    )


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.soak", description=__doc__)
    parser.add_argument("--only", choices=sorted(BY_NAME), default=GOVERNED.name)
    parser.add_argument("--quick", action="store_true", help="a tenth of it")
    parser.add_argument("--out", type=Path, default=OUT)
    given = parser.parse_args()
    raise_file_limit()
    size = 1 if given.quick else 10
    console = Console(highlight=False)
    with tempfile.TemporaryDirectory(prefix="tollway-soak-") as scratch, Programs() as programs:
        mock, _ = start_mock(programs, Path(scratch))
        subject = next(s for s in ALL if s.name == given.only)
        running = launch(subject, programs, Path(scratch) / subject.name, mock)
        found = soak(running, mock, requests=20_000 * size, aborted=2_000 * size)
    given.out.parent.mkdir(parents=True, exist_ok=True)
    given.out.write_bytes(json.format(json.encode(found), indent=1) + b"\n")
    for name, books in (("idle", found.idle), ("steady", found.steady), ("recovered", found.recovered)):
        memory = f"RSS {books.rss / 1e6:6.1f} MB  PSS {books.pss / 1e6:6.1f} MB"
        console.print(f"{name:10} {memory}  {books.open_files} open files")
    for failure in found.failures:
        console.print(f"[red]{failure}[/]")
    return 1 if found.failures else 0


if __name__ == "__main__":
    raise SystemExit(main())
