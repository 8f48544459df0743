"""Sockets towards a provider: TLS, proxy, handshakes that fail, and nothing left open."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from msgspec.structs import replace
from websockets.asyncio.server import ServerConnection, serve

from private_authority import Authority
from raw_provider import QUICK, Wire, always, asking, listen
from tollway.errors import UpstreamMalformed, UpstreamTimeout, UpstreamUnreachable
from tollway.model.clocks import Clocks
from tollway.model.secret import Secret
from tollway.providers.request import Origin
from tollway.providers.upstream import Upstream
from tollway.providers.websocket import HandshakeRefused, SocketClosed, UpstreamSocket, open_socket


async def echo(socket: ServerConnection) -> None:
    async for message in socket:
        await socket.send(message)


async def tunnel(wire: Wire) -> None:
    """A proxy that does what CONNECT says."""
    host, _, port = (await wire.request()).split()[1].decode().rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    wire.send(b"HTTP/1.1 200 Connection established\r\nproxy-agent: x\r\n\r\n")

    async def copy(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
        try:
            while data := await source.read(65536):
                target.write(data)
        except ConnectionError:
            pass
        target.close()

    await asyncio.gather(copy(wire.reader, writer), copy(reader, wire.writer))


@asynccontextmanager
async def provider(
    authority: Authority | None = None,
) -> AsyncIterator[tuple[Origin, list[ServerConnection]]]:
    seen: list[ServerConnection] = []

    async def run(socket: ServerConnection) -> None:
        seen.append(socket)
        await echo(socket)

    tls = authority.server() if authority else None
    async with serve(run, "127.0.0.1", 0, ssl=tls, max_size=None) as server:
        port = next(iter(server.sockets)).getsockname()[1]
        origin = Origin(
            scheme="https" if authority else "http",
            host="localhost" if authority else "127.0.0.1",
            port=port,
            ca_file=authority.file if authority else None,
        )
        yield origin, seen


async def opened(
    upstream: Upstream, origin: Origin, *, clocks: Clocks | None = None, secret: Secret | None = None
) -> UpstreamSocket:
    lines = b"host: x\r\nauthorization: Bearer ours\r\nuser-agent: tollway/1\r\naccept: */*\r\nx-team: a\r\n"
    request = replace(
        asking(origin, method=b"GET", target=b"/v1/realtime?api-version=1", clocks=clocks or QUICK),
        headers=lines,
    )
    return await open_socket(
        upstream,
        request,
        query="model=m%2Fn",
        headers=[("openai-beta", "realtime=v1")],
        secret=secret,
        max_message=1000,
    )


async def test_messages_both_ways(upstream: Upstream) -> None:
    async with provider() as (origin, seen):
        socket = await opened(upstream, origin)
        for message in ("text", b"bytes", "x" * 1000):
            await socket.send(message)
            assert await socket.receive() == message
        request = seen[0].request
        assert request is not None
        assert request.path == "/v1/realtime?api-version=1&model=m%2Fn"
        assert request.headers["host"] == origin.authority
        assert request.headers["authorization"] == "Bearer ours"
        assert request.headers["x-team"] == "a"
        assert request.headers["openai-beta"] == "realtime=v1"
        assert "sec-websocket-extensions" not in request.headers
        await socket.close(4000, "enough")
        await seen[0].wait_closed()
        assert (seen[0].close_code, seen[0].close_reason) == (4000, "enough")
        with pytest.raises(SocketClosed):
            await socket.send("more")


async def test_a_secret_stands_in_for_every_credential(upstream: Upstream) -> None:
    async with provider() as (origin, seen):
        socket = await opened(upstream, origin, secret=Secret("ek_1"))
        request = seen[0].request
        assert request is not None
        assert request.path == "/v1/realtime?model=m%2Fn"
        assert request.headers.get_all("authorization") == ["Bearer ek_1"]
        assert request.headers["user-agent"] == "tollway/1"
        assert "x-team" not in request.headers
        await socket.close()


async def test_a_message_that_is_too_large_ends_it(upstream: Upstream) -> None:
    async with provider() as (origin, _):
        socket = await opened(upstream, origin)
        await socket.send("x" * 1001)
        with pytest.raises(SocketClosed) as closed:
            await socket.receive()
        assert (closed.value.code, closed.value.told) == (1009, False)
        await socket.close()


async def test_a_provider_that_vanishes(upstream: Upstream) -> None:
    async with provider() as (origin, seen):
        socket = await opened(upstream, origin)
        seen[0].transport.abort()
        with pytest.raises(SocketClosed) as closed:
            await socket.receive()
        assert (closed.value.code, closed.value.told) == (1006, False)
        await socket.close()


async def test_tls_is_verified(upstream: Upstream, authority: Authority) -> None:
    async with provider(authority) as (origin, _):
        socket = await opened(upstream, origin)
        await socket.send("a")
        assert await socket.receive() == "a"
        await socket.close()
        stranger = Origin(scheme="https", host="localhost", port=origin.port)
        with pytest.raises(UpstreamUnreachable, match="not trusted"):
            await opened(upstream, stranger)


async def test_through_a_proxy(upstream: Upstream, authority: Authority) -> None:
    for secure in (None, authority):
        async with provider(secure) as (origin, _), listen(tunnel) as proxy:
            far = Origin(
                scheme=origin.scheme,
                host=origin.host,
                port=origin.port,
                ca_file=origin.ca_file,
                proxy=f"http://user:pass@{proxy.host}:{proxy.port}",
            )
            socket = await opened(upstream, far)
            await socket.send("a")
            assert await socket.receive() == "a"
            await socket.close()
            assert proxy.requests[0].startswith(f"CONNECT {origin.host}:{origin.port} HTTP/1.1\r\n".encode())
            assert b"proxy-authorization: Basic dXNlcjpwYXNz\r\n" in proxy.requests[0]


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 407 No\r\ncontent-length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n\r\nmore than that",
        b"nonsense\r\n\r\n",
        b"",
    ],
)
async def test_a_proxy_that_refuses(upstream: Upstream, answer: bytes) -> None:
    async def refuse(wire: Wire) -> None:
        await wire.request()
        wire.send(answer)
        wire.close()

    async with listen(refuse) as proxy:
        origin = Origin(scheme="http", host="api.test", port=80, proxy=f"http://{proxy.host}:{proxy.port}")
        with pytest.raises(UpstreamUnreachable):
            await opened(upstream, origin)


async def test_an_answer_instead_of_a_socket(upstream: Upstream) -> None:
    body = b'{"error": {"message": "no"}}'
    for status in (401, 302, 200):
        head = b"HTTP/1.1 %d X\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: %d\r\n\r\n" % (
            status,
            len(body),
        )
        async with listen(always(head + body)) as raw:
            with pytest.raises(HandshakeRefused) as refused:
                await opened(upstream, raw.origin())
            assert (refused.value.status, refused.value.body) == (status, body)
            assert refused.value.headers[b"location"] == b"http://127.0.0.1:1/"
            assert len(raw.wires) == 1


@pytest.mark.parametrize(
    "answer",
    [
        b"SSH-2.0-x\r\n\r\n",
        b"HTTP/1.1 101 X\r\nupgrade: websocket\r\nconnection: upgrade\r\nsec-websocket-accept: AAAA\r\n\r\n",
        b"",
    ],
)
async def test_an_answer_that_is_none(upstream: Upstream, answer: bytes) -> None:
    async def serve_it(wire: Wire) -> None:
        await wire.request()
        wire.send(answer)
        wire.close()

    async with listen(serve_it) as raw:
        with pytest.raises(UpstreamMalformed):
            await opened(upstream, raw.origin())


async def test_clocks_and_cancellation(upstream: Upstream) -> None:
    async def never(wire: Wire) -> None:
        await wire.request()
        await wire.reader.read()

    async with listen(never) as raw:
        with pytest.raises(UpstreamTimeout) as late:
            await opened(upstream, raw.origin(), clocks=Clocks(connect=2.0, first_byte=0.1))
        assert (late.value.clock, late.value.http_status) == ("first_byte", 504)
        task = asyncio.create_task(opened(upstream, raw.origin()))
        while len(raw.requests) < 2:
            await asyncio.sleep(0.005)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


async def test_nobody_there(upstream: Upstream) -> None:
    for origin in (
        Origin(scheme="http", host="127.0.0.1", port=1),
        Origin(scheme="http", host="no-such-host.invalid", port=80),
        Origin(scheme="http", host="127.0.0.1", port=80, proxy="socks5://127.0.0.1:1"),
    ):
        with pytest.raises(UpstreamUnreachable):
            await opened(upstream, origin)
