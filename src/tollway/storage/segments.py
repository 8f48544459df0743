"""The files of the spool: preallocated segments of framed records, and how to read damaged ones.

A record is u32 length, u32 crc32, payload (little-endian); a zero length ends a segment. Knows nothing of
admission or of what the payloads mean.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from struct import Struct
from typing import NamedTuple
from zlib import crc32

RECORD_LIMIT = 8 * 1024
HEADER = Struct("<II")
SLOT = RECORD_LIMIT + HEADER.size
"""The most bytes one record can take."""

_SUFFIX = ".spool"
_PIECE = 1024 * 1024
_ZEROS = bytes(_PIECE)
# A plausible header: a length of 1..0x20ff. JSON holds no zero byte, so inside records this rarely matches.
_PLAUSIBLE = re.compile(rb"(?=(?:[\x01-\xff][\x00-\x20]|\x00[\x01-\x20])\x00\x00)", re.DOTALL)


class Position(NamedTuple):
    """A place in the spool: everything before it has been taken. ``Position(0, 0)`` is the beginning."""

    segment: int
    offset: int


BEGINNING = Position(0, 0)


class Split(NamedTuple):
    """Records found at the start of a chunk, the bytes they take, and whether what follows is not a record
    (a zero length or damage) rather than a record the chunk cut off."""

    records: list[bytes]
    used: int
    stopped: bool


def segment_path(directory: Path, number: int) -> Path:
    return directory / f"{number:08d}{_SUFFIX}"


def segment_numbers(directory: Path) -> list[int]:
    """The segments in a directory, oldest first."""
    stems = (path.stem for path in directory.glob(f"*{_SUFFIX}"))
    return sorted(int(stem) for stem in stems if stem.isdigit())


def preallocate(path: Path, size: int) -> int:
    """Create a file whose room is reserved on the disk; returns its descriptor. OSError leaves no file."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        os.posix_fallocate(descriptor, 0, size)
    except OSError:
        os.close(descriptor)
        path.unlink()
        raise
    return descriptor


def reopen_blank(path: Path, used: int) -> int:
    """Open a segment again with its first ``used`` bytes overwritten by zeros; its room on the disk stays."""
    descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        for at in range(0, used, _PIECE):
            os.pwrite(descriptor, memoryview(_ZEROS)[: used - at], at)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def is_blank(descriptor: int, start: int, end: int) -> bool:
    for at in range(start, end, _PIECE):
        piece = os.pread(descriptor, min(_PIECE, end - at), at)
        if piece != bytes(len(piece)):
            return False
    return True


def split(chunk: bytes, most: int) -> Split:
    """At most ``most`` whole, intact records from the start of a chunk."""
    records: list[bytes] = []
    unpack_from = HEADER.unpack_from
    size, at = len(chunk), 0
    while at + 8 <= size and len(records) < most:
        length, checksum = unpack_from(chunk, at)
        if not 0 < length <= RECORD_LIMIT:
            return Split(records, at, True)
        end = at + 8 + length
        if end > size:
            break
        payload = chunk[at + 8 : end]
        if crc32(payload) != checksum:
            return Split(records, at, True)
        records.append(payload)
        at = end
    return Split(records, at, False)


def next_record(descriptor: int, start: int, end: int) -> int | None:
    """The offset of the first intact record at or after ``start``; None when there is none before ``end``."""
    for base in range(start, end, _PIECE):
        # Pieces overlap by a record, so that one lying across their border is seen whole.
        piece = os.pread(descriptor, min(_PIECE + SLOT, end - base), base)
        if piece == bytes(len(piece)):
            continue
        for match in _PLAUSIBLE.finditer(piece):
            at = match.start()
            if at + 8 > len(piece):
                break
            length, checksum = HEADER.unpack_from(piece, at)
            end_at = at + 8 + length
            if length > RECORD_LIMIT or end_at > len(piece):
                continue
            if crc32(memoryview(piece)[at + 8 : end_at]) == checksum:
                return base + at
    return None
