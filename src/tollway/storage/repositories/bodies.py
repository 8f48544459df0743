"""What was asked and answered, where the operator wants it kept: apart from the money, and forgotten in
time."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct
from sqlalchemy import Connection, delete, select

from tollway.storage.columns import insert
from tollway.storage.engine import Database
from tollway.storage.tables import bodies


class Body(Struct, frozen=True, kw_only=True):
    """The contents of one event's request and response, already cut to size; ``expires_at`` in Unix
    seconds."""

    event_id: str
    request: bytes | None = None
    response: bytes | None = None
    expires_at: float


class Bodies:
    """Every method raises StoreUnavailable when the database is away."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def add(self, batch: Sequence[Body]) -> None:
        """A body of an event that has one already is left out."""
        if not batch:
            return
        rows = [
            {
                "event_id": body.event_id,
                "request": body.request,
                "response": body.response,
                "expires_at": body.expires_at,
            }
            for body in batch
        ]
        await self._database.write(
            lambda connection: (
                connection.execute(insert(connection, bodies).on_conflict_do_nothing(), rows) and None
            )
        )

    async def find(self, event_id: str) -> Body | None:
        query = select(bodies).where(bodies.c.event_id == event_id)

        def look(connection: Connection) -> Body | None:
            row = connection.execute(query).one_or_none()
            return Body(**row._mapping) if row else None

        return await self._database.read(look)

    async def purge(self, now: float, most: int) -> int:
        """Delete up to ``most`` bodies that expired by ``now``; returns how many."""
        expired = (
            select(bodies.c.event_id)
            .where(bodies.c.expires_at <= now)
            .order_by(bodies.c.expires_at)
            .limit(most)
        )
        return await self._database.write(
            lambda connection: (
                connection.execute(delete(bodies).where(bodies.c.event_id.in_(expired))).rowcount
            )
        )
