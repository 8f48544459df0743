"""The database goes away under a running gateway, in every way a database can: requests flow on, readiness says so,
nobody's key turns invalid, and once it is back everything is in the ledger without a restart.

Mounts happen in a namespace of the gateway's own, so that nothing of the machine's is touched and all of it ends with
the process; where the system forbids that, those tests are skipped.
"""

from __future__ import annotations

import asyncio
import errno
import resource
import shutil
import sqlite3
import subprocess
from contextlib import closing
from pathlib import Path

import pytest

from load import Traffic, assert_sums_agree, cost_of, nano_usd
from running import ADMIN, KEY, Gateway, chat, gateway, provider, until
from tollway.simulator.running import RunningSimulator

RATES = {"input": "0.150000001", "output": "0.600000007"}
BODY = chat("fast", max_tokens=8)
STORED = "sk-tw-key-that-the-database-has"
FILES = ("tollway.db", "tollway.db-wal", "tollway.db-shm")
OWN_MOUNTS = ("unshare", "--map-root-user", "--mount")


@pytest.fixture(scope="module")
def mounts() -> None:
    """Skips where an unprivileged namespace with mounts of its own cannot be had."""
    try:
        done = subprocess.run(
            [*OWN_MOUNTS, "mount", "-t", "tmpfs", "tmpfs", "/mnt"],
            capture_output=True,
            check=False,
            timeout=10,
        )
    except FileNotFoundError:
        pytest.skip("there is no unshare")
    if done.returncode:
        pytest.skip(f"mounting in a namespace of one's own is not allowed: {done.stderr.decode()}")


def config(upstream: RunningSimulator, database: Path, **more: object) -> dict[str, object]:
    return {
        "providers": {"sim": provider(upstream)},
        "models": {
            "fast": {
                "model": "sim/fast+tokens=8",
                "price": {unit: float(rate) for unit, rate in RATES.items()},
            }
        },
        "keys": [{"name": "ci", "key": KEY, "budget": [{"usd": 5, "per": "total"}, "4usd/month"]}],
        "database": f"sqlite:///{database}",
        **more,
    }


async def stored_key(running: Gateway) -> None:
    """A key that only the database knows, with a budget."""
    await running.api("/keys", {"name": "stored", "key": STORED, "budget": {"usd": 3, "per": "total"}})


async def degraded(running: Gateway, part: str) -> None:
    async def says_so() -> bool:
        found = await running.readiness()
        return found["status"] == "degraded" and part in found["degraded"]

    await until(says_so, 25, f"readiness names {part}")


async def recovered(running: Gateway) -> None:
    async def is_ready() -> bool:
        return (await running.readiness())["status"] == "ready"

    await until(is_ready, 25, "readiness is ready again")


async def assert_in_the_ledger(
    running: Gateway, answered: int, keys: tuple[str, ...] = ("ci", "stored")
) -> None:
    """Every answered request has its one event, at its price, and all sums agree."""

    async def there() -> bool:
        return len(await running.events()) >= answered

    await until(there, 20, f"{answered} events in the ledger")
    events = await running.events()
    assert len(events) == answered
    assert {(event["outcome"], event["attempt"]) for event in events} == {("ok", 1)}
    assert cost_of(events) == sum(nano_usd(RATES, event["usage"]) for event in events) > 0
    await assert_sums_agree(running, events, keys)


def no_refusal(traffic: Traffic) -> None:
    assert set(traffic.statuses) == {200}, traffic.statuses


async def test_the_file_is_moved_away_and_comes_back(tmp_path: Path, upstream: RunningSimulator) -> None:
    directory, aside = tmp_path / "database", tmp_path / "aside"
    directory.mkdir()
    aside.mkdir()
    async with gateway(tmp_path / "gateway", config(upstream, directory / "tollway.db")) as running:
        await until(lambda: _ready(running), 10)
        await stored_key(running)
        async with Traffic(running, BODY, keys=[KEY, STORED]) as traffic:
            await traffic.answered(60)
            for name in FILES:
                if (directory / name).exists():
                    (directory / name).rename(aside / name)
            await traffic.answered(60)
            await degraded(running, "ledger")
            await degraded(running, "database")
            unknown = await running.ask(BODY, key="sk-tw-nobody-knows-this-one")
            assert unknown.status == 401, "the keys were read before: an unknown one is unknown"
            # Something else in its place is no database either, and no reason to write a new one.
            (directory / "tollway.db").mkdir()
            await traffic.answered(60)
            assert (await running.readiness())["status"] == "degraded"
            (directory / "tollway.db").rmdir()
            for name in FILES:
                if (aside / name).exists():
                    (aside / name).rename(directory / name)
            await recovered(running)
            await traffic.answered(60)
        no_refusal(traffic)
        await assert_in_the_ledger(running, len(traffic.replies))


async def test_a_deleted_file_is_replaced_by_its_backup(tmp_path: Path, upstream: RunningSimulator) -> None:
    """What was answered between the backup and the loss is in the spool still, and is stored once more."""
    path = tmp_path / "tollway.db"
    async with gateway(tmp_path / "gateway", config(upstream, path)) as running:
        await until(lambda: _ready(running), 10)
        await stored_key(running)
        async with Traffic(running, BODY, keys=[KEY, STORED]) as traffic:
            await traffic.answered(60)
            with (
                closing(sqlite3.connect(path)) as source,
                closing(sqlite3.connect(tmp_path / "backup.db")) as copy,
            ):
                source.backup(copy)
            await traffic.answered(100)
            for name in FILES:
                (tmp_path / name).unlink(missing_ok=True)
            await traffic.answered(60)
            await degraded(running, "ledger")
            assert not path.exists(), "an empty ledger was made in place of the lost one"
            (tmp_path / "backup.db").rename(path)
            await recovered(running)
            await traffic.answered(20)
        no_refusal(traffic)
        await assert_in_the_ledger(running, len(traffic.replies))


async def test_a_locked_database(tmp_path: Path, upstream: RunningSimulator) -> None:
    path = tmp_path / "tollway.db"
    async with gateway(tmp_path / "gateway", config(upstream, path)) as running:
        await until(lambda: _ready(running), 10)
        await stored_key(running)
        async with Traffic(running, BODY, keys=[KEY, STORED]) as traffic:
            await traffic.answered(20)
            with closing(sqlite3.connect(path, isolation_level=None)) as other:
                other.execute("BEGIN EXCLUSIVE")
                refused = asyncio.create_task(running.ask({"name": "late"}, "/api/keys", key=ADMIN))
                await degraded(running, "ledger")
                await traffic.answered(60)
                reply = await refused
                assert (reply.status, reply.json()["error"]["code"]) == (503, "store_unavailable")
                other.execute("ROLLBACK")
            await recovered(running)
            await traffic.answered(20)
        no_refusal(traffic)
        await assert_in_the_ledger(running, len(traffic.replies))


async def test_locked_from_the_start(tmp_path: Path, upstream: RunningSimulator) -> None:
    """Known keys are served, others are asked to come back; what was spent before is counted all the same."""
    path = tmp_path / "tollway.db"
    running = Gateway(tmp_path / "gateway", config(upstream, path))
    try:
        answered = await _earlier_life(running)
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("PRAGMA locking_mode=EXCLUSIVE")
            other.execute("BEGIN EXCLUSIVE")
            await running.start()
            answered += await _life_without_database(running)
            other.execute("ROLLBACK")
        answered += await _keys_come_back(running)
        await assert_in_the_ledger(running, answered)
    finally:
        running.kill()


@pytest.mark.parametrize("killed", [False, True])
async def test_a_spent_budget_stays_spent(tmp_path: Path, upstream: RunningSimulator, killed: bool) -> None:
    """Started beside a locked database: what was spent is remembered, and so is who may not spend any more."""
    path = tmp_path / "tollway.db"
    poor = "sk-tw-a-key-with-hardly-any-money"
    running = Gateway(tmp_path / "gateway", config(upstream, path))
    try:
        await running.start()
        await until(lambda: _ready(running), 20)
        await running.api("/keys", {"name": "poor", "key": poor, "budget": {"usd": 0.00001, "per": "month"}})

        async def spent() -> bool:
            return (await running.ask(BODY, key=poor)).status == 402

        await until(spent, 20, "the budget is spent")
        remembered = running.data_dir / "spent.msgpack"
        await until(lambda: not killed or remembered.exists(), 30, "what is spent is kept")
        if killed:
            running.kill()
        else:
            assert await running.stop() == 0
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("PRAGMA locking_mode=EXCLUSIVE")
            other.execute("BEGIN EXCLUSIVE")
            await running.start()
            assert (await running.ask(BODY, key=poor)).status == 402
            assert (await running.ask(BODY)).status == 200
            other.execute("ROLLBACK")
        await recovered(running)
        assert (await running.ask(BODY, key=poor)).status == 402
    finally:
        running.kill()


@pytest.mark.usefixtures("mounts")
async def test_read_only_from_the_start(tmp_path: Path, upstream: RunningSimulator) -> None:
    directory = tmp_path / "database"
    directory.mkdir()
    settings = config(upstream, directory / "tollway.db")
    before = Gateway(tmp_path / "gateway", settings)
    bind = f"mount --bind {directory} {directory} && mount -o remount,ro,bind {directory}"
    running = Gateway(
        tmp_path / "gateway", settings, wrap=[*OWN_MOUNTS, "sh", "-c", f'{bind} && exec "$@"', "sh"]
    )
    try:
        answered = await _earlier_life(before)
        await running.start()
        answered += await _life_without_database(running)
        _within(running, "mount", "-o", "remount,rw,bind", str(directory))
        answered += await _keys_come_back(running)
        await assert_in_the_ledger(running, answered)
    finally:
        before.kill()
        running.kill()


@pytest.mark.usefixtures("mounts")
async def test_the_disk_of_the_database_is_full(tmp_path: Path, upstream: RunningSimulator) -> None:
    """The spool has room, the database has none: nothing is refused."""
    directory = tmp_path / "database"
    directory.mkdir()
    wrap = [*OWN_MOUNTS, "sh", "-c", f'mount -t tmpfs -o size=4m tmpfs {directory} && exec "$@"', "sh"]
    async with gateway(
        tmp_path / "gateway", config(upstream, directory / "tollway.db"), wrap=wrap
    ) as running:
        await until(lambda: _ready(running), 10)
        await stored_key(running)
        async with Traffic(running, BODY, keys=[KEY, STORED]) as traffic:
            await traffic.answered(20)
            filler = _fill(_seen(running, directory))
            await degraded(running, "ledger")
            await traffic.answered(60)
            filler.unlink()
            await recovered(running)
            await traffic.answered(20)
        no_refusal(traffic)
        await assert_in_the_ledger(running, len(traffic.replies))


@pytest.mark.usefixtures("mounts")
async def test_a_full_disk_refuses_before_the_provider_is_asked(
    tmp_path: Path, upstream: RunningSimulator
) -> None:
    """Spool and database share a full disk: what was admitted is kept, what cannot be kept is not begun."""
    data = tmp_path / "gateway" / "data"
    data.mkdir(parents=True)
    wrap = [*OWN_MOUNTS, "sh", "-c", f'mount -t tmpfs -o size=6m tmpfs {data} && exec "$@"', "sh"]
    settings = config(
        upstream,
        data / "tollway.db",
        spool={"segment_bytes": "128KiB", "max_bytes": "64MiB", "fsync": "50ms"},
    )
    async with gateway(tmp_path / "gateway", settings, wrap=wrap) as running:
        await until(lambda: _ready(running), 10)
        await stored_key(running)
        bill = upstream.simulator.bill
        async with Traffic(running, BODY, keys=[KEY, STORED], clients=8) as traffic:
            await traffic.answered(20)
            filler = _fill(_seen(running, data))
            await until(lambda: traffic.statuses[503], 20, "a request is refused")
            await degraded(running, "spool")
            await traffic.answered(50)
            # One that is under way may still be admitted by room that another gave back.
            await until(lambda: {reply.status for reply in traffic.replies[-50:]} == {503}, 20)
            asked = bill.requests
            await traffic.answered(100)
            assert bill.requests == asked, "a provider was asked although the event could not be kept"
            refused = traffic.replies[-1].json()["error"]
            assert refused["code"] == "store_unavailable"
            assert "not sent" in refused["message"]
            filler.unlink()
            await until(lambda: {reply.status for reply in traffic.replies[-20:]} == {200}, 20, "it goes on")
            await recovered(running)
        assert set(traffic.statuses) == {200, 503}
        served = traffic.statuses[200]
        assert bill.requests == served, "what was refused is on no bill"
        await assert_in_the_ledger(running, served)


async def test_files_that_may_not_grow(tmp_path: Path, upstream: RunningSimulator) -> None:
    """Every write fails, even into room that was reserved: events wait in memory, a bounded number, then 503."""
    async with gateway(tmp_path / "gateway", config(upstream, tmp_path / "tollway.db")) as running:
        await until(lambda: _ready(running), 10)
        await stored_key(running)
        assert running.process is not None
        bill = upstream.simulator.bill
        async with Traffic(running, BODY, keys=[KEY, STORED], clients=8) as traffic:
            await traffic.answered(20)
            _, hard = resource.prlimit(running.process.pid, resource.RLIMIT_FSIZE)
            resource.prlimit(running.process.pid, resource.RLIMIT_FSIZE, (1, hard))
            await degraded(running, "spool")
            await until(lambda: {reply.status for reply in traffic.replies[-50:]} == {503}, 20, "it refuses")
            asked = bill.requests
            await traffic.answered(50)
            assert bill.requests == asked
            assert traffic.replies[-1].json()["error"]["code"] == "store_unavailable"
            resource.prlimit(running.process.pid, resource.RLIMIT_FSIZE, (hard, hard))
            await until(lambda: {reply.status for reply in traffic.replies[-20:]} == {200}, 20, "it goes on")
            await recovered(running)
        assert set(traffic.statuses) == {200, 503}
        assert bill.requests == traffic.statuses[200]
        await assert_in_the_ledger(running, traffic.statuses[200])


async def _ready(running: Gateway) -> bool:
    return bool((await running.readiness())["status"] == "ready")


async def _earlier_life(running: Gateway) -> int:
    """A start that makes the database, a stored key and some spend; returns how many requests were answered."""
    await running.start()
    await until(lambda: _ready(running), 10)
    await stored_key(running)
    async with Traffic(running, BODY, keys=[KEY, STORED]) as traffic:
        await traffic.answered(30)
    no_refusal(traffic)
    assert await running.stop() == 0
    return len(traffic.replies)


async def _life_without_database(running: Gateway) -> int:
    async with Traffic(running, BODY, keys=[KEY, STORED]) as traffic:
        await traffic.answered(40)
        await degraded(running, "database")
        reply = await running.ask(BODY, key="sk-tw-nobody-knows-this-one")
        assert (reply.status, reply.json()["error"]["code"]) == (503, "store_unavailable")
        assert int(reply.headers["retry-after"]) > 0
        await traffic.answered(20)
    no_refusal(traffic)
    return len(traffic.replies)


async def _keys_come_back(running: Gateway) -> int:
    async with Traffic(running, BODY, keys=[KEY]) as traffic:
        await recovered(running)
        await traffic.answered(20)

        async def served() -> bool:
            return (await running.ask(chat("none"), key=STORED)).status == 404

        await until(served, 10, "the stored key is known again")
        assert (await running.ask(BODY, key="sk-tw-nobody-knows-this-one")).status == 401
        stored = await running.ask(BODY, key=STORED)
        assert stored.status == 200
    no_refusal(traffic)
    return len(traffic.replies) + 1


def _within(running: Gateway, *command: str) -> None:
    """Run a command among the gateway's own mounts."""
    assert running.process is not None
    enter = ["nsenter", "--target", str(running.process.pid), "--user", "--mount", "--preserve-credentials"]
    subprocess.run([*enter, *command], check=True, capture_output=True, timeout=10)


def _seen(running: Gateway, path: Path) -> Path:
    """A path as the gateway sees it, its mounts included."""
    assert running.process is not None
    return Path(f"/proc/{running.process.pid}/root{path}")


def _fill(directory: Path) -> Path:
    """Take all the room that is left, to the last byte."""
    path = directory / "filler"
    with path.open("wb", buffering=0) as file:
        for size in (65536, 4096, 1):
            try:
                while True:
                    file.write(bytes(size))
            except OSError as error:
                if error.errno != errno.ENOSPC:
                    raise
    assert shutil.disk_usage(directory).free == 0
    return path
