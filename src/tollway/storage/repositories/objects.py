"""What providers (or this gateway) keep for clients: one row an object, with its owner and where it lives."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
from sqlalchemy import Connection, RowMapping, and_, delete, or_, select

from tollway.model.artifact import LOCAL, Artifact, Query
from tollway.storage.columns import insert
from tollway.storage.engine import Database
from tollway.storage.tables import objects

_NAMES = tuple(column.name for column in objects.columns)
_KEPT = frozenset(("id", "owner", "team", "kind", "created"))
"""What never changes once an object is known."""


class Objects:
    """Every method raises StoreUnavailable when the database is away."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def find(self, id: str) -> Artifact | None:
        query = select(objects).where(objects.c.id == id)

        def look(connection: Connection) -> Artifact | None:
            row = connection.execute(query).mappings().one_or_none()
            return _artifact(row) if row else None

        return await self._database.read(look, deadline=2.0)

    async def put(self, artifacts: Sequence[Artifact]) -> set[str]:
        """Add, or replace what may change. A row that belongs to another owner stays as it is; the ids of such are
        returned."""
        rows = [msgspec.structs.asdict(one) for one in artifacts]
        if not rows:
            return set()
        owners = {one.id: one.owner for one in artifacts}

        def work(connection: Connection) -> set[str]:
            adding = insert(connection, objects)
            putting = adding.on_conflict_do_update(
                index_elements=[objects.c.id],
                set_={name: adding.excluded[name] for name in _NAMES if name not in _KEPT},
                where=and_(
                    objects.c.owner == adding.excluded.owner, objects.c.provider == adding.excluded.provider
                ),
            )
            connection.execute(putting, rows)
            found = select(objects.c.id, objects.c.owner).where(objects.c.id.in_(owners))
            return {row.id for row in connection.execute(found) if row.owner != owners[row.id]}

        return await self._database.write(work)

    async def remove(self, id: str) -> None:
        def work(connection: Connection) -> None:
            connection.execute(delete(objects).where(objects.c.id == id))

        await self._database.write(work)

    async def page(self, query: Query) -> tuple[list[Artifact], bool]:
        """Newest first unless ``ascending``; the flag says that more follow."""
        conditions = [objects.c.kind == query.kind]
        if query.owner is not None:
            conditions.append(objects.c.owner == query.owner)
        if query.purpose:
            conditions.append(objects.c.purpose == query.purpose)

        def look(connection: Connection) -> tuple[list[Artifact], bool]:
            asked = select(objects).where(*conditions)
            if query.after is not None:
                last = connection.execute(
                    select(objects.c.created, objects.c.id).where(objects.c.id == query.after, *conditions)
                ).one_or_none()
                if last is None:
                    return [], False
                if query.ascending:
                    newer = and_(objects.c.created == last.created, objects.c.id > last.id)
                    asked = asked.where(or_(objects.c.created > last.created, newer))
                else:
                    older = and_(objects.c.created == last.created, objects.c.id < last.id)
                    asked = asked.where(or_(objects.c.created < last.created, older))
            order = (
                (objects.c.created, objects.c.id)
                if query.ascending
                else (objects.c.created.desc(), objects.c.id.desc())
            )
            rows = connection.execute(asked.order_by(*order).limit(query.limit + 1)).mappings().all()
            return [_artifact(row) for row in rows[: query.limit]], len(rows) > query.limit

        return await self._database.read(look)

    async def unsettled(self, kind: str, local: bool) -> list[Artifact]:
        """Objects that still cost or work: this gateway's own, or a provider's. Oldest first."""
        place = objects.c.provider == LOCAL if local else objects.c.provider != LOCAL
        query = (
            select(objects)
            .where(objects.c.settled.is_(False), objects.c.kind == kind, place)
            .order_by(objects.c.created, objects.c.id)
            .limit(10_000)
        )
        return await self._database.read(
            lambda connection: [_artifact(row) for row in connection.execute(query).mappings()]
        )

    async def purge(self, now: float, most: int) -> int:
        """Delete up to ``most`` rows whose objects expired by ``now``; returns how many. What this gateway keeps itself
        is left to whoever removes it."""
        expired = (
            select(objects.c.id)
            .where(objects.c.expires <= now, objects.c.settled.is_(True), objects.c.provider != LOCAL)
            .limit(most)
        )
        return await self._database.write(
            lambda connection: connection.execute(delete(objects).where(objects.c.id.in_(expired))).rowcount
        )


def _artifact(row: RowMapping) -> Artifact:
    return Artifact(**row)
