"""Amazon's binary event stream (``application/vnd.amazon.eventstream``): frames out of bytes, bytes out of frames.

A frame is a prelude (total length, length of the headers, CRC-32 of these two), headers, payload and a CRC-32 of all
before it, numbers in network order. Both checksums are verified. What a payload says is the format's business.
"""

from __future__ import annotations

import struct
from binascii import crc32
from typing import TypeAlias

from msgspec import Struct

from tollway.wire.codec import Unreadable
from tollway.wire.sse import EventTooLarge

Header: TypeAlias = bool | int | bytes | str

CONTENT_TYPE = b"application/vnd.amazon.eventstream"

_PRELUDE = struct.Struct("!III")
_U32 = struct.Struct("!I")
_U16 = struct.Struct("!H")
_FIXED = {
    2: struct.Struct("!b"),
    3: struct.Struct("!h"),
    4: struct.Struct("!i"),
    5: struct.Struct("!q"),
    8: struct.Struct("!q"),
}
_SMALLEST = 16
MAX_HEADERS = 128 * 1024
MAX_FRAME = 24 * 1024 * 1024 + MAX_HEADERS + _SMALLEST
"""The largest payload the protocol knows is 24 MiB."""


class Frame(Struct, frozen=True):
    """One message: ``headers`` by name (``:message-type``, ``:event-type`` …) and the payload's bytes."""

    headers: dict[str, Header]
    payload: bytes

    def text(self, name: str) -> str:
        """A header that is a string; empty where it is missing or of another type."""
        value = self.headers.get(name)
        return value if isinstance(value, str) else ""


class FrameReader:
    """The frames of one stream, however its bytes are split. ``rest`` is the number of bytes of an unfinished one."""

    __slots__ = ("_held", "_limit", "_needed", "_pieces")

    def __init__(self, limit: int = MAX_FRAME) -> None:
        self._pieces: list[bytes] = []
        self._held = 0
        self._needed = 12
        self._limit = limit

    @property
    def rest(self) -> int:
        return self._held

    def feed(self, data: bytes) -> list[Frame]:
        """Raises Unreadable for a frame that is damaged, EventTooLarge for one beyond the bound."""
        if self._held:
            self._pieces.append(data)
            self._held += len(data)
            if self._held < self._needed:
                return []
            data = b"".join(self._pieces)
            self._pieces.clear()
            self._held = 0
        frames: list[Frame] = []
        start = 0
        end = len(data)
        self._needed = 12
        while end - start >= 12:
            total, headers, checksum = _PRELUDE.unpack_from(data, start)
            if crc32(data[start : start + 8]) != checksum:
                raise Unreadable("an event stream frame's prelude does not fit its checksum")
            if total > self._limit or headers > MAX_HEADERS:
                raise EventTooLarge(f"an event stream frame is larger than {self._limit} bytes")
            if total < _SMALLEST + headers:
                raise Unreadable("an event stream frame is shorter than its own parts")
            if end - start < total:
                self._needed = total
                break
            frames.append(_frame(data[start : start + total], headers))
            start += total
        if start < end:
            self._pieces.append(data[start:] if start else data)
            self._held = end - start
        return frames


def _frame(frame: bytes, headers: int) -> Frame:
    end = len(frame) - 4
    if crc32(frame[:end]) != _U32.unpack_from(frame, end)[0]:
        raise Unreadable("an event stream frame does not fit its checksum")
    try:
        read = _headers(frame[12 : 12 + headers])
    except (struct.error, IndexError, UnicodeDecodeError):
        raise Unreadable("an event stream frame's headers cannot be read") from None
    return Frame(read, frame[12 + headers : end])


def _headers(data: bytes) -> dict[str, Header]:
    found: dict[str, Header] = {}
    at = 0
    while at < len(data):
        length = data[at]
        at += 1
        name = data[at : at + length].decode()
        at += length
        kind = data[at]
        at += 1
        if kind in (6, 7):
            size = _U16.unpack_from(data, at)[0]
            at += 2
            if at + size > len(data):
                raise IndexError(name)
            value = data[at : at + size]
            found[name] = value.decode() if kind == 7 else value
            at += size
        elif kind in (0, 1):
            found[name] = kind == 0
        elif kind == 9:
            found[name] = data[at : at + 16]
            at += 16
        elif kind in _FIXED:
            found[name] = _FIXED[kind].unpack_from(data, at)[0]
            at += _FIXED[kind].size
        else:
            raise IndexError(name)
    return found


def encode(headers: dict[str, str], payload: bytes) -> bytes:
    """One frame with string headers, as services that speak this protocol send it."""
    parts = []
    for name, value in headers.items():
        key, text = name.encode(), value.encode()
        parts.append(bytes((len(key),)) + key + b"\x07" + _U16.pack(len(text)) + text)
    block = b"".join(parts)
    lengths = struct.pack("!II", _SMALLEST + len(block) + len(payload), len(block))
    frame = lengths + _U32.pack(crc32(lengths)) + block + payload
    return frame + _U32.pack(crc32(frame))
