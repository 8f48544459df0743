"""Reads a spool's segments, the one being written included, from the page cache. Damage costs the records it
hit and never stops a reader. Which segments exist is the spool's to say."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping
from pathlib import Path

from tollway.storage.quarantine import Quarantine
from tollway.storage.segments import SLOT, Position, is_blank, next_record, segment_path, split

_log = logging.getLogger(__name__)

_DAMAGE_SHOWN = 64 * 1024


class Reader:
    """``closed`` maps each finished segment to its size; ``end`` tells where the next record will be written.

    ``damaged`` counts stretches of unreadable bytes that were skipped, ``torn`` segments whose last record a
    crash cut off.
    """

    def __init__(
        self,
        directory: Path,
        closed: Mapping[int, int],
        end: Callable[[], Position],
        quarantine: Quarantine,
    ) -> None:
        self._directory = directory
        self._closed = closed
        self._end = end
        self._quarantine = quarantine
        self._number = self._descriptor = -1
        self.damaged = self.torn = 0

    def read(self, position: Position, max_bytes: int, max_records: int) -> tuple[list[bytes], Position]:
        """See ``Spool.read``."""
        most = max(max_bytes, SLOT)
        end = self._end()
        number, offset = position
        while True:
            if number != end.segment and number not in self._closed:
                following = self._after(number, end)
                if following is None:
                    return [], position
                number, offset = following, 0
            limit = end.offset if number == end.segment else self._closed[number]
            if offset >= limit:
                following = self._after(number, end)
                if following is None:
                    return [], Position(number, offset)
                number, offset = following, 0
                continue
            descriptor = self._open(number)
            chunk = os.pread(descriptor, min(most, limit - offset), offset)
            records, used, stopped = split(chunk, max_records)
            if records:
                return records, Position(number, offset + used)
            if stopped or len(chunk) < SLOT:
                offset = self._skip(descriptor, number, offset, limit)

    def close(self) -> None:
        """Let go of the file; the next read opens what it needs."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
        self._number = self._descriptor = -1

    def _after(self, number: int, end: Position) -> int | None:
        return min((each for each in (*self._closed, end.segment) if each > number), default=None)

    def _open(self, number: int) -> int:
        if self._number != number:
            self.close()
            path = segment_path(self._directory, number)
            self._descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            self._number = number
        return self._descriptor

    def _skip(self, descriptor: int, number: int, offset: int, limit: int) -> int:
        """Past what cannot be read at ``offset``: to the next intact record, or to the end of the segment."""
        where = segment_path(self._directory, number)
        found = next_record(descriptor, offset + 1, limit)
        if found is None:
            if not is_blank(descriptor, offset, limit):
                self.torn += 1
                _log.warning("%s ends in a torn record at %d", where, offset)
            return limit
        self.damaged += 1
        _log.error("%s is damaged from %d to %d: skipped", where, offset, found)
        lost = os.pread(descriptor, min(found - offset, _DAMAGE_SHOWN), offset)
        try:
            self._quarantine.put(lost, f"damaged, segment {number}, bytes {offset} to {found}")
        except OSError as error:
            _log.error("the damaged bytes could not be put aside: %s", error)
        return found
