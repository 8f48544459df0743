"""AWS's event stream encoding (vnd.amazon.eventstream): lengths, headers and payload between two checksums."""

from __future__ import annotations

import struct
from zlib import crc32

import msgspec

CONTENT_TYPE = b"application/vnd.amazon.eventstream"

STRING = 7
"""The type of a header's value; no other is needed."""


def frame(headers: dict[str, str], payload: object) -> bytes:
    """One message: the payload's JSON below its headers."""
    body = msgspec.json.encode(payload)
    head = b"".join(
        struct.pack(">B", len(name)) + name.encode() + struct.pack(">BH", STRING, len(value)) + value.encode()
        for name, value in {**headers, ":content-type": "application/json"}.items()
    )
    prelude = struct.pack(">II", 16 + len(head) + len(body), len(head))
    message = prelude + struct.pack(">I", crc32(prelude)) + head + body
    return message + struct.pack(">I", crc32(message))


def event(kind: str, payload: object) -> bytes:
    return frame({":event-type": kind, ":message-type": "event"}, payload)
