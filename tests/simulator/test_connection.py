"""HTTP as clients speak it to the simulator, whole and in pieces."""

import asyncio
import socket

import pytest


async def test_requests_in_single_bytes(connect, chat, post, read):
    reader, writer = await connect()
    for byte in post(chat()):
        writer.write(bytes((byte,)))
        await asyncio.sleep(0)
    assert (await read(reader)).status == 200


async def test_chunked_requests(connect, read):
    reader, writer = await connect()
    body = b'{"model":"m","messages":[{"role":"user","content":"hi"}]}'
    writer.write(b"POST /v1/chat/completions HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n")
    for at in range(0, len(body), 7):
        part = body[at : at + 7]
        writer.write(b"%x\r\n%b\r\n" % (len(part), part))
        await asyncio.sleep(0)
    writer.write(b"0\r\n\r\n")
    assert (await read(reader)).json()["usage"]["prompt_tokens"] == 7


async def test_a_client_that_waits_for_100_continue(connect, chat, post, read):
    reader, writer = await connect()
    head, _, body = post(chat(), expect="100-continue").partition(b"\r\n\r\n")
    writer.write(head + b"\r\n\r\n")
    assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
    writer.write(body)
    assert (await read(reader)).status == 200


@pytest.mark.parametrize("suffix", ["", "+latency=2ms", "+pace=1ms"])
async def test_pipelined_requests_are_answered_in_order(connect, chat, post, read, suffix):
    reader, writer = await connect()
    count = 80
    writer.write(
        b"".join(post(chat(f"m{suffix}+tokens={1 + n % 3}"), x_request_id=str(n)) for n in range(count))
    )
    for number in range(count):
        reply = await read(reader)
        assert reply.headers["x-request-id"] == str(number)
        assert reply.json()["usage"]["completion_tokens"] == 1 + number % 3


async def test_http_1_0_and_connection_close(connect, chat, post, read):
    for request in (
        post(chat(stream=True)).replace(b"HTTP/1.1", b"HTTP/1.0"),
        post(chat(), connection="close"),
        post(chat(stream=True), connection="close"),
    ):
        reader, writer = await connect()
        writer.write(request)
        reply = await read(reader)
        assert reply.status == 200
        assert reply.headers["connection"] == "close"
        assert await reader.read() == b""
    reader, writer = await connect()
    writer.write(post(chat(), connection="keep-alive").replace(b"HTTP/1.1", b"HTTP/1.0") * 2)
    assert (await read(reader)).headers["connection"] == "keep-alive"
    assert (await read(reader)).status == 200


@pytest.mark.parametrize(
    "garbage",
    [b"\x16\x03\x01\x02\x00\x01\x00", b"nonsense\r\n\r\n", b"POST / HTTP/1.1\r\nbad header\r\n\r\n"],
)
async def test_what_is_not_http_is_told_so(connect, read, garbage):
    reader, writer = await connect()
    writer.write(garbage)
    reply = await read(reader)
    assert reply.status == 400
    assert reply.json()["error"]["code"] == "bad_http"
    assert await reader.read() == b""


async def test_garbage_behind_a_request_still_being_answered(connect, chat, post, read):
    reader, writer = await connect()
    writer.write(post(chat("m+latency=20ms")) + b"nonsense\r\n\r\n")
    assert (await read(reader)).status == 200
    assert await reader.read() == b""


async def test_a_body_beyond_the_limit(connect, read):
    reader, writer = await connect()
    size = 64 * 1024 * 1024 + 1
    writer.write(b"POST /v1/chat/completions HTTP/1.1\r\ncontent-length: %d\r\n\r\n" % size)
    block = b" " * (1 << 20)
    for _ in range(64):
        writer.write(block)
        await writer.drain()
    writer.write(b" ")
    assert (await read(reader)).status == 413


async def test_an_upgrade_is_answered_as_a_request_and_closed(connect, read):
    reader, writer = await connect()
    writer.write(b"GET /v1/elsewhere HTTP/1.1\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n")
    assert (await read(reader)).status == 404
    assert await reader.read() == b""


async def test_a_slow_reader_is_waited_for(simulator, connect, chat, post, until):
    """The answer is complete only when its last byte has left."""
    reader, writer = await connect()
    writer.transport.pause_reading()
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
    writer.write(post(chat("m+malformed=body_huge+size=20000000")))
    await until(lambda: simulator.open == 1)
    await asyncio.sleep(0.05)
    assert simulator.open == 1
    writer.transport.resume_reading()
    head = await reader.readuntil(b"\r\n\r\n")
    assert b"200 OK" in head
    await reader.readexactly(20_000_000)
    await until(lambda: simulator.open == 0)


async def test_the_loop_is_the_one_used_in_earnest():
    assert type(asyncio.get_running_loop()).__module__ == "uvloop"
