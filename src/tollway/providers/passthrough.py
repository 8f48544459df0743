"""What of a client's own request may reach a provider when it passes through: path, query and headers,
judged.

The address stays below the provider's base URL, credentials and hop-by-hop headers stay with us. Bodies are
not read.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final
from urllib.parse import unquote_to_bytes

from tollway.errors import BadRequest, MethodNotAllowed
from tollway.providers.request import header_line

METHODS: Final = frozenset((b"GET", b"HEAD", b"POST", b"PUT", b"PATCH", b"DELETE", b"OPTIONS"))

HOP_BY_HOP: Final = frozenset(
    (b"connection", b"keep-alive", b"proxy-authenticate", b"proxy-connection", b"te", b"trailer", b"trailers",
     b"transfer-encoding", b"upgrade", b"expect", b"http2-settings")
)  # fmt: skip
"""RFC 9110 section 7.6.1; ``expect`` has been answered by our own server."""

CREDENTIALS: Final = frozenset(
    (b"authorization", b"proxy-authorization", b"x-api-key", b"api-key", b"x-goog-api-key",
     b"x-litellm-api-key", b"x-portkey-api-key", b"cookie", b"cookie2")
)  # fmt: skip

OURS: Final = frozenset(
    (b"host", b"content-length", b"accept-encoding", b"forwarded", b"via", b"x-real-ip", b"x-client-ip",
     b"x-cluster-client-ip", b"true-client-ip", b"cf-connecting-ip", b"fastly-client-ip", b"x-original-url",
     b"x-rewrite-url", b"x-http-method-override", b"origin", b"referer")
)  # fmt: skip
"""Written by us, or about the way between the client and us; an origin would make a provider answer as to a
browser."""

PREFIXES: Final = (b"x-tollway-", b"x-litellm-", b"x-portkey-", b"x-forwarded-", b"sec-")

_VERSION = re.compile(r"v\d+(?:(?:alpha|beta|rc)\d*)?")
_MEDIA = ("upload", "download")
"""What stands before the version where bytes go up and down, in Google's APIs."""
_PATH = re.compile(rb"[A-Za-z0-9\-._~!$&'()*+,;=:@/%]*")
_QUERY = re.compile(rb"[\x21\x24-\x5b\x5d-\x7e]*")
_UNCLEAR = re.compile(rb"[\x00-\x1f\x7f\\]|[\xc0\xc1\xf5-\xff]")  # control, backslash, bytes no UTF-8 has
_BAD_PERCENT = re.compile(rb"%(?![0-9A-Fa-f]{2})")


def check_method(method: bytes) -> bytes:
    if method not in METHODS:
        raise MethodNotAllowed("This method does not pass through to a provider.")
    return method


def pass_path(root: str, path: bytes) -> bytes:
    """The path at the provider: ``path`` below ``root``, a version segment never doubled.

    With root ``/openai/v1``: ``/v1/files``, ``/files`` and ``/openai/v1/files`` all give
    ``/openai/v1/files``, and ``/v2/files`` gives ``/openai/v2/files``. BadRequest for a path that could be
    read in two ways.
    """
    if path and not path.startswith(b"/"):
        raise BadRequest("The path behind the provider's name begins with a slash.")
    _check_path(path)
    rest = path.decode("ascii")
    stem, _, last = root.rpartition("/")
    if not _VERSION.fullmatch(last):
        stem = root
    if stem and (rest == stem or rest.startswith(stem + "/")):
        return rest.encode("ascii")
    first, _, more = rest[1:].partition("/")
    if first in _MEDIA:
        first = more.partition("/")[0]
    joined = (stem if _VERSION.fullmatch(first) else root) + rest
    return joined.encode("ascii") or b"/"


def _check_path(path: bytes) -> None:
    if not _PATH.fullmatch(path) or _BAD_PERCENT.search(path):
        raise BadRequest("The path holds a character that does not belong in one; encode it as %XX.")
    plain = path
    for _ in range(4):  # a server behind the provider may decode again, so every layer is looked at
        segments = plain.split(b"/")
        if b"" in segments[1:-1]:
            raise BadRequest("The path holds an empty segment.")
        if any(segment.partition(b";")[0] in (b".", b"..") for segment in segments):
            raise BadRequest("The path holds a . or .. segment.")
        decoded = unquote_to_bytes(plain)
        if decoded == plain:
            return
        if decoded.count(b"/") != plain.count(b"/") or _UNCLEAR.search(decoded):
            raise BadRequest("The path holds an encoded slash, backslash or control character.")
        plain = decoded
    raise BadRequest("The path is encoded too many times.")


def pass_query(query: bytes, credential: bytes = b"") -> bytes:
    """The query with ours in place of the client's credential, beginning with ``?`` unless it is empty."""
    if not _QUERY.fullmatch(query):
        raise BadRequest("The query holds a character that does not belong in one; encode it as %XX.")
    name = unquote_to_bytes(credential.partition(b"=")[0]).lower()
    kept = [part for part in query.split(b"&") if part and _parameter(part) not in (b"key", name)]
    if credential:
        kept.append(credential)
    return b"?" + b"&".join(kept) if kept else b""


def _parameter(part: bytes) -> bytes:
    return unquote_to_bytes(part.partition(b"=")[0].replace(b"+", b" ")).strip().lower()


def pass_headers(
    headers: Iterable[tuple[bytes, bytes]], own: frozenset[bytes]
) -> tuple[bytes, frozenset[bytes]]:
    """The client's headers that go on, as lines, and their names in lower case. ``own`` names those we set
    ourselves."""
    listed = [(name.lower(), value) for name, value in headers]
    named = {
        token.strip().lower()
        for name, value in listed
        if name == b"connection"
        for token in value.split(b",")
    }
    lines: list[bytes] = []
    names: set[bytes] = set()
    for name, value in listed:
        if name in HOP_BY_HOP or name in CREDENTIALS or name in OURS or name in own or name in named:
            continue
        if name.startswith(PREFIXES):
            continue
        try:
            lines.append(header_line(name, value))
        except ValueError as error:
            raise BadRequest(str(error)) from None
        names.add(name)
    return b"".join(lines), frozenset(names)
