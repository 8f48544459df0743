"""A gateway on PostgreSQL: what it answered is in the ledger once, whatever happens to it or to the server; and while
the server is away, requests go on."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from load import Traffic, assert_sums_agree, cost_of, nano_usd
from postgres_server import PostgresServer
from proxy import Proxy
from running import ADMIN, KEY, Broken, Gateway, chat, gateway, provider, until
from tollway.simulator.running import RunningSimulator
from tollway.storage.engine import Database
from tollway.storage.repositories import rollups

RATES = {"input": "0.150000001", "output": "0.600000007"}
BODY = chat("fast", max_tokens=8)
STORED = "sk-tw-key-that-the-database-has"
UNKNOWN = "sk-tw-nobody-knows-this-one"
WAIT = 60


def config(upstream: RunningSimulator, database: str, **more: object) -> dict[str, object]:
    price = {unit: float(rate) for unit, rate in RATES.items()}
    return {
        "providers": {"sim": provider(upstream)},
        "models": {"fast": {"model": "sim/fast+tokens=8", "price": price}},
        "keys": [{"name": "ci", "key": KEY, "budget": [{"usd": 5, "per": "total"}, "4usd/month"]}],
        "database": database,
        **more,
    }


@pytest.fixture
async def proxy(postgres: PostgresServer) -> AsyncIterator[Proxy]:
    async with Proxy("127.0.0.1", postgres.port) as between:
        yield between


def through(proxy: Proxy, postgres: PostgresServer, url: str) -> str:
    return url.replace(f":{postgres.port}/", f":{proxy.port}/")


def secret(url: str) -> str:
    """With a password, which the server of the tests does not ask for."""
    return url.replace("postgres@", "postgres:hunter2@")


async def ready(running: Gateway) -> None:
    async def is_ready() -> bool:
        return bool((await running.readiness())["status"] == "ready")

    await until(is_ready, WAIT, "readiness is ready")


async def degraded(running: Gateway, part: str) -> None:
    async def says_so() -> bool:
        found = await running.readiness()
        return found["status"] == "degraded" and part in found["degraded"]

    await until(says_so, WAIT, f"readiness names {part}")


async def stored_key(running: Gateway) -> None:
    await running.api("/keys", {"name": "stored", "key": STORED, "budget": {"usd": 3, "per": "total"}})


async def assert_the_bill(
    running: Gateway, upstream: RunningSimulator, answered: int, url: str, *, at_most: int | None = None
) -> None:
    """Every answered request has one event at its price, no sum says otherwise, and the provider billed as many."""

    async def there() -> bool:
        return len(await running.events()) >= answered

    await until(there, WAIT, f"{answered} events in the ledger")
    events = await running.events()
    assert answered <= len(events) <= (answered if at_most is None else at_most)
    assert {(event["outcome"], event["attempt"]) for event in events} == {("ok", 1)}
    assert cost_of(events) == sum(nano_usd(RATES, event["usage"]) for event in events) > 0
    await assert_sums_agree(running, events, ("ci", "stored"))
    if at_most is None:
        assert upstream.simulator.bill.requests == len(events)
    database = Database.open(url, Path("/"))
    try:
        assert await rollups.verify(database) == []
    finally:
        await database.close()


def no_refusal(traffic: Traffic) -> None:
    assert set(traffic.statuses) == {200}, traffic.statuses


async def test_killed_and_started_again(
    tmp_path: Path, upstream: RunningSimulator, postgres_empty: str
) -> None:
    """The first start makes the tables; each event arrives once, however often the gateway is killed."""
    running = Gateway(tmp_path, config(upstream, secret(postgres_empty)))
    answered = 0
    try:
        for life in range(3):
            await running.start()
            await ready(running)
            if life == 0:
                await stored_key(running)
            traffic = Traffic(running, BODY, keys=[KEY, STORED])
            with suppress(Broken, OSError):  # of the clients of a gateway that was killed
                async with traffic:
                    await traffic.answered(60)
                    if life < 2:
                        running.kill()
            no_refusal(traffic)
            answered += len(traffic.replies)
        # At a kill each client had at most one request under way.
        await assert_the_bill(running, upstream, answered, postgres_empty, at_most=answered + 2 * 4)
        assert "hunter2" not in running.log
        assert await running.stop() == 0
    finally:
        running.kill()


async def test_the_server_is_cut_off_under_load(
    tmp_path: Path, upstream: RunningSimulator, postgres: PostgresServer, postgres_database: str, proxy: Proxy
) -> None:
    url = secret(through(proxy, postgres, postgres_database))
    async with gateway(tmp_path, config(upstream, url)) as running:
        await ready(running)
        await stored_key(running)
        async with Traffic(running, BODY, keys=[KEY, STORED]) as traffic:
            await traffic.answered(40)
            await proxy.cut()
            cut_at = asyncio.get_running_loop().time()
            await traffic.answered(60)
            await degraded(running, "ledger")
            await degraded(running, "database")
            assert (await running.ask(BODY, key=UNKNOWN)).status == 401, "the keys were read before"
            told = [await running.readiness(), await running.api("/config"), running.log]
            assert str(proxy.port) in str(told[0])
            assert "hunter2" not in str(told)
            refused = await running.ask({"name": "late"}, "/api/keys", key=ADMIN)
            assert (refused.status, refused.json()["error"]["code"]) == (503, "store_unavailable")
            while asyncio.get_running_loop().time() - cut_at < 10:
                await traffic.answered(20)
            await proxy.mend()
            await ready(running)
            await traffic.answered(40)
        no_refusal(traffic)
        await assert_the_bill(running, upstream, len(traffic.replies), postgres_database)


async def test_the_network_swallows_everything(
    tmp_path: Path, upstream: RunningSimulator, postgres: PostgresServer, postgres_database: str, proxy: Proxy
) -> None:
    """No connection breaks and nothing comes through: only deadlines tell."""
    url = through(proxy, postgres, postgres_database)
    async with gateway(tmp_path, config(upstream, url)) as running:
        await ready(running)
        await stored_key(running)
        async with Traffic(running, BODY, keys=[KEY, STORED]) as traffic:
            await traffic.answered(40)
            proxy.swallow = True
            await traffic.answered(60)
            await degraded(running, "database")
            await traffic.answered(60)
            await proxy.cut()
            await proxy.mend()
            await ready(running)
        no_refusal(traffic)
        await assert_the_bill(running, upstream, len(traffic.replies), postgres_database)


async def test_the_server_only_reads(
    tmp_path: Path, upstream: RunningSimulator, postgres: PostgresServer, postgres_database: str
) -> None:
    """As the standby does that an old address leads to."""
    name = postgres_database.rpartition("/")[2]

    def only_reads(flag: str) -> None:
        postgres.sql(f"ALTER DATABASE {name} SET default_transaction_read_only = {flag}")
        postgres.sql(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'")

    async with gateway(tmp_path, config(upstream, postgres_database)) as running:
        await ready(running)
        await stored_key(running)
        async with Traffic(running, BODY, keys=[KEY, STORED]) as traffic:
            await traffic.answered(40)
            only_reads("on")
            await degraded(running, "ledger")
            await traffic.answered(60)
            refused = await running.ask({"name": "late"}, "/api/keys", key=ADMIN)
            assert (refused.status, refused.json()["error"]["code"]) == (503, "store_unavailable")
            only_reads("off")
            await ready(running)
            await traffic.answered(20)
        no_refusal(traffic)
        await assert_the_bill(running, upstream, len(traffic.replies), postgres_database)


@pytest.fixture
def small_disk(
    tmp_path_factory: pytest.TempPathFactory, postgres: PostgresServer
) -> Iterator[tuple[str, Callable[[bool], None]]]:
    """A database on a disk of its own that can be filled and emptied; where mounting is forbidden, one that says so."""
    folder = Path("/tmp") / f"tollway-small-{os.getpid()}-{time.monotonic_ns()}"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", folder], capture_output=True)
    if mounted.returncode == 0:
        shutil.chown(folder, "postgres")
        postgres.sql(f"CREATE TABLESPACE small LOCATION '{folder}'")
        postgres.sql("CREATE DATABASE small TEMPLATE migrated TABLESPACE small")
    else:
        postgres.sql("CREATE DATABASE small TEMPLATE migrated")
        postgres.sql(
            "CREATE FUNCTION full_disk() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
            "RAISE EXCEPTION 'could not extend file' USING ERRCODE = '53100'; END $$",
            "small",
        )

    def fill(full: bool) -> None:
        filler = folder / "filler"
        if mounted.returncode != 0:
            postgres.sql("DROP TRIGGER IF EXISTS full_disk ON events", "small")
            if full:
                postgres.sql(
                    "CREATE TRIGGER full_disk BEFORE INSERT ON events EXECUTE FUNCTION full_disk()", "small"
                )
        elif not full:
            filler.unlink()
        else:
            with suppress(OSError), filler.open("wb", buffering=0) as file:
                while True:
                    file.write(bytes(4096))

    yield postgres.url("small"), fill
    postgres.sql("DROP DATABASE small WITH (FORCE)")
    if mounted.returncode == 0:
        postgres.sql("DROP TABLESPACE small")
        subprocess.run(["umount", "-l", folder], check=True)
    shutil.rmtree(folder, ignore_errors=True)


@pytest.mark.usefixtures("_postgres_template")
async def test_the_disk_of_the_server_is_full(
    tmp_path: Path, upstream: RunningSimulator, small_disk: tuple[str, Callable[[bool], None]]
) -> None:
    url, fill = small_disk
    async with gateway(tmp_path, config(upstream, url)) as running:
        await ready(running)
        await stored_key(running)
        async with Traffic(running, BODY, keys=[KEY, STORED]) as traffic:
            await traffic.answered(40)
            fill(True)
            await degraded(running, "ledger")
            await traffic.answered(60)
            fill(False)
            await ready(running)
            await traffic.answered(20)
        no_refusal(traffic)
        await assert_the_bill(running, upstream, len(traffic.replies), url)


async def test_the_server_crashes_and_comes_back(tmp_path: Path, upstream: RunningSimulator) -> None:
    """What it had not put on its disk yet is forgotten, the ledger's newest batches among it; the spool brings them
    again."""
    with PostgresServer("wal_writer_delay=10s", "wal_writer_flush_after=1GB") as server:
        server.sql("CREATE DATABASE tollway")
        url = server.url("tollway")
        async with gateway(tmp_path, config(upstream, url)) as running:
            await ready(running)
            await stored_key(running)
            async with Traffic(running, BODY, keys=[KEY, STORED]) as traffic:
                for _ in range(2):
                    await traffic.answered(80)
                    before = int(server.sql("SELECT count(*) FROM events", "tollway"))
                    await asyncio.to_thread(server.restart, "immediate", 1.0)
                    after = int(server.sql("SELECT count(*) FROM events", "tollway"))
                    assert after <= before + 200
                    await ready(running)
                await traffic.answered(40)
            no_refusal(traffic)
            await assert_the_bill(running, upstream, len(traffic.replies), url)


async def test_a_start_without_the_server(
    tmp_path: Path, upstream: RunningSimulator, postgres: PostgresServer, postgres_database: str, proxy: Proxy
) -> None:
    """Keys and budgets are as they were known last, whether the gateway was stopped or killed; an unknown key is asked
    to come back, never told that it is invalid."""
    url = through(proxy, postgres, postgres_database)
    running = Gateway(tmp_path, config(upstream, url))
    answered = 0
    try:
        await running.start()
        await ready(running)
        await stored_key(running)
        poor = "sk-tw-a-key-with-hardly-any-money"
        await running.api("/keys", {"name": "poor", "key": poor, "budget": {"usd": 0.00001, "per": "total"}})

        async def spent_all() -> bool:
            return (await running.ask(BODY, key=poor)).status == 402

        await until(spent_all, WAIT, "the budget is spent")
        async with Traffic(running, BODY, keys=[KEY, STORED]) as traffic:
            await traffic.answered(40)
        answered += len(traffic.replies)
        assert ((tmp_path / "data" / "known.msgpack").stat().st_mode & 0o777) == 0o600
        assert STORED.encode() not in (tmp_path / "data" / "known.msgpack").read_bytes()
        for life in range(2):
            if life == 0:
                assert await running.stop() == 0
            else:
                running.kill()
            await proxy.cut()
            await running.start()
            await degraded(running, "database")
            async with Traffic(running, BODY, keys=[KEY, STORED]) as traffic:
                await traffic.answered(30)
                assert (await running.ask(BODY, key=poor)).status == 402
                unknown = await running.ask(BODY, key=UNKNOWN)
                assert (unknown.status, unknown.json()["error"]["code"]) == (503, "store_unavailable")
            no_refusal(traffic)
            answered += len(traffic.replies)
            await proxy.mend()
            await ready(running)

            async def told() -> bool:
                return (await running.ask(BODY, key=UNKNOWN)).status == 401

            await until(told, WAIT, "an unknown key is unknown again")
        events = await running.events()
        await assert_sums_agree(running, events, ("ci", "stored", "poor"))
        assert sum(event["key"] in ("ci", "stored") for event in events) == answered
        assert upstream.simulator.bill.requests == len(events)
    finally:
        running.kill()


async def test_no_request_asks_the_database(
    tmp_path: Path, upstream: RunningSimulator, postgres: PostgresServer, postgres_database: str
) -> None:
    """Counted by the server: transactions come with time (looking for changes, carrying events), not with requests. The
    requests are governed by budgets and limits on four levels."""
    name = postgres_database.rpartition("/")[2]

    def transactions() -> int:
        counted = f"SELECT xact_commit + xact_rollback FROM pg_stat_database WHERE datname = '{name}'"
        return int(postgres.sql(counted))

    budget = {"usd": 5, "per": "month"}
    limits = {"rpm": 1_000_000, "tpm": 1_000_000_000}
    settings = {
        **config(upstream, postgres_database),
        "organizations": [{"name": "acme", "budget": budget, "limits": limits}],
        "teams": [{"name": "search", "organization": "acme", "budget": budget, "limits": limits}],
        "users": [{"name": "u1", "budget": budget}],
        "keys": [
            {"name": "ci", "key": STORED, "team": "search", "user": "u1", "budget": budget, "limits": limits}
        ],
    }
    async with gateway(tmp_path, settings) as running:
        await ready(running)
        assert (await running.ask(BODY, key=STORED)).status == 200
        await asyncio.sleep(2)
        before, began = transactions(), time.monotonic()
        async with Traffic(running, BODY, keys=[STORED], clients=16) as traffic:
            while len(traffic.replies) < 1500:
                await traffic.answered(100)
        no_refusal(traffic)
        # The server's sessions report what they counted within a second or two.
        await asyncio.sleep(2.5)
        seconds = time.monotonic() - began
        asked = transactions() - before
        assert asked > 0, "nothing was counted"
        assert asked < 25 * seconds, (
            f"{asked} transactions in {seconds:.1f} s for {len(traffic.replies)} requests"
        )
        assert asked < len(traffic.replies) / 4


async def test_the_standby_takes_over(tmp_path: Path, upstream: RunningSimulator) -> None:
    """Reports read from the standby; when the primary is gone for good and the standby is promoted, the gateway finds
    it by itself, and nothing is missing there."""
    with PostgresServer("synchronous_standby_names=*") as primary:
        primary.sql("SET synchronous_commit = local; CREATE DATABASE tollway")
        with PostgresServer(follows=primary) as standby:
            both = f"127.0.0.1:{primary.port},127.0.0.1:{standby.port}"
            url = f"postgresql://postgres@{both}/tollway?target_session_attrs=primary"
            settings = config(upstream, url, database_replica=standby.url("tollway"))
            async with gateway(tmp_path, settings) as running:
                await ready(running)
                await stored_key(running)
                async with Traffic(running, BODY, keys=[KEY, STORED]) as traffic:
                    await traffic.answered(60)
                    await running.usage("key")
                    asked = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'tollway'"
                    assert int(standby.sql(asked)) > 0, "reports do not read from the replica"
                    await asyncio.to_thread(primary.stop)
                    await traffic.answered(60)
                    await degraded(running, "ledger")
                    await asyncio.to_thread(standby.promote)
                    await ready(running)
                    await traffic.answered(60)
                no_refusal(traffic)
                await running.api("/keys", {"name": "late"})
                await assert_the_bill(running, upstream, len(traffic.replies), standby.url("tollway"))
