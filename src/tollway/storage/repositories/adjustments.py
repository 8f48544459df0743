"""Corrections of counters: entries beside the ledger, never edits of it. A budget's counter has spent what its events
cost and its entries of the same period add up to."""

from __future__ import annotations

from collections.abc import Iterable

from msgspec import Struct
from sqlalchemy import Connection, RowMapping, and_, func, insert, or_, select

from tollway.storage.engine import Database
from tollway.storage.repositories.generation import bump
from tollway.storage.tables import adjustments

_AT_ONCE = 500


class Adjustment(Struct, frozen=True, kw_only=True):
    """``amount`` in the unit of ``counter``, negative where something is forgiven; ``time`` as the ledger writes it."""

    id: str
    time: str
    counter: str
    amount: int
    reason: str
    actor: str


class Adjustments:
    """Every method raises StoreUnavailable when the database is away."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def add(self, entries: tuple[Adjustment, ...]) -> None:
        """Bumps the generation, so that every process counts them."""

        def work(connection: Connection) -> None:
            for entry in entries:
                connection.execute(insert(adjustments).values(_columns(entry)))
            bump(connection)

        await self._database.write(work, durable=True)

    async def sums(self, since: dict[str, str | None]) -> dict[str, int]:
        """What each counter's entries add up to, from a time on (None: ever). Counters without any are left out."""
        c = adjustments.c

        def read(connection: Connection) -> dict[str, int]:
            if connection.execute(select(c.id).limit(1)).first() is None:
                return {}
            found: dict[str, int] = {}
            wanted = list(since.items())
            for start in range(0, len(wanted), _AT_ONCE):
                each = [
                    c.counter == counter if begun is None else and_(c.counter == counter, c.time >= begun)
                    for counter, begun in wanted[start : start + _AT_ONCE]
                ]
                rows = select(c.counter, func.sum(c.amount)).where(or_(*each)).group_by(c.counter)
                found.update((counter, int(amount)) for counter, amount in connection.execute(rows))
            return found

        return await self._database.read(read)

    async def newest(self, since: str) -> list[Adjustment]:
        """Entries from ``since`` on, oldest first."""
        query = select(adjustments).where(adjustments.c.time >= since).order_by(adjustments.c.time)
        return await self._database.read(
            lambda connection: [_entry(row) for row in connection.execute(query).mappings()]
        )

    async def of(self, counters: Iterable[str] | None, limit: int) -> list[Adjustment]:
        """The newest entries of some counters (None: of all), newest first."""
        query = select(adjustments).order_by(adjustments.c.time.desc(), adjustments.c.id).limit(limit)
        if counters is not None:
            query = query.where(adjustments.c.counter.in_(list(counters)))
        return await self._database.read(
            lambda connection: [_entry(row) for row in connection.execute(query).mappings()]
        )


def _columns(entry: Adjustment) -> dict[str, object]:
    return {name: getattr(entry, name) for name in Adjustment.__struct_fields__}


def _entry(row: RowMapping) -> Adjustment:
    return Adjustment(**{name: row[name] for name in Adjustment.__struct_fields__})
