from __future__ import annotations

import asyncio
import base64
import sqlite3
import time
from pathlib import Path

import msgspec
import pytest
from sqlalchemy import text

from tollway.jobs.write_ledger import LedgerWriter
from tollway.model.event import UsageFilter
from tollway.storage.engine import Database
from tollway.storage.repositories import rollups
from tollway.storage.repositories.events import Events
from tollway.storage.repositories.ledger import Ledger, read_entry
from tollway.storage.segments import Position
from tollway.storage.spool import RECENT_LIMIT, Spool
from tollway.storage.sqlite import SqliteDatabase


async def until(condition, seconds: float = 5.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        await asyncio.sleep(0.01)


async def test_events_reach_the_database_once(spool: Spool, database: Database, put, event) -> None:
    ledger = LedgerWriter(spool, database)
    sent = [event(n) for n in range(1500)]
    put(*sent)
    assert await ledger.drain(5)
    assert (ledger.written, ledger.duplicates, ledger.position) == (1500, 0, spool.end)
    assert await ledger.drain(5)
    assert ledger.written == 1500
    page = await Events(database).page(UsageFilter(), 1000)
    assert set(page.events) <= set(sent)
    assert len(page.events) == 1000
    assert await rollups.verify(database) == []


async def test_running_follows_the_spool(spool: Spool, database: Database, put, event) -> None:
    ledger = LedgerWriter(spool, database)
    running = asyncio.create_task(ledger.run())
    for n in range(0, 900, 30):
        put(*(event(m) for m in range(n, n + 30)))
        await asyncio.sleep(0.005)
    await until(lambda: ledger.written == 900)
    # A drain beside the loop: what was appended before it is stored when it returns.
    put(event(900))
    assert await ledger.drain(5)
    assert await Events(database).count() == 901
    ledger.stop()
    await asyncio.wait_for(running, 2)
    # All segments but the one in use were given back.
    await until(lambda: len(list(spool.directory.glob("*.spool"))) <= 3)


async def test_the_next_process_goes_on(spool: Spool, database: Database, put, event) -> None:
    put(*(event(n) for n in range(300)))
    assert await LedgerWriter(spool, database).drain(5)
    put(*(event(n) for n in range(300, 350)))
    following = LedgerWriter(spool, database)
    assert await following.drain(5)
    assert following.written == 50
    assert await Events(database).count() == 350


async def test_a_spool_put_back_from_a_copy_counts_nothing_twice(
    spool: Spool, database: Database, put, event
) -> None:
    put(*(event(n) for n in range(20)))
    assert await LedgerWriter(spool, database).drain(5)
    await database.write(lambda c: c.execute(text("UPDATE spool_positions SET segment = 99")))
    put(event(20))
    ledger = LedgerWriter(spool, database)
    assert await ledger.drain(5)
    assert (ledger.written, ledger.duplicates) == (1, 20)
    assert await Events(database).count() == 21
    assert await rollups.verify(database) == []


class Recorded(SqliteDatabase):
    """Tells which transactions were asked to survive a power cut."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.durable: list[bool] = []

    async def write(self, work, *, deadline: float = 15.0, durable: bool = False):
        self.durable.append(durable)
        return await super().write(work, deadline=deadline, durable=durable)


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
async def test_a_segment_is_left_only_durably(
    spool: Spool, database: Database, put, event, tmp_path: Path
) -> None:
    """Once a segment is used again, the database alone has its events."""
    recorded = Recorded(tmp_path / "ledger.db")
    ledger = LedgerWriter(spool, recorded)
    put(event(0))
    assert await ledger.drain(5)
    recorded.durable.clear()
    put(event(1))
    assert await ledger.drain(5)
    assert recorded.durable == [False]
    first = spool.end.segment
    put(*(event(n) for n in range(2, 900)))
    recorded.durable.clear()
    assert await ledger.drain(5)
    assert spool.end.segment - first > 3
    assert recorded.durable == [True]
    await recorded.close()


async def test_what_is_appended_while_it_runs_is_handed_over(
    spool: Spool, database: Database, put, event
) -> None:
    """The ledger takes entries as they were appended; the files are for what was there before, and for failures."""
    put(event(0))
    start = spool.end
    ledger = LedgerWriter(spool, database)
    known = [event(number) for number in range(1, 700)]
    meanings = [read_entry(each) for each in known]
    for each, meaning in zip(known[:300], meanings[:300], strict=True):
        spool.enter()
        spool.append(each, meaning)
        spool.leave()
    taken = spool.take(start, 200)
    assert taken is not None
    handed, after = taken
    assert [record for record, _ in handed] == known[:200]
    assert all(meaning is given for (_, given), meaning in zip(handed, meanings, strict=False))
    assert spool.take(start, 200) is None, "each is handed out once; then it is read from the files"
    assert spool.read(start, 1 << 20, 200)[1] == after
    for each, meaning in zip(known[300:], meanings[300:], strict=True):
        spool.enter()
        spool.append(each, meaning)
        spool.leave()
    assert await ledger.drain(5)
    assert ledger.written == 700
    assert await Events(database).count() == 700


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
async def test_a_batch_that_failed_is_read_from_the_files(spool: Spool, database: Database, event) -> None:
    ledger = LedgerWriter(spool, database)
    for number in range(40):
        known = event(number)
        spool.enter()
        spool.append(known, read_entry(known))
        spool.leave()
    moved = database.path.rename(database.path.with_suffix(".away"))
    assert not await ledger.drain(0.3)
    moved.rename(database.path)
    known = event(40)
    spool.enter()
    spool.append(known, read_entry(known))
    spool.leave()
    assert await ledger.drain(10)
    assert ledger.written == 41
    assert await Events(database).count() == 41


async def test_more_than_is_remembered_is_read_from_the_files(
    spool: Spool, database: Database, event
) -> None:
    ledger = LedgerWriter(spool, database)
    for number in range(RECENT_LIMIT + 50):
        known = event(number)
        spool.enter()
        spool.append(known, read_entry(known))
        spool.leave()
    assert await ledger.drain(30)
    assert await Events(database).count() == RECENT_LIMIT + 50


async def test_a_spooled_repeat_is_not_counted(spool: Spool, database: Database, put, event) -> None:
    put(event(1), event(2), event(1), event(3))
    ledger = LedgerWriter(spool, database)
    assert await ledger.drain(5)
    assert (ledger.written, ledger.duplicates) == (3, 1)
    total = (await Events(database).usage([])).total
    assert total["cost_nano_usd"] == 306


async def test_what_is_no_event_is_put_aside(spool: Spool, database: Database, put, event) -> None:
    broken = [b"not json", b'{"id":"ue_x"}', event(5, time="now"), event(6, cost_nano_usd=1 << 62)]
    put(event(1), *broken, event(2))
    ledger = LedgerWriter(spool, database)
    assert await ledger.drain(5)
    assert (ledger.written, ledger.poisoned) == (2, 4)
    assert ledger.degraded is None
    lines = (spool.directory / "quarantine.ndjson").read_bytes().splitlines()
    assert [base64.b64decode(msgspec.json.decode(line)["base64"]) for line in lines] == broken


async def test_another_writer_of_the_same_spool_is_noticed(
    spool: Spool, database: Database, put, event
) -> None:
    one, other = LedgerWriter(spool, database), LedgerWriter(spool, database)
    put(event(1))
    assert await one.drain(5)
    put(event(2))
    assert await other.drain(5)
    put(event(3))
    assert await one.drain(5)
    assert await Events(database).count() == 3
    assert await Ledger(database).position(spool.id) == spool.end


@pytest.mark.parametrize("trouble", ["locked", "no file", "not migrated", "read-only"])
@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
async def test_a_database_that_goes_away_and_comes_back(
    spool: Spool, database: Database, put, event, trouble: str
) -> None:
    path = database.path
    ledger = LedgerWriter(spool, database)
    running = asyncio.create_task(ledger.run())
    put(*(event(n) for n in range(100)))
    await until(lambda: ledger.written == 100)
    await database.write(lambda c: c.exec_driver_sql("PRAGMA busy_timeout=20") and None)

    other = sqlite3.connect(path, isolation_level=None)
    if trouble == "locked":
        other.execute("BEGIN EXCLUSIVE")
    elif trouble == "no file":
        path.rename(path.with_name("away"))
        path.mkdir()
    elif trouble == "not migrated":
        other.execute("ALTER TABLE rollups RENAME TO hidden")
    else:
        await database.write(lambda c: c.exec_driver_sql("PRAGMA query_only=ON") and None)

    put(*(event(n) for n in range(100, 1000)))
    await until(lambda: ledger.degraded is not None)
    told = {"locked": "locked", "no file": "ledger.db", "not migrated": "migrated", "read-only": "readonly"}
    assert told[trouble] in ledger.degraded
    assert "none is lost" in ledger.degraded
    assert not await ledger.drain(0.2)
    put(*(event(n) for n in range(1000, 1100)))
    assert ledger.written == 100

    if trouble == "locked":
        other.execute("ROLLBACK")
    elif trouble == "no file":
        path.rmdir()
        path.with_name("away").rename(path)
    elif trouble == "not migrated":
        other.execute("ALTER TABLE hidden RENAME TO rollups")
    else:
        await database.reconnect()
    other.close()
    assert await ledger.drain(10)
    assert (ledger.written, ledger.duplicates) == (1100, 0)
    assert ledger.degraded is None
    assert await Events(database).count() == 1100
    assert await rollups.verify(database) == []
    ledger.stop()
    await asyncio.wait_for(running, 2)


async def test_a_wait_that_was_given_up_may_have_stored_its_batch(
    spool: Spool, database: Database, put, event
) -> None:
    """Cancelled at any moment, the writer goes on from what the database says."""
    put(*(event(n) for n in range(2000)))
    ledger = LedgerWriter(spool, database)
    for n in range(40):
        task = asyncio.create_task(ledger.drain(5))
        await asyncio.sleep(n * 0.0003)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    assert await ledger.drain(5)
    assert await Events(database).count() == 2000
    assert await rollups.verify(database) == []
    assert await Ledger(database).position(spool.id) == Position(*spool.end)


async def test_the_loop_is_never_held_for_long(spool: Spool, database: Database, put, event) -> None:
    put(*(event(n) for n in range(8000)))
    ledger = LedgerWriter(spool, database)
    longest = 0.0
    draining = asyncio.create_task(ledger.drain(20))
    while not draining.done():
        before = time.perf_counter()
        await asyncio.sleep(0)
        longest = max(longest, time.perf_counter() - before)
    assert await draining
    assert longest < 0.1
