"""Alembic's entry: runs the files in ``versions/`` against the database of the configuration, all in one
transaction and one process at a time, or prints them as SQL."""

from __future__ import annotations

import asyncio

from alembic import context
from sqlalchemy import Connection, create_engine, event
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import ConnectionPoolEntry, NullPool

from tollway.storage.engine import POSTGRESQL, kind
from tollway.storage.tables import metadata

LOCK = 0x746F6C6C
"""The advisory lock of PostgreSQL that is held while the schema changes."""


def _prepare(connection: DBAPIConnection, _: ConnectionPoolEntry) -> None:
    # The driver would commit before DDL by itself; here a failed migration leaves nothing behind.
    cursor = connection.cursor()
    cursor.execute("PRAGMA busy_timeout=30000")
    cursor.close()


def _begin(connection: Connection) -> None:
    connection.exec_driver_sql("BEGIN IMMEDIATE")


def _migrate(connection: Connection) -> None:
    context.configure(connection=connection, target_metadata=metadata, render_as_batch=True)
    with context.begin_transaction():
        if connection.dialect.name == "postgresql":
            # Until the end of the transaction; who waited finds the work done.
            connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({LOCK})")
        context.run_migrations()


def _sqlite(url: str) -> None:
    engine = create_engine(url, connect_args={"isolation_level": None})
    event.listen(engine, "connect", _prepare)
    event.listen(engine, "begin", _begin)
    with engine.connect() as connection:
        _migrate(connection)
    engine.dispose()


async def _postgresql(url: str) -> None:
    import asyncpg  # type: ignore[import-untyped]

    async def connect() -> asyncpg.Connection:
        return await asyncpg.connect(url, timeout=10, statement_cache_size=0)

    engine = create_async_engine(
        "postgresql+asyncpg://",
        poolclass=NullPool,
        connect_args={
            "async_creator_fn": connect,
            "prepared_statement_cache_size": 0,
            "prepared_statement_name_func": str,
        },
    )
    async with engine.connect() as connection:
        await connection.run_sync(_migrate)
        await connection.commit()


url = context.config.get_main_option("sqlalchemy.url") or ""
if context.is_offline_mode():
    context.configure(
        dialect_name=kind(url),
        target_metadata=metadata,
        literal_binds=True,
        render_as_batch=True,
    )
    with context.begin_transaction():
        context.run_migrations()
elif kind(url) == POSTGRESQL:
    asyncio.run(_postgresql(url))
else:
    _sqlite(url)
