"""Responses that clients may ask for again, and go on from. Long texts are compressed on the database's threads."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, RowMapping, delete, select

from tollway.model.stored_response import UNFINISHED, StoredResponse
from tollway.storage.columns import insert
from tollway.storage.engine import Database
from tollway.storage.tables import responses

_CONTENTS = ("input", "response", "events")
_COMPRESSED = b"\x00z"
"""What a compressed text begins with; JSON and events never do."""

_WORTH_IT = 1024
_NAMES = tuple(column.name for column in responses.columns)


class Responses:
    """Every method raises StoreUnavailable when the database is away."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def put(self, batch: Sequence[StoredResponse]) -> None:
        """Add, or replace one's own. A row of another owner stays as it is."""
        if not batch:
            return

        def work(connection: Connection) -> None:
            adding = insert(connection, responses)
            putting = adding.on_conflict_do_update(
                index_elements=[responses.c.id],
                set_={name: adding.excluded[name] for name in _NAMES if name not in ("id", "owner")},
                where=responses.c.owner == adding.excluded.owner,
            )
            connection.execute(putting, [_row(one) for one in batch])

        await self._database.write(work)

    async def find(self, id: str) -> StoredResponse | None:
        return await self._database.read(lambda connection: _find(connection, id), deadline=5.0)

    async def chain(self, id: str, most: int, most_bytes: int) -> list[StoredResponse]:
        """The response, the one it goes on from, and so on to the first or to one that is not there. It ends early, one
        past the bound, after ``most`` or ``most_bytes`` of contents."""

        def look(connection: Connection) -> list[StoredResponse]:
            found: list[StoredResponse] = []
            size = 0
            at: str | None = id
            while at is not None and len(found) <= most and size <= most_bytes:
                one = _find(connection, at)
                if one is None:
                    break
                found.append(one)
                size += len(one.input) + len(one.response)
                at = one.previous
            return found

        return await self._database.read(look)

    async def remove(self, id: str) -> None:
        await self._database.write(
            lambda connection: connection.execute(delete(responses).where(responses.c.id == id)) and None
        )

    async def unfinished(self, before: float) -> list[StoredResponse]:
        """Those begun before a moment that have not ended."""
        query = select(responses).where(responses.c.status.in_(UNFINISHED), responses.c.created < before)
        return await self._database.read(
            lambda connection: [_response(row) for row in connection.execute(query.limit(1000)).mappings()]
        )

    async def purge(self, now: float, most: int) -> int:
        """Delete up to ``most`` that expired by ``now``; returns how many."""
        expired = select(responses.c.id).where(responses.c.expires <= now).limit(most)
        return await self._database.write(
            lambda connection: (
                connection.execute(delete(responses).where(responses.c.id.in_(expired))).rowcount
            )
        )


def _find(connection: Connection, id: str) -> StoredResponse | None:
    row = connection.execute(select(responses).where(responses.c.id == id)).mappings().one_or_none()
    return _response(row) if row else None


def _row(one: StoredResponse) -> dict[str, Any]:
    row = {name: getattr(one, name) for name in _NAMES}
    for name in _CONTENTS:
        value: bytes = row[name]
        if len(value) > _WORTH_IT:
            row[name] = _COMPRESSED + zlib.compress(value, 1)
    return row


def _response(row: RowMapping) -> StoredResponse:
    fields = dict(row)
    for name in _CONTENTS:
        value: bytes = fields[name]
        if value.startswith(_COMPRESSED):
            fields[name] = zlib.decompress(value[len(_COMPRESSED) :])
    return StoredResponse(**fields)
