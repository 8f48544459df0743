"""How a batch of events enters PostgreSQL: the events by COPY, the roll-ups by one statement for each table whose
values are arrays. Within the transaction of ``Ledger``."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from functools import cache
from hashlib import sha256
from typing import Any

from sqlalchemy import Connection
from sqlalchemy.util import await_only

from tollway.storage.columns import without_zero
from tollway.storage.entries import COLUMNS, DIMENSIONS, MEASURES, Entry, Flat, totals
from tollway.storage.partitions import make, month_of
from tollway.storage.tables import rollups, rollups_hourly

_LONGEST = 256
"""Characters of a name that an index takes for certain: its rows have at most 2704 bytes."""

_SLICE = 64
"""Events encoded before other tasks of the loop get their turn: requests are served on it too."""

_PRICED = COLUMNS.index("priced")
_TIME = COLUMNS.index("time")
_TAGS = DIMENSIONS.index("tags")


def prepare(connection: Connection, entries: Sequence[Entry]) -> None:
    """Make the months that the entries belong to, where they are missing."""
    make(connection, {month_of(str(entry.columns[_TIME])) for entry in entries})


def store(connection: Connection, entries: Sequence[Entry]) -> None:
    """Raises IntegrityError, by way of the engine, for an id that is stored already or a month that is not made."""
    driver: Any = connection.connection.driver_connection
    fitting = [_fitting(entry) for entry in entries]
    await_only(driver.copy_records_to_table("events", columns=COLUMNS, records=_records(fitting)))
    await_only(asyncio.sleep(0))
    days, hours = totals(fitting)
    for table, time, rows in ((rollups.name, "day", days), (rollups_hourly.name, "hour", hours)):
        if rows:
            await_only(driver.execute(_add(table, time), *map(list, zip(*rows, strict=True))))


async def _records(entries: Sequence[Entry]) -> AsyncIterator[list[str | int | bytes | None]]:
    for at, entry in enumerate(entries, 1):
        if at % _SLICE == 0:
            await asyncio.sleep(0)
        yield _record(entry.columns)


def _record(columns: Flat) -> list[str | int | bytes | None]:
    record = list(columns)
    record[_PRICED] = bool(record[_PRICED])
    return record


def _fitting(entry: Entry) -> Entry:
    """The entry with names that PostgreSQL can hold and index. The event beside them stays as it is."""
    for at, name in enumerate(entry.of):
        if name is not None and at != _TAGS and (len(name) > _LONGEST or "\x00" in name):
            break
    else:
        return entry
    of = tuple(name if at == _TAGS else _short(name) for at, name in enumerate(entry.of))
    id, time, record = entry.columns[0], entry.columns[_TIME], entry.columns[-1]
    assert isinstance(record, bytes)
    return Entry(str(id), str(time), of, entry.outcome, entry.priced, entry.cost, entry.usage, record)


def _short(name: str | None) -> str | None:
    if name is not None and len(name) > _LONGEST:
        name = f"{name[: _LONGEST - 17]}~{sha256(name.encode()).hexdigest()[:16]}"
    return without_zero(name)


@cache
def _add(table: str, time: str) -> str:
    """Adds rows to roll-ups, given as one array for each column."""
    names = (time, "digest", *DIMENSIONS, *MEASURES)
    columns = ", ".join(f'"{name}"' for name in names)
    arrays = ", ".join(f"${at}::{_type(name)}[]" for at, name in enumerate(names, 1))
    adding = ", ".join(f'"{name}" = {table}."{name}" + excluded."{name}"' for name in MEASURES)
    return (
        f"INSERT INTO {table} ({columns}) SELECT * FROM unnest({arrays}) "  # noqa: S608
        f"ON CONFLICT ({time}, digest) DO UPDATE SET {adding}"
    )


def _type(name: str) -> str:
    return "bytea" if name == "digest" else "bigint" if name in MEASURES else "text"
