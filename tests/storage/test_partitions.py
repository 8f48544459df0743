from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest
from sqlalchemy import Connection, text

from tollway.model.event import UsageEvent, UsageFilter
from tollway.storage.engine import Database
from tollway.storage.partitions import coming, existing, make, partition
from tollway.storage.repositories import rollups
from tollway.storage.repositories.events import Events
from tollway.storage.repositories.ledger import Ledger, read_entry
from tollway.storage.segments import BEGINNING, Position

Make = Callable[..., UsageEvent]


@pytest.fixture
async def database(postgres_database: str) -> AsyncIterator[Database]:
    opened = Database.open(postgres_database, Path("/"))
    yield opened
    await opened.close()


async def append(database: Database, *events: UsageEvent) -> int:
    entries = [read_entry(msgspec.json.encode(event)) for event in events]
    return await Ledger(database).append(entries, "spool", BEGINNING, Position(1, 1))


async def rows_in(database: Database, name: str) -> int:
    def ask(connection: Connection) -> int:
        return connection.execute(text(f"SELECT count(*) FROM ONLY {name}")).scalar_one()

    return await database.read(ask)


def test_the_months_to_come() -> None:
    at = datetime(2026, 12, 31, 23, 59, tzinfo=UTC).timestamp()
    assert coming(at) == ["2026-12", "2027-01", "2027-02"]
    at = datetime(2027, 1, 31, tzinfo=UTC).timestamp()
    assert coming(at) == ["2027-01", "2027-02", "2027-03"]


async def test_events_make_the_month_they_need(database: Database, make_event: Make) -> None:
    assert await database.read(existing) == []
    times = (
        "2026-11-30T23:59:59.999Z",
        "2026-12-01T00:00:00.000Z",
        "1999-01-01T00:00:00.000Z",
        "not-a-mT:ime:not:a:tmeZ",
    )
    events = [make_event(at, time=time) for at, time in enumerate(times[:3])]
    assert await append(database, *events) == 3
    assert await database.read(existing) == ["events_1999_01", "events_2026_11", "events_2026_12"]
    assert await rows_in(database, "events_2026_11") == 1
    assert await rows_in(database, "events_2026_12") == 1
    assert await rows_in(database, "events") == 0


async def test_a_time_that_is_none_stops_nobody(database: Database, make_event: Make) -> None:
    """A record of the right length whose month is nonsense: a partition of its own, and the others go on."""
    odd = make_event(1, time="2'26-1)T00:00:00.000ZZZZ"[:10] + "T00:00:00.000Z")
    assert await append(database, odd, make_event(2)) == 2
    assert len(await database.read(existing)) == 2
    assert await Events(database).count(UsageFilter()) == 2


async def test_many_make_them_at_once(database: Database) -> None:
    months = ["2026-11", "2026-12", "2027-01"]
    others = [Database.open(database.url, Path("/")) for _ in range(6)]
    made = await asyncio.gather(*(each.write(lambda connection: make(connection, months)) for each in others))
    assert sum(made) == 3
    assert await database.read(existing) == [partition(month) for month in months]
    for each in others:
        await each.close()


async def test_retention_drops_whole_months(database: Database, make_event: Make) -> None:
    days = ("2026-09-30", "2026-10-01", "2026-10-31", "2026-11-01", "2026-11-20")
    await append(database, *(make_event(at, time=f"{day}T10:00:00.000Z") for at, day in enumerate(days)))
    events = Events(database)
    before = await events.usage(["day"])
    assert await events.purge("2026-11-15", 500) == 3
    assert await database.read(existing) == ["events_2026_11"]
    assert await events.count() == 2
    assert await events.purge("2026-11-15", 500) == 0
    after = await events.usage(["day"])
    assert after.rows == before.rows, "the roll-ups remember"
    assert after.total["requests"] == 5
    assert await rollups.verify(database) == []


async def test_what_text_cannot_hold_or_an_index_not_take(database: Database, make_event: Make) -> None:
    """Names of any length and with any character are stored; the event beside them is whole."""
    long = "".join(chr(0x4E00 + at % 5000) for at in range(9000))
    odd = [
        make_event(1, model=long),
        make_event(2, model=long + "x"),
        make_event(3, customer="a\x00b", tags=("t" * 5000,)),
    ]
    assert await append(database, *odd) == 3
    page = await Events(database).page(UsageFilter())
    assert {msgspec.json.decode(event)["model"] for event in page.events} == {long, long + "x", "fast"}
    assert await rollups.verify(database) == []
    report = await Events(database).usage(["model"])
    assert len(report.rows) == 3
    await rollups.rebuild(database)
    assert (await Events(database).usage(["model"])).rows == report.rows


async def test_the_first_events_of_a_month_come_from_everywhere_at_once(
    database: Database, make_event: Make
) -> None:
    others = [Database.open(database.url, Path("/")) for _ in range(6)]

    async def first(at: int) -> int:
        entries = [
            read_entry(
                msgspec.json.encode(make_event(at * 100 + n, time=f"2031-0{1 + n % 3}-01T00:00:00.000Z"))
            )
            for n in range(30)
        ]
        return await Ledger(others[at]).append(entries, f"spool{at}", BEGINNING, Position(1, 1))

    assert await asyncio.gather(*(first(at) for at in range(6))) == [30] * 6
    assert await Events(database).count() == 180
    assert await rollups.verify(database) == []
    for each in others:
        await each.close()


async def test_a_span_is_looked_for_in_its_months_only(database: Database, make_event: Make) -> None:
    days = ("2026-09-30", "2026-10-31", "2026-11-01", "2026-12-20")
    await append(database, *(make_event(at, time=f"{day}T10:00:00.000Z") for at, day in enumerate(days)))

    def explain(connection: Connection) -> str:
        query = text(
            "EXPLAIN (ANALYZE, COSTS OFF) SELECT count(*) FROM events WHERE time >= :since AND time < :until"
        )
        span = {"since": "2026-10-05T00:00:00.000Z", "until": "2026-11-05T00:00:00.000Z"}
        return "\n".join(connection.execute(query, span).scalars())

    plan = await database.read(explain)
    assert "events_2026_10" in plan
    assert "events_2026_11" in plan
    assert "events_2026_09" not in plan
    assert "events_2026_12" not in plan
