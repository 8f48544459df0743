"""PostgreSQL behind the database's door: a few connections of asyncpg's, each transaction framed by hand so that it
costs two round trips besides its statements.

Nothing is prepared by name and nothing is set for a session, so a PgBouncer in transaction mode may stand between. No
table is known here.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any
from urllib.parse import parse_qs, urlsplit

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError, IntegrityError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, create_async_engine
from sqlalchemy.pool import NullPool

from tollway.errors import ConfigError, StoreUnavailable
from tollway.storage.engine import Database, Result, Work, hosts_of

try:
    import asyncpg  # type: ignore[import-untyped]
except ModuleNotFoundError:  # said when such a database is opened
    asyncpg = None

READERS = 4
WRITERS = 2
"""With them the most connections that one process opens; to a replica as many as there are readers."""

CONNECT_SECONDS = 5.0
IDLE_SECONDS = 60.0
"""A connection that was idle for longer is not used again: a firewall may have forgotten it without a word."""

GRACE = 0.5
"""How long past the deadline the server has for ending a statement itself, before the connection is cut."""

ATTEMPTS = 4
AWAY_SECONDS = 5.0
"""How long a replica that did not answer is not asked again."""

_PORT = re.compile(r":\d+$")
_DISCONNECTED = ("08", "57P0")
_AGAIN = ("40001", "40P01")  # serialization failure, deadlock
_READ_ONLY = "25006"
_TOO_SLOW = "57014"
_NO_SCHEMA = ("42P01", "42703", "3F000")


class _Session:
    """A connection, as SQLAlchemy and as the driver see it."""

    __slots__ = ("driver", "outer", "used")

    def __init__(self, outer: AsyncConnection, driver: Any) -> None:
        self.outer = outer
        self.driver = driver
        self.used = time.monotonic()


class _Server:
    """The connections to one server. They are made when needed; as many may be out as the caller lets."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        hosts = (host or "localhost" for host in hosts_of(parts).split(","))
        named = ",".join(host if _PORT.search(host) else f"{host}:5432" for host in hosts)
        self.name = f"postgresql://{named}{parts.path}"
        self._url = url
        self._named = "application_name" in parse_qs(parts.query)
        engine = create_async_engine(
            "postgresql+asyncpg://",
            poolclass=NullPool,
            connect_args={
                "async_creator_fn": self._connect,
                "prepared_statement_cache_size": 0,
                "prepared_statement_name_func": str,
            },
        )
        # Transactions are begun and ended here, in one round trip each; SQLAlchemy begins none.
        self._engine = engine.execution_options(isolation_level="AUTOCOMMIT")
        self._idle: list[_Session] = []

    async def _connect(self) -> Any:
        return await asyncpg.connect(
            self._url,
            timeout=CONNECT_SECONDS,
            statement_cache_size=0,
            server_settings={} if self._named else {"application_name": "tollway"},
        )

    async def take(self, begin: str) -> _Session:
        """A connection within a transaction. A connection that died while it was idle is replaced."""
        while self._idle:
            session = self._idle.pop()
            if time.monotonic() - session.used < IDLE_SECONDS and not session.driver.is_closed():
                try:
                    await session.driver.execute(begin)
                    return session
                except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError):
                    await self.drop(session)
                    await self.forget()
                    break
                except BaseException:
                    session.driver.terminate()
                    raise
            await self.drop(session)
        outer = await self._engine.connect()
        raw = await outer.get_raw_connection()
        session = _Session(outer, raw.driver_connection)
        try:
            await session.driver.execute(begin)
        except BaseException:
            session.driver.terminate()
            with suppress(SQLAlchemyError):
                await session.outer.invalidate()
            raise
        return session

    def give(self, session: _Session) -> None:
        session.used = time.monotonic()
        self._idle.append(session)

    async def drop(self, session: _Session) -> None:
        # Cut first: what follows then waits for nobody.
        session.driver.terminate()
        with suppress(SQLAlchemyError):
            await session.outer.invalidate()
            await session.outer.close()

    async def forget(self) -> None:
        """Give up all idle connections."""
        idle, self._idle = self._idle, []
        for session in idle:
            await self.drop(session)


class PostgresDatabase(Database):
    """A PostgreSQL server, and perhaps a replica of it for reads that may be stale.

    To be used on one event loop. ``durable`` writes wait for the disk of the server (``synchronous_commit`` as the
    server has it), others do not: events are in the spool until a durable commit follows them.
    """

    def __init__(self, url: str, replica: str | None) -> None:
        """Raises ConfigError where the driver is not installed."""
        if asyncpg is None:
            raise ConfigError(["database: PostgreSQL needs its driver: pip install 'tollway[postgres]'"])
        self._primary = _Server(url)
        self._replica = _Server(replica) if replica is not None else None
        self.name = self._primary.name
        self.url = url
        self._reading = asyncio.Semaphore(READERS)
        self._reading_stale = asyncio.Semaphore(READERS)
        self._writing = asyncio.Semaphore(WRITERS)
        self._running: set[asyncio.Task[object]] = set()
        self._replica_away_until = 0.0

    def missing(self) -> bool:
        return False

    async def migrate(self) -> bool:
        from tollway.storage import migrations

        return await migrations.upgrade(self)

    async def read(self, work: Work[Result], *, deadline: float = 10.0, stale: bool = False) -> Result:
        # One snapshot for all statements of the work, as on SQLite.
        begin = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"
        if stale and self._replica is not None and time.monotonic() >= self._replica_away_until:
            try:
                return await self._run(self._replica, self._reading_stale, begin, work, deadline)
            except StoreUnavailable:
                self._replica_away_until = time.monotonic() + AWAY_SECONDS
        return await self._run(self._primary, self._reading, begin, work, deadline)

    async def write(self, work: Work[Result], *, deadline: float = 15.0, durable: bool = False) -> Result:
        begin = "BEGIN ISOLATION LEVEL READ COMMITTED"
        if not durable:
            begin += "; SET LOCAL synchronous_commit = off"
        return await self._run(self._primary, self._writing, begin, work, deadline)

    async def _run(
        self, server: _Server, gate: asyncio.Semaphore, begin: str, work: Work[Result], deadline: float
    ) -> Result:
        task = asyncio.create_task(self._attempts(server, gate, begin, work, deadline))
        self._running.add(task)
        task.add_done_callback(self._ended)
        # A caller that is cancelled leaves the transaction to end by itself: its deadline goes with it.
        return await asyncio.shield(task)

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._running.discard(task)
        if not task.cancelled():
            task.exception()

    async def _attempts(
        self, server: _Server, gate: asyncio.Semaphore, begin: str, work: Work[Result], deadline: float
    ) -> Result:
        ends = asyncio.get_running_loop().time() + deadline
        for attempt in range(1, ATTEMPTS + 1):
            try:
                return await self._once(server, gate, begin, work, ends)
            except (asyncpg.IntegrityConstraintViolationError, IntegrityError) as error:
                if isinstance(error, IntegrityError):
                    raise
                raise IntegrityError("", None, error) from error
            except TimeoutError as error:
                raise StoreUnavailable(
                    f"The database {server.name} did not answer within {deadline:g} s."
                ) from error
            except (SQLAlchemyError, asyncpg.PostgresError, asyncpg.InterfaceError, OSError) as error:
                state = _state(error)
                if state in _AGAIN and attempt < ATTEMPTS:
                    await asyncio.sleep(0.01 * attempt)
                    continue
                if state == _READ_ONLY or state.startswith(_DISCONNECTED):
                    await server.forget()
                if state == _READ_ONLY and attempt == 1:
                    continue  # after a failover the primary is behind a new connection
                raise _unavailable(server, error, state, deadline) from error
        raise AssertionError("the last attempt returns or raises")

    async def _once(
        self, server: _Server, gate: asyncio.Semaphore, begin: str, work: Work[Result], ends: float
    ) -> Result:
        loop = asyncio.get_running_loop()
        async with asyncio.timeout_at(ends):
            await gate.acquire()
        try:
            left = max(1, int((ends - loop.time()) * 1000))
            begin = (
                f"{begin}; SET LOCAL statement_timeout = {left}; "
                f"SET LOCAL idle_in_transaction_session_timeout = {left + 5000}"
            )
            async with asyncio.timeout_at(ends):
                session = await server.take(begin)
            alarm = loop.call_at(ends + GRACE, session.driver.terminate)
            try:
                return await _work(server, session, work)
            finally:
                alarm.cancel()
        finally:
            gate.release()

    async def reconnect(self) -> None:
        await self._primary.forget()
        if self._replica is not None:
            await self._replica.forget()

    async def close(self) -> None:
        if self._running:
            await asyncio.wait(self._running)
        await self.reconnect()


async def _work(server: _Server, session: _Session, work: Work[Result]) -> Result:
    """Run the work within the transaction that was begun, and end that; the connection goes back if it is sound."""
    sound = False
    try:
        try:
            result: Result = await session.outer.run_sync(_whole(work))
            said = await session.driver.execute("COMMIT")
        except BaseException:
            if not session.driver.is_closed():
                await session.driver.execute("ROLLBACK")
                sound = True
            raise
        sound = True
        if said != "COMMIT":
            raise StoreUnavailable(
                f"The database {server.name} undid a transaction: an error was passed over."
            )
        return result
    finally:
        if sound:
            server.give(session)
        else:
            await server.drop(session)


def _whole(work: Work[Result]) -> Callable[[Connection], Result]:
    def run(connection: Connection) -> Result:
        try:
            return work(connection)
        finally:
            # Ends what SQLAlchemy takes for a transaction; nothing is sent.
            connection.rollback()

    return run


def _state(error: Exception) -> str:
    """The five letters by which PostgreSQL names an error; of class 08 where the connection broke."""
    found = error.orig if isinstance(error, DBAPIError) and error.orig is not None else error
    state = getattr(found, "sqlstate", None)
    if state:
        return str(state)
    if isinstance(found, OSError) or (isinstance(error, DBAPIError) and error.connection_invalidated):
        return "08006"
    return ""


def _unavailable(server: _Server, error: Exception, state: str, deadline: float) -> StoreUnavailable:
    if state == _TOO_SLOW:
        return StoreUnavailable(f"The database {server.name} took longer than {deadline:g} s for a query.")
    cause = error.orig if isinstance(error, DBAPIError) and error.orig is not None else error
    text = str(cause).partition("\n")[0].rstrip(".") or type(cause).__name__
    if state in _NO_SCHEMA:
        text += "; it is not migrated to this version"
    return StoreUnavailable(f"The database {server.name} is not available: {text}.")
