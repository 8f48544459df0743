"""A task cancelled in any phase takes its socket with it at once: within 50 ms the provider sees the connection end."""

from __future__ import annotations

import asyncio
import time

import pytest

from raw_provider import Wire, asking, black_hole, listen, open_sockets, silent, until
from tollway.providers.addresses import Addresses
from tollway.providers.request import Origin, UpstreamRequest
from tollway.providers.upstream import Upstream

AT_ONCE = 0.05


async def cancelled(task: asyncio.Task[object]) -> float:
    """Cancel, wait until the task has ended, and say when it was cancelled."""
    moment = time.monotonic()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert time.monotonic() - moment < AT_ONCE
    return moment


def sending(upstream: Upstream, request: UpstreamRequest) -> asyncio.Task[object]:
    return asyncio.get_running_loop().create_task(upstream.send(request))


class Ends:
    """A listener's part that notes when its connections ended."""

    def __init__(self, answer: bytes = b"", *, reads: bool = True) -> None:
        self.answer = answer
        self.reads = reads
        self.at: list[float] = []

    async def serve(self, wire: Wire) -> None:
        if self.reads:
            await wire.request()
            wire.send(self.answer)
        self.at.append(await wire.gone())

    async def within(self, moment: float, count: int = 1) -> None:
        await until(lambda: len(self.at) == count)
        assert max(self.at) - moment < AT_ONCE


async def test_while_waiting_for_a_place(upstream: Upstream) -> None:
    async with listen(silent) as provider:
        upstream.limit(provider.origin(), 1)
        first = sending(upstream, asking(provider.origin()))
        await until(lambda: provider.wires)
        second = sending(upstream, asking(provider.origin()))
        third = sending(upstream, asking(provider.origin()))
        (pool,) = upstream._pools.values()
        await until(lambda: len(pool._waiters) == 2)
        await cancelled(second)
        assert len(pool._waiters) == 1
        assert upstream.connections() == 1
        await cancelled(first)
        await until(lambda: len(provider.wires) == 2)
        await cancelled(third)


class _SlowNames(Addresses):
    """A resolver that does not answer."""

    async def _ask(self, key: tuple[str, int]) -> list[str]:
        await asyncio.sleep(30)
        return await super()._ask(key)


async def test_while_looking_up_the_name(upstream: Upstream) -> None:
    upstream._addresses = names = _SlowNames()
    origin = Origin(scheme="http", host="slow.test", port=80)
    task = sending(upstream, asking(origin))
    other = sending(upstream, asking(origin))
    await until(lambda: names._asking)
    await cancelled(task)
    await until(lambda: upstream.connections() == 1)
    assert not other.done(), "the one look-up serves the other caller still"
    await cancelled(other)
    for lookup in names._asking.values():
        lookup.cancel()


async def test_while_connecting(upstream: Upstream) -> None:
    with black_hole() as port:
        before = open_sockets()
        task = sending(upstream, asking(Origin(scheme="http", host="127.0.0.1", port=port)))
        await until(lambda: open_sockets() == before + 1)
        moment = await cancelled(task)
        await until(lambda: open_sockets() == before)
        assert time.monotonic() - moment < AT_ONCE
        assert upstream.connections() == 0


async def test_while_connecting_to_several_addresses(upstream: Upstream) -> None:
    with black_hole() as port, black_hole("127.0.0.2", port):
        upstream._addresses._known["two.test", port] = (float("inf"), ["127.0.0.1", "127.0.0.2"])
        before = open_sockets()
        task = sending(upstream, asking(Origin(scheme="http", host="two.test", port=port)))
        await until(lambda: open_sockets() == before + 2)
        moment = await cancelled(task)
        await until(lambda: open_sockets() == before)
        assert time.monotonic() - moment < AT_ONCE


async def test_during_the_tls_handshake(upstream: Upstream) -> None:
    ends = Ends(reads=False)
    async with listen(ends.serve) as provider:
        task = sending(upstream, asking(Origin(scheme="https", host="127.0.0.1", port=provider.port)))
        await until(lambda: provider.wires)
        await asyncio.sleep(0.02)
        await ends.within(await cancelled(task))
        assert upstream.connections() == 0


@pytest.mark.parametrize("answer", [b"", b"HTTP/1.1 2", b"HTTP/1.1 100 Continue\r\n\r\n"])
async def test_before_the_head(upstream: Upstream, answer: bytes) -> None:
    ends = Ends(answer)
    async with listen(ends.serve) as provider:
        task = sending(upstream, asking(provider.origin()))
        await until(lambda: provider.requests)
        await asyncio.sleep(0.02)
        await ends.within(await cancelled(task))
        await until(lambda: upstream.connections() == 0)
        assert upstream.active() == 0


@pytest.mark.parametrize("whole", [True, False])
async def test_in_the_middle_of_the_body(upstream: Upstream, whole: bool) -> None:
    ends = Ends(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf")

    async def read() -> object:
        answer = await upstream.send(asking(provider.origin()))
        begun.set()
        try:
            if whole:
                return await answer.body(100)
            assert await answer.read() == b"half"
            return await answer.read()
        except asyncio.CancelledError:
            answer.abort()
            raise

    begun = asyncio.Event()
    async with listen(ends.serve) as provider:
        task = asyncio.get_running_loop().create_task(read())
        await begun.wait()
        await asyncio.sleep(0.02)
        await ends.within(await cancelled(task))
        await until(lambda: upstream.connections() == 0)
        assert upstream.active() == 0


async def test_with_the_provider_held_back(upstream: Upstream) -> None:
    ended: list[float] = []

    async def flood(wire: Wire) -> None:
        await wire.request()
        wire.send(b"HTTP/1.1 200 OK\r\n\r\n")
        try:
            while True:
                wire.send(bytes(65536))
                await wire.writer.drain()
        except ConnectionError:
            ended.append(time.monotonic())

    async with listen(flood) as provider:
        answer = await upstream.send(asking(provider.origin()))
        await until(lambda: answer.phase == "paused")
        moment = time.monotonic()
        answer.abort()
        await until(lambda: ended)
        assert ended[0] - moment < AT_ONCE


async def test_while_a_large_request_is_on_its_way(upstream: Upstream) -> None:
    ended: list[float] = []

    async def deaf(wire: Wire) -> None:
        await wire.reader.readuntil(b"\r\n\r\n")
        await released.wait()
        ended.append(await wire.gone())

    released = asyncio.Event()
    async with listen(deaf) as provider:
        task = sending(upstream, asking(provider.origin(), body=bytes(30 << 20)))
        await until(lambda: provider.wires)
        await asyncio.sleep(0.05)
        await cancelled(task)
        await until(lambda: upstream.connections() == 0)
        released.set()
        await until(lambda: ended)


async def test_aborting_what_is_over_does_nothing(upstream: Upstream) -> None:
    ends = Ends(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")
    async with listen(ends.serve) as provider:
        answer = await upstream.send(asking(provider.origin()))
        await until(lambda: answer.complete)
        answer.abort()
        answer.abort()
        assert await answer.body(10) == b"ok"
        assert upstream.connections() == 1
        assert not ends.at
