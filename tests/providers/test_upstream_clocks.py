"""Every wait is bounded by a clock that says its name, and a slow reader holds the provider back without one firing."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

import pytest
from msgspec.structs import replace

from raw_provider import QUICK, Wire, always, asking, black_hole, listen, silent, until
from tollway.errors import UpstreamTimeout
from tollway.model.clocks import Clocks
from tollway.providers.request import Origin
from tollway.providers.upstream import HIGH_WATER, Upstream

OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
CHUNKED = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
EVENTS = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
LATE = 0.3
"""How much later than its clock an error may come: the sweep, and a machine that is busy."""


async def fires(clock: str, seconds: float, waiting: Awaitable[object]) -> UpstreamTimeout:
    begun = time.monotonic()
    with pytest.raises(UpstreamTimeout) as caught:
        await waiting
    took = time.monotonic() - begun
    assert caught.value.clock == clock
    assert caught.value.details == {"provider": "acme", "clock": clock}
    assert caught.value.http_status == 504
    assert f"{clock}" in caught.value.message
    assert f"{seconds:g} s" in caught.value.message
    assert seconds - 0.01 <= took <= seconds + LATE
    return caught.value


def piece(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


# ---------------------------------------------------------------------------------------------- connect


async def test_connect_to_a_black_hole(upstream: Upstream) -> None:
    with black_hole() as port:
        origin = Origin(scheme="http", host="127.0.0.1", port=port)
        error = await fires("connect", 0.2, upstream.send(asking(origin, clocks=Clocks(connect=0.2))))
        assert error.retryable
        assert upstream.connections() == 0


async def test_connect_bounds_the_wait_for_a_place(upstream: Upstream) -> None:
    async with listen(silent) as provider:
        upstream.limit(provider.origin(), 1)
        first = asyncio.ensure_future(upstream.send(asking(provider.origin())))
        await until(lambda: provider.wires)
        await fires(
            "connect", 0.2, upstream.send(asking(provider.origin(), clocks=replace(QUICK, connect=0.2)))
        )
        first.cancel()


async def test_connect_bounds_the_handshake(upstream: Upstream) -> None:
    async with listen(silent) as provider:
        origin = Origin(scheme="https", host="127.0.0.1", port=provider.port)
        await fires("connect", 0.2, upstream.send(asking(origin, clocks=Clocks(connect=0.2))))
        await until(lambda: provider.open_wires() == 0)


# ------------------------------------------------------------------------------------------ after connect


async def after(answer: bytes, then: Callable[[Wire], Awaitable[None]] | None, wire: Wire) -> None:
    await wire.request()
    wire.send(answer)
    if then is not None:
        await then(wire)
    await wire.gone()


@pytest.mark.parametrize("answer", [b"", b"HTTP/1.1 20", b"HTTP/1.1 100 Continue\r\n\r\n"])
async def test_first_byte(upstream: Upstream, answer: bytes) -> None:
    async with listen(lambda wire: after(answer, None, wire)) as provider:
        clocks = Clocks(first_byte=0.2)
        await fires("first_byte", 0.2, upstream.send(asking(provider.origin(), clocks=clocks)))
        await until(lambda: provider.open_wires() == 0)
        assert upstream.active() == 0


async def test_first_token_of_a_stream(upstream: Upstream) -> None:
    """Headers and comments are no token; the clock runs from the request on."""

    async def pinging(wire: Wire) -> None:
        while True:
            wire.send(piece(b": ping\n\n"))
            await asyncio.sleep(0.02)

    async def read(clocks: Clocks) -> None:
        answer = await upstream.send(asking(provider.origin(), clocks=clocks))
        while await answer.read():
            pass

    async with listen(lambda wire: after(EVENTS, pinging, wire)) as provider:
        await fires("first_token", 0.25, read(Clocks(first_token=0.25)))
        await until(lambda: provider.open_wires() == 0)


async def test_idle_of_a_stream_counts_events_not_pings(upstream: Upstream) -> None:
    async def pinging(wire: Wire) -> None:
        wire.send(piece(b"data: 1\n\n"))
        while True:
            wire.send(piece(b": ping\n\n"))
            await asyncio.sleep(0.02)

    async def read(clocks: Clocks) -> None:
        answer = await upstream.send(asking(provider.origin(), clocks=clocks))
        while data := await answer.read():
            if b"data" in data:
                answer.progressed(upstream.loop.time())

    async with listen(lambda wire: after(EVENTS, pinging, wire)) as provider:
        await fires("idle", 0.25, read(Clocks(idle=0.25)))
        await until(lambda: provider.open_wires() == 0)


async def test_events_in_time_restart_the_idle_clock(upstream: Upstream) -> None:
    async def talking(wire: Wire) -> None:
        for _ in range(8):
            wire.send(piece(b"data: 1\n\n"))
            await asyncio.sleep(0.08)
        wire.send(b"0\r\n\r\n")

    async with listen(lambda wire: after(EVENTS, talking, wire)) as provider:
        answer = await upstream.send(asking(provider.origin(), clocks=Clocks(idle=0.3, first_token=0.3)))
        count = 0
        while data := await answer.read():
            count += data.count(b"data")
            answer.progressed(upstream.loop.time())
        assert count == 8


async def test_idle_of_a_whole_answer(upstream: Upstream) -> None:
    async with listen(lambda wire: after(CHUNKED + piece(b"a"), None, wire)) as provider:
        answer = await upstream.send(asking(provider.origin(), clocks=Clocks(idle=0.2)))
        await fires("idle", 0.2, answer.body(100))
        await until(lambda: provider.open_wires() == 0)


async def test_total(upstream: Upstream) -> None:
    async def talking(wire: Wire) -> None:
        while True:
            wire.send(piece(b"data: 1\n\n"))
            await asyncio.sleep(0.02)

    async def read(clocks: Clocks) -> None:
        answer = await upstream.send(asking(provider.origin(), clocks=clocks))
        while await answer.read():
            answer.progressed(upstream.loop.time())

    async with listen(lambda wire: after(EVENTS, talking, wire)) as provider:
        await fires("total", 0.25, read(Clocks(total=0.25)))
        await until(lambda: provider.open_wires() == 0)


async def test_a_clock_is_in_time_though_the_client_was_at_rest(upstream: Upstream) -> None:
    """With nothing running the sweep is slow; a request must not inherit that."""
    first = True

    async def serve(wire: Wire) -> None:
        nonlocal first
        await wire.request()
        if first:
            first = False
            wire.send(OK)
            await wire.request()
        await wire.gone()

    async with listen(serve) as provider:
        await (await upstream.send(asking(provider.origin()))).body(10)
        await until(lambda: upstream._resting)
        await fires(
            "first_byte", 0.1, upstream.send(asking(provider.origin(), clocks=Clocks(first_byte=0.1)))
        )


# ------------------------------------------------------------------------------------------ back-pressure


class Flood:
    """A provider that writes as fast as it is let."""

    def __init__(self, head: bytes, unit: bytes, units: int) -> None:
        self.head = head
        self.unit = unit
        self.units = units
        self.sent = 0

    async def serve(self, wire: Wire) -> None:
        await wire.request()
        wire.writer.transport.set_write_buffer_limits(65536)
        wire.send(self.head)
        for _ in range(self.units):
            wire.send(self.unit)
            await wire.writer.drain()
            self.sent += len(self.unit)
        wire.send(b"0\r\n\r\n")
        await wire.gone()

    async def stalls(self) -> int:
        """How much it had sent when nothing more was taken."""
        seen = -1
        while seen != self.sent:
            seen = self.sent
            await asyncio.sleep(0.1)
        return seen


UNIT = piece(b"data: " + b"x" * 16_376 + b"\n\n")


@pytest.mark.parametrize("head", [EVENTS, CHUNKED], ids=["events", "whole"])
async def test_a_slow_reader_pauses_the_provider(upstream: Upstream, head: bytes) -> None:
    """Memory stays bounded, no idle clock fires meanwhile, and nothing is lost."""
    flood = Flood(head, UNIT, 2000)
    async with listen(flood.serve) as provider:
        clocks = Clocks(first_byte=0.3, first_token=0.3, idle=0.3, total=20.0)
        answer = await upstream.send(asking(provider.origin(), clocks=clocks))
        read = len(await answer.read())
        answer.progressed(upstream.loop.time())
        sent = await flood.stalls()
        assert sent < 2000 * len(UNIT) * 0.6, "the kernel's buffers and ours, not the whole stream"
        assert answer._buffered < HIGH_WATER + 600_000
        await asyncio.sleep(0.5)  # well past the idle clock
        assert flood.sent == sent
        while data := await answer.read():
            read += len(data)
            answer.progressed(upstream.loop.time())
            assert len(data) < HIGH_WATER + 600_000
        assert read == 2000 * 16_384


async def test_the_idle_clock_runs_again_once_the_reader_is_back(upstream: Upstream) -> None:
    async def burst(wire: Wire) -> None:
        wire.send(piece(b"data: " + b"x" * 3_000_000 + b"\n\n"))

    async def drain() -> None:
        while True:
            await answer.read()

    async with listen(lambda wire: after(EVENTS, burst, wire)) as provider:
        answer = await upstream.send(asking(provider.origin(), clocks=Clocks(idle=0.25)))
        await until(lambda: answer.phase == "paused")
        await asyncio.sleep(0.4)
        await fires("idle", 0.25, drain())


async def test_a_whole_body_is_read_on_though_reading_had_paused(upstream: Upstream) -> None:
    """And the provider that then says no more is caught by the idle clock, not only by the total."""

    async def burst(wire: Wire) -> None:
        wire.send(piece(b"x" * 3_000_000))

    async with listen(lambda wire: after(CHUNKED, burst, wire)) as provider:
        answer = await upstream.send(asking(provider.origin(), clocks=Clocks(idle=0.25)))
        await until(lambda: answer.phase == "paused")
        await fires("idle", 0.25, answer.body(1 << 24))


async def test_only_the_total_clock_runs_while_paused(upstream: Upstream) -> None:
    flood = Flood(EVENTS, UNIT, 2000)
    async with listen(flood.serve) as provider:
        answer = await upstream.send(asking(provider.origin(), clocks=Clocks(idle=0.1, total=0.6)))
        await until(lambda: answer.phase == "paused")
        await until(lambda: answer.error is not None)
        assert isinstance(answer.error, UpstreamTimeout)
        assert answer.error.clock == "total"
        await until(lambda: provider.open_wires() == 0)


async def test_a_reader_busy_with_a_slow_client_does_not_blame_the_provider(upstream: Upstream) -> None:
    """Less than the high-water mark waits, so nothing is paused; but events did come."""

    async def talking(wire: Wire) -> None:
        for _ in range(30):
            wire.send(piece(b"data: 1\n\n"))
            await asyncio.sleep(0.02)
        wire.send(b"0\r\n\r\n")

    async with listen(lambda wire: after(EVENTS, talking, wire)) as provider:
        answer = await upstream.send(asking(provider.origin(), clocks=Clocks(idle=0.2)))
        count = (await answer.read()).count(b"data")
        answer.progressed(upstream.loop.time())
        await asyncio.sleep(0.45)  # the client does not read
        while data := await answer.read():
            count += data.count(b"data")
            answer.progressed(upstream.loop.time())
        assert count == 30


async def test_but_a_silent_provider_is_to_blame_even_then(upstream: Upstream) -> None:
    async def once(wire: Wire) -> None:
        wire.send(piece(b"data: 1\n\n"))

    async with listen(lambda wire: after(EVENTS, once, wire)) as provider:
        answer = await upstream.send(asking(provider.origin(), clocks=Clocks(idle=0.15)))
        await answer.read()
        answer.progressed(upstream.loop.time())
        await until(lambda: answer.error is not None)
        assert isinstance(answer.error, UpstreamTimeout)
        assert answer.error.clock == "idle"


async def test_a_provider_that_does_not_read_a_large_request(upstream: Upstream) -> None:
    async def deaf(wire: Wire) -> None:
        wire.writer.transport.pause_reading()  # type: ignore[attr-defined]
        await asyncio.sleep(30)

    async with listen(deaf) as provider:
        request = asking(provider.origin(), body=bytes(30 << 20), clocks=Clocks(first_byte=0.25))
        await fires("first_byte", 0.25, upstream.send(request))
        assert upstream.active() == 0


async def test_a_finished_answer_meets_no_clock(upstream: Upstream) -> None:
    async with listen(always(OK)) as provider:
        answer = await upstream.send(asking(provider.origin(), clocks=Clocks(idle=0.05, total=0.1)))
        await asyncio.sleep(0.25)
        assert await answer.body(10) == b"ok"
