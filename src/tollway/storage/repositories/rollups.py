"""The daily roll-ups are a cache of the events: they can be made anew from them, and must equal them."""

from __future__ import annotations

from msgspec import Struct
from sqlalchemy import Connection, Select, delete, func, select

from tollway.storage.engine import Database
from tollway.storage.entries import DIMENSIONS, MEASURES
from tollway.storage.repositories.moments import midnight, next_day
from tollway.storage.repositories.reports import event_day, event_measures, purged_before
from tollway.storage.tables import events, rollups

_STEP_SECONDS = 300.0
_WIDTH = len(DIMENSIONS)


class Difference(Struct, frozen=True, kw_only=True):
    """A measure that the roll-ups and the events disagree about; ``of`` gives each dimension's value."""

    day: str
    of: dict[str, str]
    measure: str
    rolled_up: int
    counted: int


async def rebuild(database: Database) -> int:
    """Replace the roll-ups of every day whose events are kept, a day at a time; returns how many days."""
    days = await _days(database)
    for day in days:

        def work(connection: Connection, day: str = day) -> None:
            connection.execute(delete(rollups).where(rollups.c.day == day))
            columns = ["day", *DIMENSIONS, *MEASURES]
            connection.execute(rollups.insert().from_select(columns, _counted(day)))

        await database.write(work, deadline=_STEP_SECONDS)
    return len(days)


async def verify(database: Database) -> list[Difference]:
    """What the roll-ups say wrongly. Days whose events were purged cannot be checked and are left out."""
    differences: list[Difference] = []
    for day in await _days(database):

        def look(connection: Connection, day: str = day) -> list[Difference]:
            columns = [rollups.c[name] for name in ("day", *DIMENSIONS, *MEASURES)]
            kept = _rows(connection, select(*columns).where(rollups.c.day == day))
            return _compare(day, kept, _rows(connection, _counted(day)))

        differences += await database.read(look, deadline=_STEP_SECONDS)
    return differences


async def _days(database: Database) -> list[str]:
    def look(connection: Connection) -> list[str]:
        purged = purged_before(connection)
        rolled = select(rollups.c.day).where(rollups.c.day >= purged)
        counted = select(event_day).where(events.c.time >= midnight(purged or "0000-01-01"))
        return sorted(connection.execute(rolled.union(counted)).scalars())

    return await database.read(look, deadline=_STEP_SECONDS)


def _counted(day: str) -> Select[*tuple[str | int, ...]]:
    names = [func.coalesce(events.c[name], "").label(name) for name in DIMENSIONS]
    within = (events.c.time >= midnight(day), events.c.time < midnight(next_day(day)))
    return select(event_day.label("day"), *names, *event_measures).where(*within).group_by("day", *names)


def _rows(
    connection: Connection, query: Select[*tuple[str | int, ...]]
) -> dict[tuple[str, ...], tuple[int, ...]]:
    return {
        tuple(map(str, row[1 : 1 + _WIDTH])): tuple(map(int, row[1 + _WIDTH :]))
        for row in connection.execute(query)
    }


def _compare(
    day: str, kept: dict[tuple[str, ...], tuple[int, ...]], counted: dict[tuple[str, ...], tuple[int, ...]]
) -> list[Difference]:
    nothing = (0,) * len(MEASURES)
    return [
        Difference(
            day=day,
            of=dict(zip(DIMENSIONS, name, strict=True)),
            measure=measure,
            rolled_up=rolled_up,
            counted=count,
        )
        for name in sorted(kept.keys() | counted.keys())
        for measure, rolled_up, count in zip(
            MEASURES, kept.get(name, nothing), counted.get(name, nothing), strict=True
        )
        if rolled_up != count
    ]
