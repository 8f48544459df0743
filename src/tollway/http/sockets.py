"""WebSockets at the door: the client's side of a session over ASGI, and the protocol that serves upgraded connections.

Text and binary messages, close codes and back-pressure; compression is off, pings are the server's affair.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from tollway.errors import RequestTooLarge
from tollway.http.hangups import Hangups
from tollway.providers.websocket import LOST, NO_CODE, SocketClosed

Message = MutableMapping[str, Any]

_quiet = logging.getLogger("uvicorn.error.websockets")
_quiet.setLevel(logging.WARNING)  # below, uvicorn writes a handshake's query, which may hold a key

LINGER = 15.0
"""Seconds after a session in which a client may take what was sent; then its connection is cut."""


class AsgiSocket:
    """The ``ClientSocket`` of ``pipeline/session.py``. ``refusing`` stands in for ``send`` while it is not accepted:
    an HTTP answer in place of the socket, where the server can send one."""

    def __init__(
        self,
        scope: MutableMapping[str, Any],
        receive: Callable[[], Awaitable[Message]],
        send: Callable[[Message], Awaitable[None]],
        max_message: int,
    ) -> None:
        self.protocols: list[str] = list(scope.get("subprotocols", ()))
        self.accepted = False
        self.closed = False
        self._receive = receive
        self._send = send
        self._limit = max_message
        self._denies = "websocket.http.response" in (scope.get("extensions") or {})

    async def accept(self, subprotocol: str | None, headers: bytes) -> None:
        pairs = [
            (name, value)
            for name, _, value in (line.partition(b": ") for line in headers.split(b"\r\n") if line)
        ]
        await self._put({"type": "websocket.accept", "subprotocol": subprotocol, "headers": pairs})
        self.accepted = True

    async def receive(self) -> str | bytes:
        message = await self._receive()
        if message["type"] == "websocket.disconnect":
            self.closed = True
            code = message.get("code") or NO_CODE
            raise SocketClosed(code, message.get("reason") or "", told=code != LOST)
        text: str | None = message.get("text")
        data: bytes | None = message.get("bytes")
        if text is not None:
            if len(text) > self._limit or (len(text) * 4 > self._limit and len(text.encode()) > self._limit):
                raise self._too_large()
            return text
        if data is None:
            return b""
        if len(data) > self._limit:
            raise self._too_large()
        return data

    async def send(self, message: str | bytes) -> None:
        if isinstance(message, str):
            await self._put({"type": "websocket.send", "text": message})
        else:
            await self._put({"type": "websocket.send", "bytes": message})

    async def close(self, code: int, reason: str) -> None:
        if not self.closed:
            self.closed = True
            await self._put({"type": "websocket.close", "code": code, "reason": reason})

    async def refusing(self, message: Message) -> None:
        """An ``http.response`` message as the answer to the handshake."""
        if self._denies:
            await self._put({**message, "type": "websocket." + message["type"]})
        elif message["type"] == "http.response.start":
            await self.close(1008, "")  # before it is accepted servers make a 403 of it

    async def _put(self, message: Message) -> None:
        try:
            await self._send(message)
        except (OSError, RuntimeError):
            # Servers raise the one when the client has gone, and the other when they have closed on their own, as
            # after a message that was too large.
            raise SocketClosed(LOST, told=False) from None

    def _too_large(self) -> RequestTooLarge:
        return RequestTooLarge(f"A message is larger than {self._limit} bytes, the most this gateway takes.")


class Upgraded(WebSocketsSansIOProtocol):
    """uvicorn's protocol, with what it leaves to chance: a client that leaves while nothing is read from it, and one
    that does not read when all is said. ``hangups`` is set by whoever hands the connection over."""

    hangups: Hangups | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.logger = _quiet
        super().connection_made(transport)

    def send_receive_event_to_app(self) -> None:
        super().send_receive_event_to_app()
        if self.read_paused and self.hangups is not None:
            self.hangups.watch(self.transport)

    async def receive(self) -> Any:
        message = await super().receive()
        if not self.read_paused and self.hangups is not None:
            self.hangups.forget(self.transport)
        return message

    def keepalive_timeout(self) -> None:
        super().keepalive_timeout()
        self.transport.abort()  # what waits for it would keep the connection for ever

    def connection_lost(self, exc: Exception | None) -> None:
        if self.hangups is not None:
            self.hangups.forget(self.transport)
        super().connection_lost(exc)

    async def run_asgi(self) -> None:
        try:
            await super().run_asgi()
        finally:
            asyncio.get_running_loop().call_later(LINGER, self.transport.abort)
