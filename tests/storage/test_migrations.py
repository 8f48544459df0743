from __future__ import annotations

import asyncio
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection

from tollway.errors import StoreUnavailable
from tollway.storage import migrate
from tollway.storage.engine import Database
from tollway.storage.migrations import HEAD, upgrade_apart
from tollway.storage.tables import metadata


def schema(path: Path) -> set[str]:
    with sqlite3.connect(path) as connection:
        rows = connection.execute("SELECT sql FROM sqlite_master WHERE sql IS NOT NULL").fetchall()
    return {"".join(row[0].split()) for row in rows}


def test_the_head_is_the_newest_file(tmp_path: Path) -> None:
    scripts = ScriptDirectory.from_config(migrate.configured(tmp_path / "x.db"))
    assert scripts.get_current_head() == HEAD
    revisions = [script.revision for script in scripts.walk_revisions()]
    assert revisions == sorted(revisions, reverse=True)


async def test_migrations_and_tables_make_the_same_schema(tmp_path: Path, database: Database) -> None:
    assert migrate.main([f"sqlite:///{tmp_path / 'migrated.db'}"]) == 0
    assert schema(tmp_path / "migrated.db") == schema(database.path)

    def compare(connection: Connection) -> list[object]:
        return list(compare_metadata(MigrationContext.configure(connection), metadata))

    assert await database.read(compare) == []


async def test_a_migrated_database_is_left_alone(database: Database) -> None:
    assert await database.migrate() is False


@pytest.mark.parametrize("attempt", range(8))
async def test_many_processes_may_start_at_once(tmp_path: Path, attempt: int) -> None:
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
    with sqlite3.connect(database.path) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    assert await database.migrate() is False
    await database.ready()


async def test_a_file_that_is_no_database_is_named(tmp_path: Path) -> None:
    (tmp_path / "text.db").write_text("this is not a database, and longer than its header would be " * 20)
    database = Database.open("sqlite:///text.db", tmp_path)
    with pytest.raises(StoreUnavailable, match="not a database"):
        await database.migrate()
    await database.close()


def test_migrating_by_hand(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert migrate.main([]) == 2
    assert "usage" in capsys.readouterr().err
    assert migrate.main(["--sql", f"sqlite:///{tmp_path / 'x.db'}"]) == 0
    assert "CREATE TABLE events" in capsys.readouterr().out
    assert not (tmp_path / "x.db").exists()


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
