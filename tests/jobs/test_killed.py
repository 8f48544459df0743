"""Nothing lost, nothing twice: processes are killed while they answer, and everything they answered is in
the ledger exactly once."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from pathlib import Path

import pytest
from sqlalchemy import text

from tollway.config.settings import SpoolSettings
from tollway.jobs.write_ledger import LedgerWriter
from tollway.storage.engine import Database
from tollway.storage.repositories import rollups
from tollway.storage.repositories.events import Events
from tollway.storage.spool import Spool

PROGRAM = Path(__file__).parent / "gateway_process.py"
ROUNDS = 10


def killed_after(directory: Path, first: int, writes: str, seconds: float) -> list[int]:
    """Start the process, kill it, and say which events it had answered for."""
    printed = directory / "printed"
    command = [sys.executable, str(PROGRAM), str(directory), str(first), writes]
    with printed.open("wb") as out:
        process = subprocess.Popen(command, stdout=out)
        try:
            end = time.monotonic() + 10
            while printed.stat().st_size == 0 and time.monotonic() < end and process.poll() is None:
                time.sleep(0.002)
            time.sleep(seconds)
            assert process.poll() is None, "it ended by itself"
        finally:
            process.kill()
            process.wait()
    # The last line may be cut off by the kill: its event is durable, its number is not known to the client.
    lines = printed.read_bytes().split(b"\n")[:-1]
    return [int(line) for line in lines]


@pytest.mark.parametrize("writes", ["writes", "spools"])
async def test_killed_processes_lose_nothing(tmp_path: Path, writes: str) -> None:
    choose = random.Random(7)
    database = Database.open("sqlite:///ledger.db", tmp_path)
    await database.migrate()
    answered: list[int] = []
    for _ in range(ROUNDS):
        first = answered[-1] + 2 if answered else 0
        answered += killed_after(tmp_path, first, writes, choose.uniform(0, 0.08))
    assert len(answered) > 500

    spool = Spool(tmp_path / "spool", SpoolSettings(segment_bytes=128 * 1024, max_bytes=128 * 1024 * 1024))
    ledger = LedgerWriter(spool, database)
    assert await ledger.drain(20)
    assert (ledger.poisoned, ledger.duplicates, spool.damaged) == (0, 0, 0)

    def stored(connection) -> list[int]:
        ids = connection.execute(text("SELECT id FROM events ORDER BY id")).scalars()
        return [int(id.removeprefix("ue_")) for id in ids]

    found = await database.read(stored)
    assert len(found) == len(set(found))
    assert set(answered) <= set(found)
    # Besides those, at most one a round: spooled, and killed before it was answered.
    assert len(found) - len(answered) <= ROUNDS
    total = (await Events(database).usage([])).total
    assert (total["requests"], total["cost_nano_usd"]) == (len(found), sum(found))
    assert await rollups.verify(database) == []
    await database.close()
    spool.close()
