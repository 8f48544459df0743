"""One client connection: reads requests with httptools and plays the plans that answer them, in order.

It decides nothing about content. It knows exactly how far an answer got when the client left.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import struct
from collections import deque
from typing import TYPE_CHECKING, cast

import httptools

from tollway.simulator.answer import Request
from tollway.simulator.multipart import Reader, boundary
from tollway.simulator.staging import TURN, Step

if TYPE_CHECKING:
    from tollway.simulator.server import Exchange, Simulator
    from tollway.simulator.websocket import WebSocket

PIPELINED = 32
"""Requests read ahead of the one being answered before reading pauses."""

MAX_BODY = 64 * 1024 * 1024

LOG = logging.getLogger(__name__)

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


class Connection(asyncio.Protocol):
    """Its parser callbacks never raise: what cannot be parsed is answered with 400 and a closed
    connection."""

    __slots__ = (
        "_body",
        "_closing",
        "_due",
        "_exchange",
        "_form",
        "_headers",
        "_loop",
        "_parser",
        "_paused",
        "_place",
        "_queue",
        "_reading",
        "_refused",
        "_simulator",
        "_size",
        "_socket",
        "_steps",
        "_timer",
        "_transport",
        "_url",
        "_waited",
    )

    def __init__(self, simulator: Simulator, loop: asyncio.AbstractEventLoop) -> None:
        self._simulator = simulator
        self._loop = loop
        self._parser = httptools.HttpRequestParser(self)
        self._transport: asyncio.Transport | None = None
        self._url = b""
        self._headers: dict[bytes, bytes] = {}
        self._body: list[bytes] = []
        self._size = 0
        self._form: Reader | None = None
        self._socket: WebSocket | None = None
        self._reading = False
        self._refused = False
        self._queue: deque[Request] = deque()
        self._exchange: Exchange | None = None
        self._steps: list[Step] = []
        self._place = 0
        self._due = 0.0
        self._timer: asyncio.Handle | None = None
        self._waited = False
        self._paused = False
        self._closing = False

    # The transport's side.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        # Low water 0: writing resumes only when every byte has left, which is what "complete" means.
        self._transport.set_write_buffer_limits(high=64 * 1024, low=0)
        self._simulator.connections.add(self)

    def data_received(self, data: bytes) -> None:
        if self._refused:
            return
        if self._socket is not None:
            self._socket.feed(data)
            return
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            if self._speaks_websocket(data[upgrade.args[0] :]):
                return
            # Already answered as an ordinary request; what follows on this connection is not HTTP any more.
            self._stop_reading()
        except httptools.HttpParserCallbackError:
            # A fault of the simulator's own, not of the request: say so on both sides.
            LOG.exception("the simulator failed at a request")
            self._refuse(500, "The simulator failed at this request; its log says how.")
        except httptools.HttpParserError as error:
            self._refuse(400, f"This is not an HTTP request: {error}.")

    def _speaks_websocket(self, data: bytes) -> bool:
        if self._socket is None:
            return False
        self._socket.feed(data)
        return True

    def eof_received(self) -> bool:
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self._simulator.disconnected(self)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._queue.clear()
        if self._socket is not None:
            self._socket.lost()
            self._socket = None
        exchange, self._exchange = self._exchange, None
        if exchange is not None:
            self._simulator.gone(exchange)
        elif self._reading and not self._closing:
            self._simulator.gone_while_reading()
        self._transport = None

    def pause_writing(self) -> None:
        self._paused = True

    def resume_writing(self) -> None:
        self._paused = False
        if self._exchange is not None and self._timer is None:
            self._advance()

    # The parser's side.

    def on_message_begin(self) -> None:
        self._headers = {}
        self._url = b""
        self._reading = True

    def on_url(self, url: bytes) -> None:
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers[name.lower()] = value

    def on_headers_complete(self) -> None:
        declared = self._headers.get(b"content-type")
        if declared is not None and declared[:10].lower() == b"multipart/":
            mark = boundary(declared)
            self._form = None if mark is None else Reader(mark)
        expected = self._headers.get(b"expect")
        if expected is not None and expected.lower() == b"100-continue" and self._exchange is None:
            self._write(CONTINUE)

    def on_body(self, data: bytes) -> None:
        if self._form is not None:
            self._form.feed(data)
            return
        self._size += len(data)
        if self._size <= MAX_BODY:
            self._body.append(data)

    def on_message_complete(self) -> None:
        self._reading = False
        if self._refused:
            return
        body = self._body
        if self._size > MAX_BODY:
            self._refuse(413, f"The request body is larger than {MAX_BODY} bytes.")
            return
        parser = self._parser
        path, _, query = self._url.partition(b"?")
        request = Request(
            parser.get_method(),
            path,
            query,
            self._headers,
            body[0] if len(body) == 1 else b"".join(body),
            parser.should_keep_alive(),
            parser.get_http_version() == "1.0",
        )
        if body:
            self._body = []
            self._size = 0
        if self._form is not None:
            request.form = self._form.finish()
            self._form = None
        if request.headers.get(b"upgrade") is not None and self._upgraded(request):
            return
        if self._exchange is None and not self._queue:
            self._begin(request)
            return
        self._queue.append(request)
        if len(self._queue) == PIPELINED and self._transport is not None:
            self._transport.pause_reading()

    def _upgraded(self, request: Request) -> bool:
        """Whether the connection speaks WebSocket from here on."""
        if request.headers[b"upgrade"].lower() != b"websocket" or self._transport is None:
            return False
        self._socket = self._simulator.socket(request, self._transport)
        return self._socket is not None

    # Playing.

    def _begin(self, request: Request) -> None:
        if self._closing:
            return
        exchange = self._simulator.exchange(request)
        steps = exchange.steps
        if len(steps) == 1 and exchange.end == "keep" and not self._paused and self._transport is not None:
            delay, data, events = steps[0]
            if delay == 0.0:
                # The usual case without the machinery; a pause by this very write is the general one again.
                self._transport.write(data)
                exchange.written = True
                exchange.events = events
                if not self._paused and not self._queue and not self._closing:
                    self._simulator.done(exchange)
                    return
                steps = []
        self._exchange = exchange
        self._steps = steps
        self._place = 0
        self._due = 0.0
        self._advance()

    def _advance(self) -> None:
        exchange = self._exchange
        transport = self._transport
        if exchange is None or transport is None:
            return
        steps = self._steps
        while self._place < len(steps):
            if self._paused:
                return
            delay, data, events = steps[self._place]
            if delay != 0.0 and not self._waited:
                self._wait(delay)
                return
            self._waited = False
            self._place += 1
            if data:
                transport.write(data)
                exchange.written = True
            exchange.events += events
        if exchange.end == "hang":
            return
        if not self._paused:
            self._finish(exchange, transport)

    def _wait(self, delay: float) -> None:
        if delay == TURN:
            self._timer = self._loop.call_soon(self._go_on)
            return
        # Due times add up from the first wait on, so that a pace keeps its average whatever the clock's
        # grain.
        now = self._loop.time()
        self._due = (self._due or now) + delay
        self._timer = self._loop.call_later(max(0.0, self._due - now), self._go_on)

    def _go_on(self) -> None:
        self._timer = None
        self._waited = True
        self._advance()

    def _finish(self, exchange: Exchange, transport: asyncio.Transport) -> None:
        self._exchange = None
        self._simulator.done(exchange)
        if exchange.end == "keep" and not self._closing:
            if self._queue:
                self._loop.call_soon(self._next)
            return
        self._closing = True
        if exchange.end == "reset":
            # Lingering for no time at all makes the close a reset; one turn lets the last bytes leave first.
            self._loop.call_soon(self._reset)
            return
        transport.close()

    def _reset(self) -> None:
        if self._transport is None:
            return
        pseudo = self._transport.get_extra_info("socket")
        pseudo.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._transport.abort()

    def _next(self) -> None:
        if self._exchange is not None or not self._queue or self._transport is None:
            return
        if len(self._queue) == PIPELINED:
            self._transport.resume_reading()
        self._begin(self._queue.popleft())

    def _write(self, data: bytes) -> None:
        if self._transport is not None:
            self._transport.write(data)

    def _refuse(self, status: int, message: str) -> None:
        """Answer what never became a request, unless an earlier one is still being answered, and close."""
        if self._exchange is None and not self._queue:
            self._write(self._simulator.refusal(status, message))
        self._stop_reading()

    def _stop_reading(self) -> None:
        self._refused = True
        self._reading = False
        self._closing = True
        if self._transport is not None and self._exchange is None:
            self._transport.close()

    def abort(self) -> None:
        """The simulator stops."""
        if self._transport is not None:
            self._transport.abort()
