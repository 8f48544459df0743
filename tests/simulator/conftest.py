"""A running simulator and a client of raw streams: what is asserted is what was on the wire."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import pytest
import uvloop

from tollway.simulator.server import Simulator


@dataclass
class Reply:
    """``body`` is unchunked; ``raw`` is everything up to where the answer or the connection ended."""

    status: int
    headers: dict[str, str]
    body: bytes
    raw: bytes

    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def data(self) -> list[str]:
        """The data of every SSE event."""
        text = self.body.decode().replace("\r\n", "\n")
        lines = [line for event in text.split("\n\n") for line in event.split("\n")]
        return [line.removeprefix("data: ") for line in lines if line.startswith("data: ")]

    @property
    def chunks(self) -> list[Any]:
        return [json.loads(one) for one in self.data if one != "[DONE]"]

    @property
    def text(self) -> str:
        """The text of choice 0 of a streamed chat."""
        return "".join(
            choice["delta"].get("content") or ""
            for chunk in self.chunks
            for choice in chunk["choices"]
            if choice["index"] == 0
        )


async def read_reply(reader: asyncio.StreamReader) -> Reply:
    """One well-formed answer. Raises IncompleteReadError where the connection ends too early."""
    raw = await reader.readuntil(b"\r\n\r\n")
    lines = raw.decode("latin-1").split("\r\n")
    headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines[1:-2])}
    status = int(lines[0].split(" ")[1])
    if headers.get("transfer-encoding") == "chunked":
        body = b""
        while True:
            size = await reader.readuntil(b"\r\n")
            data = await reader.readexactly(int(size, 16) + 2)
            raw += size + data
            if int(size, 16) == 0:
                break
            body += data[:-2]
    elif "content-length" in headers:
        body = await reader.readexactly(int(headers["content-length"]))
        raw += body
    else:
        body = await reader.read()
        raw += body
    return Reply(status, headers, body, raw)


def post(body: object, path: str = "/v1/chat/completions", **headers: str) -> bytes:
    """The bytes of a request; header names are written with underscores."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    lines = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
    head = f"POST {path} HTTP/1.1\r\nhost: simulator\r\n{lines}content-length: {len(content)}\r\n\r\n"
    return head.encode() + content


def chat(model: str = "gpt-4o-mini", text: str = "Hello there", **more: object) -> dict[str, object]:
    return {"model": model, "messages": [{"role": "user", "content": text}], **more}


def pytest_asyncio_loop_factories() -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    """The loop that the simulator runs on in earnest."""
    return {"uvloop": uvloop.new_event_loop}


Ask = Callable[..., Awaitable[Reply]]


@pytest.fixture
async def simulator() -> AsyncIterator[Simulator]:
    made = Simulator()
    await made.start()
    yield made
    await made.stop()


@pytest.fixture
async def ask(simulator: Simulator) -> AsyncIterator[Ask]:
    """``await ask(body, path=…, header=…)`` on one kept connection, opened anew where it was closed."""
    held: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []

    async def send(body: object = None, path: str = "/v1/chat/completions", **headers: str) -> Reply:
        if not held or held[-1][0].at_eof():
            held.append(await asyncio.open_connection("127.0.0.1", simulator.port))
        reader, writer = held[-1]
        method = headers.pop("method", "POST" if body is not None else "GET")
        content = b"" if body is None else body
        writer.write(post(content, path, **headers).replace(b"POST", method.encode(), 1))
        return await asyncio.wait_for(read_reply(reader), 5)

    yield send
    for _, writer in held:
        writer.close()


@pytest.fixture
async def connect(simulator: Simulator) -> AsyncIterator[Callable[[], Awaitable[Any]]]:
    """A bare connection: reader and writer, closed at the end."""
    writers: list[asyncio.StreamWriter] = []

    async def open_one() -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await asyncio.open_connection("127.0.0.1", simulator.port, limit=1 << 26)
        writers.append(writer)
        return reader, writer

    yield open_one
    for writer in writers:
        writer.close()


@pytest.fixture
def until() -> Callable[[Callable[[], bool]], Awaitable[None]]:
    """Wait until a condition holds; a second is more than any of them needs."""

    async def wait(condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(1):
            while not condition():
                await asyncio.sleep(0.002)

    return wait


@pytest.fixture(name="chat")
def chat_body() -> Callable[..., dict[str, object]]:
    """``chat(model, text, **fields)``: the body of a chat request."""
    return chat


@pytest.fixture(name="post")
def post_bytes() -> Callable[..., bytes]:
    """``post(body, path, header=…)``: the bytes of a request."""
    return post


@pytest.fixture(name="read")
def read_one() -> Callable[[asyncio.StreamReader], Awaitable[Reply]]:
    return read_reply
