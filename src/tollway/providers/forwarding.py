"""A request to one of a provider's own operations: any method, any path below an offered one, any kind of body.

Where ``Provider.request`` writes the calls of conversations, this writes those of files, audio, batches and the like.
"""

from __future__ import annotations

from urllib.parse import quote

from msgspec.structs import replace

from tollway.errors import BadRequest
from tollway.model.clocks import Clocks
from tollway.providers.provider import Provider
from tollway.providers.request import Content, UpstreamRequest, header_line

_JSON = b"content-type: application/json\r\n"
_FREE = frozenset((b"GET", b"HEAD", b"DELETE"))


def forwarded(
    provider: Provider,
    offer: str,
    *,
    method: bytes = b"POST",
    below: str = "",
    query: bytes = b"",
    kind: bytes | None = None,
    body: bytes = b"",
    content: Content | None = None,
    accept: bytes = b"application/json",
    extra: bytes = b"",
    clocks: Clocks,
) -> UpstreamRequest:
    """``offer`` is an endpoint of the catalogue, ``below`` what stands behind its path, ``query`` what the client asked
    there, ``kind`` the content type of ``body`` or ``content`` (None: no body). Raises BadRequest where it is not
    offered."""
    usual = provider.request(offer, b"", accept=accept, extra=extra, clocks=clocks)
    path, _, own = usual.target.partition(b"?")
    queries = b"&".join(part for part in (query, own) if part)
    line = b"" if kind is None else _content_type(kind)
    return replace(
        usual,
        method=method,
        target=path + below.encode("ascii") + (b"?" + queries if queries else b""),
        headers=usual.headers.replace(_JSON, line, 1),
        body=body,
        content=None if method in _FREE else content,
    )


def segment(name: str) -> str:
    """A name as one segment of a path: it can neither end it nor leave it."""
    if name in (".", "..") or not name.isprintable():
        raise BadRequest("An id in the path is not one.")
    return quote(name, safe="-._~")


def _content_type(kind: bytes) -> bytes:
    try:
        return header_line(b"content-type", kind)
    except ValueError:
        raise BadRequest("The content type holds a character that is not allowed there.") from None
