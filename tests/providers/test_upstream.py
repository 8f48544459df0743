"""What the client makes of what a provider writes: framing, interim answers, reuse, stale and unasked-for bytes."""

from __future__ import annotations

import asyncio
import gzip
import zlib
from collections.abc import Callable

import brotli
import pytest
import zstandard

from raw_provider import QUICK, Wire, always, asking, listen, until
from tollway.errors import UpstreamMalformed, UpstreamUnreachable
from tollway.providers.upstream import MAX_HEADERS, MAX_INTERIM, Upstream

OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
CHUNKED = (
    b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\nx-n: 1\r\n\r\n"
    b"3\r\none\r\n4;ext=1\r\n two\r\n0\r\ntrailer: t\r\n\r\n"
)
EVENTS = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
    b"8\r\ndata: a\n\r\n1\r\n\n\r\n0\r\n\r\n"
)
INTERIM = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\n"
UNTIL_END = b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\n\r\nuntil the end"


def then_close(answer: bytes) -> Callable[[Wire], object]:
    async def serve(wire: Wire) -> None:
        await wire.request()
        wire.send(answer)

    return serve


# --------------------------------------------------------------------------------------------- framing


@pytest.mark.parametrize(
    ("answer", "body", "kept"),
    [
        (OK, b"ok", True),
        (CHUNKED, b"one two", True),
        (EVENTS, b"data: a\n\n", True),
        (INTERIM + OK, b"ok", True),
    ],
    ids=["length", "chunked", "events", "interim"],
)
async def test_split_in_two_at_every_byte(upstream: Upstream, answer: bytes, body: bytes, kept: bool) -> None:
    cuts = iter(range(len(answer) + 1))

    async def serve(wire: Wire) -> None:
        while True:
            await wire.request()
            cut = next(cuts)
            wire.send(answer[:cut])
            for _ in range(3):
                await asyncio.sleep(0)
            wire.send(answer[cut:])

    async with listen(serve) as provider:
        for _ in range(len(answer) + 1):
            got = await upstream.send(asking(provider.origin()))
            assert got.status == 200
            assert await got.body(1000) == body
            assert b"trailer" not in got.headers
            assert b"link" not in got.headers
        assert len(provider.wires) == 1, "a well-formed answer must leave its connection usable"


@pytest.mark.parametrize("answer", [OK, CHUNKED, EVENTS, INTERIM + CHUNKED, UNTIL_END])
async def test_byte_by_byte(upstream: Upstream, answer: bytes) -> None:
    async def serve(wire: Wire) -> None:
        await wire.request()
        await wire.trickle(answer)

    async with listen(serve) as provider:
        got = await upstream.send(asking(provider.origin()))
        read = b""
        while data := await got.read():
            read += data
        assert read in (b"ok", b"one two", b"data: a\n\n", b"until the end")
        assert await got.read() == b""


async def test_a_body_until_the_end_of_the_connection(upstream: Upstream) -> None:
    async with listen(then_close(UNTIL_END)) as provider:
        for n in (1, 2):
            got = await upstream.send(asking(provider.origin()))
            assert await got.body(100) == b"until the end"
            assert len(provider.wires) == n


async def test_a_body_until_the_end_must_not_end_in_a_reset(upstream: Upstream) -> None:
    go = asyncio.Event()

    async def serve(wire: Wire) -> None:
        await wire.request()
        wire.send(UNTIL_END)
        await go.wait()
        wire.reset()

    async with listen(serve) as provider:
        got = await upstream.send(asking(provider.origin()))
        assert await got.read() == b"until the end"
        go.set()
        with pytest.raises(UpstreamMalformed, match="in the middle"):
            await got.read()


@pytest.mark.parametrize(
    ("method", "answer"),
    [
        (b"HEAD", b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n"),
        (b"HEAD", b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"),
        (b"HEAD", b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: 20\r\n\r\n"),
        (b"DELETE", b"HTTP/1.1 204 No Content\r\n\r\n"),
        (b"GET", b"HTTP/1.1 304 Not Modified\r\ncontent-length: 7\r\n\r\n"),
        (b"POST", b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"),
        (b"GET", b"HTTP/1.1 204 No Content\r\ncontent-encoding: gzip\r\n\r\n"),
    ],
)
async def test_answers_without_a_body(upstream: Upstream, method: bytes, answer: bytes) -> None:
    async with listen(always(answer)) as provider:
        for _ in range(2):
            got = await upstream.send(asking(provider.origin(), method=method, body=b""))
            assert got.status == int(answer[9:12])
            assert await got.body(10) == b""


async def test_what_is_written(upstream: Upstream) -> None:
    async with listen(always(OK)) as provider:
        host = b"host: 127.0.0.1:%d\r\n" % provider.port
        for method, body, end in [
            (b"POST", b"{}", b"content-length: 2\r\n\r\n{}"),
            (b"POST", b"", b"content-length: 0\r\n\r\n"),
            (b"GET", b"", b"\r\n"),
            (b"DELETE", b"x", b"content-length: 1\r\n\r\nx"),
        ]:
            request = asking(provider.origin(), method=method, body=body, target=b"/v1/m?x=1")
            await (await upstream.send(request)).body(10)
            assert provider.requests[-1] == method + b" /v1/m?x=1 HTTP/1.1\r\n" + host + end


async def test_a_large_request_arrives_whole(upstream: Upstream) -> None:
    body = bytes(range(256)) * 16_384
    async with listen(always(OK)) as provider:
        for _ in range(2):
            assert await (await upstream.send(asking(provider.origin(), body=body))).body(10) == b"ok"
        assert all(request.endswith(b"\r\n\r\n" + body) for request in provider.requests)
        assert len(provider.wires) == 1


async def test_headers_are_lower_case_and_belong_to_their_answer(upstream: Upstream) -> None:
    answers = iter([CHUNKED, b"HTTP/1.1 429 Slow\r\nRetry-After: 3\r\nContent-Length: 0\r\n\r\n", OK])

    async def serve(wire: Wire) -> None:
        for answer in answers:
            await wire.request()
            wire.send(answer)

    async with listen(serve) as provider:
        heads = []
        for _ in range(3):
            got = await upstream.send(asking(provider.origin()))
            await got.body(100)
            heads.append((got.status, got.headers))
        assert heads == [
            (200, {b"transfer-encoding": b"chunked", b"x-n": b"1"}),
            (429, {b"retry-after": b"3", b"content-length": b"0"}),
            (200, {b"content-length": b"2"}),
        ]
        assert len(provider.wires) == 1


# ----------------------------------------------------------------------------------------------- reuse


@pytest.mark.parametrize(
    ("answer", "reused"),
    [
        (OK, True),
        (b"HTTP/1.1 200 OK\r\nConnection: close\r\ncontent-length: 2\r\n\r\nok", False),
        (b"HTTP/1.0 200 OK\r\ncontent-length: 2\r\n\r\nok", False),
        (b"HTTP/1.0 200 OK\r\nconnection: keep-alive\r\ncontent-length: 2\r\n\r\nok", True),
        (b"HTTP/1.1 500 No\r\ncontent-length: 2\r\n\r\nok", True),
    ],
)
async def test_keep_alive(upstream: Upstream, answer: bytes, reused: bool) -> None:
    async with listen(always(answer)) as provider:
        for _ in range(3):
            assert await (await upstream.send(asking(provider.origin()))).body(10) == b"ok"
        assert len(provider.wires) == (1 if reused else 3)
        await until(lambda: upstream.connections() == (1 if reused else 0))


async def test_a_connection_closed_while_idle_is_not_used(upstream: Upstream) -> None:
    async with listen(then_close(OK)) as provider:
        for n in (1, 2, 3):
            await (await upstream.send(asking(provider.origin()))).body(10)
            await until(lambda: upstream.connections() == 0)
            assert len(provider.wires) == n


async def test_a_connection_that_closes_right_after_our_request_is_tried_once_more(
    upstream: Upstream,
) -> None:
    async def serve(wire: Wire) -> None:
        await wire.request()
        wire.send(OK)
        await wire.request()  # read, and left unanswered

    async with listen(serve) as provider:
        await (await upstream.send(asking(provider.origin()))).body(10)
        assert await (await upstream.send(asking(provider.origin(), body=b"again"))).body(10) == b"ok"
        assert [request[-5:] == b"again" for request in provider.requests] == [False, True, True]
        assert len(provider.wires) == 2


async def test_and_no_more_than_once(upstream: Upstream) -> None:
    async def serve(wire: Wire) -> None:
        if len(provider.wires) == 1:
            await wire.request()
            wire.send(OK)
        await wire.request()

    async with listen(serve) as provider:
        await (await upstream.send(asking(provider.origin()))).body(10)
        with pytest.raises(UpstreamUnreachable, match="closed the connection without an answer"):
            await upstream.send(asking(provider.origin()))
        assert len(provider.requests) == 3


async def test_a_new_connection_that_closes_is_not_tried_again(upstream: Upstream) -> None:
    async def serve(wire: Wire) -> None:
        await wire.request()

    async with listen(serve) as provider:
        with pytest.raises(UpstreamUnreachable, match="without an answer") as caught:
            await upstream.send(asking(provider.origin()))
        assert caught.value.retryable
        assert len(provider.wires) == 1


async def test_no_second_try_once_a_byte_was_answered(upstream: Upstream) -> None:
    async def serve(wire: Wire) -> None:
        await wire.request()
        wire.send(OK)
        await wire.request()
        wire.send(b"H")

    async with listen(serve) as provider:
        await (await upstream.send(asking(provider.origin()))).body(10)
        with pytest.raises(UpstreamMalformed, match="in the middle"):
            await upstream.send(asking(provider.origin()))
        assert len(provider.wires) == 1


async def test_no_second_try_when_the_provider_had_time_to_work_on_it(upstream: Upstream) -> None:
    close = asyncio.Event()

    async def serve(wire: Wire) -> None:
        await wire.request()
        wire.send(OK)
        await wire.request()
        await close.wait()

    async with listen(serve) as provider:
        await (await upstream.send(asking(provider.origin()))).body(10)
        second = asyncio.ensure_future(upstream.send(asking(provider.origin())))
        await until(lambda: len(provider.requests) == 2)
        (running,) = upstream._active
        running.sent_at -= 2.0  # as if two seconds had gone by
        close.set()
        with pytest.raises(UpstreamUnreachable, match="without an answer"):
            await second
        assert len(provider.wires) == 1


async def test_bytes_nobody_asked_for_end_the_connection(upstream: Upstream) -> None:
    async def serve(wire: Wire) -> None:
        await wire.request()
        wire.send(OK)
        await spoil.wait()
        wire.send(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nevil")
        await wire.gone()

    spoil = asyncio.Event()
    async with listen(serve) as provider:
        await (await upstream.send(asking(provider.origin()))).body(10)
        assert upstream.connections() == 1
        spoil.set()
        await until(lambda: upstream.connections() == 0)
        assert await (await upstream.send(asking(provider.origin()))).body(10) == b"ok"


@pytest.mark.parametrize(
    "more",
    [
        b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nevil",
        b"HTTP/1.1 200 OK\r\nx: ",
        b"HTTP/1.",
        b"H",
        b"junk",
    ],
)
@pytest.mark.parametrize("first", [OK, CHUNKED, INTERIM + OK], ids=["length", "chunked", "interim"])
async def test_a_second_answer_never_reaches_the_next_request(
    upstream: Upstream, first: bytes, more: bytes
) -> None:
    """Even a beginning of it: left in the parser, it would become the head of someone else's answer."""

    async def serve(wire: Wire) -> None:
        await wire.request()
        wire.send(first + more)
        await wire.request()
        wire.send(OK)

    async with listen(serve) as provider:
        for n in (1, 2):
            got = await upstream.send(asking(provider.origin()))
            assert await got.body(100) in (b"ok", b"one two")
            assert b"x" not in got.headers
            assert len(provider.wires) == n


async def test_an_early_answer_leaves_no_half_sent_request_behind(upstream: Upstream) -> None:
    """A provider that refuses before it has read the request: what is still unsent must not run into the next."""

    async def serve(wire: Wire) -> None:
        await wire.reader.readuntil(b"\r\n\r\n")
        wire.send(b"HTTP/1.1 413 Too Large\r\ncontent-length: 2\r\n\r\nno")
        await asyncio.sleep(0.05)
        await wire.gone()

    async with listen(serve) as provider:
        for n in (1, 2):
            got = await upstream.send(asking(provider.origin(), body=bytes(30 * 1024 * 1024)))
            assert (got.status, await got.body(10)) == (413, b"no")
            assert len(provider.wires) == n
            await until(lambda: upstream.connections() == 0)


async def test_an_answer_let_go_ends_by_itself_or_is_closed(upstream: Upstream) -> None:
    go = asyncio.Event()

    async def serve(wire: Wire) -> None:
        await wire.request()
        wire.send(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\na\r\n")
        await go.wait()
        wire.send(b"0\r\n\r\n")
        await wire.request()
        wire.send(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\na\r\n")
        await wire.gone()

    async with listen(serve) as provider:
        got = await upstream.send(asking(provider.origin()))
        got.let_go(upstream.loop.time())
        go.set()
        await until(lambda: upstream.active() == 0)
        assert upstream.connections() == 1
        got = await upstream.send(asking(provider.origin()))
        got.let_go(upstream.loop.time())
        assert len(provider.wires) == 1
        await until(lambda: upstream.connections() == 0)


# ------------------------------------------------------------------------------------- malformed answers


@pytest.mark.parametrize(
    "answer",
    [
        b"nonsense\r\n\r\n",
        b"\x16\x03\x01\x00\x05hello",
        b"HTTP/7.0 200 OK\r\n\r\n",
        b"HTTP/1.1 2000 OK\r\n\r\n",
        b"HTTP/1.1 abc OK\r\n\r\n",
        b"HTTP/1.1 099 Odd\r\ncontent-length: 2\r\n\r\nok",
        b"HTTP/1.1 700 Odd\r\ncontent-length: 2\r\n\r\nok",
        b"HTTP/1.1 101 Switching\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nname with space: x\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nx: a\0b\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: x\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: -2\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 3\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nxyz\r\n",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n-1\r\nab",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nabc\r\n",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n" + b"f" * 40 + b"\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-encoding: compress\r\ncontent-length: 2\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: 2\r\n\r\nok",
        b"HTTP/1.1 100 Continue\r\n\r\n" * (MAX_INTERIM + 1),
    ],
)
@pytest.mark.parametrize("pieces", [1, 1000])
async def test_malformed(upstream: Upstream, answer: bytes, pieces: int) -> None:
    async def serve(wire: Wire) -> None:
        await wire.request()
        await wire.trickle(answer, len(answer) // pieces or 1)
        await wire.gone()

    async with listen(serve) as provider:
        with pytest.raises(UpstreamMalformed) as caught:
            await (await upstream.send(asking(provider.origin()))).body(1000)
        assert caught.value.http_status == 502
        assert caught.value.provider == "acme"
        await until(lambda: upstream.connections() == 0)


@pytest.mark.parametrize(
    ("begin", "endless"),
    [
        (b"", b"a"),
        (b"HTTP/1.1 200 ", b"a"),
        (b"HTTP/1.1 200 OK\r\nx: ", b"a"),
        (b"HTTP/1.1 200 OK\r\n", b"x: yyyyyyyy\r\n"),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1;", b"ext"),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\na\r\n0\r\nt: ", b"a"),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\na\r\n0\r\n", b"t: y\r\n"),
    ],
)
async def test_heads_and_trailers_without_end(upstream: Upstream, begin: bytes, endless: bytes) -> None:
    sent = 0

    async def serve(wire: Wire) -> None:
        nonlocal sent
        await wire.request()
        wire.send(begin)
        piece = endless * (8192 // len(endless))
        while True:
            wire.send(piece)
            sent += len(piece)
            await wire.writer.drain()
            await asyncio.sleep(0)

    async with listen(serve) as provider:
        with pytest.raises(UpstreamMalformed):
            await (await upstream.send(asking(provider.origin()))).body(1 << 20)
        await until(lambda: upstream.connections() == 0)
        assert sent < 20 * MAX_HEADERS


async def test_large_but_decent_heads_pass(upstream: Upstream) -> None:
    lines = b"".join(b"x-%d: %b\r\n" % (n, b"v" * 100) for n in range(400))
    async with listen(always(b"HTTP/1.1 200 OK\r\n" + lines + b"content-length: 2\r\n\r\nok")) as provider:
        got = await upstream.send(asking(provider.origin()))
        assert len(got.headers) == 401
        assert await got.body(10) == b"ok"


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nwhole\r\n",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nwh",
        b"HTTP/1.1 200 OK\r\ncontent-le",
        b"HTTP/1.1 100 Continue\r\n\r\n",
    ],
)
async def test_cut_off(upstream: Upstream, answer: bytes) -> None:
    async with listen(then_close(answer)) as provider:
        with pytest.raises(UpstreamMalformed, match="closed the connection in the middle") as caught:
            await (await upstream.send(asking(provider.origin()))).body(1000)
        assert caught.value.retryable


async def test_what_came_before_the_cut_can_be_read(upstream: Upstream) -> None:
    async with listen(then_close(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf")) as provider:
        got = await upstream.send(asking(provider.origin()))
        await until(lambda: upstream.active() == 0)
        assert await got.read() == b"half"
        with pytest.raises(UpstreamMalformed, match="in the middle"):
            await got.read()


@pytest.mark.parametrize("framing", ["length", "chunked", "end"])
@pytest.mark.parametrize("size", [1001, 3_000_000])
async def test_bodies_beyond_the_limit(upstream: Upstream, framing: str, size: int) -> None:
    head = {
        "length": b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % size,
        "chunked": b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n%x\r\n" % size,
        "end": b"HTTP/1.1 200 OK\r\n\r\n",
    }[framing]
    tail = b"\r\n0\r\n\r\n" if framing == "chunked" else b""
    async with listen(then_close(head + b"x" * size + tail)) as provider:
        got = await upstream.send(asking(provider.origin()))
        with pytest.raises(UpstreamMalformed, match="more than 1000 bytes"):
            await got.body(1000)
        await until(lambda: upstream.connections() == 0)
        got = await upstream.send(asking(provider.origin()))
        assert len(await got.body(size)) == size


# --------------------------------------------------------------------------------------------- encodings

TEXT = b"some words, and some more words, and even more words " * 200
ENCODED = {
    b"gzip": gzip.compress(TEXT),
    b"deflate": zlib.compress(TEXT),
    b"br": brotli.compress(TEXT),
    b"zstd": zstandard.ZstdCompressor().compress(TEXT),
}


@pytest.mark.parametrize("encoding", ENCODED)
@pytest.mark.parametrize("framing", ["length", "chunked", "end"])
async def test_encoded(upstream: Upstream, encoding: bytes, framing: str) -> None:
    body = ENCODED[encoding]
    head = b"HTTP/1.1 200 OK\r\nContent-Encoding: " + encoding + b"\r\n"
    if framing == "length":
        answer = head + b"content-length: %d\r\n\r\n" % len(body) + body
    elif framing == "chunked":
        pieces = b"".join(
            b"%x\r\n%b\r\n" % (len(body[i : i + 7]), body[i : i + 7]) for i in range(0, len(body), 7)
        )
        answer = head + b"transfer-encoding: chunked\r\n\r\n" + pieces + b"0\r\n\r\n"
    else:
        answer = head + b"\r\n" + body

    async def serve(wire: Wire) -> None:
        await wire.request()
        await wire.trickle(answer, 61)

    async with listen(serve) as provider:
        got = await upstream.send(asking(provider.origin()))
        read = b""
        while data := await got.read():
            read += data
        assert read == TEXT


@pytest.mark.parametrize("encoding", ENCODED)
@pytest.mark.parametrize("framing", ["length", "end"])
async def test_encoded_and_cut_short(upstream: Upstream, encoding: bytes, framing: str) -> None:
    """The framing is whole, what it frames is not: a half must not pass for the whole."""
    body = ENCODED[encoding][:-9]
    length = b"content-length: %d\r\n" % len(body) if framing == "length" else b""
    answer = b"HTTP/1.1 200 OK\r\ncontent-encoding: " + encoding + b"\r\n" + length + b"\r\n" + body
    async with listen(then_close(answer)) as provider:
        with pytest.raises(UpstreamMalformed, match="too early"):
            await (await upstream.send(asking(provider.origin()))).body(1 << 20)


@pytest.mark.parametrize("encoding", [b"gzip", b"br", b"zstd"])
async def test_encoded_bomb(upstream: Upstream, encoding: bytes) -> None:
    zeros = bytes(64 << 20)
    body = {
        b"gzip": lambda: gzip.compress(zeros),
        b"br": lambda: brotli.compress(zeros, quality=1),
        b"zstd": lambda: zstandard.ZstdCompressor(level=1).compress(zeros),
    }[encoding]()
    answer = (
        b"HTTP/1.1 200 OK\r\ncontent-encoding: %b\r\ncontent-length: %d\r\n\r\n" % (encoding, len(body))
        + body
    )
    async with listen(always(answer)) as provider:
        with pytest.raises(UpstreamMalformed, match="inflates beyond the bound"):
            await (await upstream.send(asking(provider.origin()))).body(1 << 30)
        await until(lambda: upstream.connections() == 0)


async def test_encoded_but_empty(upstream: Upstream) -> None:
    answer = b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: 0\r\n\r\n"
    async with listen(always(answer)) as provider:
        assert await (await upstream.send(asking(provider.origin()))).body(10) == b""


# ------------------------------------------------------------------------------------------------ the end


async def test_closing_the_client_ends_what_runs(upstream: Upstream) -> None:
    async def serve(wire: Wire) -> None:
        await wire.request()
        wire.send(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\na\r\n")
        await wire.gone()

    async with listen(serve) as provider:
        reading = await upstream.send(asking(provider.origin()))
        assert await reading.read() == b"a"
        waiting = asyncio.ensure_future(reading.read())
        await asyncio.sleep(0)
        await upstream.close()
        with pytest.raises(UpstreamUnreachable, match="was closed"):
            await asyncio.wait_for(waiting, 2)
        await until(lambda: provider.open_wires() == 0)


async def test_many_at_the_same_time_each_get_their_own(upstream: Upstream) -> None:
    async def serve(wire: Wire) -> None:
        while True:
            request = await wire.request()
            body = request.partition(b"\r\n\r\n")[2]
            head = b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(body)
            await wire.trickle(head + body, 11)

    async def one(n: int) -> None:
        body = b"%d" % n * 20
        got = await upstream.send(asking(provider.origin(), body=body, clocks=QUICK))
        assert await got.body(1000) == body

    async with listen(serve) as provider:
        for _ in range(2):
            await asyncio.gather(*(one(n) for n in range(60)))
        assert len(provider.wires) <= 60
