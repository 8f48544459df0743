"""How events enter the database: each batch is one transaction that inserts the events, adds them to the
daily and hourly roll-ups and moves the spool's position, so that an event counts exactly once whenever a process
dies.

Statements are multi-row and prepared once for each power of two: the driver lets go of the interpreter's
lock at every step, and taking it back beside a busy event loop can cost milliseconds, so steps must be
few.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache
from itertools import chain
from typing import TypeVar

import msgspec
from msgspec import Struct
from sqlalchemy import Connection, bindparam, select, update
from sqlalchemy.exc import IntegrityError

from tollway.model.usage import NOTHING, Usage
from tollway.storage.columns import is_postgresql
from tollway.storage.engine import Database
from tollway.storage.entries import COLUMNS, DAY, DIMENSIONS, MEASURES, Entry, canonical, totals
from tollway.storage.repositories import ledger_postgres
from tollway.storage.segments import BEGINNING, Position
from tollway.storage.tables import events, rollups, rollups_hourly, spool_positions

BATCH = 256
"""The most events one statement takes."""

TRANSACTION = 1024
"""The most events one transaction should take: larger ones write fewer pages of the indexes twice."""

Item = TypeVar("Item")


class Head(Struct, frozen=True, kw_only=True, gc=False):
    """The part of a usage event that the ledger searches, sums or insists on; the event is stored beside it."""

    id: str
    request_id: str
    time: str
    key_id: str | None = None
    key: str | None = None
    organization: str | None = None
    team: str | None = None
    project: str | None = None
    user: str | None = None
    customer: str | None = None
    tags: tuple[str, ...] = ()
    endpoint: str
    model: str
    provider: str
    upstream_model: str
    deployment: str
    attempt: int = 1
    status: int
    outcome: str
    priced: bool = True
    cost_nano_usd: int = 0
    usage: Usage = NOTHING


_TIME = len("2026-01-01T00:00:00.000Z")

_decode = msgspec.json.Decoder(Head).decode


def read_entry(record: bytes) -> Entry:
    """Read one spooled event. Raises msgspec.MsgspecError when it is not one, ValueError when it cannot be
    counted."""
    head = _decode(record)
    time = head.time
    if len(time) != _TIME or time[DAY] != "T" or time[-1] != "Z":
        raise ValueError(f"time is {time!r}")
    of = (
        head.key_id, head.key, head.organization, head.team, head.project, head.user, head.customer,
        canonical(head.tags), head.endpoint, head.model, head.provider, head.upstream_model,
    )  # fmt: skip
    return Entry(head.id, time, of, head.outcome, head.priced, head.cost_nano_usd, head.usage, record)


class Ledger:
    """Appends to the ledger on behalf of spools. Raises StoreUnavailable when the database is away."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def position(self, spool: str) -> Position:
        """Up to where a spool's events are stored; ``BEGINNING`` for a new one."""
        query = select(spool_positions.c.segment, spool_positions.c.offset).where(
            spool_positions.c.spool == spool
        )
        query = query.with_for_update()

        def look(connection: Connection) -> Position:
            row = connection.execute(query).one_or_none()
            return Position(row.segment, row.offset) if row else BEGINNING

        # Through the writer, or behind the row's lock: what an earlier, slow transaction did is settled before
        # this looks.
        return await self._database.write(look)

    async def forget(self, spool: str) -> None:
        """Let a spool's events be stored from its beginning; those stored already are told by their ids."""
        query = spool_positions.delete().where(spool_positions.c.spool == spool)
        await self._database.write(lambda connection: connection.execute(query) and None)

    async def append(
        self,
        entries: Sequence[Entry],
        spool: str,
        before: Position,
        after: Position,
        *,
        durable: bool = False,
    ) -> int:
        """Store entries in one transaction and move the spool's position from ``before`` to ``after``.

        Returns how many were new; an id stored earlier is neither inserted nor counted again. Raises
        PositionMoved, with nothing stored, when the position is not ``before``.
        """

        def plainly(connection: Connection) -> int:
            _move(connection, spool, before, after)
            _store(connection, entries)
            return len(entries)

        def carefully(connection: Connection) -> int:
            if is_postgresql(connection):
                ledger_postgres.prepare(connection, entries)
            _move(connection, spool, before, after)
            new = _new(connection, entries)
            _store(connection, new)
            return len(new)

        try:
            return await self._database.write(plainly, durable=durable)
        except IntegrityError:
            return await self._database.write(carefully, durable=durable)


def add(connection: Connection, entry: Entry, beside: str) -> bool:
    """Store one event that comes from no spool; False when its id is stored already. ``beside`` is the id of a stored
    event: who adds two beside the same one waits in line."""
    connection.execute(select(events.c.id).where(events.c.id == beside).with_for_update()).all()
    if not _new(connection, [entry]):
        return False
    if is_postgresql(connection):
        ledger_postgres.prepare(connection, [entry])
    _store(connection, [entry])
    return True


class PositionMoved(Exception):
    """Somebody else stored events of this spool meanwhile; the position must be read again."""


_MOVE = (
    update(spool_positions)
    .where(
        spool_positions.c.spool == bindparam("of"),
        spool_positions.c.segment == bindparam("from_segment"),
        spool_positions.c.offset == bindparam("from_offset"),
    )
    .values(segment=bindparam("to_segment"), offset=bindparam("to_offset"))
)


def _move(connection: Connection, spool: str, before: Position, after: Position) -> None:
    places = {
        "of": spool,
        "from_segment": before.segment,
        "from_offset": before.offset,
        "to_segment": after.segment,
        "to_offset": after.offset,
    }
    if connection.execute(_MOVE, places).rowcount == 1:
        return
    known = select(spool_positions.c.spool).where(spool_positions.c.spool == spool)
    if before != BEGINNING or connection.execute(known).first() is not None:
        raise PositionMoved(spool)
    connection.execute(
        spool_positions.insert().values(spool=spool, segment=after.segment, offset=after.offset)
    )


def _new(connection: Connection, entries: Sequence[Entry]) -> list[Entry]:
    """The first of each id that is not stored yet."""
    by_id = {each.columns[0]: each for each in reversed(entries)}
    known = select(events.c.id).where(events.c.id.in_(list(by_id)))
    for row in connection.execute(known):
        del by_id[row.id]
    kept = {id(each) for each in by_id.values()}
    return [each for each in entries if id(each) in kept]


def _store(connection: Connection, entries: Sequence[Entry]) -> None:
    if is_postgresql(connection):
        ledger_postgres.store(connection, entries)
        return
    for piece in _pieces(entries):
        flat = tuple(chain.from_iterable([each.columns for each in piece]))
        connection.exec_driver_sql(_insert_events(len(piece)), flat)
    days, hours = totals(entries)
    for name, time, rows in ((rollups.name, "day", days), (rollups_hourly.name, "hour", hours)):
        for group in _pieces(rows):
            connection.exec_driver_sql(_add(name, time, len(group)), tuple(chain.from_iterable(group)))


def _pieces(items: Sequence[Item]) -> Iterator[Sequence[Item]]:
    at = 0
    while at < len(items):
        size = min(BATCH, 1 << ((len(items) - at).bit_length() - 1))
        yield items[at : at + size]
        at += size


@cache
def _insert_events(count: int) -> str:
    columns = ", ".join(f'"{name}"' for name in COLUMNS)
    # Names of our own tables and places for values: nothing of a caller's.
    return f"INSERT INTO {events.name} ({columns}) VALUES {_places(len(COLUMNS), count)}"  # noqa: S608


@cache
def _add(table: str, time: str, count: int) -> str:
    """Adds ``count`` rows to roll-ups, by their primary key."""
    names = (time, "digest", *DIMENSIONS, *MEASURES)
    columns = ", ".join(f'"{name}"' for name in names)
    adding = ", ".join(f'"{name}" = {table}."{name}" + excluded."{name}"' for name in MEASURES)
    places = _places(len(names), count)
    return (
        f"INSERT INTO {table} ({columns}) VALUES {places} "  # noqa: S608
        f"ON CONFLICT ({time}, digest) DO UPDATE SET {adding}"
    )


def _places(width: int, count: int) -> str:
    row = f"({', '.join('?' * width)})"
    return ", ".join([row] * count)
