"""What is sent to a provider, as values: where to, and which bytes. Nothing here connects."""

from __future__ import annotations

import asyncio
import re
from typing import Literal, Protocol
from urllib.parse import quote, urlsplit

from msgspec import Struct

from tollway.model.clocks import Clocks


class Origin(Struct, frozen=True, cache_hash=True, kw_only=True):
    """One place to connect to, and the key of a connection pool: two settings that differ share no
    connection.

    ``host`` is bare (an IPv6 address without brackets), ``proxy`` a URL that may hold a password.
    """

    scheme: Literal["http", "https"]
    host: str
    port: int
    ca_file: str | None = None
    proxy: str | None = None

    def __repr__(self) -> str:
        return f"Origin({self.scheme}://{self.authority})"

    @property
    def authority(self) -> str:
        """What the Host header says: the port only where it is not the scheme's own."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == (443 if self.scheme == "https" else 80) else f"{host}:{self.port}"


class Content(Protocol):
    """A request body that is not at hand as a whole. ``length`` None: not known, so it is sent in chunks.

    ``begun`` says that a byte of it has been read: then the request cannot be made again.
    """

    @property
    def length(self) -> int | None: ...

    @property
    def begun(self) -> bool: ...

    async def read(self) -> bytes:
        """The next piece, empty at the end. Exactly ``length`` bytes in all, or it raises."""


class UpstreamRequest(Struct, frozen=True, gc=False, kw_only=True):
    """One request, ready to be written: ``headers`` are whole lines, without content-length and the blank
    line.

    ``target`` is path and query. The repr shows neither headers nor query nor body: the first two hold
    credentials. ``streamed``: an event stream was asked for. ``content`` stands in the place of ``body``.
    """

    origin: Origin
    method: bytes
    target: bytes
    headers: bytes
    body: bytes
    provider: str
    clocks: Clocks
    streamed: bool = False
    content: Content | None = None

    def __repr__(self) -> str:
        line = (self.method + b" " + self.target.partition(b"?")[0]).decode("ascii", "replace")
        return f"UpstreamRequest({line} of {self.provider}, {len(self.body)} bytes)"


class NotSent(asyncio.CancelledError):
    """Whoever wanted to send was cancelled before a byte of the request was written: nobody can bill it."""


_HOST = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?\.?|[0-9A-Fa-f:.]+")


def parse_base_url(url: str, *, ca_file: str | None = None, proxy: str | None = None) -> tuple[Origin, str]:
    """A base URL's origin and its path, without a slash at the end. ValueError says what is wrong with it."""
    if any(not 0x20 < ord(character) < 0x7F and ord(character) < 0xA0 for character in url) or "\\" in url:
        raise ValueError("it holds a space, a control character or a backslash")
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https"):
        raise ValueError("it has to begin with https:// or http://")
    if "@" in parts.netloc:
        raise ValueError("a user or password in it is not supported; give the key as api_key")
    if parts.query or parts.fragment or url.endswith(("?", "#")):
        raise ValueError("it has a query or a fragment; leave only scheme, host and path")
    try:
        host = parts.hostname or ""
        if not host.isascii():
            host = host.encode("idna").decode("ascii")
        port = parts.port
    except ValueError:
        raise ValueError("its host or port is not valid") from None
    if not _HOST.fullmatch(host) or port == 0:
        raise ValueError("its host or port is not valid")
    path = quote(parts.path.rstrip("/"), safe="/%:@!$&'()*+,;=~-._")
    if "//" in path or any(segment in (".", "..") for segment in path.lower().replace("%2e", ".").split("/")):
        raise ValueError("its path holds an empty, . or .. segment")
    scheme: Literal["http", "https"] = "https" if parts.scheme == "https" else "http"
    return (
        Origin(
            scheme=scheme,
            host=host,
            port=port or (443 if scheme == "https" else 80),
            ca_file=ca_file,
            proxy=proxy,
        ),
        path,
    )


_NAME = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_VALUE = re.compile(rb"[\t\x20-\x7e\x80-\xff]*")


def header_line(name: bytes, value: bytes) -> bytes:
    """One header line, its end included. ValueError if name or value would not stay one header (RFC 9110
    section 5)."""
    if not _NAME.fullmatch(name) or not _VALUE.fullmatch(value):
        raise ValueError("a header's name or value holds a character that is not allowed there")
    return b"%b: %b\r\n" % (name, value)
