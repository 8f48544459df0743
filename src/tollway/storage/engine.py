"""The database behind one small door: run this work in a transaction, within a deadline.

Work is a function over a SQLAlchemy Core connection, the same for every kind of database. What depends on the kind
is in ``sqlite`` and ``postgres``. No table is known here.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar
from urllib.parse import SplitResult, urlsplit

from sqlalchemy import Connection

from tollway.errors import ConfigError, StoreUnavailable

Result = TypeVar("Result")
Work = Callable[[Connection], Result]

POSTGRESQL = "postgresql"

_HOST = re.compile(r"(\[[^][]*\]|[^][:]*)(:\d{1,5})?")


class Database(ABC):
    """A database of either kind. Made by ``Database.open``.

    ``read`` and ``write`` raise StoreUnavailable when the database is away, locked, full, not migrated or too
    slow; IntegrityError passes through, for the repositories to name. What else they raise is the work's own.
    Work may be run more than once, so it changes nothing but the database.
    """

    name: str
    """What messages call it: a path, or an address without user and password."""

    url: str
    """With the password, if there is one: not for messages."""

    @staticmethod
    def open(url: str, data_dir: Path, *, replica: str | None = None) -> Database:
        """``sqlite:///file.db`` (relative to ``data_dir``), ``sqlite:////absolute/file.db`` or
        ``postgresql://user:password@host:port/name``, or with several hosts as ``host:port,host:port``. ``replica``:
        a copy for reads that may be stale (PostgreSQL).

        Connects to nothing yet. Raises ConfigError for a URL that names no database we speak.
        """
        if kind(url) == "sqlite":
            from tollway.storage.sqlite import SqliteDatabase, sqlite_path

            if replica is not None:
                raise ConfigError(["database_replica: an SQLite file has no replica; remove it"])
            return SqliteDatabase(sqlite_path(url, data_dir))
        if kind(url) != POSTGRESQL:
            raise ConfigError(
                [
                    "database: this is not supported; use an address such as sqlite:///tollway.db or postgresql://…"
                ]
            )
        from tollway.storage.postgres import PostgresDatabase

        return PostgresDatabase(address(url), address(replica, "database_replica") if replica else None)

    @abstractmethod
    def missing(self) -> bool:
        """Whether it is plain, without connecting, that nothing was ever stored."""

    async def ready(self) -> None:
        """Raises StoreUnavailable unless the database answers and is migrated."""
        from tollway.storage.migrations import version

        def ask(connection: Connection) -> None:
            if version(connection) is None:
                raise StoreUnavailable(f"The database {self.name} has no tables yet: start the server once.")

        await self.read(ask, deadline=5.0)

    @abstractmethod
    async def migrate(self) -> bool:
        """Bring the schema to this version's; False when it was already. Raises StoreUnavailable."""

    @abstractmethod
    async def read(self, work: Work[Result], *, deadline: float = 10.0, stale: bool = False) -> Result:
        """Run ``work`` on a connection that cannot write; ``deadline`` in seconds. ``stale``: what a replica says is
        good enough."""

    @abstractmethod
    async def write(self, work: Work[Result], *, deadline: float = 15.0, durable: bool = False) -> Result:
        """Run ``work`` in one transaction, committed when it returns and undone when it raises.

        ``durable``: this commit and every one before it survive a power cut; without it a power cut may undo
        the newest ones. When the deadline passes within the transaction it may still be committed.
        """

    @abstractmethod
    async def reconnect(self) -> None:
        """Drop every idle connection; the next use connects anew."""

    @abstractmethod
    async def close(self) -> None:
        """Wait for running work, then give up all connections."""


def kind(url: str) -> str:
    """``sqlite``, ``postgresql`` or whatever else stands before the colon."""
    scheme = url.partition(":")[0].partition("+")[0]
    return POSTGRESQL if scheme == "postgres" else scheme


def address(url: str, setting: str = "database") -> str:
    """A PostgreSQL server's address as its driver reads it; it may name several hosts. Raises ConfigError for what is
    none. The message does not repeat it, for the sake of its password."""
    try:
        parts = urlsplit(url)
    except ValueError:
        parts = urlsplit("")
    if kind(url) != POSTGRESQL or not all(map(_HOST.fullmatch, hosts_of(parts).split(","))):
        # No cause either: it may quote a piece of the password.
        raise ConfigError(
            [
                f"{setting}: this is not an address such as postgresql://user@host:5432/tollway; "
                "special characters of a password are written as %40 for @ and so on"
            ]
        ) from None
    return f"{POSTGRESQL}:{url.partition(':')[2]}"


def hosts_of(parts: SplitResult) -> str:
    return parts.netloc.rpartition("@")[2]
