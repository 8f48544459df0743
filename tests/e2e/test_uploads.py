"""Bodies that go on while they come: memory that does not grow with them, clients that leave, providers that are slow,
refuse early or break off. The provider is a bare socket, so that every byte is seen."""

from __future__ import annotations

import asyncio
import hashlib
import json
import struct
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from socket import SO_LINGER, SOL_SOCKET
from typing import Any

import pytest

from running import KEY, Gateway, Wire, gateway, until

MB = 1024 * 1024
MARK = b"boundary-of-the-tests"


class Sink:
    """A provider that reads a body, chunked or not, and says what it was. ``hold`` stops it from reading."""

    def __init__(self) -> None:
        self.port = 0
        self.heads: list[bytes] = []
        self.read = 0
        self.digest = ""
        self.closed = 0.0
        self.hold = asyncio.Event()
        self.hold.set()
        self.refuse_at: int | None = None
        self.cut_at: int | None = None

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                self.heads.append(head)
                self.read = 0
                digest = hashlib.sha256()
                async for piece in self._body(head.lower(), reader):
                    await self.hold.wait()
                    self.read += len(piece)
                    digest.update(piece)
                    if self.refuse_at is not None and self.read >= self.refuse_at:
                        self._answer(
                            writer, b"413 Payload Too Large", {"error": {"message": "too much for me"}}
                        )
                        await writer.drain()
                        await reader.read(-1)
                        return
                    if self.cut_at is not None and self.read >= self.cut_at:
                        return
                self.digest = digest.hexdigest()
                self._answer(
                    writer, b"200 OK", {"id": f"file-{self.digest[:24]}", "object": "file", "text": "done"}
                )
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            self.closed = time.monotonic()
            writer.transport.abort()

    def _answer(self, writer: asyncio.StreamWriter, status: bytes, value: object) -> None:
        body = json.dumps(value).encode()
        head = b"HTTP/1.1 %b\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % (
            status,
            len(body),
        )
        writer.write(head + body)

    async def _body(self, head: bytes, reader: asyncio.StreamReader) -> AsyncIterator[bytes]:
        if b"transfer-encoding: chunked" in head:
            while size := int(await reader.readuntil(b"\r\n"), 16):
                yield (await reader.readexactly(size + 2))[:-2]
            await reader.readuntil(b"\r\n")
            return
        left = int(head.partition(b"content-length: ")[2].partition(b"\r\n")[0])
        while left:
            piece = await reader.read(min(left, 256 * 1024))
            if not piece:
                raise asyncio.IncompleteReadError(b"", left)
            left -= len(piece)
            yield piece


@asynccontextmanager
async def sinking(tmp_path: Path, **server: object) -> AsyncIterator[tuple[Gateway, Sink]]:
    sink = Sink()
    listening = await asyncio.start_server(sink.serve, "127.0.0.1", 0, limit=MB)
    sink.port = listening.sockets[0].getsockname()[1]
    config = {
        "server": server,
        "providers": {
            "sink": {
                "type": "openai-compatible",
                "base_url": f"http://127.0.0.1:{sink.port}/v1",
                "api_key": "sk-s",
            }
        },
        "models": {"ear": {"targets": [{"model": "sink/whisper-large-v3", "price": {"seconds": 100}}]}},
        "keys": [{"name": "up", "key": KEY}],
    }
    async with gateway(tmp_path, config) as running:
        yield running, sink
        sink.hold.set()
        assert await running.stop() == 0, running.log
    listening.close()


def field(name: str, value: str) -> bytes:
    return b'--%b\r\nContent-Disposition: form-data; name="%b"\r\n\r\n%b\r\n' % (
        MARK,
        name.encode(),
        value.encode(),
    )


def file_head(name: str = "file") -> bytes:
    return (
        b'--%b\r\nContent-Disposition: form-data; name="%b"; filename="a.bin"\r\n'
        b"Content-Type: application/octet-stream\r\n\r\n" % (MARK, name.encode())
    )


END = b"\r\n--" + MARK + b"--\r\n"


def head(path: str, length: int | None) -> bytes:
    framing = "transfer-encoding: chunked" if length is None else f"content-length: {length}"
    return (
        f"POST {path} HTTP/1.1\r\nhost: gateway\r\nauthorization: Bearer {KEY}\r\n"
        f"content-type: multipart/form-data; boundary={MARK.decode()}\r\n{framing}\r\n\r\n"
    ).encode()


class Memory:
    """The largest resident set of a process while it is watched, in bytes."""

    def __init__(self, pid: int) -> None:
        self._status = Path(f"/proc/{pid}/status")
        self.largest = 0

    def look(self) -> None:
        line = next(one for one in self._status.read_text().splitlines() if one.startswith("VmRSS"))
        self.largest = max(self.largest, int(line.split()[1]) * 1024)


async def upload(running: Gateway, path: str, before: bytes, size: int, behind: bytes, memory: Memory) -> Any:
    """Send a form with a file of ``size`` zeros; the answer's JSON and the SHA-256 of what was sent."""
    wire = Wire(running.port)
    reader, writer = await wire.open()
    digest = hashlib.sha256(before)
    writer.write(head(path, len(before) + size + len(behind)) + before)
    piece = bytes(MB)
    for number in range(size // MB):
        writer.write(piece)
        digest.update(piece)
        await writer.drain()
        if number % 16 == 0:
            memory.look()
    writer.write(behind)
    digest.update(behind)
    reply = await wire.read(reader)
    memory.look()
    wire.close()
    assert reply.status == 200, reply.body
    return reply, digest.hexdigest()


async def test_a_gigabyte_takes_no_memory(tmp_path: Path) -> None:
    async with sinking(tmp_path) as (running, sink):
        assert running.process is not None
        memory = Memory(running.process.pid)
        before = field("purpose", "assistants") + file_head()
        reply, sent = await upload(running, "/v1/files", before, 1024 * MB, END, memory)
        assert reply.json()["id"].startswith("file-")
        assert sink.digest == sent, "every byte arrived"
        assert b"content-length" in sink.heads[-1]
        assert memory.largest < 100 * MB, f"{memory.largest / MB:.0f} MB"


async def test_the_deciding_field_behind_a_large_file_takes_no_memory(tmp_path: Path) -> None:
    async with sinking(tmp_path) as (running, sink):
        assert running.process is not None
        memory = Memory(running.process.pid)
        behind = b"\r\n" + field("model", "ear") + field("language", "en") + END[2:]
        reply, _ = await upload(running, "/v1/audio/transcriptions", file_head(), 120 * MB, behind, memory)
        assert reply.json()["text"] == "done"
        body = len(file_head()) + 120 * MB + len(behind) + len("whisper-large-v3") - len("ear")
        assert sink.read == body
        assert memory.largest < 100 * MB, f"{memory.largest / MB:.0f} MB"
        assert list((running.data_dir / "uploads").glob("*")) == [running.data_dir / "uploads" / "files"]


async def test_the_model_is_exchanged_and_nothing_else(tmp_path: Path) -> None:
    async with sinking(tmp_path) as (running, sink):
        form = field("language", "en") + field("model", "ear") + file_head() + b"sound\r\n--boundary" + END
        wanted = form.replace(b"\r\n\r\near\r\n", b"\r\n\r\nwhisper-large-v3\r\n")
        for length in (len(form), None):
            wire = Wire(running.port)
            reader, writer = await wire.open()
            body = (
                form if length is not None else b"".join(b"1\r\n%c\r\n" % one for one in form) + b"0\r\n\r\n"
            )
            writer.write(head("/v1/audio/transcriptions", length) + body)
            reply = await wire.read(reader)
            wire.close()
            assert reply.status == 200, reply.body
            assert sink.digest == hashlib.sha256(wanted).hexdigest()
            assert (b"content-length" in sink.heads[-1]) == (length is not None)
        event = (await running.events())[0]
        assert event["upstream_model"] == "whisper-large-v3"
        assert event["estimated"]


async def test_a_client_that_leaves_closes_the_provider(tmp_path: Path) -> None:
    async with sinking(tmp_path) as (running, sink):
        wire = Wire(running.port)
        _, writer = await wire.open()
        writer.write(head("/v1/files", 50 * MB) + field("purpose", "assistants") + file_head() + bytes(MB))
        await until(lambda: sink.read >= MB // 2)
        left = time.monotonic()
        wire.close()
        await until(lambda: sink.closed)
        assert sink.closed - left < 0.1
        await until(running.events)
        event = (await running.events())[0]
        assert (event["outcome"], event["cost_nano_usd"]) == ("cancelled", 0)


async def test_a_client_that_leaves_while_the_provider_does_not_read(tmp_path: Path) -> None:
    async with sinking(tmp_path) as (running, sink):
        wire = Wire(running.port)
        _, writer = await wire.open()
        writer.write(head("/v1/files", 50 * MB) + field("purpose", "assistants") + file_head() + bytes(1000))
        await until(lambda: sink.read)
        sink.hold.clear()
        writer.write(bytes(40 * MB))
        await asyncio.sleep(0.3)  # until every buffer between here and there is full
        # With the way full of data only a reset can say that nobody stands behind it any more.
        socket = writer.get_extra_info("socket")
        socket.setsockopt(SOL_SOCKET, SO_LINGER, struct.pack("ii", 1, 0))
        left = time.monotonic()
        wire.close()
        await until(running.events)
        assert time.monotonic() - left < 1.5
        assert (await running.events())[0]["outcome"] == "cancelled"
        sink.hold.set()
        await until(lambda: sink.closed)


async def test_an_early_refusal_reaches_the_client(tmp_path: Path) -> None:
    async with sinking(tmp_path, body_timeout="2s") as (running, sink):
        sink.refuse_at = MB
        wire = Wire(running.port)
        reader, writer = await wire.open()
        form = field("purpose", "assistants") + file_head()
        writer.write(head("/v1/files", 30 * MB) + form)
        reply = asyncio.ensure_future(wire.read(reader))
        for _ in range(30):
            if reply.done():
                break
            writer.write(bytes(MB))
            await asyncio.sleep(0.01)
        answered = await reply
        assert answered.status == 413
        assert "too much for me" in answered.json()["error"]["message"]
        assert answered.headers["connection"] == "close"
        wire.close()


async def test_a_provider_that_breaks_off(tmp_path: Path) -> None:
    async with sinking(tmp_path, body_timeout="2s") as (running, sink):
        sink.cut_at = MB
        wire = Wire(running.port)
        reader, writer = await wire.open()
        writer.write(head("/v1/files", 8 * MB) + field("purpose", "assistants") + file_head() + bytes(4 * MB))
        reply = await wire.read(reader)
        assert reply.status == 502
        wire.close()


async def test_a_refusal_comes_before_the_body_is_asked_for(tmp_path: Path) -> None:
    async with sinking(tmp_path) as (running, sink):
        wire = Wire(running.port)
        reader, writer = await wire.open()
        asking = head("/v1/files", 30 * MB).replace(KEY.encode(), b"sk-wrong")
        writer.write(asking.replace(b"host:", b"expect: 100-continue\r\nhost:"))
        reply = await wire.read(reader)
        assert reply.status == 401
        assert not sink.heads
        wire.close()


async def test_uploads_are_bounded(tmp_path: Path) -> None:
    async with sinking(tmp_path, max_upload="1MiB", body_timeout="1s") as (running, _):
        wire = Wire(running.port)
        reader, writer = await wire.open()
        writer.write(head("/v1/files", 3 * MB))
        assert (await wire.read(reader)).status == 413
        wire.close()
        reader, writer = await wire.open()
        form = field("purpose", "assistants") + file_head() + bytes(2 * MB) + END
        writer.write(head("/v1/files", None) + b"%x\r\n%b\r\n0\r\n\r\n" % (len(form), form))
        assert (await wire.read(reader)).status == 413
        wire.close()


@pytest.mark.parametrize(
    ("form", "says"),
    [
        (
            field("model", "ear") + file_head() + b"x\r\n" + field("model", "other") + END[2:],
            "more than once",
        ),
        (field("model", "ear") + file_head() + b"x\n--" + MARK + b"\r\n" + END[2:], "within a part"),
        (field("model", "ear") + file_head() + b"x" + END + b"more", "follows the last"),
        (field("model", "ear") + file_head() + b"x", "ended before"),
        (b"preamble\r\n" + field("model", "ear") + END[2:], "begin with its boundary"),
        (field('model"; name="x', "ear") + END[2:], "repeats a parameter"),
        (file_head("model") + b"ear" + END, "plain field"),
        (field("modél".encode().decode("latin-1"), "ear") + END[2:], "names no model"),
    ],
)
async def test_forms_that_could_be_read_in_two_ways(tmp_path: Path, form: bytes, says: str) -> None:
    async with sinking(tmp_path, body_timeout="1s") as (running, sink):
        wire = Wire(running.port)
        reader, writer = await wire.open()
        writer.write(head("/v1/audio/transcriptions", len(form)) + form)
        reply = await wire.read(reader)
        assert reply.status == 400, reply.body
        assert says in reply.json()["error"]["message"]
        assert not sink.digest, "no whole request went on"
        wire.close()
