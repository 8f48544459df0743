"""A WebSocket on a connection that began as HTTP: frames in and out, paced, on the library's own protocol.

What is said is a Session's affair; this file knows frames and the loop's timers alone.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable

from websockets.frames import CloseCode, Frame, Opcode
from websockets.http11 import Request as Handshake
from websockets.protocol import OPEN
from websockets.server import ServerProtocol
from websockets.typing import Subprotocol

from tollway.simulator.answer import Request
from tollway.simulator.message import Message, Session

LARGEST_MESSAGE = 16 * 1024 * 1024


class WebSocket:
    """``feed`` gets every byte after the handshake; ``lost`` says that the connection is gone."""

    def __init__(
        self,
        request: Request,
        transport: asyncio.Transport,
        loop: asyncio.AbstractEventLoop,
        session: Session,
        subprotocols: list[str],
    ) -> None:
        self._transport = transport
        self._loop = loop
        self._session = session
        self._waiting: deque[Message] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self._partial: list[bytes] = []
        self._text = True
        self._ended = False
        offered = request.headers.get(b"sec-websocket-protocol", b"").decode("latin-1")
        known = [
            Subprotocol(name) for name in subprotocols if name in (one.strip() for one in offered.split(","))
        ]
        self._protocol = ServerProtocol(
            # A client that offers nothing we know is served without one, as the vendor does.
            subprotocols=None,
            select_subprotocol=lambda _protocol, _offered: known[0] if known else None,
            max_size=LARGEST_MESSAGE,
        )
        self._protocol.receive_data(_raw(request))
        for event in self._protocol.events_received():
            if isinstance(event, Handshake):
                self._protocol.send_response(self._protocol.accept(event))
        self._flush()
        if self._protocol.state is OPEN:
            self._say(session.opened())

    def feed(self, data: bytes) -> None:
        self._protocol.receive_data(data)
        for event in self._protocol.events_received():
            if isinstance(event, Frame):
                self._frame(event)
        self._flush()

    def lost(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if not self._ended:
            self._ended = True
            self._session.lost()

    def _frame(self, frame: Frame) -> None:
        if frame.opcode is Opcode.CLOSE:
            self.lost()
            return
        if frame.opcode not in (Opcode.TEXT, Opcode.BINARY, Opcode.CONT):
            return
        if frame.opcode is not Opcode.CONT:
            self._partial = []
            self._text = frame.opcode is Opcode.TEXT
        self._partial.append(bytes(frame.data))
        if not frame.fin:
            return
        whole = b"".join(self._partial)
        self._partial = []
        try:
            heard = whole.decode() if self._text else whole
        except UnicodeDecodeError:
            self._protocol.fail(CloseCode.INVALID_DATA, "invalid UTF-8")
            return
        self._say(self._session.heard(heard, self._waiting))

    def _say(self, messages: Iterable[Message]) -> None:
        self._waiting.extend(messages)
        if self._timer is not None and self._waiting and not self._waiting[0].delay:
            # Something was put before what is paced; the pause begins anew behind it.
            self._timer.cancel()
            self._timer = None
        if self._timer is None:
            self._go_on()

    def _go_on(self, due: bool = False) -> None:
        """Send what may go now; ``due`` says that the first message has waited."""
        self._timer = None
        while self._waiting and not self._ended:
            message = self._waiting[0]
            if message.delay and not due:
                self._timer = self._loop.call_later(message.delay, self._go_on, True)
                break
            due = False
            self._waiting.popleft()
            if message.break_off:
                self._flush()
                self._transport.close()
                return
            if self._protocol.state is not OPEN:
                break
            if message.text:
                self._protocol.send_text(message.text.encode())
            if message.sent is not None:
                message.sent()
            if message.end:
                self._protocol.send_close(CloseCode.NORMAL_CLOSURE)
        self._flush()

    def _flush(self) -> None:
        for data in self._protocol.data_to_send():
            if data:
                self._transport.write(data)
        if self._protocol.close_expected():
            self._transport.close()


def _raw(request: Request) -> bytes:
    """The handshake as it came; the library reads its own."""
    target = request.path + (b"?" + request.query if request.query else b"")
    lines = b"".join(b"%b: %b\r\n" % (name, value) for name, value in request.headers.items())
    return b"GET %b HTTP/1.1\r\n%b\r\n" % (target, lines)
