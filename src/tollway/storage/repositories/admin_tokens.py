"""Users' tokens for the admin API at rest. Only hashes are kept; what a token allows is its user's."""

from __future__ import annotations

from msgspec import Struct
from sqlalchemy import Connection, RowMapping, Select, delete, insert, select

from tollway.storage.engine import Database
from tollway.storage.tables import admin_tokens


class AdminToken(Struct, frozen=True, kw_only=True):
    """``hash`` is the SHA-256 in hex, ``hint`` what people recognise it by; times are Unix seconds."""

    id: str
    user: str
    name: str
    hash: str
    hint: str
    created_at: float
    expires_at: float


class AdminTokens:
    """Every method raises StoreUnavailable when the database is away."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def by_hash(self, hash: str) -> AdminToken | None:
        found = await self._read(select(admin_tokens).where(admin_tokens.c.hash == hash))
        return found[0] if found else None

    async def of_user(self, user: str) -> list[AdminToken]:
        """Oldest first."""
        c = admin_tokens.c
        return await self._read(select(admin_tokens).where(c.user == user).order_by(c.created_at, c.id))

    async def add(self, token: AdminToken) -> None:
        values = {name: getattr(token, name) for name in AdminToken.__struct_fields__}
        await self._database.write(
            lambda connection: connection.execute(insert(admin_tokens).values(values)).close()
        )

    async def remove(self, user: str, id: str) -> bool:
        """False when the user has no such token."""
        gone = delete(admin_tokens).where(admin_tokens.c.user == user, admin_tokens.c.id == id)

        def work(connection: Connection) -> bool:
            return connection.execute(gone).rowcount > 0

        return await self._database.write(work, durable=True)

    async def _read(self, query: Select[tuple[object, ...]]) -> list[AdminToken]:
        return await self._database.read(
            lambda connection: [_token(row) for row in connection.execute(query).mappings()]
        )


def _token(row: RowMapping) -> AdminToken:
    return AdminToken(**{name: row[name] for name in AdminToken.__struct_fields__})
