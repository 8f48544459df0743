"""Malformed answers: what a broken or hostile provider, or a proxy in between, puts on the wire."""

from __future__ import annotations

import re

HUGE_HEADER = 128 * 1024
HUGE_BODY = 16 * 1024 * 1024
GARBAGE = 64
INFORMATIONAL = 100
"""Interim answers before the final one."""

_CONTENT_TYPE = re.compile(rb"content-type: [^\r]*")


ENDS = {"sse": b"\n\n", "lines": b"\n"}
"""What ends an event of a stream, by its form."""


def break_body(pieces: list[bytes], form: str | None, kind: str | None, size: int | None) -> list[bytes]:
    """Faults of content: valid HTTP around something that is not what it says. ``form`` is None for one body."""
    middle = len(pieces) // 2 if form else 0
    match kind:
        case "json" | "sse_json":
            broken = pieces[middle]
            cut = broken[: len(broken) // 2] + ENDS.get(form or "", b"")
            return [*pieces[:middle], cut, *pieces[middle + 1 :]]
        case "utf8":
            broken = pieces[middle]
            half = len(broken) // 2
            return [*pieces[:middle], broken[:half] + b"\xff\xfe" + broken[half:], *pieces[middle + 1 :]]
        case "body_huge":
            padding = b" " * (HUGE_BODY if size is None else size)
            broken = pieces[middle]
            # Space inside the JSON value's line: the answer stays valid, only too large.
            if form == "sse":
                padded = broken.replace(b"data: ", b"data: " + padding, 1)
            elif form == "lines":
                padded = broken[:-1] + padding + b"\n"
            else:
                padded = broken + padding
            return [*pieces[:middle], padded, *pieces[middle + 1 :]]
        case "body_empty":
            return [] if form else [b""]
        case _:
            return pieces


def break_head(
    head: bytes, body: list[bytes], length: int, kind: str | None, size: int | None
) -> tuple[bytes, list[bytes]]:
    """Faults of HTTP itself. ``head`` ends in its empty line, ``length`` is the body's true length."""
    right = b"content-length: %d\r\n" % length
    match kind:
        case "status_line":
            head = b"HTTP/1.1 abc Nonsense\r\n" + head.partition(b"\r\n")[2]
        case "header_line":
            head = _with(head, b"this line has no colon")
        case "header_nul":
            head = _with(head, b"x-broken: a\0b")
        case "header_huge":
            head = _with(head, b"x-huge: " + b"a" * (HUGE_HEADER if size is None else size))
        case "informational":
            head = b"HTTP/1.1 103 Early Hints\r\nlink: </style.css>\r\n\r\n" * INFORMATIONAL + head
        case "two_lengths":
            head = _with(head, b"content-length: %d" % (length + 7))
        case "length_and_chunked":
            head = _with(head, b"content-length: %d" % max(length - 7, 0))
        case "length_long":
            head = head.replace(right, b"content-length: %d\r\n" % (length + 64))
        case "length_short":
            head = head.replace(right, b"content-length: %d\r\n" % (length // 2))
        case "chunk_size":
            if body:
                body = [*body[:-1], b"zz" + body[-1]]
        case "content_type":
            head = _CONTENT_TYPE.sub(b"content-type: text/html", head, count=1)
        case "encoding":
            head = _with(head, b"content-encoding: gzip")
        case "garbage":
            wanted = GARBAGE if size is None else size
            return (bytes(range(256)) * (wanted // 256 + 1))[:wanted], []
        case _:
            pass
    return head, body


def _with(head: bytes, line: bytes) -> bytes:
    return head[:-2] + line + b"\r\n\r\n"
