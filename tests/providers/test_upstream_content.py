"""Request bodies that are read while they are written: framing, back-pressure, early answers, whoever fails first."""

from __future__ import annotations

import asyncio
import time

import pytest
from msgspec.structs import replace

from raw_provider import QUICK, Wire, asking, listen, until
from tollway.errors import BadRequest, UpstreamTimeout, UpstreamUnreachable
from tollway.model.clocks import Clocks
from tollway.providers.request import NotSent, UpstreamRequest
from tollway.providers.upstream import Upstream

OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
PIECE = bytes(64 * 1024)


class Pieces:
    """``wait`` is passed before each piece is given; ``failure`` is raised at the end."""

    def __init__(self, pieces: list[bytes], length: int | None, failure: Exception | None = None) -> None:
        self.length = length
        self.begun = False
        self.given = 0
        self.open = asyncio.Event()
        self.open.set()
        self._pieces = pieces
        self._failure = failure

    async def read(self) -> bytes:
        self.begun = True
        await self.open.wait()
        if self._pieces:
            self.given += 1
            return self._pieces.pop(0)
        if self._failure is not None:
            raise self._failure
        return b""


def sending(origin: object, content: Pieces, clocks: Clocks = QUICK) -> UpstreamRequest:
    return replace(asking(origin, body=b"", clocks=clocks), content=content)  # type: ignore[arg-type]


async def whole(wire: Wire) -> bytes:
    """A request with either framing, as it came."""
    head = await wire.reader.readuntil(b"\r\n\r\n")
    if b"transfer-encoding: chunked" in head:
        return head + await wire.reader.readuntil(b"\r\n0\r\n\r\n")
    length = int(head.partition(b"content-length: ")[2].partition(b"\r\n")[0])
    return head + await wire.reader.readexactly(length)


@pytest.mark.parametrize("length", [6, None])
async def test_framing(upstream: Upstream, length: int | None) -> None:
    seen: list[bytes] = []

    async def serve(wire: Wire) -> None:
        while True:
            seen.append(await whole(wire))
            wire.send(OK)

    async with listen(serve) as listener:
        for _ in range(2):
            answer = await upstream.send(sending(listener.origin(), Pieces([b"abc", b"def"], length)))
            assert await answer.body(100) == b"ok"
        assert seen[0] == seen[1]
        _, _, body = seen[0].partition(b"\r\n\r\n")
        assert body == (b"abcdef" if length else b"3\r\nabc\r\n3\r\ndef\r\n0\r\n\r\n")
        assert len(listener.wires) == 2, "each on a connection of its own"
        ordinary = await upstream.send(replace(asking(listener.origin()), headers=b"content-length: 0\r\n"))
        ordinary.abort()
    assert upstream.active() == 0


async def test_no_faster_than_it_is_taken(upstream: Upstream) -> None:
    go = asyncio.Event()

    async def serve(wire: Wire) -> None:
        await wire.reader.readuntil(b"\r\n\r\n")
        await go.wait()
        while await wire.reader.read(1 << 20):
            pass

    content = Pieces([PIECE] * 1000, 1000 * len(PIECE))
    async with listen(serve) as listener:
        task = asyncio.ensure_future(upstream.send(sending(listener.origin(), content)))
        await until(lambda: content.given)
        await asyncio.sleep(0.3)
        assert content.given < 300, "64 MB were not read into memory"
        go.set()
        await until(lambda: content.given == 1000)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert upstream.active() == 0


async def test_a_provider_that_takes_nothing(upstream: Upstream) -> None:
    async def serve(wire: Wire) -> None:
        await asyncio.sleep(10)

    content = Pieces([PIECE] * 1000, 1000 * len(PIECE))
    clocks = Clocks(connect=3.0, first_byte=0.1, first_token=0.1, idle=0.3, total=0.1)
    async with listen(serve) as listener:
        begun = time.monotonic()
        with pytest.raises(UpstreamTimeout, match="took nothing of the request") as failed:
            await upstream.send(sending(listener.origin(), content, clocks))
        assert failed.value.clock == "idle"
        assert 0.25 < time.monotonic() - begun < 2


async def test_clocks_run_from_the_end_of_the_upload(upstream: Upstream) -> None:
    async def serve(wire: Wire) -> None:
        await whole(wire)
        await asyncio.sleep(10)

    content = Pieces([b"abc"], 3)
    content.open.clear()
    clocks = Clocks(connect=3.0, first_byte=0.2, first_token=0.2, idle=0.1, total=5.0)
    async with listen(serve) as listener:
        task = asyncio.ensure_future(upstream.send(sending(listener.origin(), content, clocks)))
        await asyncio.sleep(0.4)
        assert not task.done(), "a slow client is not the provider's fault"
        content.open.set()
        with pytest.raises(UpstreamTimeout) as failed:
            await task
        assert failed.value.clock == "first_byte"


async def test_an_answer_before_the_end_of_the_body(upstream: Upstream) -> None:
    async def serve(wire: Wire) -> None:
        await wire.reader.readuntil(b"\r\n\r\n")
        wire.send(b"HTTP/1.1 413 Too Large\r\ncontent-length: 3\r\n\r\nbig")
        await wire.gone()

    content = Pieces([PIECE] * 3, 100 * len(PIECE))
    async with listen(serve) as listener:
        content.open.clear()
        answer = await upstream.send(sending(listener.origin(), content))
        assert (answer.status, await answer.body(100)) == (413, b"big")
        await until(lambda: not listener.open_wires())
        assert content.given == 0
    assert (upstream.active(), upstream.connections()) == (0, 0)


async def test_what_reading_the_body_raises(upstream: Upstream) -> None:
    async def serve(wire: Wire) -> None:
        await wire.gone()

    async with listen(serve) as listener:
        content = Pieces([b"abc"], 100, BadRequest("no form"))
        with pytest.raises(BadRequest, match="no form"):
            await upstream.send(sending(listener.origin(), content))
        await until(lambda: not listener.open_wires())
    assert upstream.active() == 0


async def test_a_provider_that_breaks_off(upstream: Upstream) -> None:
    async def serve(wire: Wire) -> None:
        await wire.reader.readexactly(1000)
        wire.reset()

    async with listen(serve) as listener:
        with pytest.raises(UpstreamUnreachable):
            await upstream.send(sending(listener.origin(), Pieces([PIECE] * 1000, 1000 * len(PIECE))))
        assert len(listener.wires) == 1, "what was read cannot be sent again"


async def test_cancelled_while_the_body_is_waited_for(upstream: Upstream) -> None:
    async def serve(wire: Wire) -> None:
        await wire.gone()

    content = Pieces([b"abc"], 100)
    async with listen(serve) as listener:
        task = asyncio.ensure_future(upstream.send(sending(listener.origin(), content)))
        await until(lambda: content.given)
        task.cancel()
        with pytest.raises(asyncio.CancelledError) as cancelled:
            await task
        assert not isinstance(cancelled.value, NotSent)
        await until(lambda: not listener.open_wires())
    assert upstream.active() == 0
