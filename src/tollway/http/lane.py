"""The fast lane: model endpoints served straight from the HTTP parser, under uvicorn's server.

It takes plain requests with a content-length. Anything else (another path, chunked or awaited bodies, HTTP/1.0)
hands its connection to uvicorn's own protocol (``visitor.py``) and so to the ASGI door, which walks the same hallway;
the connection comes back when that request is answered. Deadlines of all connections are looked at by one timer.
"""

from __future__ import annotations

import asyncio
import http as http_status
from contextlib import suppress
from typing import Any, Protocol, cast

import httptools
from uvicorn.config import Config
from uvicorn.server import ServerState

from tollway.config.settings import ServerSettings
from tollway.errors import BadRequest, GatewayError, HeadersTooLarge, RequestTimeout, RequestTooLarge
from tollway.http.doorway import BODY_RATE, Handler, RequestIds, not_http, walk
from tollway.http.endpoints import LANE_LINES, Endpoint
from tollway.http.errors import refusal
from tollway.http.hangups import Hangups
from tollway.http.visitor import Visitor
from tollway.pipeline.authenticate import ALL_CREDENTIAL_HEADERS
from tollway.pipeline.client import Caller, ModelRequest
from tollway.pipeline.services import Services

SWEEP = 0.5
WAITING_LIMIT = 64 * 1024
"""Bytes of further requests kept while one is served; more stops reading from that connection."""

READER_STEP = 16 * 1024
"""Bytes a client must take of what waits for it within ``write_timeout``, else it counts as gone."""

# Waiting for a head, for a body, for the hallway, for the client to read, for a refused client to hang up.
_IDLE, _BODY, _BUSY, _SENDING, _ENDING = range(5)
_FOREVER = float("inf")


def _status_line(status: int) -> bytes:
    try:
        phrase = http_status.HTTPStatus(status).phrase
    except ValueError:
        phrase = ""
    return f"HTTP/1.1 {status} {phrase}\r\n".encode()


_STATUS = {status: _status_line(status) for status in range(100, 600)}
_SIZES = [b"%x\r\n" % size for size in range(1024)]
"""How a chunk of that size begins."""


class Watched(Protocol):
    """A connection the timer looks at."""

    deadline: float

    def expired(self, now: float) -> None: ...

    def break_off(self) -> None: ...


class Lane:
    """What the connections of one server share."""

    def __init__(self, app: Services, handler: Handler, settings: ServerSettings, ids: RequestIds) -> None:
        self.app = app
        self.handler = handler
        self.settings = settings
        self.ids = ids
        self.loop = asyncio.get_running_loop()
        self.hangups = Hangups(self.loop)
        self.connections: set[Watched] = set()
        self._common_of: object = None
        self._common = b""
        self._timer: asyncio.TimerHandle | None = None

    def protocol(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> asyncio.Protocol:
        """The factory uvicorn is given as its HTTP protocol."""
        return LaneConnection(self, config, server_state, app_state)

    def common(self, state: ServerState) -> bytes:
        """The headers uvicorn puts on every answer (date), as lines; it makes a new list of them once a second."""
        headers = state.default_headers
        if headers is not self._common_of:
            self._common_of = headers
            self._common = b"".join(name + b": " + value + b"\r\n" for name, value in headers)
        return self._common

    def joined(self, connection: Watched) -> None:
        self.connections.add(connection)
        if self._timer is None:
            self._timer = self.loop.call_later(SWEEP, self._sweep)

    def _sweep(self) -> None:
        now = self.loop.time()
        for connection in [c for c in self.connections if c.deadline <= now]:
            connection.expired(now)
        self._timer = self.loop.call_later(SWEEP, self._sweep) if self.connections else None

    def close(self) -> None:
        """Cut every connection that is left: the grace of a stop is over."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for connection in list(self.connections):
            connection.break_off()


_NOBODY = asyncio.Protocol()


class LaneConnection(asyncio.Protocol):
    """One client connection; while a request is served it is the ``Client`` of the hallway."""

    def __init__(self, lane: Lane, config: Config, state: ServerState, app_state: dict[str, Any]) -> None:
        self.lane = lane
        self.config = config
        self.state = state
        self.app_state = app_state
        self.transport: asyncio.Transport = cast(asyncio.Transport, None)
        self.begun = False
        self.congested = False
        self.trailers = False
        self.deadline = _FOREVER
        self._phase = _IDLE
        self._buffer = b""
        self._arrived = bytearray()
        self._size = 0
        self._patience = 0.0
        self._unsent = 0
        self._reading = True
        self._keep_alive = True
        self._known: Head | None = None
        self._awaiting_head = False
        self._task: asyncio.Task[None] | None = None
        self._drained: asyncio.Future[None] | None = None
        self._closing = False

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        if len(self.state.connections) >= self.lane.settings.max_connections:
            self.transport.close()
            return
        self.state.connections.add(self)  # type: ignore[arg-type]
        self.lane.joined(self)
        self.deadline = self.lane.loop.time() + self.lane.settings.keep_alive

    def connection_lost(self, exc: Exception | None) -> None:
        self.transport.set_protocol(
            _NOBODY
        )  # else only the garbage collector would end that each holds the other
        self._leave()
        self.lane.hangups.forget(self.transport)
        self._closing = True
        if self._drained is not None and not self._drained.done():
            self._drained.set_result(None)
        task = self._task
        if task is not None:
            task.cancel()  # the client is gone: the hallway lets go of the provider at once

    def eof_received(self) -> None:
        return None

    def _leave(self) -> None:
        self.state.connections.discard(self)
        self.lane.connections.discard(self)

    def data_received(self, data: bytes) -> None:
        phase = self._phase
        if phase == _IDLE:
            self._buffer = self._buffer + data if self._buffer else data
            self._head()
        elif phase == _BODY:
            self._body(data)
        elif phase != _ENDING:
            self._buffer += data
            if len(self._buffer) > WAITING_LIMIT and self._reading:
                self._reading = False
                self.transport.pause_reading()
                self.lane.hangups.watch(self.transport)

    def pause_writing(self) -> None:
        self.congested = True

    def resume_writing(self) -> None:
        self.congested = False
        if self._drained is not None and not self._drained.done():
            self._drained.set_result(None)
        if self._phase == _SENDING and not self._closing:
            self._next()

    def shutdown(self) -> None:
        """uvicorn asks for a graceful end: finish the running request, then close."""
        self._keep_alive = False
        if self._phase != _BUSY:
            self._shut()

    # Reading a request.

    def _head(self) -> None:
        buffer = self._buffer
        known = self._known
        if known is not None and buffer.startswith(known.before):
            # The same head as last time on this connection, save for the length: parsed already.
            at = len(known.before)
            digits_end = buffer.find(b"\r\n", at, at + 16)
            after = known.after
            if digits_end > at and buffer.startswith(after, digits_end) and buffer[at:digits_end].isdigit():
                known.headers[b"content-length"] = buffer[at:digits_end]
                self._take(known, digits_end + len(after), int(buffer[at:digits_end]))
                return
        settings = self.lane.settings
        if buffer[:2] == b"\r\n":  # RFC 9112 section 2.2: an empty line before a request is ignored
            self._buffer = buffer = buffer.lstrip(b"\r\n")
        end = buffer.find(b"\r\n\r\n") + 4
        if end > settings.max_header or (end < 4 and len(buffer) > settings.max_header):
            self._reject(
                HeadersTooLarge(f"The request's headers are larger than {settings.max_header} bytes.")
            )
            return
        if end < 4:
            if buffer and not self._awaiting_head:
                self._awaiting_head = True
                self.deadline = self.lane.loop.time() + settings.header_timeout
            return
        self._awaiting_head = False
        line = buffer[: buffer.find(b"\r\n")]
        endpoint = LANE_LINES.get(line[:-9]) if line.endswith(b" HTTP/1.1") else None
        if endpoint is None:
            self._hand_over()
            return
        try:
            known = parse_head(buffer[:end], endpoint)
        except httptools.HttpParserError as error:
            self._reject(not_http(error))
            return
        except BadRequest as error:
            self._reject(error)
            return
        headers = known.headers
        if b"transfer-encoding" in headers or b"expect" in headers:
            self._hand_over()
            return
        self._known = known
        self._take(known, end, int(headers.get(b"content-length", b"0")))

    def _take(self, head: Head, end: int, size: int) -> None:
        """Go on with the body of a request whose head ends at ``end``."""
        settings = self.lane.settings
        if size > settings.max_body:
            self._reject(_too_large(settings.max_body))
            return
        if not head.keep_alive:
            self._keep_alive = False
        buffer = self._buffer
        got = len(buffer) - end
        if got == size:
            self._buffer = b""
            self._serve(head, buffer[end:])
        elif got > size:
            self._buffer = buffer[end + size :]
            self._serve(head, buffer[end : end + size])
        else:
            self._buffer = b""
            self._phase = _BODY
            self._arrived = bytearray(buffer[end:])
            self._size = size
            self.deadline = self._patience = self.lane.loop.time() + settings.body_timeout

    def _body(self, data: bytes) -> None:
        arrived = self._arrived
        arrived += data
        size = self._size
        if len(arrived) < size:
            silent = self.lane.loop.time() + self.lane.settings.body_timeout
            self.deadline = min(silent, self._patience + len(arrived) / BODY_RATE)
            return
        if len(arrived) > size:
            self._buffer = bytes(arrived[size:])
            del arrived[size:]
        body = bytes(arrived)
        self._arrived = bytearray()
        head = self._known
        if head is not None:
            self._serve(head, body)

    def _serve(self, head: Head, body: bytes) -> None:
        lane = self.lane
        self._phase = _BUSY
        self.deadline = _FOREVER
        self.state.total_requests += 1
        self.begun = False
        self.trailers = head.trailers
        request = ModelRequest(
            endpoint=head.endpoint.name,
            headers=head.headers,
            body=body,
            id=lane.ids.next(),
            started=lane.app.clock(),
            repeated=head.repeated,
            caller=head.caller,
            dialect=head.endpoint.dialect,
        )
        self._task = lane.loop.create_task(walk(lane.handler, request, self, lane.app, self._answered))

    def _answered(self) -> None:
        self._task = None
        if not self._closing:
            self._next()

    def _next(self) -> None:
        """The request is answered: close, or go on with what has been sent meanwhile."""
        if not self._keep_alive:
            self._shut()
            return
        if self.congested:
            # Not before the client has taken its answer: it could make us keep answers without end.
            self._phase = _SENDING
            self._await_reader()
            return
        self._phase = _IDLE
        self._awaiting_head = False
        self.deadline = self.lane.loop.time() + self.lane.settings.keep_alive
        if not self._reading:
            self._reading = True
            self.lane.hangups.forget(self.transport)
            self.transport.resume_reading()
        if self._buffer:
            self.lane.loop.call_soon(self._again)

    def _again(self) -> None:
        if self._phase == _IDLE and self._buffer and not self._closing:
            self._head()

    def _shut(self) -> None:
        self._closing = True
        self._await_reader()
        self.transport.close()

    def _await_reader(self) -> None:
        self._unsent = self.transport.get_write_buffer_size()
        self.deadline = self.lane.loop.time() + self.lane.settings.write_timeout

    def expired(self, now: float) -> None:
        """A deadline has passed: of a head, a body, an idle connection, or of a client that does not read."""
        if self._closing or self.congested:
            if 0 < self.transport.get_write_buffer_size() <= self._unsent - READER_STEP:
                self._await_reader()
            else:
                self.break_off()
        elif self._phase == _BODY:
            self._reject(RequestTimeout("The request's body did not arrive in time."), linger=False)
        elif self._phase == _IDLE and self._buffer:
            self._reject(RequestTimeout("The request's headers did not arrive in time."), linger=False)
        elif self._phase == _IDLE:
            self._shut()

    def _reject(self, error: GatewayError, *, linger: bool = True) -> None:
        """Refuse before the hallway: what follows on this connection cannot be trusted to be a request.

        To ``linger`` is to end our side and drop for a while what the client still sends. Closing at once would reset
        the connection, and a client in the middle of a large body would never read why.
        """
        self.begun = False
        self._keep_alive = False
        self.lane.app.tally.refuse(error.error_code)
        status, headers, body = refusal(error, self.lane.ids.next())
        self.respond(status, headers, body)
        self._buffer = b""
        self._arrived = bytearray()
        self._phase = _ENDING
        if linger and self.transport.can_write_eof():
            self._closing = True
            self._unsent = 0
            self.deadline = self.lane.loop.time() + self.lane.settings.body_timeout
            self.transport.write_eof()
        else:
            self._shut()

    def _hand_over(self) -> None:
        """Give the connection, with all it has sent, to uvicorn's own protocol."""
        data, self._buffer = self._buffer, b""
        self._leave()
        self.deadline = _FOREVER
        other = Visitor(self)
        self.transport.set_protocol(other)
        other.connection_made(self.transport)
        self.lane.joined(other)
        other.data_received(data)

    def take_back(self, congested: bool) -> None:
        """The ASGI door has answered and nothing more has been sent: the lane reads on."""
        self.transport.set_protocol(self)
        self.state.connections.add(self)  # type: ignore[arg-type]
        self.lane.joined(self)
        self.congested = congested
        self._next()

    # The hallway's Client.

    def respond(self, status: int, headers: bytes, body: bytes) -> None:
        self.begun = True
        length = str(len(body)).encode()
        if not self._keep_alive:
            headers += b"connection: close\r\n"
        common = self.lane.common(self.state)
        self.transport.write(
            b"".join((_STATUS[status], common, headers, b"content-length: ", length, b"\r\n\r\n", body))
        )

    def start(self, status: int, headers: bytes, data: bytes) -> None:
        self.begun = True
        closing = b"" if self._keep_alive else b"connection: close\r\n"
        first = b"%x\r\n%b\r\n" % (len(data), data) if data else b""
        self.transport.write(
            b"%b%b%b%btransfer-encoding: chunked\r\n\r\n%b"
            % (_STATUS[status], self.lane.common(self.state), headers, closing, first)
        )

    def send(self, data: bytes) -> None:
        size = len(data)
        head = _SIZES[size] if size < 1024 else b"%x\r\n" % size
        self.transport.write(b"".join((head, data, b"\r\n")))

    async def drain(self) -> None:
        if not self.congested:
            return
        drained = self._drained = self.lane.loop.create_future()
        try:
            async with asyncio.timeout(self.lane.settings.write_timeout):
                await drained
        except TimeoutError:
            self.break_off()  # connection_lost cancels the task; wait for that instead of writing on
            await asyncio.sleep(1)
        finally:
            self._drained = None

    def finish(self, data: bytes, trailers: bytes = b"") -> None:
        last = b"%x\r\n%b\r\n" % (len(data), data) if data else b""
        self.transport.write(b"%b0\r\n%b\r\n" % (last, trailers))

    def break_off(self) -> None:
        self._keep_alive = False
        self._closing = True
        self.transport.abort()


class Head:
    """A request's head as parsed. ``before`` and ``after`` are its bytes around the digits of content-length; a later
    request with the same bytes there has the same head. ``repeated``: a credential came twice, differently."""

    __slots__ = ("after", "before", "caller", "endpoint", "headers", "keep_alive", "repeated", "trailers")

    def __init__(
        self, endpoint: Endpoint, headers: dict[bytes, bytes], repeated: bool, before: bytes, after: bytes
    ) -> None:
        self.endpoint = endpoint
        self.headers = headers
        self.caller = Caller()
        self.repeated = repeated
        self.before = before
        self.after = after
        self.keep_alive = b"close" not in headers.get(b"connection", b"").lower()
        self.trailers = b"trailers" in headers.get(b"te", b"").lower()


class _Headers:
    """Collects the headers of one head for httptools."""

    __slots__ = ("pairs",)

    def __init__(self) -> None:
        self.pairs: list[tuple[bytes, bytes]] = []

    def on_header(self, name: bytes, value: bytes) -> None:
        self.pairs.append((name.lower(), value.rstrip(b" \t")))


def parse_head(head: bytes, endpoint: Endpoint) -> Head:
    """Raises httptools' errors for what is not HTTP, BadRequest for a head that could be read in two ways."""
    collected = _Headers()
    with suppress(
        httptools.HttpParserUpgrade
    ):  # raised once all headers are read; an offer that may be ignored
        httptools.HttpRequestParser(collected).feed_data(head)
    headers: dict[bytes, bytes] = {}
    repeated = False
    for name, value in collected.pairs:
        if name in headers:
            if name in (b"content-length", b"host", b"transfer-encoding"):
                raise BadRequest(f"The request repeats its {name.decode()} header.")
            if name in ALL_CREDENTIAL_HEADERS and value != headers[name]:
                repeated = True
            elif name in (b"connection", b"te"):
                value = headers[name] + b", " + value
        headers[name] = value
    length = headers.get(b"content-length")
    # Without a length a head is never taken for known: NUL does not follow digits and a line's end.
    before, after = head, b"\0"
    if length is not None:
        if b"transfer-encoding" in headers:
            raise BadRequest("The request has both content-length and transfer-encoding. Send one.")
        if not length.isdigit() or len(length) > 15:
            raise BadRequest("The request's content-length is not a number.")
        at = head.lower().find(b"\r\ncontent-length:") + len(b"\r\ncontent-length:")
        at = head.find(length, at)
        before, after = head[:at], head[at + len(length) :]
    return Head(endpoint, headers, repeated, before, after)


def _too_large(limit: int) -> RequestTooLarge:
    return RequestTooLarge(f"The request's body is larger than {limit} bytes, the most this gateway takes.")
