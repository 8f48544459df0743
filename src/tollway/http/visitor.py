"""uvicorn's HTTP protocol as a guest of the fast lane: it serves one request and gives the connection back.

What uvicorn leaves to chance is bounded here: how long and how large a head may be that follows another request,
trailers, a body nobody reads any more, and a client that does not take its answer.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from tollway.errors import GatewayError, HeadersTooLarge, RequestTimeout
from tollway.http.doorway import not_http
from tollway.http.endpoints import SOCKET_PATHS
from tollway.http.errors import refusal
from tollway.http.hangups import Hangups
from tollway.http.incoming import HANGUP
from tollway.http.sockets import Upgraded

if TYPE_CHECKING:
    from uvicorn._types import ASGI3Application, ASGIReceiveCallable, ASGISendCallable, ASGISendEvent, Scope

    from tollway.http.lane import LaneConnection

_FOREVER = float("inf")


class _Flow(FlowControl):
    """uvicorn reads nothing while a pipelined request waits; the client may leave all the same."""

    def __init__(self, transport: asyncio.Transport, hangups: Hangups) -> None:
        super().__init__(transport)
        self._hangups = hangups

    def pause_reading(self) -> None:
        if not self.read_paused:
            self._hangups.watch(self._transport)
        super().pause_reading()

    def resume_reading(self) -> None:
        if self.read_paused:
            self._hangups.forget(self._transport)
        super().resume_reading()


def _unchunked(cycle: RequestResponseCycle, app: ASGI3Application) -> ASGI3Application:
    """HTTP/1.0 knows no chunks, which uvicorn writes all the same: an answer without a length ends with the
    connection."""

    async def run(scope: Scope, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
        endless = False

        async def send_plain(message: ASGISendEvent) -> None:
            nonlocal endless
            if message["type"] == "http.response.start":
                endless = all(name.lower() != b"content-length" for name, _ in message.get("headers", ()))
                if endless:
                    cycle.chunked_encoding = cycle.keep_alive = False
            elif message["type"] == "http.response.body" and endless:
                cycle.expected_content_length = len(message.get("body", b""))
            await send(message)

        await app(scope, receive, send_plain)

    return run


class Visitor(HttpToolsProtocol):
    """``deadline`` lies in the past so that the lane's timer looks here each time."""

    deadline = 0.0

    def __init__(self, origin: LaneConnection) -> None:
        super().__init__(origin.config, origin.state, origin.app_state, origin.lane.loop)
        self._origin = origin
        self._lane = origin.lane
        self._running: RequestResponseCycle | None = None
        self._message_open = False
        self._head_open = False
        self._progress = 0
        self._without_progress = 0
        self._late_at = _FOREVER
        self._cut_at = _FOREVER
        self._hangup: list[Callable[[], object]] = []

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.flow = _Flow(transport, self._lane.hangups)

    # What arrives.

    def on_message_begin(self) -> None:
        self._message_open = self._head_open = True
        self._late_at = self.loop.time() + self._lane.settings.header_timeout
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        super().on_headers_complete()  # raises for a target that is none; then there is no cycle for this head
        self._head_open = False
        self._late_at = _FOREVER
        self._progress += 1

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        self._running = cycle
        self._hangup = []
        cycle.scope["extensions"] = {HANGUP: self._hangup}  # type: ignore[dict-item]
        super()._start_asgi_task(
            cycle, _unchunked(cycle, app) if cycle.scope["http_version"] == "1.0" else app
        )

    def on_body(self, body: bytes) -> None:
        self._progress += 1
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._message_open = False
        self._late_at = _FOREVER
        self._progress += 1
        super().on_message_complete()

    def data_received(self, data: bytes) -> None:
        before = self._progress
        super().data_received(data)
        if self._progress != before:
            self._without_progress = 0
            return
        # Neither a whole head nor a byte of body: more of a head, or of trailers, which the parser keeps.
        self._without_progress += len(data)
        limit = self._lane.settings.max_header
        if self._without_progress > limit and not self.transport.is_closing():
            self._refuse(HeadersTooLarge(f"The request's headers are larger than {limit} bytes."))

    def send_400_response(self, msg: str) -> None:
        error = sys.exception()
        self._refuse(not_http(error if isinstance(error, Exception) else ValueError(msg)))

    def _should_upgrade(self) -> bool:
        """Only where there is a WebSocket and the handshake is one: anything else is answered in HTTP."""
        if self.scope["method"] != "GET" or self.url.partition(b"?")[0] not in SOCKET_PATHS:
            return False
        free = self.cycle is None or self.cycle.response_complete
        told = dict(self.headers)
        whole = told.get(b"sec-websocket-version") == b"13" and b"sec-websocket-key" in told
        return free and whole and super()._should_upgrade()

    def handle_websocket_upgrade(self) -> None:
        """The connection becomes a WebSocket's and does not come back."""
        self._lane.connections.discard(self)
        self._lane.hangups.forget(self.transport)
        super().handle_websocket_upgrade()
        other = self.transport.get_protocol()
        if isinstance(other, Upgraded):
            other.hangups = self._lane.hangups

    def _unsupported_upgrade_warning(self) -> None:
        """An offer to upgrade may be ignored (RFC 9110 section 7.8) and is nothing to warn of."""

    def _refuse(self, error: GatewayError) -> None:
        """Answer what cannot be read, unless an answer is on its way: then that one is the last."""
        cycle = self.cycle
        running = cycle is not None and not cycle.response_complete
        of_cycle = self._message_open and not self._head_open
        if running and not of_cycle:
            cycle.keep_alive = False
            return
        if of_cycle:
            if not running or cycle.response_started or self.pipeline:
                self.transport.close()
                return
            cycle.disconnected = True
            cycle.message_event.set()
        self._lane.app.tally.refuse(error.error_code)
        status, headers, body = refusal(error, self._lane.ids.next())
        self.transport.write(
            b"%b%b%bcontent-length: %d\r\nconnection: close\r\n\r\n%b"
            % (STATUS_LINE[status], self._lane.common(self.server_state), headers, len(body), body)
        )
        self.transport.close()

    # What is over.

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._unset_keepalive_if_required()  # deadlines are the lane's, or those below
        if self.pipeline or self.transport.is_closing() or self.cycle is None:
            return
        if self._message_open:
            if not self._head_open:  # answered before its body was read: the rest is dropped, for a while
                self._late_at = self.loop.time() + self._lane.settings.body_timeout
            return
        if not self.cycle.response_complete:
            return
        self.connections.discard(self)
        self._lane.connections.discard(self)
        self._origin.take_back(congested=self.flow.write_paused)

    def connection_lost(self, exc: Exception | None) -> None:
        self._lane.connections.discard(self)
        self._lane.hangups.forget(self.transport)
        super().connection_lost(exc)
        running = self._running
        if running is not None and not running.response_complete:
            # uvicorn tells the last request that was read, not the one that is being answered.
            running.disconnected = True
            running.message_event.set()
            for tell in list(self._hangup):
                tell()

    def expired(self, now: float) -> None:
        if self.transport.is_closing():
            self._cut_at = min(self._cut_at, now + self._lane.settings.write_timeout)
            if now >= self._cut_at:
                self.break_off()
        elif now >= self._late_at:
            self._late_at = _FOREVER
            if self._head_open:
                self._refuse(RequestTimeout("The request's headers did not arrive in time."))
            else:
                self.transport.close()

    def break_off(self) -> None:
        self.transport.abort()
