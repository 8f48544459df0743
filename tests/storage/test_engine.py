from __future__ import annotations

import asyncio
import threading
from pathlib import Path

import pytest
from sqlalchemy import Connection, text
from sqlalchemy.exc import IntegrityError

from tollway.errors import ConfigError, StoreUnavailable
from tollway.storage.engine import Database, address


def run(statement: str, **values: object):
    return lambda connection: connection.execute(text(statement), values).scalar()


@pytest.mark.parametrize(
    "url",
    [
        "mysql://u:hunter2@h/x",
        "tollway.db",
        "postgresql://u:hun@ter2:x@h:5432:a/x",
        "postgresql://u:hunter2/@h/x",
    ],
)
def test_urls_of_no_database_are_refused_without_repeating_them(url: str) -> None:
    with pytest.raises(ConfigError) as refused:
        Database.open(url, Path("/data"))
    assert "hunter2" not in str(refused.value.problems)
    assert "ter2" not in str(refused.value.problems)
    assert refused.value.__cause__ is None


def test_a_file_has_no_replica() -> None:
    with pytest.raises(ConfigError, match="database_replica"):
        Database.open("sqlite:///x.db", Path("/data"), replica="postgresql://h/x")


@pytest.mark.parametrize("scheme", ["postgres", "postgresql", "postgresql+asyncpg"])
def test_what_a_server_is_called_holds_no_password(scheme: str) -> None:
    assert address(f"{scheme}://u:hunter2@h/x") == "postgresql://u:hunter2@h/x"
    assert (
        Database.open(f"{scheme}://u:hunter2@db.example/x", Path("/data")).name
        == "postgresql://db.example:5432/x"
    )


def test_an_address_may_name_several_hosts() -> None:
    url = "postgresql://u:hunt@er2@one,two:5433,[::1]:5434/x?target_session_attrs=primary"
    opened = Database.open(url, Path("/data"), replica="postgresql://u:hunter2@/x?host=/run/postgresql")
    assert opened.name == "postgresql://one:5432,two:5433,[::1]:5434/x"
    assert opened.url == url


async def test_a_transaction_is_whole_or_nothing(database: Database) -> None:
    def broken(connection: Connection) -> None:
        connection.execute(text("INSERT INTO ledger_state VALUES ('a', 'b')"))
        raise KeyError("stop")

    with pytest.raises(KeyError):
        await database.write(broken)
    assert await database.read(run("SELECT count(*) FROM ledger_state")) == 0
    await database.write(
        lambda connection: connection.execute(text("INSERT INTO ledger_state VALUES ('a', 'b')"))
    )
    with pytest.raises(IntegrityError):
        await database.write(
            lambda connection: connection.execute(text("INSERT INTO ledger_state VALUES ('a', 'c')"))
        )
    assert await database.read(run("SELECT value FROM ledger_state")) == "b"


async def test_readers_cannot_write(database: Database) -> None:
    with pytest.raises(StoreUnavailable, match=r"read-?only"):
        await database.read(
            lambda connection: connection.execute(text("INSERT INTO ledger_state VALUES ('a', 'b')"))
        )
    assert await database.read(run("SELECT count(*) FROM ledger_state")) == 0


async def test_readers_run_beside_a_writer(database: Database) -> None:
    """What is not committed is not seen, and nobody waits for it."""
    wrote = asyncio.Event()
    let_go = threading.Event()
    loop = asyncio.get_running_loop()
    slow = "SELECT pg_sleep(2)" if database.url.startswith("postgresql") else None

    def writing(connection: Connection) -> None:
        connection.execute(text("INSERT INTO ledger_state VALUES ('a', 'b')"))
        loop.call_soon_threadsafe(wrote.set)
        if slow:
            connection.execute(text(slow))
        else:
            let_go.wait(5)

    task = asyncio.create_task(database.write(writing))
    await wrote.wait()
    assert await database.read(run("SELECT count(*) FROM ledger_state")) == 0
    assert not task.done()
    let_go.set()
    await task
    assert await database.read(run("SELECT count(*) FROM ledger_state")) == 1


async def test_a_slow_query_is_ended(database: Database) -> None:
    endless = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n"
    with pytest.raises(StoreUnavailable, match=r"longer than 0\.3 s"):
        await database.read(run(endless), deadline=0.3)
    assert await database.read(run("SELECT 1")) == 1


async def test_a_caller_that_leaves_harms_nobody(database: Database) -> None:
    for _ in range(12):
        task = asyncio.create_task(database.read(run("SELECT count(*) FROM ledger_state")))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert await database.write(run("SELECT 1")) == 1
    assert await database.read(run("SELECT 1")) == 1


async def test_missing_tables_are_named(database: Database) -> None:
    with pytest.raises(StoreUnavailable, match="not migrated"):
        await database.read(run("SELECT * FROM of_a_later_version"))


async def test_ready(database: Database) -> None:
    await database.ready()
    assert await database.migrate() is False
