"""One open realtime session: two tasks that each relay one way, two clocks, and what both sides are told at the end.

Every message of the client's is read before it is sent, since it may name a model; of the provider's only what money
and models need. Whoever is slow slows the other side down, and whoever leaves takes the other one along.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Mapping
from typing import Any, Protocol

from msgspec import Raw, Struct

from tollway.errors import (
    GatewayError,
    InternalError,
    InvalidKey,
    RateLimitExceeded,
    RequestTooLarge,
    SessionExpired,
    StoreUnavailable,
    UpstreamError,
    UpstreamMalformed,
)
from tollway.pipeline.authenticate import admit
from tollway.pipeline.client_secrets import Bound
from tollway.pipeline.grant import Grant
from tollway.pipeline.resolve import Call
from tollway.pipeline.services import Services
from tollway.pipeline.session_account import OPENED, SessionAccount
from tollway.pipeline.session_models import SessionModels
from tollway.pipeline.snapshot import Snapshot
from tollway.providers.websocket import LOST, SocketClosed, UpstreamSocket
from tollway.wire import body
from tollway.wire.formats import openai_realtime as wire

_SENDABLE = frozenset((1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014))


class ClientSocket(Protocol):
    """The client's side of a session, made by the door. ``receive`` and ``send`` raise SocketClosed."""

    protocols: list[str]

    async def accept(self, subprotocol: str | None, headers: bytes) -> None: ...

    async def receive(self) -> str | bytes:
        """Also raises RequestTooLarge."""

    async def send(self, message: str | bytes) -> None: ...

    async def close(self, code: int, reason: str) -> None: ...


class Caller(Struct, frozen=True):
    """Who connects: ``key`` is the digest of the key's value, ``bound`` what a client secret stands for."""

    grant: Grant
    key: bytes | None
    bound: Bound | None


def grant_of(key: bytes | None, snapshot: Snapshot, now: float) -> Grant:
    """What a key may do now. Raises InvalidKey when it is gone."""
    grant = snapshot.grant(key) if key is not None else None
    if grant is None and not snapshot.settings.require_key:
        return snapshot.anonymous
    if grant is None:
        raise InvalidKey("The key is not known here any more. Ask an administrator for a new one.")
    admit(grant, now)
    return grant


class Ending(Struct, frozen=True):
    """How a session ended: ``by`` whom, with which code and words; ``error`` where the gateway ended it."""

    by: str
    code: int
    reason: str
    error: GatewayError | None = None


class Session:
    """One open session: two tasks that each relay one way, and two clocks."""

    def __init__(
        self,
        call: Call,
        caller: Caller,
        models: SessionModels,
        account: SessionAccount,
        socket: ClientSocket,
        upstream: UpstreamSocket,
        app: Services,
    ) -> None:
        self._call = call
        self._caller = caller
        self._models = models
        self._account = account
        self._socket = socket
        self._upstream = upstream
        self._app = app
        self._snapshot = app.snapshot
        self._settings = app.snapshot.settings.server
        self._target = models.target
        self._speed = wire.BYTES_A_SECOND
        self._events = 0
        self._last = app.clock()

    async def run(self, first: asyncio.Task[str | bytes]) -> None:
        loop = asyncio.get_running_loop()
        listening = loop.create_task(self._ended(self._from_client(first)))
        telling = loop.create_task(self._ended(self._from_provider()))
        ending = Ending("gateway", 1011, "internal_error", InternalError("The gateway failed."))
        try:
            ending = await self._watch(listening, telling)
        except asyncio.CancelledError:
            ending = Ending("gateway", 1012, "shutting down")
            raise
        finally:
            listening.cancel()
            telling.cancel()
            self._settle(ending)
            try:
                await asyncio.wait((listening, telling))
                await self._close(ending)
            finally:
                self._upstream.abort()

    async def _watch(self, *tasks: asyncio.Task[Ending]) -> Ending:
        """The first ending of either way, or a clock's."""
        clock = self._app.clock
        settings = self._settings
        total_at = clock() + settings.session_total
        while True:
            due = min(total_at, self._last + settings.session_idle)
            done, _ = await asyncio.wait(
                tasks, timeout=max(due - clock(), 0.001), return_when=asyncio.FIRST_COMPLETED
            )
            for task in done:
                return task.result()
            now = clock()
            if now >= total_at:
                words = f"The session has reached its longest duration of {settings.session_total:g} s."
                return _ended_by(SessionExpired(words))
            if now >= self._last + settings.session_idle:
                words = f"Nothing was said in this session for {settings.session_idle:g} s."
                return _ended_by(SessionExpired(words))

    async def _ended(self, relaying: Coroutine[Any, Any, Ending]) -> Ending:
        try:
            return await relaying
        except GatewayError as error:
            return _ended_by(error)

    # From the client to the provider.

    async def _from_client(self, first: asyncio.Task[str | bytes]) -> Ending:
        pending: asyncio.Task[str | bytes] | None = first
        try:
            while True:
                try:
                    message = await (pending if pending is not None else self._socket.receive())
                except SocketClosed as closed:
                    return Ending("client", closed.code, closed.reason)
                pending = None
                self._heard_from()
                judged = await self._judge(message)
                if judged is None:
                    continue
                try:
                    async with asyncio.timeout(self._settings.write_timeout):
                        await self._upstream.send(judged)
                except SocketClosed as closed:
                    return self._lost(closed)
                except TimeoutError:
                    raise self._broke_off("does not take what the client says") from None
        finally:
            if pending is not None:
                pending.cancel()

    async def _judge(self, message: str | bytes) -> str | bytes | None:
        """The message as it may be sent, written anew from what was read; None where it was refused."""
        cause: str | None = None
        try:
            fields = body.parse(message.encode() if isinstance(message, str) else message)
            kind = body.text(fields, "type") or ""
            cause = body.text(fields, "event_id")
            if kind in ("session.update", "transcription_session.update"):
                session = body.mapping(fields, "session")
                if session is not None:
                    fields["session"] = Raw(body.encode(self._models.rewrite(session)))
            elif kind == "response.create":
                response = body.mapping(fields, "response")
                if response is not None:
                    fields["response"] = Raw(body.encode(self._models.rewrite(response, "response")))
                await self._account.ask()
        except GatewayError as error:
            await self._tell(error, cause)
            return None
        self._account.heard(wire.heard(fields, kind, self._speed))
        told = body.encode(fields)
        return told.decode() if isinstance(message, str) else told

    # From the provider to the client.

    async def _from_provider(self) -> Ending:
        while True:
            try:
                message = await self._upstream.receive()
            except SocketClosed as closed:
                return self._lost(closed)
            event = wire.read_event(message)
            if event is not None:
                message = await self._meter(event, message)
            self._heard_from()
            try:
                await self._send(message)
            except SocketClosed as closed:
                return Ending("client", closed.code, closed.reason)
            if event is not None and event.type in (wire.RESPONSE_DONE, wire.TRANSCRIBED):
                # Only now, so that the client has what it paid for when there is nothing left for more.
                await self._account.cover()

    async def _meter(self, event: wire.ServerEvent, message: str | bytes) -> str | bytes:
        kind = event.type
        account = self._account
        if kind == wire.RESPONSE_CREATED:
            account.began(wire.read_response(event.response), self._target)
            await account.cover()
        elif kind == wire.RESPONSE_DONE:
            account.finished(wire.read_response(event.response), self._target)
        elif kind == wire.TRANSCRIBED:
            account.transcribed(event.usage, self._models.transcriber, self._target)
        elif kind in wire.SESSION_EVENTS:
            self._models.learn(event.session)
            self._speed = wire.speed(event.session)
        elif kind == wire.ERROR:
            account.refused()
            words = message.encode() if isinstance(message, str) else message
            clean = self._target.provider.redact(words)
            message = clean.decode("utf-8", "replace") if isinstance(message, str) else clean
        else:
            said = wire.spoken(event, self._speed)
            if said.output or said.audio_output:
                account.said(wire.read_id(event.response_id), said)
        return message

    # Both.

    def _heard_from(self) -> None:
        """Note the sign of life, and that the key is still good. Raises InvalidKey, KeyBlocked or KeyExpired."""
        self._last = self._app.clock()
        snapshot = self._app.snapshot
        if snapshot is not self._snapshot:
            self._account.grant = grant_of(self._caller.key, snapshot, self._app.wall_clock())
            self._snapshot = snapshot
        elif self._account.grant.expires_at is not None:
            admit(self._account.grant, self._app.wall_clock())

    async def _send(self, message: str | bytes) -> None:
        """Raises SocketClosed, also for a client that does not read."""
        try:
            async with asyncio.timeout(self._settings.write_timeout):
                await self._socket.send(message)
        except TimeoutError:
            raise SocketClosed(LOST, "the client does not read", told=False) from None

    async def _tell(self, error: GatewayError, cause: str | None = None) -> None:
        self._events += 1
        event_id = f"event_{self._call.request.id}_{self._events}"
        try:
            await self._send(wire.error_event(error, event_id, cause))
        except SocketClosed:
            return  # whoever listens to the client notices too

    def _lost(self, closed: SocketClosed) -> Ending:
        if closed.told:
            return Ending("provider", closed.code, closed.reason)
        if closed.code == 1009:
            return _ended_by(
                RequestTooLarge(f"Provider {self._target.provider.name} sent a message that is too large.")
            )
        return _ended_by(self._broke_off("broke the connection off"))

    def _broke_off(self, what: str) -> UpstreamMalformed:
        name = self._target.provider.name
        return UpstreamMalformed(f"provider {name} {what}", provider=name)

    # The end.

    def _settle(self, ending: Ending) -> None:
        error = ending.error
        if error is not None:
            failed = isinstance(error, UpstreamError | InternalError)
            self._app.tally.refuse(error.error_code)
            self._account.end("error" if failed else "cancelled", error.http_status, error.message)
        elif ending.by == "provider" and ending.code not in (1000, 1001, 1005):
            reason = f"the provider closed the socket with code {ending.code}"
            self._account.end("error", 502, reason)
        else:
            self._account.end("ok", OPENED, "the session ended in the middle of the response")

    async def _close(self, ending: Ending) -> None:
        """Tell both sides. Whoever ended it has heard already and is told nothing new."""
        reason = ending.reason
        if ending.by == "client":
            await self._upstream.close(_code(ending.code), _short(reason))
            return
        # The provider first: a client that does not read must not keep it going.
        leaving = asyncio.get_running_loop().create_task(self._upstream.close(1000))
        if ending.by == "provider":
            reason = self._target.provider.redact(reason.encode()).decode("utf-8", "replace")
        try:
            if ending.error is not None:
                await self._tell(ending.error)
            async with asyncio.timeout(self._settings.write_timeout):
                await self._socket.close(_code(ending.code), _short(reason))
        except (SocketClosed, TimeoutError):
            pass  # it is gone
        finally:
            await leaving


_CODES: Mapping[type[GatewayError], int] = {
    RateLimitExceeded: 1013,
    StoreUnavailable: 1013,
    RequestTooLarge: 1009,
    SessionExpired: 1001,
    UpstreamError: 1011,
    InternalError: 1011,
}


def _ended_by(error: GatewayError) -> Ending:
    code = next((code for kind, code in _CODES.items() if isinstance(error, kind)), 1008)
    return Ending("gateway", code, error.error_code, error)


def _code(code: int) -> int:
    """A close code as it may be sent on: those that only describe a loss may not."""
    if code in _SENDABLE or 3000 <= code <= 4999:
        return code
    return 1000 if code == 1005 else 1001


def _short(reason: str) -> str:
    """A close frame has room for 123 bytes."""
    return reason.encode()[:123].decode("utf-8", "ignore")
