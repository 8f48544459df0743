from __future__ import annotations

import asyncio
import os
import sqlite3
import subprocess
import sys
from io import StringIO
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, MetaData, Table
from sqlalchemy.types import TypeEngine

from postgres_server import PostgresServer
from tollway.errors import StoreUnavailable
from tollway.storage import migrate
from tollway.storage.engine import Database
from tollway.storage.migrations import HEAD, URL_VARIABLE, upgrade_apart
from tollway.storage.partitions import make, month_of
from tollway.storage.sqlite import SqliteDatabase
from tollway.storage.tables import metadata


def schema(path: Path) -> set[str]:
    with sqlite3.connect(path) as connection:
        rows = connection.execute("SELECT sql FROM sqlite_master WHERE sql IS NOT NULL").fetchall()
    return {"".join(row[0].split()) for row in rows}


def test_the_head_is_the_newest_file(tmp_path: Path) -> None:
    scripts = ScriptDirectory.from_config(migrate.configured("sqlite:///x.db"))
    assert scripts.get_current_head() == HEAD
    revisions = [script.revision for script in scripts.walk_revisions()]
    assert revisions == sorted(revisions, reverse=True)


async def migrated_by_alembic(url: str) -> Database:
    opened = Database.open(url, Path("/nowhere"))
    await upgrade_apart(opened)
    return opened


def differences(connection: Connection) -> list[object]:
    """What Alembic would change. The events of PostgreSQL are partitioned, which their table here does not say."""

    def ours(thing: object, name: str | None, kind: str, reflected: bool, other: object) -> bool:
        partition = kind == "table" and name is not None and name.startswith("events_")
        return not partition and not (connection.dialect.name == "postgresql" and name == "events_id")

    context = MigrationContext.configure(connection, opts={"include_object": ours})
    return list(compare_metadata(context, metadata))


async def test_migrations_and_tables_make_the_same_schema(tmp_path: Path, sqlite: SqliteDatabase) -> None:
    migrated = await migrated_by_alembic(f"sqlite:///{tmp_path / 'migrated.db'}")
    assert schema(tmp_path / "migrated.db") == schema(sqlite.path)
    await migrated.close()


async def test_the_migrated_schema_is_that_of_the_tables(database: Database) -> None:
    assert await database.read(differences) == []


async def test_a_migrated_database_is_left_alone(database: Database) -> None:
    assert await database.migrate() is False


MIGRATE = (
    "import asyncio, sys\n"
    "from pathlib import Path\n"
    "from tollway.storage.engine import Database\n"
    "async def main():\n"
    "    database = Database.open(sys.argv[1], Path('/'))\n"
    "    sys.stdin.readline()\n"
    "    await database.migrate()\n"
    "    await database.ready()\n"
    "    await database.close()\n"
    "asyncio.run(main())\n"
)


@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
async def test_many_processes_may_start_at_once(
    tmp_path: Path, kind: str, request: pytest.FixtureRequest
) -> None:
    url = f"sqlite:///{tmp_path / 'new.db'}"
    if kind == "postgres":
        url = request.getfixturevalue("postgres_empty")
    processes = [
        await asyncio.create_subprocess_exec(
            sys.executable, "-c", MIGRATE, url, stdin=subprocess.PIPE, stderr=subprocess.PIPE
        )
        for _ in range(8)
    ]
    ended = await asyncio.gather(*(process.communicate(b"\n") for process in processes))
    assert [process.returncode for process in processes] == [0] * 8, b"\n".join(
        text for _, text in ended
    ).decode()
    database = Database.open(url, tmp_path)
    assert await database.read(differences) == []
    await database.close()


@pytest.mark.parametrize("attempt", range(8))
async def test_one_of_many_makes_the_tables(tmp_path: Path, attempt: int) -> None:
    databases = [Database.open("sqlite:///new.db", tmp_path) for _ in range(6)]
    made = await asyncio.gather(*(database.migrate() for database in databases))
    assert sum(made) == 1
    for database in databases:
        await database.ready()
        await database.close()


async def test_an_older_database_is_upgraded_in_a_process_of_its_own(tmp_path: Path) -> None:
    path = tmp_path / "old.db"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL)")
        connection.execute("INSERT INTO alembic_version VALUES ('0000')")
        connection.execute("CREATE TABLE notes (text TEXT)")
        connection.execute("INSERT INTO notes VALUES ('kept')")
    # No migration is named 0000, so the upgrade fails; what it says must reach the operator.
    database = Database.open("sqlite:///old.db", tmp_path)
    with pytest.raises(StoreUnavailable, match=r"could not be upgraded.*0000"):
        await database.migrate()
    with sqlite3.connect(path) as connection:
        connection.execute("DELETE FROM alembic_version")
    await upgrade_apart(database)
    await database.ready()
    assert await database.migrate() is False
    with sqlite3.connect(path) as connection:
        assert connection.execute("SELECT text FROM notes").fetchall() == [("kept",)]
    await database.close()


async def test_a_newer_database_is_used_as_it_is(database: Database) -> None:
    def pretend(connection: Connection) -> None:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")

    await database.write(pretend)
    assert await database.migrate() is False
    await database.ready()


async def test_a_file_that_is_no_database_is_named(tmp_path: Path) -> None:
    (tmp_path / "text.db").write_text("this is not a database, and longer than its header would be " * 20)
    database = Database.open("sqlite:///text.db", tmp_path)
    with pytest.raises(StoreUnavailable, match="not a database"):
        await database.migrate()
    await database.close()


@pytest.mark.parametrize("url", ["sqlite:////nowhere/x.db", "postgresql://nobody:hunter2@127.0.0.1:1/x"])
def test_a_plan_connects_to_nothing(url: str) -> None:
    printed = StringIO()
    migrate.plan(url, None, printed)
    assert "CREATE TABLE events" in printed.getvalue()
    assert "hunter2" not in printed.getvalue()
    assert ("PARTITION BY RANGE (time)" in printed.getvalue()) == url.startswith("postgresql")


async def test_a_plan_does_what_migrating_does(postgres: PostgresServer, postgres_empty: str) -> None:
    printed = StringIO()
    migrate.plan(postgres_empty, None, printed)
    postgres.sql(printed.getvalue(), postgres_empty.rpartition("/")[2])
    opened = Database.open(postgres_empty, Path("/"))
    await opened.ready()
    assert await opened.read(differences) == []
    assert await opened.migrate() is False
    await opened.close()


async def test_the_previous_version_runs_on_this_schema(tmp_path: Path, postgres_empty: str) -> None:
    """What the version before may do to each of its tables still works: rows of its columns, read, changed, deleted."""
    for url in (f"sqlite:///{tmp_path / 'old.db'}", postgres_empty):
        revisions = [
            script.revision
            for script in ScriptDirectory.from_config(migrate.configured(url)).walk_revisions()
        ]
        previous = revisions[min(1, len(revisions) - 1)]
        environment = {**os.environ, URL_VARIABLE: url}
        command = [sys.executable, "-m", "tollway.storage.migrate"]
        subprocess.run([*command, previous], env=environment, check=True, timeout=60)
        opened = Database.open(url, tmp_path)
        before = MetaData()
        await opened.read(before.reflect)
        subprocess.run(command, env=environment, check=True, timeout=60)
        for table in before.sorted_tables:
            if table.name == "alembic_version" or table.name.startswith("events_"):
                continue
            await opened.write(lambda connection, table=table: _lives(connection, table))
        await opened.close()


def _lives(connection: Connection, table: Table) -> None:
    if connection.dialect.name == "postgresql":
        make(connection, [month_of("x")])
    row = {column.name: _some(column.type) for column in table.columns if column.server_default is None}
    connection.execute(table.insert().values(**row))
    found = connection.execute(table.select()).mappings().one()
    assert {name: found[name] for name in row} == row
    assert connection.execute(table.update().values(**row)).rowcount == 1
    assert connection.execute(table.delete()).rowcount == 1


def _some(kind: TypeEngine[object]) -> object:
    return {str: "x", int: 1, float: 1.0, bool: True, bytes: b"x"}[kind.python_type]


def test_a_server_does_not_import_alembic(tmp_path: Path) -> None:
    code = (
        "import asyncio, sys\n"
        "from pathlib import Path\n"
        "from tollway.storage.engine import Database\n"
        f"asyncio.run(Database.open('sqlite:///a.db', Path({str(tmp_path)!r})).migrate())\n"
        "print('alembic' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
