from __future__ import annotations

import asyncio
import os
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Connection, text

from tollway.errors import ConfigError, StoreUnavailable
from tollway.storage.engine import Database
from tollway.storage.sqlite import SqliteDatabase, sqlite_path


def run(statement: str, **values: object):
    return lambda connection: connection.execute(text(statement), values).scalar()


@pytest.fixture
def database(sqlite: SqliteDatabase) -> SqliteDatabase:
    return sqlite


@pytest.fixture
def holder(database: SqliteDatabase) -> Iterator[sqlite3.Connection]:
    """Another process's transaction, which keeps everybody else from writing."""
    other = sqlite3.connect(database.path, isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    yield other
    other.close()


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("sqlite:///tollway.db", "/data/tollway.db"),
        ("sqlite:////var/lib/x.db", "/var/lib/x.db"),
        ("sqlite+pysqlite:///a/b.db", "/data/a/b.db"),
    ],
)
def test_relative_files_lie_in_the_data_directory(url: str, path: str) -> None:
    assert sqlite_path(url, Path("/data")) == Path(path)


@pytest.mark.parametrize("url", ["postgresql://localhost/x", "sqlite://", "sqlite:///:memory:", "tollway.db"])
def test_urls_of_no_file_are_refused(url: str) -> None:
    with pytest.raises(ConfigError, match=r"sqlite:///tollway\.db|needs a file"):
        sqlite_path(url, Path("/data"))


async def test_pragmas(database: SqliteDatabase) -> None:
    def ask(connection: Connection) -> list[object]:
        names = ("journal_mode", "synchronous", "foreign_keys", "busy_timeout", "page_size")
        return [connection.exec_driver_sql(f"PRAGMA {name}").scalar() for name in names]

    assert await database.write(ask) == ["wal", 1, 1, 5000, 16384]
    assert await database.read(ask) == ["wal", 1, 1, 5000, 16384]
    # For a durable transaction only.
    assert (await database.write(ask, durable=True))[1] == 2
    assert (await database.write(ask))[1] == 1


async def test_work_that_hangs_does_not_hold_the_caller(database: SqliteDatabase) -> None:
    let_go = asyncio.Event()
    loop = asyncio.get_running_loop()
    with pytest.raises(StoreUnavailable, match="did not answer"):
        await database.read(
            lambda _: asyncio.run_coroutine_threadsafe(let_go.wait(), loop).result(10), deadline=-0.8
        )
    let_go.set()


async def test_work_that_nobody_waits_for_is_not_done_later(database: SqliteDatabase) -> None:
    """A write behind a slow one: who was told that it failed must not find it done afterwards."""
    let_go = asyncio.Event()
    loop = asyncio.get_running_loop()
    slow = asyncio.create_task(
        database.write(lambda _: asyncio.run_coroutine_threadsafe(let_go.wait(), loop).result(10))
    )
    await asyncio.sleep(0.05)
    insert = run("INSERT INTO ledger_state VALUES ('late', 'x') RETURNING 1")
    with pytest.raises(StoreUnavailable, match="did not answer"):
        await database.write(insert, deadline=-0.8)
    let_go.set()
    await slow
    assert await database.write(run("SELECT count(*) FROM ledger_state")) == 0


async def test_a_locked_database_is_named(database: SqliteDatabase, holder: sqlite3.Connection) -> None:
    # The busy timeout of five seconds is cut short for this test, in the way the engine sets it.
    def hurry(connection: Connection) -> None:
        connection.exec_driver_sql("PRAGMA busy_timeout=50")

    holder.execute("ROLLBACK")
    await database.write(hurry)
    holder.execute("BEGIN EXCLUSIVE")
    with pytest.raises(StoreUnavailable, match="locked"):
        await database.write(run("SELECT 1"))
    holder.execute("ROLLBACK")
    assert await database.write(run("SELECT 1")) == 1


async def test_a_missing_file_is_not_made_anew(tmp_path: Path) -> None:
    database = Database.open("sqlite:///none.db", tmp_path)
    with pytest.raises(StoreUnavailable, match=r"none\.db"):
        await database.read(run("SELECT 1"))
    assert not (tmp_path / "none.db").exists()
    await database.close()


async def test_a_replaced_file_is_noticed(database: SqliteDatabase, tmp_path: Path) -> None:
    """An open descriptor would go on writing to a file that nobody can see any more."""
    await database.write(run("SELECT 1"))
    for suffix in ("", "-wal", "-shm"):
        (tmp_path / f"ledger.db{suffix}").rename(tmp_path / f"away.db{suffix}")
    with pytest.raises(StoreUnavailable):
        await database.write(run("SELECT count(*) FROM ledger_state"))
    (tmp_path / "ledger.db").mkdir()
    with pytest.raises(StoreUnavailable):
        await database.write(run("SELECT count(*) FROM ledger_state"))
    (tmp_path / "ledger.db").rmdir()
    for suffix in ("", "-wal", "-shm"):
        if (tmp_path / f"away.db{suffix}").exists():
            (tmp_path / f"away.db{suffix}").rename(tmp_path / f"ledger.db{suffix}")
    assert await database.write(run("SELECT count(*) FROM ledger_state")) == 0


async def test_ready_says_what_is_missing(tmp_path: Path, database: SqliteDatabase) -> None:
    await database.ready()
    sqlite3.connect(tmp_path / "empty.db").execute("PRAGMA journal_mode=WAL").connection.close()
    empty = Database.open("sqlite:///empty.db", tmp_path)
    with pytest.raises(StoreUnavailable, match="no tables"):
        await empty.ready()
    await empty.close()


@pytest.mark.parametrize("small_disk", [4], indirect=True)
async def test_a_full_disk_is_an_error_and_not_a_loss(small_disk: Path) -> None:
    database = Database.open("sqlite:///ledger.db", small_disk)
    await database.migrate()
    insert = "INSERT INTO ledger_state VALUES (:name, :value) RETURNING 1"
    stored, refusal = 0, ""
    while not refusal and stored < 1000:
        try:
            await database.write(run(insert, name=str(stored), value="x" * 5000))
            stored += 1
        except StoreUnavailable as error:
            refusal = error.message
    assert "full" in refusal
    assert stored > 5
    assert await database.read(run("SELECT count(*) FROM ledger_state")) == stored
    await database.close()


def test_work_of_a_closed_loop_leaves_no_thread(tmp_path: Path) -> None:
    code = (
        "import asyncio, threading\n"
        "from pathlib import Path\n"
        "from tollway.storage.engine import Database\n"
        "async def main():\n"
        f"    database = Database.open('sqlite:///a.db', Path({str(tmp_path)!r}))\n"
        "    await database.migrate()\n"
        "    await database.ready()\n"
        "    await database.close()\n"
        "    print([t.name for t in threading.enumerate() if t.name.startswith('tollway')])\n"
        "asyncio.run(main())\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=20)
    assert done.stdout.strip() == "[]", done.stderr
    assert os.path.exists(tmp_path / "a.db")
