"""The command on both kinds of database: a plan changes nothing, and doing it is doing what the plan says."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

from postgres_server import PostgresServer
from tollway.storage.engine import Database
from tollway.storage.migrations import HEAD

Run = Callable[..., CompletedProcess[str]]


def test_a_file_that_is_not_there_stays_so(inside: Run, home: Path) -> None:
    done = inside("migrate", "--plan")
    assert done.returncode == 0, done.stderr
    assert "CREATE TABLE events" in done.stdout
    assert not (home / "data" / "tollway.db").exists()


def test_a_file(inside: Run, home: Path) -> None:
    assert "was brought to" in inside("migrate").stdout
    assert "has this version's tables" in inside("migrate").stdout
    assert "nothing would be done" in inside("migrate", "--plan").stdout


def test_a_server(tollway: Run, postgres: PostgresServer, postgres_empty: str) -> None:
    name = postgres_empty.rpartition("/")[2]
    secret = postgres_empty.replace("postgres@", "postgres:hunter2@")
    plan = tollway("migrate", "--plan", TOLLWAY_DATABASE_URL=secret)
    assert plan.returncode == 0, plan.stderr
    assert "hunter2" not in plan.stdout
    assert postgres.sql("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'", name) == "0"
    done = tollway("migrate", TOLLWAY_DATABASE_URL=secret)
    assert "was brought to" in done.stdout, done.stderr
    assert "hunter2" not in done.stdout + done.stderr
    assert postgres.sql("SELECT version_num FROM alembic_version", name) == HEAD


def test_a_server_that_is_away(tollway: Run) -> None:
    url = "postgresql://someone:hunter2@127.0.0.1:1/x"
    for arguments in (
        ["migrate"],
        ["migrate", "--plan"],
        ["keys", "list"],
        ["doctor", "--offline"],
        ["config", "check"],
    ):
        done = tollway(*arguments, TOLLWAY_DATABASE_URL=url)
        assert "hunter2" not in done.stdout + done.stderr
        assert "Traceback" not in done.stderr
        if arguments[0] != "config":
            assert done.returncode == 1
            assert "127.0.0.1:1/x" in done.stdout + done.stderr


def test_without_tables(inside: Run) -> None:
    done = inside("migrate", TOLLWAY_DATABASE_URL="none")
    assert done.returncode == 1
    assert "there are no tables" in done.stderr


def test_the_planned_sql_makes_a_database_that_serves(
    tollway: Run, postgres: PostgresServer, postgres_empty: str
) -> None:
    plan = tollway("migrate", "--plan", TOLLWAY_DATABASE_URL=postgres_empty).stdout
    postgres.sql(plan, postgres_empty.rpartition("/")[2])
    made = tollway("keys", "create", "--name", "a", TOLLWAY_DATABASE_URL=postgres_empty)
    assert made.returncode == 0, made.stderr
    assert '"a"' in tollway("keys", "list", "--json", TOLLWAY_DATABASE_URL=postgres_empty).stdout

    async def ready() -> None:
        opened = Database.open(postgres_empty, Path("/"))
        await opened.ready()
        await opened.close()

    asyncio.run(ready())
