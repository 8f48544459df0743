"""Tenants, memberships and access groups at rest. Who may change them, and whether anything hangs on them, is decided
elsewhere."""

from __future__ import annotations

from typing import TypeVar

import msgspec
from sqlalchemy import Connection, Delete, RowMapping, Table, delete, insert, select, update
from sqlalchemy.exc import IntegrityError

from tollway.errors import Conflict, NotFound
from tollway.model.tenant import AccessGroup, Directory, Level, Membership, Tenant
from tollway.model.terms import Terms
from tollway.storage.engine import Database
from tollway.storage.repositories.generation import Stale, bump, current
from tollway.storage.tables import access_groups, admin_tokens, memberships, tenants

Value = TypeVar("Value")
Row = dict[str, object]


class Tenants:
    """Every method raises StoreUnavailable when the database is away; every write bumps the generation."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._known: tuple[int, Directory] | None = None

    async def directory(self) -> Directory:
        """All of it, read at one moment; from memory where nothing has changed since."""
        known = self._known

        def read(connection: Connection) -> tuple[int, Directory]:
            generation = current(connection)
            if known is not None and known[0] == generation:
                return known
            return generation, Directory(
                tenants=tuple(_tenant(row) for row in _rows(connection, tenants)),
                memberships=tuple(_membership(row) for row in _rows(connection, memberships)),
                groups=tuple(_group(row) for row in _rows(connection, access_groups)),
            )

        self._known = await self._database.read(read)
        return self._known[1]

    async def add(self, tenant: Tenant, members: tuple[Membership, ...] = ()) -> None:
        """``members`` are written with it. Raises Conflict when the id, or the name in its organization, is taken."""

        def work(connection: Connection) -> None:
            connection.execute(insert(tenants).values(_columns(tenant)))
            for member in members:
                connection.execute(insert(memberships).values(_member_columns(member)))
            bump(connection)

        try:
            await self._database.write(work, durable=True)
        except IntegrityError as error:
            raise _taken(tenant, error) from error

    async def put(self, tenant: Tenant, was: Tenant | None = None) -> None:
        """Replace the tenant of the same level and id. ``was`` is what it was when it was read. Raises NotFound, Stale
        when somebody else changed it since, or Conflict when the new name is taken."""
        same = (tenants.c.level == tenant.level, tenants.c.id == tenant.id)

        def work(connection: Connection) -> None:
            if was is not None:
                row = connection.execute(select(tenants).where(*same).with_for_update()).mappings().first()
                if row is not None and _tenant(row) != was:
                    raise Stale(f"the {tenant.level} was changed at the same moment: try again")
            if connection.execute(update(tenants).where(*same).values(_columns(tenant))).rowcount == 0:
                raise NotFound(f"no {tenant.level} has this id any more")
            bump(connection)

        try:
            await self._database.write(work, durable=True)
        except IntegrityError as error:
            raise _taken(tenant, error) from error

    async def remove(self, gone: tuple[tuple[Level, str], ...]) -> None:
        """Forget tenants, with their memberships and, of users, their tokens. Their spend stays in the ledger."""

        def work(connection: Connection) -> None:
            for level, id in gone:
                connection.execute(delete(tenants).where(tenants.c.level == level, tenants.c.id == id))
                connection.execute(
                    delete(memberships).where(memberships.c.level == level, memberships.c.tenant == id)
                )
                if level == "user":
                    connection.execute(delete(memberships).where(memberships.c.user == id))
                    connection.execute(delete(admin_tokens).where(admin_tokens.c.user == id))
            bump(connection)

        await self._database.write(work, durable=True)

    async def put_member(self, member: Membership) -> None:
        """Add a membership, or replace the one the user has there."""

        def work(connection: Connection) -> None:
            connection.execute(_one_member(member.level, member.tenant, member.user))
            connection.execute(insert(memberships).values(_member_columns(member)))
            bump(connection)

        await self._database.write(work, durable=True)

    async def remove_member(self, level: Level, tenant: str, user: str) -> None:
        def work(connection: Connection) -> None:
            connection.execute(_one_member(level, tenant, user))
            bump(connection)

        await self._database.write(work, durable=True)

    async def put_group(self, group: AccessGroup) -> None:
        """Add an access group, or replace the one of the same id. Raises Conflict when the name is taken."""

        def work(connection: Connection) -> None:
            connection.execute(delete(access_groups).where(access_groups.c.id == group.id))
            connection.execute(insert(access_groups).values(_group_columns(group)))
            bump(connection)

        try:
            await self._database.write(work, durable=True)
        except IntegrityError as error:
            raise Conflict(f"an access group named {group.name} exists already", param="name") from error

    async def remove_group(self, id: str) -> None:
        def work(connection: Connection) -> None:
            connection.execute(delete(access_groups).where(access_groups.c.id == id))
            bump(connection)

        await self._database.write(work, durable=True)


def _rows(connection: Connection, table: Table) -> list[RowMapping]:
    return list(connection.execute(select(table)).mappings())


def _one_member(level: str, tenant: str, user: str) -> Delete:
    c = memberships.c
    return delete(memberships).where(c.level == level, c.tenant == tenant, c.user == user)


def _taken(tenant: Tenant, error: IntegrityError) -> Conflict:
    text = str(error.orig)
    if "tenants.name" in text or "tenants_name" in text:
        return Conflict(f"a {tenant.level} named {tenant.name} exists already", param="name")
    return Conflict(f"a {tenant.level} with the id {tenant.id} exists already", param="id")


def _columns(tenant: Tenant) -> Row:
    values: Row = msgspec.structs.asdict(tenant)
    del values["owner"]
    for name in ("terms", "members", "keys", "metadata"):
        values[name] = _text(values[name])
    values["scope"] = tenant.organization or ""
    return values


def _member_columns(member: Membership) -> Row:
    values: Row = msgspec.structs.asdict(member)
    del values["owner"]
    values["terms"] = _text(values["terms"])
    return values


def _group_columns(group: AccessGroup) -> Row:
    values: Row = msgspec.structs.asdict(group)
    del values["owner"]
    return {**values, "models": _text(group.models), "mcp_servers": _text(group.mcp_servers)}


def _tenant(row: RowMapping) -> Tenant:
    values = {name: row[name] for name in Tenant.__struct_fields__ if name != "owner"}
    for name in ("terms", "members", "keys"):
        values[name] = _read(values[name], Terms)
    values["metadata"] = _read(values["metadata"], dict[str, str])
    return Tenant(**values)


def _membership(row: RowMapping) -> Membership:
    values = {name: row[name] for name in Membership.__struct_fields__ if name != "owner"}
    return Membership(**{**values, "terms": _read(row["terms"], Terms)})


def _group(row: RowMapping) -> AccessGroup:
    return AccessGroup(
        id=row["id"],
        name=row["name"],
        models=_read(row["models"], tuple[str, ...]),
        mcp_servers=_read(row["mcp_servers"], tuple[str, ...]),
        description=row["description"],
        created_at=row["created_at"],
    )


def _text(value: object) -> str:
    return msgspec.json.encode(value).decode()


def _read(text: str, kind: type[Value]) -> Value:
    return msgspec.json.decode(text, type=kind)
