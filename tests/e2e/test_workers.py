"""Several processes behind one address: started, replaced, told and ended together."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from workers import Workers, children

from redis_server import RedisServer
from running import Gateway, Wire, chat, free_port, gateway, provider, until
from tollway.simulator.running import RunningSimulator

KEY = {"name": "ci", "key": "sk-tw-client-key-of-the-tests"}


def config(
    upstream: RunningSimulator, redis: RedisServer, workers: int = 4, **more: object
) -> dict[str, object]:
    return {
        "server": {"workers": workers, "drain": "5s"},
        "redis": {"url": redis.url, "prefix": f"workers{free_port()}", "heartbeat": "2s"},
        "providers": {"sim": provider(upstream)},
        "models": {"gpt": {"model": "sim/gpt-4o-mini", "price": {"input": 1.0, "output": 2.0}}},
        "keys": [KEY],
        **more,
    }


@pytest.mark.parametrize("database", ["sqlite:///tollway.db", "none"])
async def test_all_serve_and_connections_are_spread(
    tmp_path: Path, upstream: RunningSimulator, redis: RedisServer, database: str
) -> None:
    async with gateway(tmp_path, config(upstream, redis, database=database)) as tollway:
        workers = Workers(tollway, 4)
        await workers.find()
        assert "is ready at" in tollway.log
        assert tollway.log.count("is ready at") == 1, "said once for all"
        for reply in (await workers.ask(chat("gpt"))).values():
            assert reply.status == 200, reply.body
        reached = Counter[int]()
        for _ in range(200):
            wire = Wire(tollway.port)
            reached[(await wire.ask(path="/health/readiness", key="")).json()["process"]["worker"]] += 1
            wire.close()
        assert sorted(reached) == [0, 1, 2, 3]
        assert max(reached.values()) < 100, reached
        workers.close()
        assert await tollway.stop() == 0, tollway.log


async def test_a_worker_that_dies_is_replaced(
    tmp_path: Path, upstream: RunningSimulator, redis: RedisServer
) -> None:
    async with gateway(tmp_path, config(upstream, redis)) as tollway:
        workers = Workers(tollway, 4)
        await workers.find()
        before = dict(workers.pids)
        workers.kill(2)
        await until(lambda: "worker 2 ended by SIGKILL" in tollway.log, 10)
        await workers.find()
        assert {number for number in before if before[number] != workers.pids[number]} == {2}
        assert "worker 2 serves again" in tollway.log
        for reply in (await workers.ask(chat("gpt"))).values():
            assert reply.status == 200, reply.body
        workers.close()
        assert await tollway.stop() == 0, tollway.log


async def test_a_stop_lets_answers_end(
    tmp_path: Path, upstream: RunningSimulator, redis: RedisServer
) -> None:
    async with gateway(tmp_path, config(upstream, redis)) as tollway:
        workers = Workers(tollway, 4)
        await workers.find()
        assert tollway.process is not None
        pids = children(tollway.process.pid)
        assert len(pids) == 4
        slow = chat("sim/slow+tokens=40+pace=25ms", stream=True)
        asked = asyncio.create_task(workers.ask(slow))
        await asyncio.sleep(0.3)
        code = asyncio.create_task(tollway.stop())
        replies = await asked
        assert all(reply.complete for reply in replies.values())
        assert await code == 0, tollway.log
        assert not any(Path(f"/proc/{pid}").exists() for pid in pids)


async def test_workers_end_when_their_supervisor_is_killed(
    tmp_path: Path, upstream: RunningSimulator, redis: RedisServer
) -> None:
    async with gateway(tmp_path, config(upstream, redis, workers=2)) as tollway:
        workers = Workers(tollway, 2)
        await workers.find()
        workers.close()
        tollway.kill()
        await until(lambda: not any(alive(pid) for pid in workers.pids.values()), 15, "the workers end")


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


async def test_a_hangup_reloads_in_all_and_a_newcomer_knows(
    tmp_path: Path, upstream: RunningSimulator, redis: RedisServer
) -> None:
    settings = config(upstream, redis, workers=2)
    async with gateway(tmp_path, settings) as tollway:
        workers = Workers(tollway, 2)
        await workers.find()
        tollway.configure({**settings, "models": {"renamed": settings["models"]["gpt"]}})  # type: ignore[index]
        tollway.signal(signal.SIGHUP)

        async def renamed() -> bool:
            return all(reply.status == 200 for reply in (await workers.ask(chat("renamed"))).values())

        await until(renamed, 10)
        # A file that nobody has loaded yet does not count, not even for a new process.
        tollway.configure({**settings, "models": {}})
        workers.kill(1)
        await until(lambda: "worker 1 serves again" in tollway.log, 15)
        await workers.find()
        assert await renamed()
        # Over HTTP one process is asked, and all do it.
        tollway.configure(settings)
        await tollway.api("/config/reload", method="POST")

        async def back() -> bool:
            return all(reply.status == 200 for reply in (await workers.ask(chat("gpt"))).values())

        await until(back, 10)
        workers.close()


async def test_a_worker_that_keeps_dying_is_started_less_often_and_the_others_serve(
    tmp_path: Path, upstream: RunningSimulator, redis: RedisServer
) -> None:
    async with gateway(tmp_path, config(upstream, redis, workers=2)) as tollway:
        workers = Workers(tollway, 2)
        for deaths in range(1, 4):
            await workers.find()
            workers.kill(0)
            await until(lambda: tollway.log.count("worker 0 ended by SIGKILL") == deaths, 10)  # noqa: B023
        assert "is started again in 0.5 s" in tollway.log
        assert "is started again in 1 s" in tollway.log
        await workers.find()
        workers.close()


def test_the_same_port_is_not_shared_with_a_stranger(
    tmp_path: Path, upstream: RunningSimulator, redis: RedisServer
) -> None:
    async def run() -> None:
        async with gateway(tmp_path / "one", config(upstream, redis, workers=2)) as first:
            second = Gateway(tmp_path / "two", config(upstream, redis, workers=2))
            second.port = first.port
            done = await asyncio.to_thread(start, second)
            assert done.returncode == 1
            assert f"Port {first.port} of 127.0.0.1 is in use" in done.stderr

    asyncio.run(run())


def test_a_start_that_one_worker_cannot_make_is_no_start(
    tmp_path: Path, upstream: RunningSimulator, redis: RedisServer
) -> None:
    async def run() -> None:
        settings = config(upstream, redis, workers=2)
        async with gateway(tmp_path, settings):
            second = Gateway(tmp_path, settings)  # of the same data directory
            done = await asyncio.to_thread(start, second)
            assert done.returncode == 1
            assert "belongs to the running process" in done.stderr
            assert "is ready at" not in done.stdout

    asyncio.run(run())


def start(tollway: Gateway) -> subprocess.CompletedProcess[str]:
    """Run it to its end, which it is expected to find at once."""
    return subprocess.run(
        [sys.executable, "-m", "tollway", "serve"],
        env=tollway.environ,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize("sharing", ["neither", "one", "both"])
async def test_two_gateways_on_one_database_must_share_their_counters(
    tmp_path: Path, upstream: RunningSimulator, redis: RedisServer, sharing: str
) -> None:
    settings = config(upstream, redis, workers=1, database=f"sqlite:///{tmp_path}/one.db")
    alone = {name: value for name, value in settings.items() if name != "redis"}
    async with gateway(tmp_path / "one", settings if sharing != "neither" else alone) as first:
        await first.api("/keys", {"name": "made"})
        if sharing == "both":
            async with gateway(tmp_path / "two", settings) as second:
                assert {key["name"] for key in (await second.api("/keys"))["data"]} == {"ci", "made"}
            return
        second = Gateway(tmp_path / "two", alone)
        done = await asyncio.to_thread(start, second)
        assert done.returncode == 1
        assert "Another gateway, on host" in done.stderr
        assert "Give both the same redis:" in done.stderr
        # Once the first is dead, the second may begin, though nobody tidied up.
        first.kill()
        await second.start()
        assert await second.stop() == 0
