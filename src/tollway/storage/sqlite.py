"""SQLite behind the database's door. Work runs whole in a thread of the database's, so that a transaction costs one
thread hop and not one for each statement. No table is known here."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from urllib.parse import quote

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.engine import make_url
from sqlalchemy.engine.interfaces import DBAPIConnection, DBAPICursor
from sqlalchemy.exc import ArgumentError, DBAPIError, IntegrityError, SQLAlchemyError
from sqlalchemy.pool import ConnectionPoolEntry

from tollway.errors import ConfigError, StoreUnavailable
from tollway.storage.engine import Database, Result, Work, kind

READERS = 4
BUSY_SECONDS = 5.0
"""How long SQLite waits for another process's transaction."""

# Larger pages and rarer checkpoints write a fifth less for each event. The page size holds for new files
# only.
_PRAGMAS = (
    "page_size=16384",
    "synchronous=NORMAL",
    "wal_autocheckpoint=4000",
    f"busy_timeout={int(BUSY_SECONDS * 1000)}",
    "foreign_keys=ON",
    "temp_store=MEMORY",
    "journal_size_limit=67108864",
)


# The driver looks for an adapter for every value that is not exactly an int, float, str or bytearray. For None and
# bytes, which need none, that search is the dearest part of storing a row; these end it at once.
_AS_IT_IS: dict[None, None] = {}
sqlite3.register_adapter(type(None), _AS_IT_IS.get)
sqlite3.register_adapter(bytes, bytes)


class SqliteDatabase(Database):
    """An SQLite file: one connection writes, up to four read beside it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.name = str(path)
        self.url = f"sqlite:///{path.absolute()}"
        self._writer = _engine(path, readers=0)
        self._reader = _engine(path, readers=READERS)
        self._write_thread = ThreadPoolExecutor(1, "tollway-write")
        self._read_threads = ThreadPoolExecutor(READERS, "tollway-read")
        self._identity: tuple[int, int] | None = None

    def missing(self) -> bool:
        return not self.path.exists()

    async def migrate(self) -> bool:
        from tollway.storage import migrations

        self.path.parent.mkdir(parents=True, exist_ok=True)
        if self.missing():
            try:
                os.close(os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
            except OSError as error:
                raise StoreUnavailable(
                    f"The database {self.path} cannot be made: {error.strerror}."
                ) from error
        return await migrations.upgrade(self)

    async def read(self, work: Work[Result], *, deadline: float = 10.0, stale: bool = False) -> Result:
        return await self._run(self._read_threads, self._reader, work, deadline)

    async def write(self, work: Work[Result], *, deadline: float = 15.0, durable: bool = False) -> Result:
        return await self._run(self._write_thread, self._writer, work, deadline, durable)

    async def _run(
        self,
        threads: ThreadPoolExecutor,
        engine: Engine,
        work: Work[Result],
        deadline: float,
        durable: bool = False,
    ) -> Result:
        running: list[sqlite3.Connection] = []
        given_up = False

        def job() -> Result:
            if given_up:
                raise StoreUnavailable("Nobody waits for this any more.")
            try:
                self._notice_replacement()
                with engine.connect() as connection:
                    raw = connection.connection.driver_connection
                    assert isinstance(raw, sqlite3.Connection)
                    if durable:
                        raw.execute("PRAGMA synchronous=FULL")
                    running.append(raw)
                    try:
                        with connection.begin():
                            return work(connection)
                    finally:
                        running.clear()
                        if durable:
                            raw.execute("PRAGMA synchronous=NORMAL")
            except IntegrityError:
                raise
            except (SQLAlchemyError, sqlite3.Error, OSError) as error:
                raise self._unavailable(error, deadline) from error

        def interrupt() -> None:
            for connection in running:
                with suppress(sqlite3.ProgrammingError):
                    connection.interrupt()

        loop = asyncio.get_running_loop()
        alarm = loop.call_later(deadline, interrupt)
        future = loop.run_in_executor(threads, job)
        future.add_done_callback(_forget)
        try:
            # The interrupt ends a slow query; the wait ends a disk that does not answer at all.
            # Not wait_for: that swallows a cancellation which comes as the answer does (Python 3.11).
            async with asyncio.timeout(deadline + 1.0):
                return await asyncio.shield(future)
        except TimeoutError as error:
            message = f"The database {self.path} did not answer within {deadline:g} s."
            raise StoreUnavailable(message) from error
        finally:
            # Work still in the queue is dropped: its caller was told that it did not happen.
            given_up = True
            alarm.cancel()

    def _notice_replacement(self) -> None:
        """A file that was moved away or replaced is not ours any more: its inode would swallow what we
        write."""
        found = os.stat(self.path)
        identity = (found.st_dev, found.st_ino)
        if self._identity != identity:
            if self._identity is not None:
                self._writer.dispose()
                self._reader.dispose()
            self._identity = identity

    def _unavailable(self, error: Exception, deadline: float) -> StoreUnavailable:
        cause = error.orig if isinstance(error, DBAPIError) and error.orig is not None else error
        text = str(cause).partition("\n")[0]
        if "interrupted" in text:
            return StoreUnavailable(f"The database {self.path} took longer than {deadline:g} s for a query.")
        if "no such table" in text or "no such column" in text:
            text += "; it is not migrated to this version"
        return StoreUnavailable(f"The database {self.path} is not available: {text}.")

    async def reconnect(self) -> None:
        self._writer.dispose()
        self._reader.dispose()

    async def close(self) -> None:
        loop = asyncio.get_running_loop()
        for threads in (self._write_thread, self._read_threads):
            await loop.run_in_executor(None, threads.shutdown)
        await self.reconnect()


def _forget(future: asyncio.Future[Result]) -> None:
    """Work whose caller is gone may fail unseen."""
    if not future.cancelled():
        future.exception()


def sqlite_path(url: str, data_dir: Path) -> Path:
    """The file an ``sqlite:///`` URL names. Raises ConfigError for another database's URL, or without a
    file."""
    try:
        parsed = make_url(url) if kind(url) == "sqlite" else None
    except ArgumentError:
        parsed = None
    if parsed is None:
        raise ConfigError(["database: this is no file; use sqlite:///tollway.db"])
    if not parsed.database or parsed.database == ":memory:":
        raise ConfigError(["database: sqlite needs a file, such as sqlite:///tollway.db"])
    return data_dir / parsed.database


def _engine(path: Path, readers: int) -> Engine:
    """``mode=rw``: a missing file is an error and not a new, empty ledger."""
    engine = create_engine(
        f"sqlite:///file:{quote(str(path))}?mode=rw&uri=true",
        pool_size=max(1, readers),
        max_overflow=0,
        connect_args={"check_same_thread": False, "isolation_level": None, "timeout": BUSY_SECONDS},
    )

    def prepare(connection: DBAPIConnection, _: ConnectionPoolEntry) -> None:
        cursor = connection.cursor()
        for pragma in _PRAGMAS:
            cursor.execute(f"PRAGMA {pragma}")
        _write_ahead(cursor)
        if readers:
            cursor.execute("PRAGMA query_only=ON")
        cursor.close()

    def begin(connection: Connection) -> None:
        # IMMEDIATE: a transaction that reads first and writes later does not fail half-way for want of a
        # lock.
        connection.exec_driver_sql("BEGIN" if readers else "BEGIN IMMEDIATE")

    event.listen(engine, "connect", prepare)
    event.listen(engine, "begin", begin)
    return engine


def _write_ahead(cursor: DBAPICursor) -> None:
    """Turn the write-ahead log on. A new file changes its journal once, and SQLite does not wait for another
    process that is at it, whatever the busy timeout says; so we do."""
    deadline = time.monotonic() + BUSY_SECONDS
    while True:
        try:
            cursor.execute("PRAGMA journal_mode=WAL")
            return
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                raise
            time.sleep(0.01)
