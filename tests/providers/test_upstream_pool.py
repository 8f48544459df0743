"""The pool of one origin: bounded, fair, and its count is always the number of sockets that are open."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raw_provider import Listener, Wire, always, asking, listen, silent, until
from tollway.errors import UpstreamError, UpstreamUnreachable
from tollway.model.clocks import Clocks
from tollway.providers.request import Origin
from tollway.providers.upstream import MAX_AGE, MAX_IDLE, Pool, Upstream

OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"


async def ask(upstream: Upstream, origin: Origin, target: bytes = b"/") -> bytes:
    return await (await upstream.send(asking(origin, target=target))).body(1 << 20)


def pool_of(upstream: Upstream, provider: Listener) -> Pool:
    return upstream._pools[provider.origin()]


class Gate:
    """Answers each request when told to."""

    def __init__(self) -> None:
        self.running = 0
        self.most = 0
        self._turns = asyncio.Semaphore(0)

    async def serve(self, wire: Wire) -> None:
        while True:
            await wire.request()
            self.running += 1
            self.most = max(self.most, self.running)
            try:
                await self._turns.acquire()
            finally:
                self.running -= 1
            wire.send(OK)

    def answer(self, count: int = 1) -> None:
        for _ in range(count):
            self._turns.release()


async def test_never_more_connections_than_the_limit(upstream: Upstream) -> None:
    gate = Gate()
    async with listen(gate.serve) as provider:
        upstream.limit(provider.origin(), 3)
        tasks = [asyncio.ensure_future(ask(upstream, provider.origin())) for _ in range(20)]
        await until(lambda: gate.running == 3)
        assert upstream.connections() == 3
        gate.answer(20)
        assert await asyncio.gather(*tasks) == [b"ok"] * 20
        assert gate.most == 3
        assert len(provider.wires) == 3


@pytest.mark.parametrize("answer", [OK, OK.replace(b"\r\n", b"\r\nconnection: close\r\n", 1)])
async def test_waiters_are_served_in_order_and_nobody_overtakes(upstream: Upstream, answer: bytes) -> None:
    """Whether a place is handed on with its connection or without."""
    served: list[bytes] = []

    async def serve(wire: Wire) -> None:
        while True:
            served.append((await wire.request()).split()[1])
            await asyncio.sleep(0.001)
            wire.send(answer)

    async def one(n: int) -> None:
        await ask(upstream, provider.origin(), b"/%d" % n)
        later.append(asyncio.ensure_future(ask(upstream, provider.origin(), b"/late")))

    later: list[asyncio.Future[bytes]] = []
    async with listen(serve) as provider:
        upstream.limit(provider.origin(), 1)
        await asyncio.gather(*(one(n) for n in range(8)))
        await asyncio.gather(*later)
        assert served[:8] == [b"/%d" % n for n in range(8)]


async def test_the_queue_is_bounded(upstream: Upstream) -> None:
    async with listen(silent) as provider:
        upstream.limit(provider.origin(), 1)
        tasks = [asyncio.ensure_future(ask(upstream, provider.origin())) for _ in range(11)]
        await until(lambda: len(pool_of(upstream, provider)._waiters) == 10)
        with pytest.raises(UpstreamUnreachable, match="too many requests wait"):
            await ask(upstream, provider.origin())
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        await until(lambda: upstream.connections() == 0)


async def test_a_raised_limit_lets_waiters_go(upstream: Upstream) -> None:
    gate = Gate()
    async with listen(gate.serve) as provider:
        upstream.limit(provider.origin(), 1)
        tasks = [asyncio.ensure_future(ask(upstream, provider.origin())) for _ in range(5)]
        await until(lambda: gate.running == 1)
        upstream.limit(provider.origin(), 4)
        await until(lambda: gate.running == 4)
        upstream.limit(provider.origin(), 2)
        gate.answer(5)
        assert await asyncio.gather(*tasks) == [b"ok"] * 5
        assert gate.most == 4


async def test_a_place_whose_connection_failed_goes_to_the_next(upstream: Upstream) -> None:
    refusing = Origin(scheme="http", host="127.0.0.1", port=9)
    upstream.limit(refusing, 1)
    tasks = [asyncio.ensure_future(ask(upstream, refusing)) for _ in range(5)]
    done, _ = await asyncio.wait(tasks, timeout=3)
    assert len(done) == 5
    for task in done:
        error = task.exception()
        assert isinstance(error, UpstreamUnreachable)
        assert error.retryable
        assert error.message == "provider acme could not be reached: Connection refused"
    assert upstream.connections() == 0


async def test_a_connection_lost_while_it_is_handed_on(upstream: Upstream) -> None:
    """The answer's last byte and the end of the connection come together; the one who waits must not be stranded."""

    async def serve(wire: Wire) -> None:
        await wire.request()
        wire.send(OK)

    async with listen(serve) as provider:
        upstream.limit(provider.origin(), 1)
        tasks = [asyncio.ensure_future(ask(upstream, provider.origin())) for _ in range(9)]
        assert await asyncio.wait_for(asyncio.gather(*tasks), 3) == [b"ok"] * 9
        await until(lambda: upstream.connections() == 0)


async def test_a_connection_lost_between_being_handed_on_and_being_taken(upstream: Upstream) -> None:
    async with listen(always(OK)) as provider:
        upstream.limit(provider.origin(), 1)
        await ask(upstream, provider.origin())
        pool = pool_of(upstream, provider)
        connection = pool.take()
        assert connection is not None
        waiting = asyncio.ensure_future(ask(upstream, provider.origin()))
        await until(lambda: pool._waiters)
        connection.close()
        pool.park(connection, upstream.loop.time())
        assert await asyncio.wait_for(waiting, 3) == b"ok"
        assert upstream.connections() == 1
        assert len(provider.wires) == 2


async def test_the_newest_idle_connection_is_used_first(upstream: Upstream) -> None:
    gate = Gate()
    async with listen(gate.serve) as provider:
        tasks = [asyncio.ensure_future(ask(upstream, provider.origin())) for _ in range(4)]
        await until(lambda: gate.running == 4)
        gate.answer(100)
        await asyncio.gather(*tasks)
        pool = pool_of(upstream, provider)
        newest = pool._idle[-1]
        for _ in range(5):
            await ask(upstream, provider.origin())
            assert pool._idle[-1] is newest
        assert [connection.idle_since for connection in pool._idle] == sorted(
            connection.idle_since for connection in pool._idle
        )


@pytest.mark.parametrize("fit", [True, False])
@pytest.mark.parametrize("what", ["idle", "age"])
async def test_idle_and_max_age(upstream: Upstream, what: str, fit: bool) -> None:
    async with listen(always(OK)) as provider:
        await ask(upstream, provider.origin())
        (connection,) = pool_of(upstream, provider)._idle
        if what == "idle":
            connection.idle_since -= MAX_IDLE + (-5 if fit else 1)
        else:
            connection.born -= MAX_AGE + (-5 if fit else 1)
        await ask(upstream, provider.origin())
        assert len(provider.wires) == (1 if fit else 2)
        await until(lambda: upstream.connections() == 1)


async def test_what_idles_too_long_is_closed_unasked(upstream: Upstream) -> None:
    gate = Gate()
    async with listen(gate.serve) as provider:
        gate.answer(100)
        await asyncio.gather(*(ask(upstream, provider.origin()) for _ in range(4)))
        pool = pool_of(upstream, provider)
        assert len(pool._idle) == 4
        pool._idle[0].idle_since -= MAX_IDLE + 1
        pool._idle[1].idle_since -= MAX_IDLE + 1
        pool.sweep(upstream.loop.time())
        await until(lambda: provider.open_wires() == 2)
        assert upstream.connections() == len(pool._idle) == 2


async def test_the_sweeper_comes_by_itself(upstream: Upstream) -> None:
    async with listen(always(OK)) as provider:
        await ask(upstream, provider.origin())
        (connection,) = pool_of(upstream, provider)._idle
        connection.idle_since -= MAX_IDLE + 1
        upstream._next_idle_sweep = 0.0
        await until(lambda: provider.open_wires() == 0)
        await until(lambda: upstream._timer is None)


async def test_origins_share_nothing(upstream: Upstream) -> None:
    async with listen(always(OK)) as provider:
        await ask(upstream, provider.origin())
        await ask(upstream, provider.origin("localhost"))
        assert len(provider.wires) == 2
        assert upstream.connections() == 2


# ------------------------------------------------------------------------------------------- accounting


async def _serve_anything(wire: Wire) -> None:
    """What is done with a request stands in its target."""
    while True:
        target = (await wire.request()).split()[1]
        if target == b"/ok":
            wire.send(OK)
        elif target == b"/later":
            await asyncio.sleep(0.003)
            await wire.trickle(OK, 7)
        elif target == b"/close":
            wire.send(OK.replace(b"\r\n", b"\r\nconnection: close\r\n", 1))
        elif target == b"/ok-then-close":
            wire.send(OK)
            return
        elif target == b"/drop":
            return
        elif target == b"/cut":
            wire.send(OK[:-1])
            return
        elif target == b"/reset":
            wire.reset()
            return
        elif target == b"/twice":
            wire.send(OK + OK[:9])
        elif target == b"/garbage":
            wire.send(b"what?\r\n\r\n")
        elif target == b"/mute":
            await wire.gone()
            return
        else:
            wire.send(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
            for _ in range(40):
                wire.send(b"4000\r\n" + bytes(0x4000) + b"\r\n")
                await wire.writer.drain()
            wire.send(b"0\r\n\r\n")


_TARGETS = ["/ok", "/later", "/close", "/ok-then-close", "/drop", "/cut", "/reset", "/twice", "/garbage", "/mute",
            "/long"]  # fmt: skip
_END = st.sampled_from(["read", "abort", "let go"])


@given(
    limit=st.integers(1, 4),
    operations=st.lists(
        st.tuples(st.sampled_from(_TARGETS), _END, st.none() | st.integers(0, 12), st.integers(0, 3)),
        min_size=1,
        max_size=25,
    ),
)
@settings(max_examples=40, deadline=None)
async def test_the_count_is_the_number_of_open_sockets(
    limit: int, operations: list[tuple[str, str, int | None, int]]
) -> None:
    upstream = Upstream({})
    clocks = Clocks(connect=2.0, first_byte=0.1, first_token=0.1, idle=0.5, total=2.0)

    async def one(target: str, end: str, cancel_after: int | None) -> None:
        async def exchange() -> None:
            answer = await upstream.send(asking(provider.origin(), target=target.encode(), clocks=clocks))
            try:
                if end == "read":
                    await answer.body(1 << 20)
                elif end == "abort":
                    answer.abort()
                else:
                    answer.let_go(upstream.loop.time() - 0.9)
            except asyncio.CancelledError:
                answer.abort()
                raise

        task = asyncio.ensure_future(exchange())
        if cancel_after is not None:
            for _ in range(cancel_after):
                await asyncio.sleep(0)
            task.cancel()
        try:
            await task
        except (UpstreamError, asyncio.CancelledError):
            pass

    async with listen(_serve_anything) as provider:
        upstream.limit(provider.origin(), limit)
        running = []
        for target, end, cancel_after, turns in operations:
            running.append(asyncio.ensure_future(one(target, end, cancel_after)))
            for _ in range(turns):
                await asyncio.sleep(0)
            assert upstream.connections() <= limit
        await asyncio.wait_for(asyncio.gather(*running), 20)
        await until(lambda: upstream.active() == 0)
        pool = pool_of(upstream, provider)
        await until(lambda: upstream.connections() == provider.open_wires() == len(pool._idle))
        assert not pool._waiters
        # And every place can still be had.
        gate = [asyncio.ensure_future(ask(upstream, provider.origin(), b"/later")) for _ in range(limit * 2)]
        assert await asyncio.wait_for(asyncio.gather(*gate), 5) == [b"ok"] * (limit * 2)
        await upstream.close()
        await until(lambda: upstream.connections() == provider.open_wires() == 0)


async def test_a_retry_after_a_stale_connection_keeps_the_bound(upstream: Upstream) -> None:
    async def serve(wire: Wire) -> None:
        await wire.request()
        wire.send(OK)
        await wire.request()

    async with listen(serve) as provider:
        upstream.limit(provider.origin(), 2)
        for _ in range(5):
            answers = await asyncio.gather(*(ask(upstream, provider.origin()) for _ in range(6)))
            assert answers == [b"ok"] * 6
            assert upstream.connections() <= 2
