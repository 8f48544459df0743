"""A provider made of a bare socket: what it reads is kept, what it answers is written byte for byte as scripted.

``listen(serve)`` runs a coroutine for each connection. Asserts nothing and never speaks HTTP by itself.
"""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
import struct
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager

from tollway.model.clocks import Clocks
from tollway.providers.request import Origin, UpstreamRequest

QUICK = Clocks(connect=3.0, first_byte=5.0, first_token=5.0, idle=5.0, total=10.0)


class Wire:
    """One accepted connection. ``requests`` are whole: head and body in one."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self.requests: list[bytes] = []
        self.open = True

    async def request(self) -> bytes:
        """The next whole request. IncompleteReadError or ConnectionError at the end of the connection."""
        head = await self.reader.readuntil(b"\r\n\r\n")
        length = 0
        for line in head.lower().split(b"\r\n"):
            if line.startswith(b"content-length:"):
                length = int(line[15:])
        whole = head + await self.reader.readexactly(length)
        self.requests.append(whole)
        return whole

    def send(self, data: bytes) -> None:
        if self.writer.transport.is_closing():
            raise ConnectionResetError("the other side has closed")
        self.writer.write(data)

    async def trickle(self, data: bytes, size: int = 1) -> None:
        """Each piece by itself: the client's loop gets a turn after it."""
        for start in range(0, len(data), size):
            self.send(data[start : start + size])
            await asyncio.sleep(0)
            await asyncio.sleep(0)

    def close(self) -> None:
        """A clean end: everything sent arrives, then the end of the stream."""
        self.writer.close()

    def reset(self) -> None:
        """An end by RST instead of FIN."""
        sock = self.writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()

    async def gone(self) -> float:
        """Wait until the other side has closed; when that was, on the monotonic clock."""
        try:
            while await self.reader.read(65536):
                pass
        except ConnectionError:
            pass
        return time.monotonic()


class Listener:
    """``wires`` are all connections so far, ``open_wires`` those that neither side has closed."""

    def __init__(self, scheme: str, host: str, port: int, ca_file: str | None) -> None:
        self.host = host
        self.port = port
        self.wires: list[Wire] = []
        self.failures: list[BaseException] = []
        self._scheme = scheme
        self._ca_file = ca_file

    def origin(
        self, host: str | None = None, *, ca_file: str | None = None, proxy: str | None = None
    ) -> Origin:
        return Origin(
            scheme="https" if self._scheme == "https" else "http",
            host=host or self.host,
            port=self.port,
            ca_file=ca_file or self._ca_file,
            proxy=proxy,
        )

    @property
    def requests(self) -> list[bytes]:
        return [request for wire in self.wires for request in wire.requests]

    def open_wires(self) -> int:
        return sum(wire.open for wire in self.wires)


Serve = Callable[[Wire], Awaitable[object]]


@asynccontextmanager
async def listen(
    serve: Serve, host: str = "127.0.0.1", tls: ssl.SSLContext | None = None, ca_file: str | None = None
) -> AsyncIterator[Listener]:
    tasks: set[asyncio.Task[None]] = set()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        wire = Wire(reader, writer)
        listener.wires.append(wire)
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        try:
            await serve(wire)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        except asyncio.CancelledError:
            return  # the listener ends
        except Exception as error:
            listener.failures.append(error)
        finally:
            wire.open = False
            tasks.discard(task)
            writer.close()

    server = await asyncio.start_server(connected, host, 0, ssl=tls, limit=1 << 20)
    port = server.sockets[0].getsockname()[1]
    listener = Listener("https" if tls else "http", host, port, ca_file)
    try:
        yield listener
    finally:
        server.close()
        for task in list(tasks):
            task.cancel()
        if tasks:
            await asyncio.wait(list(tasks), timeout=5)
    if listener.failures:
        raise listener.failures[0]


def always(answer: bytes) -> Serve:
    """Answers every request with the same bytes and keeps the connection."""

    async def serve(wire: Wire) -> None:
        while True:
            await wire.request()
            wire.send(answer)

    return serve


async def silent(wire: Wire) -> None:
    """Reads requests and never answers."""
    await wire.gone()


def asking(
    origin: Origin,
    *,
    method: bytes = b"POST",
    target: bytes = b"/v1/chat",
    body: bytes = b"{}",
    clocks: Clocks = QUICK,
) -> UpstreamRequest:
    return UpstreamRequest(
        origin=origin,
        method=method,
        target=target,
        headers=b"host: " + origin.authority.encode() + b"\r\n",
        body=body,
        provider="acme",
        clocks=clocks,
    )


async def until(condition: Callable[[], object], seconds: float = 3.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds} s")
        await asyncio.sleep(0.002)


@contextmanager
def black_hole(host: str = "127.0.0.1", port: int = 0) -> Iterator[int]:
    """A port that takes no connection and refuses none: its queue of connections is full."""
    hole = socket.socket()
    hole.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    hole.bind((host, port))
    hole.listen(0)
    taken = hole.getsockname()[1]
    callers = []
    try:
        for _ in range(3):
            caller = socket.socket()
            caller.setblocking(False)
            caller.connect_ex((host, taken))
            callers.append(caller)
        yield taken
    finally:
        for caller in callers:
            caller.close()
        hole.close()


def open_sockets() -> int:
    """Sockets this process holds."""
    count = 0
    for name in os.listdir("/proc/self/fd"):
        try:
            count += os.readlink(f"/proc/self/fd/{name}").startswith("socket:")
        except FileNotFoundError:
            continue
    return count
