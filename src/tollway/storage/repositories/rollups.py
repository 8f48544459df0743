"""The roll-ups, by day and by hour, are a cache of the events: they can be made anew from them, and must equal them."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from msgspec import Struct
from sqlalchemy import ColumnElement, Connection, Select, Table, delete, func, select

from tollway.storage.columns import is_postgresql
from tollway.storage.engine import Database
from tollway.storage.entries import DAY, DIMENSIONS, MEASURES, digest
from tollway.storage.repositories.moments import midnight, next_day
from tollway.storage.repositories.reports import event_hour, event_measures, kept
from tollway.storage.tables import events, rollups, rollups_hourly

_STEP_SECONDS = 300.0
_WIDTH = len(DIMENSIONS)
_INSERT = 500

Progress = Callable[[str, int, int], None]
"""Told before each day: the day, how many are done, how many there are."""

_Rows = dict[tuple[str, ...], tuple[int, ...]]
"""Measures by the time and the dimensions."""


class Difference(Struct, frozen=True, kw_only=True):
    """A measure that roll-ups and events disagree about: the hour's, or the day's where ``hour`` is None. ``of`` gives
    each dimension's value."""

    day: str
    hour: str | None = None
    of: dict[str, str]
    measure: str
    rolled_up: int
    counted: int


async def rebuild(database: Database, progress: Progress | None = None) -> int:
    """Replace the roll-ups of every day whose events are kept, a day at a time, while events go on being stored;
    returns how many days."""
    days = await _days(database)
    for done, day in enumerate(days):
        if progress is not None:
            progress(day, done, len(days))

        def work(connection: Connection, day: str = day) -> None:
            if is_postgresql(connection):
                # Whoever stores events now waits before it adds to the roll-ups; what it stored is not seen here.
                connection.exec_driver_sql("LOCK TABLE rollups, rollups_hourly IN EXCLUSIVE MODE")
            counted = _rows(connection, _counted(day))
            connection.execute(delete(rollups).where(rollups.c.day == day))
            _insert(connection, rollups, _by_day(counted))
            if day >= kept(connection).hours_since:
                connection.execute(delete(rollups_hourly).where(*_hours(day)))
                _insert(connection, rollups_hourly, counted)

        await database.write(work, deadline=_STEP_SECONDS)
    return len(days)


async def verify(database: Database, progress: Progress | None = None) -> list[Difference]:
    """What the roll-ups say wrongly. Days whose events were purged cannot be checked and are left out."""
    differences: list[Difference] = []
    days = await _days(database)
    for done, day in enumerate(days):
        if progress is not None:
            progress(day, done, len(days))

        def look(connection: Connection, day: str = day) -> list[Difference]:
            counted = _rows(connection, _counted(day))
            columns = [rollups.c[name] for name in ("day", *DIMENSIONS, *MEASURES)]
            known = _rows(connection, select(*columns).where(rollups.c.day == day))
            found = list(_compare(known, _by_day(counted)))
            if day >= kept(connection).hours_since:
                columns = [rollups_hourly.c[name] for name in ("hour", *DIMENSIONS, *MEASURES)]
                found += _compare(_rows(connection, select(*columns).where(*_hours(day))), counted)
            return found

        differences += await database.read(look, deadline=_STEP_SECONDS)
    return differences


async def _days(database: Database) -> list[str]:
    def look(connection: Connection) -> list[str]:
        since = kept(connection).events_since
        found = set(
            connection.execute(select(rollups.c.day).distinct().where(rollups.c.day >= since)).scalars()
        )
        hour_day = func.substr(rollups_hourly.c.hour, 1, DAY)
        found |= set(
            connection.execute(select(hour_day).distinct().where(rollups_hourly.c.hour >= since)).scalars()
        )
        # From day to day along the index, which is quicker than looking at every event.
        time = since and midnight(since)
        while True:
            first = connection.execute(select(func.min(events.c.time)).where(events.c.time >= time)).scalar()
            if first is None:
                return sorted(found)
            found.add(first[:DAY])
            time = midnight(next_day(first[:DAY]))

    return await database.read(look, deadline=_STEP_SECONDS)


def _counted(day: str) -> Select[*tuple[str | int, ...]]:
    names = [func.coalesce(events.c[name], "").label(f"of_{name}") for name in DIMENSIONS]
    within = (events.c.time >= midnight(day), events.c.time < midnight(next_day(day)))
    hour = event_hour.label("of_hour")
    grouped = ["of_hour", *(f"of_{name}" for name in DIMENSIONS)]
    return select(hour, *names, *event_measures).where(*within).group_by(*grouped)


def _hours(day: str) -> tuple[ColumnElement[bool], ColumnElement[bool]]:
    return rollups_hourly.c.hour >= day, rollups_hourly.c.hour < next_day(day)


def _rows(connection: Connection, query: Select[*tuple[str | int, ...]]) -> _Rows:
    return {
        tuple(map(str, row[: 1 + _WIDTH])): tuple(map(int, row[1 + _WIDTH :]))
        for row in connection.execute(query)
    }


def _by_day(hours: _Rows) -> _Rows:
    days: _Rows = {}
    for (hour, *of), measures in hours.items():
        name = (hour[:DAY], *of)
        known = days.get(name)
        days[name] = measures if known is None else tuple(a + b for a, b in zip(known, measures, strict=True))
    return days


def _insert(connection: Connection, table: Table, rows: _Rows) -> None:
    time = "day" if table is rollups else "hour"
    names = (time, "digest", *DIMENSIONS, *MEASURES)
    batch: list[dict[str, object]] = []
    for (at, *of), measures in rows.items():
        batch.append(dict(zip(names, (at, digest(of), *of, *measures), strict=True)))
        if len(batch) == _INSERT:
            connection.execute(table.insert(), batch)
            batch = []
    if batch:
        connection.execute(table.insert(), batch)


def _compare(rolled_up: _Rows, counted: _Rows) -> Iterator[Difference]:
    nothing = (0,) * len(MEASURES)
    for name in sorted(rolled_up.keys() | counted.keys()):
        told = rolled_up.get(name, nothing), counted.get(name, nothing)
        if told[0] == told[1]:
            continue
        at, of = name[0], name[1:]
        for measure, kept_sum, count in zip(MEASURES, *told, strict=True):
            if kept_sum != count:
                yield Difference(
                    day=at[:DAY],
                    hour=at if len(at) > DAY else None,
                    of=dict(zip(DIMENSIONS, of, strict=True)),
                    measure=measure,
                    rolled_up=kept_sum,
                    counted=count,
                )
