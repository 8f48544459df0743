"""Virtual keys at rest. Only hashes are kept. Who may change a key, and what the change means for running
requests, is decided elsewhere."""

from __future__ import annotations

from typing import NoReturn, TypeVar

import msgspec
from sqlalchemy import Connection, RowMapping, delete, insert, or_, select, update
from sqlalchemy.exc import IntegrityError

from tollway.errors import Conflict, NotFound
from tollway.model.key import Budget, RateLimit, VirtualKey
from tollway.model.terms import Terms
from tollway.storage.engine import Database
from tollway.storage.repositories.generation import Stale, bump, current
from tollway.storage.tables import keys

Value = TypeVar("Value")

_JSON_COLUMNS = ("models", "budgets", "limits", "more", "tags", "metadata")


class Keys:
    """Every method raises StoreUnavailable when the database is away; every write bumps the generation, and
    survives a power cut: a key whose secret was shown is there."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._known: tuple[int, list[VirtualKey]] | None = None

    async def all(self) -> list[VirtualKey]:
        """In order of creation, revoked ones included; from memory where nothing has changed since."""
        known = self._known
        query = select(keys).order_by(keys.c.created_at, keys.c.id)

        def read(connection: Connection) -> tuple[int, list[VirtualKey]]:
            generation = current(connection)
            if known is not None and known[0] == generation:
                return known
            return generation, [_key(row) for row in connection.execute(query).mappings()]

        self._known = await self._database.read(read)
        return list(self._known[1])

    async def find(self, id_or_name: str) -> VirtualKey | None:
        """An id wins over another key that happens to be named like it."""
        found = await self.called(id_or_name)
        return found[0] if found else None

    async def called(self, id_or_name: str) -> list[VirtualKey]:
        """The key of that id first, then those of that name: each organization may have one."""
        query = select(keys).where(or_(keys.c.id == id_or_name, keys.c.name == id_or_name))

        def look(connection: Connection) -> list[VirtualKey]:
            rows = connection.execute(query).mappings().all()
            rows = sorted(rows, key=lambda row: (row["id"] != id_or_name, row["created_at"]))
            return [_key(row) for row in rows]

        return await self._database.read(look)

    async def add(self, key: VirtualKey) -> None:
        """Raises Conflict when the id, the name or the secret is taken."""

        def work(connection: Connection) -> None:
            connection.execute(insert(keys).values(**_columns(key)))
            bump(connection)

        try:
            await self._database.write(work, durable=True)
        except IntegrityError as error:
            _conflict(key, error)

    async def put(self, key: VirtualKey, was: VirtualKey | None = None) -> None:
        """Replace the key of the same id. ``was`` is what it was when it was read. Raises NotFound, Stale when somebody
        else changed it since, or Conflict when the new name or secret is taken."""

        def work(connection: Connection) -> None:
            if was is not None:
                row = (
                    connection.execute(select(keys).where(keys.c.id == key.id).with_for_update())
                    .mappings()
                    .first()
                )
                if row is not None and _key(row) != was:
                    raise Stale("the key was changed at the same moment: try again")
            done = connection.execute(update(keys).where(keys.c.id == key.id).values(**_columns(key)))
            if done.rowcount == 0:
                raise NotFound(f"There is no key with the id {key.id}.")
            bump(connection)

        try:
            await self._database.write(work, durable=True)
        except IntegrityError as error:
            _conflict(key, error)

    async def remove(self, id: str) -> bool:
        """Forget a key for good; its events keep its name. False when there was none. Revoking is a
        ``put``."""

        def work(connection: Connection) -> bool:
            gone = connection.execute(delete(keys).where(keys.c.id == id)).rowcount > 0
            if gone:
                bump(connection)
            return gone

        return await self._database.write(work, durable=True)


def _conflict(key: VirtualKey, error: IntegrityError) -> NoReturn:
    text = str(error.orig)
    if "keys.hash" in text or "keys_hash" in text:
        raise Conflict("Another key has the same secret.", param="key") from error
    if "keys.name" in text or "keys_name" in text:
        raise Conflict(
            f"A key named {key.name} exists already. Choose another name.", param="name"
        ) from error
    raise Conflict(f"A key with the id {key.id} exists already.", param="id") from error


def _columns(key: VirtualKey) -> dict[str, object]:
    values = msgspec.structs.asdict(key)
    for name in _JSON_COLUMNS:
        values[name] = msgspec.json.encode(values[name]).decode()
    values["scope"] = key.organization or ""
    return values


def _key(row: RowMapping) -> VirtualKey:
    return VirtualKey(
        id=row["id"],
        name=row["name"],
        hash=row["hash"],
        hint=row["hint"],
        models=_read(row["models"], tuple[str, ...]),
        budgets=_read(row["budgets"], tuple[Budget, ...]),
        limits=_read(row["limits"], RateLimit),
        team=row["team"],
        user=row["user"],
        customer=row["customer"],
        tags=_read(row["tags"], tuple[str, ...]),
        metadata=_read(row["metadata"], dict[str, str]),
        created_at=row["created_at"],
        expires_at=row["expires_at"],
        blocked=row["blocked"],
        revoked_at=row["revoked_at"],
        owner=row["owner"],
        more=_read(row["more"], Terms),
        organization=row["organization"],
        project=row["project"],
        service=row["service"],
        description=row["description"],
        former_hash=row["former_hash"],
        former_until=row["former_until"],
        created_by=row["created_by"],
    )


def _read(text: str, kind: type[Value]) -> Value:
    return msgspec.json.decode(text, type=kind)
