"""Server-sent events as bytes: where events end, and what one event says.

Source: the WHATWG HTML standard, section 9.2 (CR, LF and CRLF end lines, a leading BOM is skipped, several ``data``
lines join by LF). Works on bytes so that a character split between two reads is never torn.
"""

from __future__ import annotations

import re

_BLANK_LINE = re.compile(rb"(?:\r\n|\n|\r(?!\n))(?:\r\n|\n|\r(?!\n))")
_LINE_END = re.compile(rb"\r\n|\n|\r")
BOM = b"\xef\xbb\xbf"


class EventTooLarge(ValueError):
    """An event grew beyond the bound before it ended."""


class Splitter:
    """Cuts a byte stream after the last complete event. Holds back what is incomplete, at most ``limit`` bytes."""

    __slots__ = ("_begun", "_edge", "_held", "_limit", "_pieces")

    def __init__(self, limit: int = 16 * 1024 * 1024) -> None:
        self._pieces: list[bytes] = []
        self._held = 0
        self._edge = b""
        self._limit = limit
        self._begun = False

    def feed(self, data: bytes) -> bytes:
        """Bytes up to and including the last blank line seen; empty while no event is complete."""
        if self._held:
            # A large event comes in many pieces: what has been searched is not searched again with each of them.
            seam = self._edge + data
            if self._begun and b"\n\n" not in seam and (b"\r" not in seam or not _BLANK_LINE.search(seam)):
                self._hold(data)
                return b""
            data = self.rest() + data
            self._pieces.clear()
            self._held = 0
            self._edge = b""
        if not self._begun:
            if len(data) < 3 and BOM.startswith(data):
                self._hold(data)
                return b""
            self._begun = True
            if data.startswith(BOM):
                data = data[3:]
        if data.endswith(b"\n\n"):
            return data
        if b"\r" not in data:
            end = data.rfind(b"\n\n") + 2
            if end == 1:
                end = 0
        else:
            end = 0
            # A CR at the very end may be half of a CRLF: what it ends is decided by the next byte.
            for match in _BLANK_LINE.finditer(data):
                if match.end() == len(data) and data.endswith(b"\r"):
                    break
                end = match.end()
        self._hold(data[end:])
        return data[:end]

    def single(self, data: bytes) -> bool:
        """Whether this read is one whole event of one line, and nothing is held back: ``feed`` would give it back."""
        end = len(data) - 2
        return (
            self._held == 0
            and self._begun
            and end > 0
            and data[end] == 10
            and data[end + 1] == 10
            and 10 not in data[:end]  # as numbers: looking for bytes raises and clears an error first
            and 13 not in data
        )

    def rest(self) -> bytes:
        """What is held back: an event that has not ended."""
        return b"".join(self._pieces)

    def _hold(self, data: bytes) -> None:
        self._pieces.append(data)
        self._held += len(data)
        self._edge = (self._edge + data)[-3:]  # a blank line is four bytes at most
        if self._held > self._limit:
            raise EventTooLarge(f"an event is larger than {self._limit} bytes")


class Event:
    """One event: its ``data`` (lines joined by LF; None without a data line) and its ``event`` name."""

    __slots__ = ("data", "name")

    def __init__(self, data: bytes | None, name: bytes) -> None:
        self.data = data
        self.name = name

    def __repr__(self) -> str:
        return f"Event(data={self.data!r}, name={self.name!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Event) and (self.data, self.name) == (other.data, other.name)

    __hash__ = None  # type: ignore[assignment]


def split(block: bytes) -> list[bytes]:
    """The single events of a block of whole events, each with its own ending; comments included."""
    if b"\r" not in block:
        return [part + b"\n\n" for part in block.split(b"\n\n") if part.strip(b"\n")]
    parts = []
    start = 0
    for match in _BLANK_LINE.finditer(block):
        part = block[start : match.end()]
        if part.strip(b"\r\n"):
            parts.append(part)
        start = match.end()
    if block[start:].strip(b"\r\n"):
        parts.append(block[start:])
    return parts


def parse(block: bytes) -> Event:
    """One event's fields. Comments and unknown fields are skipped."""
    data: list[bytes] = []
    name = b""
    lines = _LINE_END.split(block) if b"\r" in block else block.split(b"\n")
    for line in lines:
        field, colon, value = line.partition(b":")
        if not field and colon:
            continue
        if value.startswith(b" "):
            value = value[1:]
        if field == b"data":
            data.append(value)
        elif field == b"event":
            name = value
    return Event(b"\n".join(data) if data else None, name)


def encode(data: bytes) -> bytes:
    """An event carrying ``data``, one data line for each of its lines."""
    return b"data: " + data.replace(b"\n", b"\ndata: ") + b"\n\n"
