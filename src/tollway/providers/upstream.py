"""The only socket towards providers: a lean HTTP/1.1 client on httptools, pooled by origin, cancelled at once.

One ``Answer`` is one exchange. It bounds every wait by a named clock (model/clocks.py), holds back a provider that
is faster than our client, and closes its connection the moment it is aborted. It follows no redirect and knows no
provider: what a status means is the caller's to say.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import ssl
from collections import deque
from collections.abc import Callable, Mapping
from typing import cast

import httptools

from tollway.errors import UpstreamError, UpstreamMalformed, UpstreamTimeout, UpstreamUnreachable
from tollway.providers.addresses import Addresses
from tollway.providers.proxies import Proxies, Proxy, parse_proxy
from tollway.providers.request import Content, NotSent, Origin, UpstreamRequest
from tollway.providers.tls import Contexts, ResumingContext
from tollway.wire.compression import DecompressionError, Decompressor, decompressor

log = logging.getLogger("tollway.upstream")

SWEEP = 0.05
"""How often clocks are looked at, seconds: a clock fires at most this late. One timer serves all exchanges."""

HIGH_WATER = 256 * 1024
MAX_HEADERS = 64 * 1024
MAX_INTERIM = 16
MAX_IDLE = 45.0
MAX_AGE = 600.0
STALE_WITHIN = 2.0
"""A reused connection that closes unanswered this soon was stale when we wrote to it; later, the provider may have
begun to work on the request, and a second try could be billed twice."""

ATTEMPT_DELAY = 0.25
"""Head start of one address before the next is tried beside it (RFC 8305 section 5)."""

_NEVER = float("inf")


_LOWER: dict[bytes, bytes] = {}


def _lowered(name: bytes) -> bytes:
    """A header's name in lower case, remembered: answers repeat the same ten."""
    if len(_LOWER) >= 1024:
        _LOWER.clear()
    lower = _LOWER[name] = name.lower()
    return lower


class _StaleConnection(Exception):
    """A pooled connection had been closed by the other side before a byte was answered."""


class Answer:
    """A provider's answer as it arrives: ``status`` and ``headers`` (lower-case names) first, then the body."""

    __slots__ = (
        "_buffered",
        "_chunks",
        "_connection",
        "_decoder",
        "_deliver",
        "_paused",
        "_raised",
        "_stopped",
        "_waiter",
        "_want",
        "complete",
        "deadline",
        "error",
        "headers",
        "phase",
        "request",
        "sent_at",
        "sse",
        "status",
        "total_deadline",
        "uploading",
        "upstream",
    )

    def __init__(
        self, request: UpstreamRequest, connection: Connection, upstream: Upstream, now: float
    ) -> None:
        self.request = request
        self.upstream = upstream
        self._connection: Connection | None = connection
        self.status = 0
        self.headers: dict[bytes, bytes] = {}
        self.complete = False
        self.error: UpstreamError | _StaleConnection | None = None
        self.sse = False
        self._chunks: list[bytes] = []
        self._buffered = 0
        self._decoder: Decompressor | None = None
        self._paused = False
        self._deliver: Callable[[bytes], bool] | None = None
        self._stopped = False
        self._raised: Exception | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._want = 0  # how many buffered bytes wake the reader: 0 the head, 1 any, more a whole body
        self.sent_at = now
        clocks = request.clocks
        if request.streamed and clocks.first_token < clocks.first_byte:
            self.phase = "first_token"  # a provider that says nothing at all has not begun its stream either
            self.deadline = now + clocks.first_token
        else:
            self.phase = "first_byte"
            self.deadline = now + clocks.first_byte
        self.total_deadline = now + clocks.total
        self.uploading = request.content is not None
        if self.uploading:
            self.deadline = self.total_deadline = _NEVER  # its clocks run from the end of the upload

    async def read(self) -> bytes:
        """Everything that has arrived, waiting for at least one byte; empty at the end of the body."""
        while not self._chunks:
            if self.error is not None:
                raise self.error
            if self.complete:
                return b""
            await self.wait(1)
        return self._take()

    async def flow(self, deliver: Callable[[bytes], bool]) -> bool:
        """Hand what arrives to ``deliver`` straight from the socket's callback: a stream wakes no task for an event.

        True at the end of the body, False once ``deliver`` has said that it wants no more for now.
        """
        while True:
            while self._chunks:
                if not deliver(self._take()):
                    return False
            if self.error is not None:
                raise self.error
            if self.complete:
                return True
            self._deliver = deliver
            try:
                await self.wait(1)
            finally:
                self._deliver = None
            if self._raised is not None:
                raise self._raised
            if self._stopped:
                self._stopped = False
                return False

    def delivered(self) -> bool:
        """Pass what has just arrived to a flowing reader; False when there is none."""
        deliver = self._deliver
        if deliver is None:
            return False
        if self._chunks:
            try:
                self._stopped = not deliver(self._take())
            except Exception as error:  # noqa: BLE001 - raised again by flow, in the reader's own task
                self._raised = error
            waiter = self._waiter
            if (self._stopped or self._raised is not None) and waiter is not None and not waiter.done():
                self._deliver = None
                self._waiter = None
                waiter.set_result(None)
        return True

    def whole(self, limit: int) -> bytes | None:
        """The whole body if it is here already and no longer than ``limit``; else it has to be waited for."""
        if self.complete and self._buffered <= limit:
            return self._take()
        return None

    async def body(self, limit: int) -> bytes:
        """The whole body, at most ``limit`` bytes; more is an UpstreamMalformed."""
        while not self.complete and self._buffered <= limit:
            if self.error is not None:
                raise self.error
            await self.wait(limit + 1)
        if self._buffered > limit:
            self.abort()
            raise UpstreamMalformed(
                f"provider {self.request.provider} answered with more than {limit} bytes",
                provider=self.request.provider,
            )
        return self._take()

    def progressed(self, now: float) -> None:
        """Say that a real event came (comments and pings are none): it restarts the idle clock of a stream."""
        if self.phase != "paused":
            self.phase = "idle"
            self.deadline = now + self.request.clocks.idle

    def taking(self, now: float) -> None:
        """The provider is to take what was written within its idle clock."""
        self.phase = "idle"
        self.deadline = now + self.request.clocks.idle

    def uploaded(self, now: float) -> None:
        """The request is written to its end: from here on the clocks are those of any other."""
        self.uploading = False
        if not self.status:
            self.phase = "first_byte"
            self.sent_at = now
            self.deadline = now + self.request.clocks.first_byte
        self.total_deadline = now + self.request.clocks.total

    def abort(self) -> None:
        """End the exchange now. The connection closes unless the answer had been read from it completely."""
        connection = self._connection
        if connection is not None:
            self._connection = None
            connection.answer = None
            self.upstream.ended(self)
            connection.close()

    def let_go(self, now: float) -> None:
        """Nothing more is wanted of this answer. If its end comes within a second the connection can be used again."""
        if self._connection is not None:
            self.phase = "idle"
            self.deadline = self.total_deadline = now + 1.0

    def _take(self) -> bytes:
        chunks = self._chunks
        data = chunks[0] if len(chunks) == 1 else b"".join(chunks)
        chunks.clear()
        self._buffered = 0
        if self._paused:
            self._resume()
        return data

    def _resume(self) -> None:
        if self._connection is not None:
            self._paused = False
            self.phase = "idle"
            self.deadline = self.upstream.loop.time() + self.request.clocks.idle
            self._connection.transport.resume_reading()

    def wait(self, want: int) -> asyncio.Future[None]:
        """Done once status and headers are here (``want`` 0), that many bytes, the end or a failure."""
        self._want = want
        if self._paused and want > self._buffered:
            self._resume()
        waiter = self._waiter = self.upstream.loop.create_future()
        return waiter

    # What the connection tells.

    def settle_clock(self, connection: Connection, now: float) -> None:
        """After a read: choose the clock that runs next, wake the reader, hold back a provider that is too fast."""
        if not self.complete:
            if self._buffered > HIGH_WATER and self._want <= 1:
                if not self._paused:
                    self._paused = True
                    self.phase = "paused"  # the client is slow, not the provider: only the total clock runs
                    self.deadline = self.total_deadline
                    connection.transport.pause_reading()
            elif self.sse:
                if self.phase == "first_byte":
                    self.phase = "first_token"
                    self.deadline = self.sent_at + self.request.clocks.first_token
                elif (self._waiter is None or self._waiter.done()) and self.phase == "idle":
                    # Our reader is busy with a slow client: what waits for it may be an event as well as a ping.
                    self.deadline = now + self.request.clocks.idle
            elif self._buffered:
                self.phase = "idle"
                self.deadline = now + self.request.clocks.idle
            elif self.status and self.phase == "first_byte":
                # A whole answer: it was made before its headers came, and what has a first token is a stream.
                self.phase = "idle"
                self.deadline = now + self.request.clocks.idle
        waiter = self._waiter
        if waiter is not None and not waiter.done() and (self.complete or self._satisfied()):
            self._waiter = None
            waiter.set_result(None)

    def _satisfied(self) -> bool:
        if self.error is not None:
            return True
        return self.status > 0 if self._want == 0 else self._buffered >= self._want

    def fail(self, error: UpstreamError | _StaleConnection) -> None:
        if self.complete or self.error is not None:
            return
        self.error = error
        waiter = self._waiter
        if waiter is not None and not waiter.done():
            self._waiter = None
            waiter.set_result(None)

    def expired(self, now: float) -> str | None:
        """The name of the clock that has run out, if one has."""
        if now >= self.total_deadline:
            return "total"
        if now >= self.deadline:
            return self.phase
        return None


_NOBODY = asyncio.Protocol()


class Connection(asyncio.Protocol):
    """One socket to one origin: serves one exchange at a time and goes back to its pool between them."""

    __slots__ = (
        "_answers",
        "_big",
        "_bodiless",
        "_dirty",
        "_drained",
        "_framing",
        "_interim",
        "_keep_alive",
        "_parser",
        "_raw",
        "_until_eof",
        "answer",
        "born",
        "counted",
        "dead",
        "idle_since",
        "on_header",
        "on_message_begin",
        "parked",
        "pool",
        "proxy_head",
        "proxy_prefix",
        "received",
        "reused",
        "secure",
        "transport",
    )

    def __init__(self, pool: Pool) -> None:
        self.pool = pool
        self.transport: asyncio.Transport = cast(asyncio.Transport, None)
        self.answer: Answer | None = None
        self.born = self.idle_since = pool.upstream.loop.time()
        self.reused = False
        self.received = False
        self.parked = False
        self.secure = pool.origin.scheme == "https"
        self.proxy_prefix = b""
        self.proxy_head = b""
        # The parser stores headers without a Python call for each; a repeated name keeps its last value.
        self._raw: dict[bytes, bytes] = {}
        self.on_header = self._raw.__setitem__
        # One entry for each answer that may begin. A second answer to one request finds none and is an error: left in
        # the parser, its beginning would become the next request's answer.
        self._answers: list[None] = []
        self.on_message_begin = self._answers.pop
        self._parser = httptools.HttpResponseParser(self)
        self._until_eof = False
        self._interim = 0
        self._bodiless = False
        self._dirty = False
        self._keep_alive = False
        self._framing = 0
        self._big = False
        self._drained: asyncio.Future[None] | None = None
        self.counted = False
        self.dead = False

    def begin(self, request: UpstreamRequest) -> Answer:
        """Write the request and return its Answer."""
        now = self.pool.upstream.loop.time()
        answer = Answer(request, self, self.pool.upstream, now)
        self.answer = answer
        self.received = False
        self._until_eof = False
        self._interim = 0
        self._framing = 0
        self._raw.clear()  # trailers of the answer before
        self._answers.append(None)
        method = request.method
        self._bodiless = method == b"HEAD"
        body = request.body
        content = request.content
        if content is not None:
            size = content.length
            length = (
                b"content-length: %d\r\n\r\n" % size
                if size is not None
                else b"transfer-encoding: chunked\r\n\r\n"
            )
        elif body or method in (b"POST", b"PUT", b"PATCH"):
            length = b"content-length: %d\r\n\r\n" % len(body)
        else:
            length = b"\r\n"
        if self.proxy_prefix:
            head = b"".join(
                (
                    method,
                    b" ",
                    self.proxy_prefix,
                    request.target,
                    b" HTTP/1.1\r\n",
                    request.headers,
                    self.proxy_head,
                    length,
                )
            )
        else:
            head = b"".join((method, b" ", request.target, b" HTTP/1.1\r\n", request.headers, length))
        self._big = len(body) >= 65536 or content is not None
        if not self._big:
            self.transport.write(head + body)
        else:
            self.transport.write(head)
            self.transport.write(body)
        self.pool.upstream.began(answer)
        return answer

    async def upload(self, answer: Answer, content: Content) -> None:
        """Write a request's body as it comes, no faster than the provider takes it. Raises what reading it raises."""
        loop = self.pool.upstream.loop
        chunked = content.length is None
        while True:
            data = await content.read()
            if not data or self.dead or self.answer is not answer:
                break
            if chunked:
                self.transport.write(b"%x\r\n" % len(data))
            self.transport.write(data + b"\r\n" if chunked else data)
            drained = self._drained
            if drained is not None:
                answer.taking(loop.time())
                await drained
                answer.deadline = _NEVER  # until there is more to take it is our client that we wait for
        if self.dead or self.answer is not answer:
            return
        if chunked:
            self.transport.write(b"0\r\n\r\n")
        answer.uploaded(loop.time())

    def close(self) -> None:
        self.parked = False
        self.transport.abort()

    def unbind(self) -> None:
        """Make those who hold methods of ours let go of them: left to the garbage collector, lost connections and
        all they hold would pile up until it comes by."""
        self.dead = True
        self._parser = cast(httptools.HttpResponseParser, None)
        if self.transport is not None:
            self.transport.set_protocol(_NOBODY)

    # asyncio.Protocol

    def pause_writing(self) -> None:
        if self._drained is None:
            self._drained = self.pool.upstream.loop.create_future()

    def resume_writing(self) -> None:
        drained, self._drained = self._drained, None
        if drained is not None and not drained.done():
            drained.set_result(None)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        if self.dead:  # given up while it was opened
            self.unbind()
            self.transport.abort()

    def data_received(self, data: bytes) -> None:
        answer = self.answer
        if answer is None:  # nobody asked: never hand such a connection to the next request
            self.close()
            return
        now = self.pool.upstream.loop.time()
        if not self.received:
            self.received = True
        self._framing += len(data)
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            self._dirty = True
            if not answer.complete:
                cause = error.__context__  # what a callback of ours raised, httptools wraps it
                reason = (
                    f"a body we cannot decode: {cause}"
                    if isinstance(cause, DecompressionError)
                    else "malformed HTTP"
                )
                self._fail(UpstreamMalformed, f"provider {answer.request.provider} answered with {reason}")
                return
        if answer.complete:
            waiter = answer._waiter
            if waiter is not None and not waiter.done():
                answer._waiter = None
                waiter.set_result(None)
            self._finished(answer, now)
            return
        if self._framing > MAX_HEADERS:
            self._fail(UpstreamMalformed, f"provider {answer.request.provider} answered with endless headers")
            return
        if not answer.delivered():
            answer.settle_clock(self, now)

    def eof_received(self) -> None:
        return None

    def connection_lost(self, exc: Exception | None) -> None:
        self.dead = True
        self.resume_writing()
        self.pool.lost(self)
        self.unbind()
        answer = self.answer
        if answer is None:
            return
        self.answer = None
        answer._connection = None
        self.pool.upstream.ended(answer)
        provider = answer.request.provider
        if self._until_eof and answer.status and exc is None:
            try:
                self.on_message_complete(answer)
            except DecompressionError as error:
                answer.fail(
                    UpstreamMalformed(f"provider {provider} sent a broken body: {error}", provider=provider)
                )
                return
            answer.settle_clock(self, 0.0)
        elif not self.received:
            soon = self.pool.upstream.loop.time() - answer.sent_at < STALE_WITHIN
            if self.reused and soon:
                answer.fail(_StaleConnection())
            else:
                message = f"provider {provider} closed the connection without an answer"
                answer.fail(UpstreamUnreachable(message, provider=provider, retryable=True))
        else:
            message = f"provider {provider} closed the connection in the middle of its answer"
            answer.fail(UpstreamMalformed(message, provider=provider, retryable=True))

    # httptools

    def on_headers_complete(self) -> None:
        answer = self.answer
        if answer is None or answer.complete:
            raise httptools.HttpParserError("an answer nobody asked for")
        status = self._parser.get_status_code()
        headers: dict[bytes, bytes] = {}
        for name, value in self._raw.items():
            lower = _LOWER.get(name)
            headers[_lowered(name) if lower is None else lower] = value
        self._raw.clear()
        if status < 200:
            self._interim += 1
            if status < 100 or status == 101 or self._interim > MAX_INTERIM:
                raise httptools.HttpParserError("unexpected interim answer")
            self._answers.append(None)
            return
        if status > 599:
            raise httptools.HttpParserError("not a status")
        answer.headers = headers
        answer.status = status
        self._until_eof = (
            b"content-length" not in headers
            and b"chunked" not in headers.get(b"transfer-encoding", b"").lower()
            and status not in (204, 304)
            and not self._bodiless
        )
        encoding = headers.get(b"content-encoding")
        if encoding is not None and not self._bodiless:
            answer._decoder = decompressor(encoding)
        answer.sse = headers.get(b"content-type", b"").lower().find(b"event-stream") >= 0
        if self._bodiless:
            self.on_message_complete(answer)

    def on_body(self, data: bytes) -> None:
        answer = self.answer
        if answer is None or self._bodiless:
            return
        self._framing = 0  # bytes since the last piece of body: head, chunk sizes, trailers
        if answer._decoder is not None:
            data = answer._decoder.feed(data)
            if not data:
                return
        answer._chunks.append(data)
        answer._buffered += len(data)

    def on_message_complete(self, answer: Answer | None = None) -> None:
        answer = answer or self.answer
        if answer is None or answer.status == 0:  # the end of an interim answer
            return
        if answer._decoder is not None and not answer.complete:
            answer._decoder.finish()
        answer.complete = True
        # Only now does the parser know; once it has gone past the message it says no.
        self._keep_alive = not self._until_eof and not self._bodiless and self._parser.should_keep_alive()

    def _finished(self, answer: Answer, now: float) -> None:
        self.answer = None
        answer._connection = None
        self.pool.upstream.ended(answer)
        keep = (
            self._keep_alive and not self._dirty and not self.transport.is_closing() and not answer.uploading
        )
        if self._big and self.transport.get_write_buffer_size():
            keep = False  # answered before it had read our request: the rest of that is still on its way
        if self.secure and not self.reused:
            self.pool.remember_session(self)
        if answer._paused:
            self.transport.resume_reading()
        if keep:
            self.pool.park(self, now)
        else:
            self.close()

    def _fail(self, kind: type[UpstreamError], message: str) -> None:
        answer = self.answer
        if answer is None:
            return
        self.answer = None
        answer._connection = None
        self.pool.upstream.ended(answer)
        answer.fail(kind(message, provider=answer.request.provider, retryable=not answer._chunks))
        self.close()


class Pool:
    """The connections to one origin, at most ``limit``: newest idle one first, waiters served in order."""

    __slots__ = ("_idle", "_waiters", "limit", "origin", "size", "upstream")

    def __init__(self, upstream: Upstream, origin: Origin, limit: int) -> None:
        self.upstream = upstream
        self.origin = origin
        self.limit = limit
        self.size = 0
        self._idle: list[Connection] = []
        self._waiters: deque[asyncio.Future[Connection | None]] = deque()

    def take(self) -> Connection | None:
        """An idle connection that is fit for use, if there is one."""
        now = self.upstream.loop.time()
        while self._idle:
            connection = self._idle.pop()
            connection.parked = False
            if (
                now - connection.idle_since < MAX_IDLE
                and now - connection.born < MAX_AGE
                and not connection.transport.is_closing()
            ):
                connection.reused = True
                return connection
            connection.close()
        return None

    async def open(self, provider: str, clock: float, *, fresh: bool) -> Connection:
        """A connection, new or handed on by an exchange that ended, within ``clock`` seconds."""
        try:
            async with asyncio.timeout(clock):
                while self.size >= self.limit:
                    connection = await self._queue(provider)
                    if connection is None:
                        break
                    if not connection.counted:
                        continue  # lost while it was handed to us, and its place given to another
                    if not fresh and not connection.transport.is_closing():
                        connection.reused = True
                        return connection
                    connection.counted = False  # we take its place
                    connection.close()
                    break
                else:
                    self.size += 1
                try:
                    connection = await self.upstream.connect(self, provider)
                    if connection.dead or connection.transport.is_closing():
                        raise UpstreamUnreachable(
                            f"provider {provider} closed the connection at once",
                            provider=provider,
                            retryable=True,
                        )
                except BaseException:
                    self._give_back()
                    raise
                connection.counted = True
                return connection
        except TimeoutError:
            raise UpstreamTimeout(
                f"provider {provider} could not be connected to within {clock:g} s (clock: connect)",
                provider=provider,
                clock="connect",
                retryable=True,
            ) from None

    async def _queue(self, provider: str) -> Connection | None:
        """A connection to use, or None: a place to open one, which is already counted."""
        if len(self._waiters) >= self.limit * 10:
            raise UpstreamUnreachable(
                f"too many requests wait for a connection to provider {provider}", provider=provider
            )
        waiter: asyncio.Future[Connection | None] = self.upstream.loop.create_future()
        self._waiters.append(waiter)
        try:
            return await waiter
        except BaseException:
            if waiter.done() and not waiter.cancelled():
                connection = waiter.result()
                if connection is None:
                    self._give_back()
                elif connection.counted:  # handed to us as we left: hand it on
                    self.park(connection, self.upstream.loop.time())
            elif waiter in self._waiters:
                self._waiters.remove(waiter)
            raise

    def _wake_one(self, connection: Connection | None) -> bool:
        while self._waiters:
            waiter = self._waiters.popleft()
            if not waiter.done():
                waiter.set_result(connection)
                return True
        return False

    def _give_back(self) -> None:
        """A place is free. The first who waits gets it at once, so that nobody who comes later is quicker."""
        if self.size > self.limit or not self._wake_one(None):
            self.size -= 1

    def resize(self, limit: int) -> None:
        self.limit = limit
        while self.size < limit and self._wake_one(None):
            self.size += 1

    def park(self, connection: Connection, now: float) -> None:
        if self._waiters and self._wake_one(connection):
            return
        connection.idle_since = now
        connection.parked = True
        self._idle.append(connection)

    def lost(self, connection: Connection) -> None:
        if connection.parked:
            connection.parked = False
            self._idle.remove(connection)
        if connection.counted:
            connection.counted = False
            self._give_back()

    def remember_session(self, connection: Connection) -> None:
        tls = connection.transport.get_extra_info("ssl_object")
        if tls is not None:
            self.upstream.contexts.get(self.origin.ca_file).remember(tls)

    def sweep(self, now: float) -> None:
        """Close what has idled too long; oldest first, since the list is a stack."""
        while self._idle and now - self._idle[0].idle_since > MAX_IDLE:
            connection = self._idle.pop(0)
            connection.parked = False
            connection.close()

    def close(self) -> None:
        while self._idle:
            connection = self._idle.pop()
            connection.parked = False
            connection.close()


class Upstream:
    """All pools, one sweeper, one DNS cache, the TLS contexts. Made inside a running loop; ``close`` ends it."""

    def __init__(self, environ: Mapping[str, str], *, default_limit: int = 1000) -> None:
        self.loop = asyncio.get_running_loop()
        self.contexts = Contexts()
        self._default_limit = default_limit
        self._proxies = Proxies(environ)
        self._addresses = Addresses()
        self._pools: dict[Origin, Pool] = {}
        self._active: set[Answer] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._resting = False
        self._next_idle_sweep = 0.0

    async def send(self, request: UpstreamRequest) -> Answer:
        """Send a request and wait for status and headers. The caller must read or abort.

        Raises UpstreamError, and NotSent where it is cancelled with nothing written yet.
        """
        pool = self._pools.get(request.origin)
        if pool is None:
            pool = self._pools[request.origin] = Pool(self, request.origin, self._default_limit)
        if request.content is not None:
            return await self._send_content(request, request.content, pool)
        connection = pool.take() if not pool._waiters else None
        if connection is None:
            try:
                connection = await pool.open(request.provider, request.clocks.connect, fresh=False)
            except asyncio.CancelledError as error:
                raise NotSent from error
        answer = connection.begin(request)
        try:
            while not answer.status and answer.error is None:
                await answer.wait(0)
            if isinstance(answer.error, _StaleConnection):
                connection = await pool.open(request.provider, request.clocks.connect, fresh=True)
                answer = connection.begin(request)
                while not answer.status and answer.error is None:
                    await answer.wait(0)
            if answer.error is not None and not answer._chunks:
                raise answer.error
        except BaseException:
            answer.abort()
            raise
        return answer

    async def _send_content(self, request: UpstreamRequest, content: Content, pool: Pool) -> Answer:
        """``send`` for a body that is read while it is written: on a connection of its own, since what was read cannot
        be sent a second time. Also raises what reading the body raises."""
        try:
            connection = await pool.open(request.provider, request.clocks.connect, fresh=True)
        except asyncio.CancelledError as error:
            raise NotSent from error
        answer = connection.begin(request)
        sending = self.loop.create_task(connection.upload(answer, content))
        failure: BaseException | None = None
        try:
            while not answer.status and answer.error is None:
                waiter = answer.wait(0)
                if sending.done():
                    await waiter
                else:
                    await asyncio.wait((sending, waiter), return_when=asyncio.FIRST_COMPLETED)
                    if sending.done():
                        sending.result()
            if answer.error is not None and not answer._chunks:
                raise answer.error
        except BaseException as error:  # noqa: BLE001 - raised again below: compiled, an await in `finally` loses it
            answer.abort()
            failure = error
        if not sending.done():  # answered before it was read to its end: the rest is not wanted
            sending.cancel()
            await asyncio.wait((sending,))
        if not sending.cancelled():
            sending.exception()
        if failure is not None:
            raise failure
        if answer.uploading:
            answer.total_deadline = self.loop.time() + request.clocks.total
        return answer

    def limit(self, origin: Origin, connections: int) -> None:
        """At most so many connections to an origin at the same time."""
        pool = self._pools.get(origin)
        if pool is None:
            self._pools[origin] = Pool(self, origin, connections)
        else:
            pool.resize(connections)

    def active(self) -> int:
        """Exchanges in progress."""
        return len(self._active)

    def connections(self) -> int:
        return sum(pool.size for pool in self._pools.values())

    async def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for answer in list(self._active):
            provider = answer.request.provider
            answer.fail(
                UpstreamUnreachable(f"the exchange with provider {provider} was closed", provider=provider)
            )
            answer.abort()
        for pool in self._pools.values():
            pool.close()

    # What connections and answers tell.

    def began(self, answer: Answer) -> None:
        self._active.add(answer)
        if self._timer is None or self._resting:
            if self._timer is not None:
                self._timer.cancel()
            self._resting = False
            self._timer = self.loop.call_later(SWEEP, self._sweep)

    def ended(self, answer: Answer) -> None:
        self._active.discard(answer)

    def _sweep(self) -> None:
        now = self.loop.time()
        for answer in [answer for answer in self._active if answer.expired(now)]:
            clock = answer.expired(now)
            if clock is None:
                continue
            seconds = getattr(answer.request.clocks, clock, answer.request.clocks.total)
            provider = answer.request.provider
            did = "took nothing of the request" if answer.uploading else "sent nothing"
            message = f"provider {provider} {did} in time: the {clock} clock of {seconds:g} s ran out"
            if clock == "total":
                message = (
                    f"provider {provider} was not done in time: the total clock of {seconds:g} s ran out"
                )
            answer.fail(UpstreamTimeout(message, provider=provider, clock=clock))
            answer.abort()
        if now >= self._next_idle_sweep:
            self._next_idle_sweep = now + 5.0
            for pool in self._pools.values():
                pool.sweep(now)
        self._resting = not self._active
        if self._resting and not any(pool._idle for pool in self._pools.values()):
            self._timer = None
        else:
            self._timer = self.loop.call_later(1.0 if self._resting else SWEEP, self._sweep)

    # Opening a socket.

    async def connect(self, pool: Pool, provider: str) -> Connection:
        origin = pool.origin
        retryable = True
        try:
            proxy = (
                parse_proxy(origin.proxy)
                if origin.proxy
                else self._proxies.find(origin.scheme, origin.host, origin.port)
            )
            if proxy is not None:
                return await self._through(proxy, pool, provider)
            return await self._race(pool)
        except ssl.SSLCertVerificationError as error:
            log.warning("TLS to provider %s at %s: %s", provider, origin.host, error)
            message = f"the TLS certificate of provider {provider} is not trusted: {error.verify_message}"
            retryable = False
        except ssl.SSLError as error:
            log.warning("TLS to provider %s at %s: %s", provider, origin.host, error)
            message = f"TLS with provider {provider} failed"
        except OSError as error:
            log.warning("connecting to provider %s at %s:%s: %s", provider, origin.host, origin.port, error)
            message = f"provider {provider} could not be reached: {_reason(error)}"
        except ValueError as error:  # a name that no look-up takes, or a proxy we cannot speak to
            log.warning("connecting to provider %s at %s:%s: %s", provider, origin.host, origin.port, error)
            message = f"provider {provider} could not be reached: its host name or its proxy is not valid"
            retryable = False
        self._addresses.forget(origin.host, origin.port)
        raise UpstreamUnreachable(message, provider=provider, retryable=retryable)

    async def _race(self, pool: Pool) -> Connection:
        """Happy eyeballs: each address gets a head start, the first connection that stands wins."""
        origin = pool.origin
        tls = self.contexts.get(origin.ca_file) if origin.scheme == "https" else None
        addresses = await self._addresses.lookup(origin.host, origin.port)
        if len(addresses) == 1:
            return await self._dial(pool, addresses[0], tls)
        attempts: list[asyncio.Task[Connection]] = []
        waiting = list(addresses)
        failure: BaseException | None = None
        try:
            while waiting or attempts:
                if waiting:
                    attempts.append(self.loop.create_task(self._dial(pool, waiting.pop(0), tls)))
                done, _ = await asyncio.wait(
                    attempts,
                    timeout=ATTEMPT_DELAY if waiting else None,
                    return_when=asyncio.FIRST_COMPLETED,
                )
                for attempt in done:
                    attempts.remove(attempt)
                    failure = attempt.exception()
                    if failure is None:
                        return attempt.result()
        finally:
            for attempt in attempts:
                attempt.cancel()
                attempt.add_done_callback(_discard)
        raise failure or OSError("no address answered")

    async def _dial(self, pool: Pool, address: str, tls: ResumingContext | None) -> Connection:
        connection = Connection(pool)
        try:
            await self.loop.create_connection(
                lambda: connection,
                address,
                pool.origin.port,
                ssl=tls,
                server_hostname=pool.origin.host if tls else None,
            )
        except BaseException:
            connection.unbind()
            raise
        return connection

    async def _through(self, proxy: Proxy, pool: Pool, provider: str) -> Connection:
        """Plain HTTP goes to the proxy in absolute form, TLS through a CONNECT tunnel (RFC 9110 section 9.3.6)."""
        origin = pool.origin
        authorization = (
            b"proxy-authorization: " + proxy.authorization.reveal().encode() + b"\r\n"
            if proxy.authorization
            else b""
        )
        host = f"[{origin.host}]" if ":" in origin.host else origin.host
        if origin.scheme == "http":
            _, connection = await self.loop.create_connection(
                lambda: Connection(pool), proxy.host, proxy.port
            )
            connection.proxy_prefix = f"http://{host}:{origin.port}".encode()
            connection.proxy_head = authorization
            return connection
        transport, tunnel = await self.loop.create_connection(_Tunnel, proxy.host, proxy.port)
        try:
            transport.write(
                f"CONNECT {host}:{origin.port} HTTP/1.1\r\nhost: {host}:{origin.port}\r\n".encode()
                + authorization
                + b"\r\n"
            )
            status = await tunnel.answered
            if not 200 <= status < 300:
                raise UpstreamUnreachable(
                    f"the proxy towards provider {provider} refused the tunnel with status {status}",
                    provider=provider,
                )
            connection = Connection(pool)
            connection.transport = transport  # until TLS stands: the far end may speak too early
            secure = await self.loop.start_tls(
                transport, connection, self.contexts.get(origin.ca_file), server_hostname=origin.host
            )
            if secure is None:
                raise OSError("the tunnel closed during the TLS handshake")
            connection.connection_made(secure)
            return connection
        except BaseException:
            transport.abort()
            raise


def _reason(error: OSError) -> str:
    """What went wrong, without the address that asyncio writes into it."""
    if error.errno and not isinstance(error, socket.gaierror):
        return os.strerror(error.errno)
    return error.strerror or str(error) or "no connection"


def _discard(attempt: asyncio.Task[Connection]) -> None:
    """A slower attempt of a race: close it if it still came to stand."""
    if not attempt.cancelled() and attempt.exception() is None:
        attempt.result().close()


class _Tunnel(asyncio.Protocol):
    """Reads a proxy's answer to CONNECT; nothing may follow its blank line before we speak TLS."""

    def __init__(self) -> None:
        self.answered: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._buffer = b""

    def data_received(self, data: bytes) -> None:
        if self.answered.done():
            return
        self._buffer += data
        if b"\r\n\r\n" in self._buffer:
            if not self._buffer.endswith(b"\r\n\r\n"):
                self.answered.set_exception(OSError("the proxy sent more than an answer"))
                return
            parts = self._buffer.split(b" ", 2)
            if len(parts) > 1 and self._buffer.startswith(b"HTTP/1.") and parts[1][:3].isdigit():
                self.answered.set_result(int(parts[1][:3]))
            else:
                self.answered.set_exception(OSError("the proxy did not answer in HTTP"))
        elif len(self._buffer) > 16 * 1024:
            self.answered.set_exception(OSError("the proxy's answer is too long"))

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.answered.done():
            self.answered.set_exception(OSError("the proxy closed the connection"))
