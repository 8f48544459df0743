from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import msgspec
import pytest
from sqlalchemy import Connection, text
from sqlalchemy.exc import IntegrityError

from postgres_server import PostgresServer
from proxy import Proxy
from running import free_port, until
from tollway.errors import StoreUnavailable
from tollway.storage import postgres as engine
from tollway.storage.engine import Database
from tollway.storage.repositories.events import Events
from tollway.storage.repositories.ledger import Ledger, read_entry
from tollway.storage.segments import BEGINNING, Position

DATA = Path("/nowhere")


def run(statement: str, **values: object):
    return lambda connection: connection.execute(text(statement), values).scalar()


@pytest.fixture
async def database(postgres_database: str) -> AsyncIterator[Database]:
    opened = Database.open(postgres_database, DATA)
    yield opened
    await opened.close()


@pytest.fixture
async def proxy(postgres: PostgresServer) -> AsyncIterator[Proxy]:
    async with Proxy("127.0.0.1", postgres.port) as between:
        yield between


@pytest.fixture
async def behind(proxy: Proxy, postgres: PostgresServer, postgres_database: str) -> AsyncIterator[Database]:
    """The database as seen through the proxy."""
    opened = Database.open(postgres_database.replace(f":{postgres.port}/", f":{proxy.port}/"), DATA)
    yield opened
    await opened.close()


def name_of(database: Database) -> str:
    return database.url.rpartition("/")[2]


def connections(postgres: PostgresServer, database: Database) -> int:
    return int(
        postgres.sql(f"SELECT count(*) FROM pg_stat_activity WHERE datname = '{name_of(database)}'") or 0
    )


async def test_no_more_connections_than_promised(database: Database, postgres: PostgresServer) -> None:
    reads = [database.read(run("SELECT pg_sleep(0.2)")) for _ in range(30)]
    writes = [database.write(run("SELECT pg_sleep(0.2)")) for _ in range(10)]
    waiting = asyncio.gather(*reads, *writes)
    most = 0
    while not waiting.done():
        most = max(most, await asyncio.to_thread(connections, postgres, database))
        await asyncio.sleep(0.05)
    await waiting
    assert 0 < most <= engine.READERS + engine.WRITERS


async def test_what_waits_too_long_for_its_turn_is_told_so(database: Database) -> None:
    busy = [asyncio.create_task(database.read(run("SELECT pg_sleep(1.5)"))) for _ in range(engine.READERS)]
    await asyncio.sleep(0.2)
    with pytest.raises(StoreUnavailable, match=r"did not answer within 0\.2 s"):
        await database.read(run("SELECT 1"), deadline=0.2)
    await asyncio.gather(*busy)


async def test_durable_writes_wait_for_the_disk(database: Database) -> None:
    assert await database.write(run("SHOW synchronous_commit")) == "off"
    assert await database.write(run("SHOW synchronous_commit"), durable=True) == "on"
    assert await database.write(run("SHOW synchronous_commit")) == "off"


async def test_reads_see_one_moment(database: Database) -> None:
    looked = asyncio.Event()

    def twice(connection: Connection) -> list[int]:
        count = text("SELECT count(*) FROM ledger_state")
        first = connection.execute(count).scalar_one()
        looked.set()
        connection.execute(text("SELECT pg_sleep(0.5)"))
        return [first, connection.execute(count).scalar_one()]

    reading = asyncio.create_task(database.read(twice))
    await looked.wait()
    await database.write(run("INSERT INTO ledger_state VALUES ('a', 'b') RETURNING 1"))
    assert await reading == [0, 0]


async def test_deadlocks_are_run_again(database: Database) -> None:
    """Two transactions that lock two rows crosswise: the server ends one of them, and both succeed."""
    await database.write(
        lambda connection: connection.execute(text("INSERT INTO ledger_state VALUES ('a', '0'), ('b', '0')"))
    )
    add = "UPDATE ledger_state SET value = (value::int + 1)::text WHERE name = '{}' RETURNING pg_sleep(0.3)"

    def crosswise(first: str, second: str):
        def work(connection: Connection) -> None:
            connection.execute(text("SET LOCAL deadlock_timeout = '100ms'"))
            connection.execute(text(add.format(first)))
            connection.execute(text(add.format(second)))

        return work

    await asyncio.gather(database.write(crosswise("a", "b")), database.write(crosswise("b", "a")))
    assert await database.read(run("SELECT string_agg(value, ',') FROM ledger_state")) == "2,2"


async def test_an_error_that_was_passed_over_is_no_success(database: Database) -> None:
    def swallows(connection: Connection) -> None:
        connection.execute(text("INSERT INTO ledger_state VALUES ('a', 'b')"))
        with pytest.raises(IntegrityError):
            connection.execute(text("INSERT INTO ledger_state VALUES ('a', 'c')"))

    with pytest.raises(StoreUnavailable, match="undid"):
        await database.write(swallows)
    assert await database.read(run("SELECT count(*) FROM ledger_state")) == 0


async def test_sessions_that_the_server_ended_are_replaced_unseen(
    database: Database, postgres: PostgresServer
) -> None:
    for _ in range(3):
        await asyncio.gather(*(database.read(run("SELECT pg_sleep(0.05)")) for _ in range(4)))
        postgres.sql(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            f"WHERE datname = '{name_of(database)}' AND pid <> pg_backend_pid()"
        )
        await asyncio.sleep(0.1)
        assert await database.read(run("SELECT 1")) == 1
        assert await database.write(run("SELECT 1")) == 1


async def test_cut_and_mended(behind: Database, proxy: Proxy) -> None:
    assert await behind.read(run("SELECT 1")) == 1
    await proxy.cut()
    with pytest.raises(StoreUnavailable, match=str(proxy.port)):
        await behind.read(run("SELECT 1"))
    with pytest.raises(StoreUnavailable):
        await behind.write(run("SELECT 1"))
    await proxy.mend()
    assert await behind.read(run("SELECT 1")) == 1
    assert await behind.write(run("SELECT 1")) == 1


async def test_cut_within_a_transaction(behind: Database, proxy: Proxy) -> None:
    task = asyncio.create_task(behind.write(run("SELECT pg_sleep(30)")))
    await asyncio.sleep(0.3)
    await proxy.cut()
    with pytest.raises(StoreUnavailable):
        await asyncio.wait_for(task, 10)
    await proxy.mend()
    assert await behind.write(run("SELECT 1")) == 1


async def test_a_network_that_swallows_everything(behind: Database, proxy: Proxy, database: Database) -> None:
    """Nothing is refused and nothing comes: the deadline holds, and the server lets go of the locks."""
    await behind.write(run("INSERT INTO ledger_state VALUES ('a', 'b') RETURNING 1"))

    def holds(connection: Connection) -> None:
        connection.execute(text("UPDATE ledger_state SET value = 'c'"))
        proxy.swallow = True
        connection.execute(text("SELECT 1"))

    began = time.monotonic()
    with pytest.raises(StoreUnavailable):
        await behind.write(holds, deadline=3.0)
    with pytest.raises(StoreUnavailable):
        await behind.read(run("SELECT 1"), deadline=1.0)
    assert time.monotonic() - began < 20
    await proxy.cut()
    await proxy.mend()
    assert await database.write(run("UPDATE ledger_state SET value = 'd' RETURNING value")) == "d"
    assert await behind.read(run("SELECT value FROM ledger_state")) == "d"


async def test_a_slow_network_is_only_slow(behind: Database, proxy: Proxy) -> None:
    proxy.delay = 0.05
    assert await behind.write(run("SELECT 1")) == 1
    assert await asyncio.gather(*(behind.read(run("SELECT 1")) for _ in range(10))) == [1] * 10


async def test_a_server_that_only_reads(database: Database, postgres: PostgresServer) -> None:
    await database.write(run("SELECT 1"))
    postgres.sql(f"ALTER DATABASE {name_of(database)} SET default_transaction_read_only = on")
    await database.reconnect()
    with pytest.raises(StoreUnavailable, match="read-only"):
        await database.write(run("INSERT INTO ledger_state VALUES ('a', 'b') RETURNING 1"))
    assert await database.read(run("SELECT count(*) FROM ledger_state")) == 0
    postgres.sql(f"ALTER DATABASE {name_of(database)} SET default_transaction_read_only = off")
    # What was connected to a server that cannot write is not used again.
    assert await database.write(run("INSERT INTO ledger_state VALUES ('a', 'b') RETURNING 1")) == 1


async def test_a_wrong_password_is_not_repeated(postgres: PostgresServer) -> None:
    for url in (
        f"postgresql://nobody:hunter2@127.0.0.1:{postgres.port}/postgres",
        f"postgresql://postgres:hunter2@127.0.0.1:{postgres.port}/no_such_database",
        f"postgresql://postgres:hunter2@127.0.0.1:{free_port()}/x",
        f"postgresql://postgres:hunter2@127.0.0.1:{postgres.port}/postgres?sslmode=require",
    ):
        opened = Database.open(url, DATA)
        with pytest.raises(StoreUnavailable) as refused:
            await opened.read(run("SELECT 1"))
        assert "hunter2" not in refused.value.message
        assert "is not available" in refused.value.message
        with pytest.raises(StoreUnavailable) as refused:
            await opened.migrate()
        assert "hunter2" not in refused.value.message
        await opened.close()


def test_without_the_driver(tmp_path: Path) -> None:
    """A package that only SQLite was installed for says what is missing."""
    code = (
        "import sys; sys.modules['asyncpg'] = None\n"
        "from pathlib import Path\n"
        "from tollway.errors import ConfigError\n"
        "from tollway.storage.engine import Database\n"
        "Database.open('sqlite:///x.db', Path('/'))\n"
        "try:\n"
        "    Database.open('postgresql://h/x', Path('/'))\n"
        "except ConfigError as error:\n"
        "    print(error.problems)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert "pip install 'tollway[postgres]'" in done.stdout, done.stderr


# Replicas.


async def test_stale_reads_go_to_the_replica(
    postgres: PostgresServer, postgres_database: str, postgres_empty: str, proxy: Proxy
) -> None:
    """Two databases that differ stand for a primary and a copy of it that is behind."""
    postgres.sql("CREATE TABLE which AS SELECT 'primary' AS it", postgres_database.rpartition("/")[2])
    postgres.sql("CREATE TABLE which AS SELECT 'replica' AS it", postgres_empty.rpartition("/")[2])
    replica = postgres_empty.replace(f":{postgres.port}/", f":{proxy.port}/")
    database = Database.open(postgres_database, DATA, replica=replica)
    which = run("SELECT it FROM which")
    assert await database.read(which) == "primary"
    assert await database.read(which, stale=True) == "replica"
    assert await database.write(which) == "primary"
    await proxy.cut()
    assert await database.read(which, stale=True) == "primary", "a replica that is away is done without"
    await proxy.mend()

    async def again() -> bool:
        return await database.read(which, stale=True) == "replica"

    await until(again, 20, "the replica is asked again")
    await database.close()


# PgBouncer.


@pytest.fixture
def pgbouncer(postgres: PostgresServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """The port of a PgBouncer in transaction mode with two connections to the server."""
    program = shutil.which("pgbouncer", path=os.environ["PATH"] + ":/usr/sbin")
    if program is None:
        pytest.skip("pgbouncer is not installed: apt-get install pgbouncer")
    folder = Path("/tmp") / f"tollway-pgbouncer-{os.getpid()}-{time.monotonic_ns()}"
    folder.mkdir()
    port = free_port()
    (folder / "pgbouncer.ini").write_text(
        "[databases]\n"
        f"* = host=127.0.0.1 port={postgres.port} user=postgres\n"
        "[pgbouncer]\n"
        f"listen_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\n"
        "auth_type = any\npool_mode = transaction\ndefault_pool_size = 2\nmax_client_conn = 100\n"
    )
    root = os.getuid() == 0
    if root:
        shutil.chown(folder, "postgres")
    process = subprocess.Popen(
        [program, "-q", folder / "pgbouncer.ini"],
        user="postgres" if root else None,
        extra_groups=[] if root else None,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    yield port
    process.terminate()
    process.wait()
    shutil.rmtree(folder, ignore_errors=True)


async def test_pgbouncer_may_stand_between(
    postgres: PostgresServer, postgres_database: str, postgres_empty: str, pgbouncer: int, make_event
) -> None:
    def through(url: str) -> str:
        return url.replace(f":{postgres.port}/", f":{pgbouncer}/")

    databases = [Database.open(through(postgres_database), DATA) for _ in range(4)]

    async def answers() -> bool:
        try:
            return await databases[0].read(run("SELECT 1")) == 1
        except StoreUnavailable:
            return False

    await until(answers, 20, "pgbouncer answers")
    ledgers = [Ledger(each) for each in databases]

    async def carry(at: int) -> None:
        """Batches of one spool, and reads between them, on connections that change servers all the while."""
        before = BEGINNING
        for batch in range(10):
            after = Position(1, 100 * (batch + 1))
            events = [make_event(at * 1000 + batch * 10 + number) for number in range(10)]
            entries = [read_entry(msgspec.json.encode(event)) for event in events]
            assert await ledgers[at].append(entries, f"spool{at}", before, after) == 10
            assert await ledgers[at].position(f"spool{at}") == after
            before = after
            await Events(databases[at]).usage(["day", "key"])

    await asyncio.gather(*(carry(at) for at in range(4)))
    assert await Events(databases[0]).count() == 400
    assert (await Events(databases[0]).usage([])).total["requests"] == 400
    for each in databases:
        await each.close()
    fresh = Database.open(through(postgres_empty), DATA)
    assert await fresh.migrate()
    await fresh.ready()
    await fresh.close()
