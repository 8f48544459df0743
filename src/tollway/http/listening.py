"""Opens the sockets a server listens on and looks at its certificate, before anything else is opened: what cannot be
is told at once."""

from __future__ import annotations

import errno
import socket
import ssl

from tollway.errors import ConfigError


def listen(host: str, port: int) -> list[socket.socket]:
    """Bound sockets, one for each address of ``host``; port 0 takes a free one. Raises ConfigError, which says what
    to do."""
    opened: list[socket.socket] = []
    try:
        for family, kind, protocol, _, address in socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP, flags=socket.AI_PASSIVE
        ):
            try:
                opened.append(_bound(family, kind, protocol, (address[0], port, *address[2:])))
            except OSError as error:
                if error.errno not in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
                    raise
                failure = error  # `localhost` is often also an IPv6 address that this machine does not have
                continue
            port = opened[0].getsockname()[1]
        if not opened:
            raise failure
    except OSError as error:
        for each in opened:
            each.close()
        raise ConfigError([_advice(host, port, error)]) from None
    return opened


def check_certificate(cert: str | None, key: str | None) -> None:
    """Raises ConfigError where TLS is asked for and the files cannot serve it, naming them."""
    if cert is None:
        return
    try:
        ssl.create_default_context(ssl.Purpose.CLIENT_AUTH).load_cert_chain(cert, key)
    except ssl.SSLError as error:
        reason = (error.reason or "no PEM").replace("_", " ").lower()
        raise ConfigError(
            [
                f"server.tls_cert {cert} and server.tls_key {key} are no certificate and its key in PEM: {reason}."
            ]
        ) from None
    except OSError as error:
        raise ConfigError(
            [f"server.tls_cert {cert} or server.tls_key {key} cannot be read: {error.strerror}."]
        ) from None


def _bound(family: int, kind: int, protocol: int, address: tuple[object, ...]) -> socket.socket:
    # The protocol is named, so that asyncio switches Nagle's delay off on accepted connections.
    made = socket.socket(family, kind, protocol)
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        made.bind(address)
    except OSError:
        made.close()
        raise
    return made


def _advice(host: str, port: int, error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return (
            f"Port {port} of {host} is in use: another gateway may be running. Stop that one, or choose another "
            "port with --port, TOLLWAY_PORT or server.port."
        )
    if error.errno == errno.EACCES:
        return f"This user may not listen on port {port}. Choose one above 1023 with --port or server.port."
    reason = error.strerror or error
    return f"Cannot listen on {host} port {port}: {reason}. Look at --host, TOLLWAY_HOST or server.host."
