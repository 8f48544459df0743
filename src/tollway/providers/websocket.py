"""A WebSocket towards a provider, on the ``websockets`` library: opened to the configured origin alone, no redirect
followed, TLS verified and the proxy taken as for every other request. It knows messages and nothing of what they say.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
from collections.abc import Iterable

from websockets.asyncio.client import ClientConnection
from websockets.client import ClientProtocol
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidMessage, InvalidStatus
from websockets.uri import parse_uri

from tollway.errors import UpstreamMalformed, UpstreamTimeout, UpstreamUnreachable
from tollway.model.secret import Secret
from tollway.providers.proxies import Proxy, parse_proxy
from tollway.providers.request import Origin, UpstreamRequest
from tollway.providers.upstream import Upstream

PING = 20.0
"""Seconds between two pings, and how long one may stay unanswered: a dead peer is noticed within twice that."""

CLOSING = 2.0
"""Seconds a closing handshake may take; the close frame itself goes out at once."""

HEAD_START = 1.0
"""Seconds an address has to answer before the next one of a name is tried."""

NO_CODE, LOST = 1005, 1006

log = logging.getLogger("tollway.providers")
_frames = logging.getLogger("tollway.providers.websocket")
_frames.setLevel(logging.WARNING)  # below, the library would write headers and with them credentials

_OURS = frozenset((b"host", b"accept", b"accept-encoding", b"content-type", b"content-length", b"connection"))


class SocketClosed(Exception):
    """A socket has ended. ``code`` and ``reason`` as in its close frame; 1006 where it was lost without one.

    ``told`` says that the other side sent a close frame.
    """

    def __init__(self, code: int, reason: str = "", *, told: bool = True) -> None:
        super().__init__(code, reason)
        self.code = code
        self.reason = reason
        self.told = told


class HandshakeRefused(Exception):
    """The provider answered the handshake with a status of its own instead of a socket."""

    def __init__(self, status: int, headers: dict[bytes, bytes], body: bytes) -> None:
        super().__init__(status)
        self.status = status
        self.headers = headers
        self.body = body


class UpstreamSocket:
    """An open socket. ``receive`` and ``send`` wait for the peer, so whoever relays is slowed down by it."""

    def __init__(self, connection: ClientConnection) -> None:
        self._connection = connection

    async def receive(self) -> str | bytes:
        """The next message. Raises SocketClosed, also for a message that is too large (1009)."""
        try:
            return await self._connection.recv()
        except ConnectionClosed as error:
            raise _closed(error) from None

    async def send(self, message: str | bytes) -> None:
        """Raises SocketClosed."""
        try:
            await self._connection.send(message)
        except ConnectionClosed as error:
            raise _closed(error) from None

    async def close(self, code: int = 1000, reason: str = "") -> None:
        """Send a close frame at once and see the connection off; afterwards it is gone in any case."""
        try:
            await self._connection.close(code, reason)
        finally:
            self.abort()

    def abort(self) -> None:
        self._connection.transport.abort()


def _closed(error: ConnectionClosed) -> SocketClosed:
    if error.rcvd is not None:
        return SocketClosed(error.rcvd.code, error.rcvd.reason)
    if error.sent is not None:
        return SocketClosed(error.sent.code, error.sent.reason, told=False)
    return SocketClosed(LOST, told=False)


async def open_socket(
    upstream: Upstream,
    request: UpstreamRequest,
    *,
    query: str,
    headers: Iterable[tuple[str, str]] = (),
    secret: Secret | None = None,
    max_message: int,
) -> UpstreamSocket:
    """A socket at the request's origin and path, ``query`` added. ``secret`` stands in for the provider's own
    credential: then no other header of the request's that could be one goes along.

    Raises HandshakeRefused, UpstreamUnreachable, UpstreamMalformed or UpstreamTimeout; a cancellation leaves nothing
    open.
    """
    origin, provider, clocks = request.origin, request.provider, request.clocks
    target = request.target.decode("ascii")
    if secret is not None:
        target = target.partition("?")[0]
    if query:
        target += ("&" if "?" in target else "?") + query
    scheme = "wss" if origin.scheme == "https" else "ws"
    uri = parse_uri(f"{scheme}://{origin.authority}{target}")
    clock = "connect"
    connection: ClientConnection | None = None
    try:
        async with asyncio.timeout(clocks.connect):
            connection = await _connect(upstream, origin, provider, uri, max_message)
        clock = "first_byte"
        async with asyncio.timeout(clocks.first_byte):
            await connection.handshake([*_lines(request.headers, secret), *headers], None)
    except BaseException as error:
        if connection is not None:
            connection.transport.abort()
        if isinstance(error, TimeoutError):
            seconds = clocks.connect if clock == "connect" else clocks.first_byte
            raise UpstreamTimeout(
                f"provider {provider} did not open a socket within {seconds:g} s (clock: {clock})",
                provider=provider,
                clock=clock,
                retryable=clock == "connect",
            ) from None
        if isinstance(error, InvalidStatus):
            answer = error.response
            names = {
                name.lower().encode("latin-1"): value.encode("latin-1", "replace")
                for name, value in answer.headers.raw_items()
            }
            raise HandshakeRefused(answer.status_code, names, bytes(answer.body)) from None
        if isinstance(error, InvalidHandshake | InvalidMessage | EOFError):
            raise UpstreamMalformed(
                f"provider {provider} did not answer the handshake of a WebSocket", provider=provider
            ) from None
        raise
    connection.start_keepalive()
    return UpstreamSocket(connection)


def _lines(lines: bytes, secret: Secret | None) -> list[tuple[str, str]]:
    """The provider's header lines as pairs, without those the handshake writes itself."""
    pairs: list[tuple[str, str]] = []
    for line in lines.split(b"\r\n"):
        name, _, value = line.partition(b": ")
        if not name or name in _OURS or (secret is not None and name != b"user-agent"):
            continue
        pairs.append((name.decode("ascii"), value.decode("latin-1")))
    if secret is not None:
        pairs.append(("authorization", f"Bearer {secret.reveal()}"))
    return pairs


async def _connect(
    upstream: Upstream, origin: Origin, provider: str, uri: object, max_message: int
) -> ClientConnection:
    loop = upstream.loop
    tls = upstream.contexts.get(origin.ca_file) if origin.scheme == "https" else None
    retryable = True
    try:
        sock = await _dial(upstream, origin, provider)
        try:
            _, connection = await loop.create_connection(
                lambda: ClientConnection(
                    ClientProtocol(uri, max_size=max_message, logger=_frames),  # type: ignore[arg-type]
                    ping_interval=PING,
                    ping_timeout=PING,
                    close_timeout=CLOSING,
                ),
                sock=sock,
                ssl=tls,
                server_hostname=origin.host if tls else None,
            )
        except BaseException:
            sock.close()
            raise
        return connection
    except ssl.SSLCertVerificationError as error:
        message = f"the TLS certificate of provider {provider} is not trusted: {error.verify_message}"
        retryable = False
    except ssl.SSLError as error:
        log.warning("TLS to provider %s at %s: %s", provider, origin.host, error)
        message = f"TLS with provider {provider} failed"
    except TimeoutError:
        raise
    except OSError as error:
        log.warning("connecting to provider %s at %s:%s: %s", provider, origin.host, origin.port, error)
        message = f"provider {provider} could not be reached: {error.strerror or 'no connection'}"
    except ValueError as error:
        log.warning("connecting to provider %s at %s:%s: %s", provider, origin.host, origin.port, error)
        message = f"provider {provider} could not be reached: its host name or its proxy is not valid"
        retryable = False
    raise UpstreamUnreachable(message, provider=provider, retryable=retryable)


async def _dial(upstream: Upstream, origin: Origin, provider: str) -> socket.socket:
    """A connected socket: to the origin itself, or a tunnel to it through the proxy."""
    proxy = (
        parse_proxy(origin.proxy)
        if origin.proxy
        else upstream._proxies.find(origin.scheme, origin.host, origin.port)
    )
    host, port = (proxy.host, proxy.port) if proxy is not None else (origin.host, origin.port)
    addresses = await upstream._addresses.lookup(host, port)
    failure: OSError | None = None
    for address in addresses:
        made = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_STREAM)
        try:
            made.setblocking(False)
            made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            async with asyncio.timeout(None if address == addresses[-1] else HEAD_START):
                await upstream.loop.sock_connect(made, (address, port))
            if proxy is not None:
                await _tunnel(upstream.loop, made, proxy, origin, provider)
            return made
        except OSError as error:  # a TimeoutError of ours is one
            made.close()
            failure = error
        except BaseException:
            made.close()
            raise
    upstream._addresses.forget(host, port)
    raise failure or OSError("no address answered")


async def _tunnel(
    loop: asyncio.AbstractEventLoop, made: socket.socket, proxy: Proxy, origin: Origin, provider: str
) -> None:
    """Ask the proxy for a tunnel (RFC 9110 section 9.3.6)."""
    host = f"[{origin.host}]" if ":" in origin.host else origin.host
    place = f"{host}:{origin.port}"
    lines = f"CONNECT {place} HTTP/1.1\r\nhost: {place}\r\n"
    if proxy.authorization is not None:
        lines += f"proxy-authorization: {proxy.authorization.reveal()}\r\n"
    await loop.sock_sendall(made, (lines + "\r\n").encode("latin-1"))
    answer = b""
    while b"\r\n\r\n" not in answer:
        data = await loop.sock_recv(made, 4096)
        answer += data
        if not data or len(answer) > 16 * 1024:
            raise OSError("the proxy did not answer in HTTP")
    status = answer.split(b" ", 2)[1:2]
    if not answer.startswith(b"HTTP/1.") or not status or not status[0][:3].isdigit():
        raise OSError("the proxy did not answer in HTTP")
    if not status[0].startswith(b"2"):
        raise UpstreamUnreachable(
            f"the proxy towards provider {provider} refused the tunnel with status {int(status[0][:3])}",
            provider=provider,
        )
    if not answer.endswith(b"\r\n\r\n"):
        raise OSError("the proxy sent more than an answer")
