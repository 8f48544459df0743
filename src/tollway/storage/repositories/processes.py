"""Which processes live on this database. Each has a row that beats; a row that no longer does is a dead process's."""

from __future__ import annotations

from msgspec import Struct
from sqlalchemy import Connection, select

from tollway.storage.columns import insert
from tollway.storage.engine import Database
from tollway.storage.tables import processes


class Neighbour(Struct, frozen=True, kw_only=True):
    """``place`` is its data directory's id, ``sharing`` what it shares its counters through (empty: nothing)."""

    id: str
    place: str
    host: str
    sharing: str
    beats: int = 0


class Processes:
    """Everything raises StoreUnavailable when the database is away."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def beat(self, own: Neighbour) -> None:
        """Add the row, or say that it lives on."""

        def work(connection: Connection) -> None:
            first = insert(connection, processes).values(
                id=own.id, place=own.place, host=own.host, sharing=own.sharing, beats=1
            )
            connection.execute(
                first.on_conflict_do_update(
                    index_elements=[processes.c.id], set_={"beats": processes.c.beats + 1}
                )
            )

        await self._database.write(work)

    async def all(self) -> list[Neighbour]:
        def work(connection: Connection) -> list[Neighbour]:
            rows = connection.execute(select(processes).order_by(processes.c.id))
            return [
                Neighbour(id=row.id, place=row.place, host=row.host, sharing=row.sharing, beats=row.beats)
                for row in rows
            ]

        return await self._database.read(work)

    async def forget(self, ids: list[str]) -> None:
        query = processes.delete().where(processes.c.id.in_(ids))
        await self._database.write(lambda connection: connection.execute(query) and None)
