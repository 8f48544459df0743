"""The contracts of notices and locks, on the engine of one process and on Redis."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from uuid import uuid4

import pytest

from proxy import Proxy
from redis_server import RedisServer
from running import until
from tollway.shared.interface import Lock, PubSub
from tollway.shared.memory_bus import MemoryLock, MemoryPubSub
from tollway.shared.redis_bus import RedisLock, RedisPubSub
from tollway.shared.redis_link import RedisAway, RedisLink

PATIENT = 5.0


@asynccontextmanager
async def linked(url: str, prefix: str, *, cluster: bool = False) -> AsyncIterator[RedisLink]:
    link = RedisLink(url, prefix=prefix, connect=PATIENT, deadline=PATIENT, pause=0.1, cluster=cluster)
    try:
        yield link
    finally:
        await link.close()


@pytest.fixture(params=["memory", "redis"])
async def bus(request: pytest.FixtureRequest) -> AsyncIterator[PubSub]:
    if request.param == "memory":
        memory = MemoryPubSub()
        yield memory
        await memory.close()
        return
    server: RedisServer = request.getfixturevalue("redis")
    async with linked(server.url, uuid4().hex) as link:
        remote = RedisPubSub(link)
        yield remote
        await remote.close()


@pytest.fixture(params=["memory", "redis"])
async def lock(request: pytest.FixtureRequest) -> AsyncIterator[Lock]:
    if request.param == "memory":
        yield MemoryLock()
        return
    server: RedisServer = request.getfixturevalue("redis")
    async with linked(server.url, uuid4().hex) as link:
        yield RedisLock(link)


class Ear:
    def __init__(self) -> None:
        self.heard: list[bytes] = []
        self.missed = 0

    def hear(self, payload: bytes) -> None:
        self.heard.append(payload)

    def miss(self) -> None:
        self.missed += 1


async def test_every_subscriber_of_a_channel_hears_it_and_no_other(bus: PubSub) -> None:
    one, two, other = Ear(), Ear(), Ear()
    bus.subscribe("news", one.hear, one.miss)
    bus.subscribe("other", other.hear, other.miss)
    await bus.start()
    await until(lambda: one.missed and other.missed)
    end = bus.subscribe("news", two.hear, two.miss)
    late = Ear()
    bus.subscribe("late", late.hear, late.miss)
    await until(lambda: two.missed and late.missed)
    assert await bus.publish("news", b"\x00first")
    assert await bus.publish("late", b"too")
    await until(lambda: one.heard and two.heard and late.heard)
    end()
    assert await bus.publish("news", b"second")
    await until(lambda: len(one.heard) == 2)
    assert one.heard == [b"\x00first", b"second"]
    assert two.heard == [b"\x00first"]
    assert other.heard == []
    assert late.heard == [b"too"]
    assert (one.missed, two.missed) == (1, 1)


async def test_a_subscription_before_anybody_else_and_after_the_start(bus: PubSub) -> None:
    await bus.start()
    await asyncio.sleep(0.05)
    ear = Ear()
    bus.subscribe("news", ear.hear, ear.miss)
    await until(lambda: ear.missed)
    await bus.publish("news", b"1")
    await until(lambda: ear.heard == [b"1"])


async def test_notices_cross_processes_and_prefixes_do_not_mix(redis: RedisServer) -> None:
    prefix = uuid4().hex
    async with (
        linked(redis.url, prefix) as here,
        linked(redis.url, prefix) as there,
        linked(redis.url, prefix + "x") as apart,
    ):
        ears = [Ear() for _ in range(3)]
        buses = [RedisPubSub(link) for link in (here, there, apart)]
        for bus, ear in zip(buses, ears, strict=True):
            bus.subscribe("news", ear.hear, ear.miss)
            await bus.start()
        await until(lambda: all(ear.missed for ear in ears))
        await buses[0].publish("news", b"1")
        await until(lambda: ears[0].heard and ears[1].heard)
        assert ears[2].heard == []
        for bus in buses:
            await bus.close()


@pytest.mark.parametrize("how", ["cut", "swallow"])
async def test_an_outage_is_told_and_listening_goes_on(redis: RedisServer, how: str) -> None:
    async with AsyncExitStack() as stack:
        proxy = await stack.enter_async_context(Proxy("127.0.0.1", redis.port))
        link = RedisLink(
            f"redis://127.0.0.1:{proxy.port}", prefix=uuid4().hex, connect=2, deadline=0.5, pause=0.1
        )
        stack.push_async_callback(link.close)
        bus = RedisPubSub(link)
        stack.push_async_callback(bus.close)
        ear = Ear()
        bus.subscribe("news", ear.hear, ear.miss)
        await bus.start()
        await until(lambda: ear.missed == 1)
        if how == "cut":
            await proxy.cut()
        else:
            proxy.swallow = True
        assert not await bus.publish("news", b"lost")
        await asyncio.sleep(0.3)
        if how == "swallow":
            await proxy.cut()  # the silent connection would be noticed by itself, a few seconds later
        await proxy.mend()
        await until(lambda: ear.missed == 2, 20)
        await until(lambda: bus.publish("news", b"found"), 20)
        await until(lambda: ear.heard and ear.heard[-1] == b"found")


async def test_after_a_failure_nobody_waits(redis: RedisServer) -> None:
    async with Proxy("127.0.0.1", redis.port) as proxy:
        link = RedisLink(
            f"redis://127.0.0.1:{proxy.port}", prefix=uuid4().hex, connect=0.5, deadline=0.5, pause=60
        )
        await link.command("PING")
        proxy.swallow = True
        with pytest.raises(RedisAway):
            await link.command("PING")
        assert link.away
        begun = time.monotonic()
        for _ in range(200):
            with pytest.raises(RedisAway, match="a moment ago"):
                await link.command("PING")
        assert time.monotonic() - begun < 5
        await proxy.cut()
        await proxy.mend()
        await link.command("PING", patient=True)
        assert not link.away
        await link.close()


async def test_a_password_is_never_told() -> None:
    link = RedisLink("redis://user:hush-hush@127.0.0.1:1/0", connect=0.5, deadline=0.5)
    with pytest.raises(RedisAway) as refused:
        await link.command("PING")
    assert "hush" not in str(refused.value)
    await link.close()


# ------------------------------------------------------------------------------------------------- locks


async def test_one_holds_a_name(lock: Lock) -> None:
    first = await lock.acquire("purge", 30)
    assert first is not None
    assert first.held()
    assert await lock.acquire("purge", 30) is None
    assert await lock.acquire("other", 30) is not None
    assert await first.renew()
    await first.release()
    assert not first.held()
    assert not await first.renew()
    second = await lock.acquire("purge", 30)
    assert second is not None
    assert second.fence > first.fence
    await first.release()
    assert await lock.acquire("purge", 30) is None, "releasing what was lost took it from its holder"


async def test_a_lock_ends_with_its_time(lock: Lock) -> None:
    first = await lock.acquire("purge", 0.2)
    assert first is not None
    await until(lambda: not first.held())
    second = None

    async def taken() -> bool:
        nonlocal second
        second = await lock.acquire("purge", 30)
        return second is not None

    await until(taken)
    assert second is not None
    assert second.fence > first.fence
    assert not await first.renew()


async def test_of_many_at_once_one_holds_it(redis: RedisServer) -> None:
    prefix = uuid4().hex
    async with linked(redis.url, prefix) as here, linked(redis.url, prefix) as there:
        locks = [RedisLock(here), RedisLock(there)]
        won = await asyncio.gather(*(locks[n % 2].acquire("leader", 30) for n in range(40)))
        assert sum(lease is not None for lease in won) == 1


async def test_a_fence_grows_though_the_data_was_lost() -> None:
    with RedisServer() as server:
        async with linked(server.url, "t") as link:
            lock = RedisLock(link)
            first = await lock.acquire("leader", 0.01)
            assert first is not None
            server.stop()
            assert await lock.acquire("leader", 30) is None
            server.start()
            second = None

            async def taken() -> bool:
                nonlocal second
                second = await lock.acquire("leader", 30)
                return second is not None

            await until(taken, 20)
            assert second is not None
            assert second.fence > first.fence


async def test_a_cluster_takes_scripts_and_carries_notices() -> None:
    with RedisServer("--cluster-enabled", "yes") as server:
        server.own_all_slots()
        async with linked(server.url, "t", cluster=True) as link:
            lock = RedisLock(link)
            lease = await lock.acquire("leader", 30)
            assert lease is not None
            assert await lock.acquire("leader", 30) is None
            bus, ear = RedisPubSub(link), Ear()
            bus.subscribe("news", ear.hear, ear.miss)
            await bus.start()
            await until(lambda: ear.missed)
            assert await bus.publish("news", b"1")
            await until(lambda: ear.heard == [b"1"])
            await bus.close()
