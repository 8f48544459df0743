"""The yardstick: the least an HTTP relay in Python can do. It parses both sides with httptools, pools
connections, points the request at the upstream and passes the bytes of the answer on as they come.

No keys, no JSON, no limits, no logs, no error handling beyond closing both sides.
"""

from __future__ import annotations

import argparse
import asyncio
import signal
from typing import cast

import httptools
import uvloop


class Upstream(asyncio.Protocol):
    """A pooled connection to the origin; ``client`` is whoever waits for its answer."""

    def __init__(self, relay: Relay) -> None:
        self.relay = relay
        self.client: Downstream | None = None
        self.transport: asyncio.Transport | None = None
        self.parser = httptools.HttpResponseParser(self)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop's own class does not derive from it

    def connection_lost(self, exc: Exception | None) -> None:
        if self in self.relay.idle:
            self.relay.idle.remove(self)
        if self.client is not None:
            self.client.close()

    def send(self, client: Downstream, request: bytes) -> None:
        self.client = client
        client.upstream = self
        assert self.transport is not None
        self.transport.write(request)

    def data_received(self, data: bytes) -> None:
        client = self.client
        if client is None:
            self.close()
            return
        client.write(data)
        self.parser.feed_data(data)

    def on_message_complete(self) -> None:
        client, self.client = self.client, None
        again = self.parser.should_keep_alive()
        self.parser = httptools.HttpResponseParser(self)
        if client is not None:
            client.upstream = None
        if again:
            self.relay.idle.append(self)
        else:
            self.close()

    def pause_writing(self) -> None:
        if self.client is not None:
            self.client.pause_reading()

    def resume_writing(self) -> None:
        if self.client is not None:
            self.client.resume_reading()

    def close(self) -> None:
        if self.transport is not None:
            self.transport.abort()


class Downstream(asyncio.Protocol):
    """A client's connection; one request at a time."""

    def __init__(self, relay: Relay) -> None:
        self.relay = relay
        self.upstream: Upstream | None = None
        self.transport: asyncio.Transport | None = None
        self.parser = httptools.HttpRequestParser(self)
        self.url = b""
        self.head: list[bytes] = []
        self.body = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop's own class does not derive from it

    def connection_lost(self, exc: Exception | None) -> None:
        self.transport = None
        if self.upstream is not None:
            self.upstream.client = None
            self.upstream.close()

    def data_received(self, data: bytes) -> None:
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserError:
            self.close()

    def on_message_begin(self) -> None:
        self.url, self.head, self.body = b"", [], b""

    def on_url(self, url: bytes) -> None:
        self.url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        if name.lower() not in (b"host", b"connection", b"content-length", b"transfer-encoding"):
            self.head.append(b"%b: %b\r\n" % (name, value))

    def on_body(self, body: bytes) -> None:
        self.body += body

    def on_message_complete(self) -> None:
        request = b"%b %b HTTP/1.1\r\nhost: %b\r\n%bcontent-length: %d\r\n\r\n%b" % (
            self.parser.get_method(),
            self.url,
            self.relay.host_header,
            b"".join(self.head),
            len(self.body),
            self.body,
        )
        if self.relay.idle:
            self.relay.idle.pop().send(self, request)
        else:
            self.relay.connect(self, request)

    def write(self, data: bytes) -> None:
        if self.transport is not None:
            self.transport.write(data)

    def pause_writing(self) -> None:
        if self.upstream is not None and self.upstream.transport is not None:
            self.upstream.transport.pause_reading()

    def resume_writing(self) -> None:
        if self.upstream is not None and self.upstream.transport is not None:
            self.upstream.transport.resume_reading()

    def pause_reading(self) -> None:
        if self.transport is not None:
            self.transport.pause_reading()

    def resume_reading(self) -> None:
        if self.transport is not None:
            self.transport.resume_reading()

    def close(self) -> None:
        if self.transport is not None:
            self.transport.abort()


class Relay:
    """The pool and the address of the one origin."""

    def __init__(self, host: str, port: int) -> None:
        self.host, self.port = host, port
        self.host_header = f"{host}:{port}".encode()
        self.idle: list[Upstream] = []
        self.connecting: set[asyncio.Task[None]] = set()

    def connect(self, client: Downstream, request: bytes) -> None:
        task = asyncio.get_running_loop().create_task(self._connect(client, request))
        self.connecting.add(task)
        task.add_done_callback(self.connecting.discard)

    async def _connect(self, client: Downstream, request: bytes) -> None:
        loop = asyncio.get_running_loop()
        try:
            _, upstream = await loop.create_connection(lambda: Upstream(self), self.host, self.port)
        except OSError:
            client.close()
            return
        if client.transport is None:
            upstream.close()
        else:
            upstream.send(client, request)


async def serve(port: int, upstream: str) -> None:
    host, _, upstream_port = upstream.rpartition(":")
    relay = Relay(host, int(upstream_port))
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    server = await loop.create_server(lambda: Downstream(relay), "127.0.0.1", port, backlog=4096)
    async with server:
        await stop.wait()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--upstream", required=True, help="host:port of the origin")
    arguments = parser.parse_args()
    uvloop.run(serve(arguments.port, arguments.upstream))


if __name__ == "__main__":
    main()
