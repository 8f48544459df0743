"""The local spool: makes a usage event durable against a killed process before the client is answered.

Room is admitted before the upstream is asked (``enter``) and lies preallocated on the disk, so an admitted
event always fits. One process owns a directory. What payloads mean, and where they go, is not known here.
"""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import secrets
import threading
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from zlib import crc32

from tollway.config.settings import SpoolSettings
from tollway.errors import ConfigError, StoreUnavailable
from tollway.storage.quarantine import Quarantine
from tollway.storage.reader import Reader
from tollway.storage.segments import (
    BEGINNING,
    HEADER,
    RECORD_LIMIT,
    SLOT,
    Position,
    is_blank,
    preallocate,
    reopen_blank,
    segment_numbers,
    segment_path,
)

__all__ = ["BEGINNING", "RECORD_LIMIT", "Position", "Spool"]

_log = logging.getLogger(__name__)

RECENT_LIMIT = 4096
"""Records remembered for ``take``: past that the older ones are read back from their files."""

KEPT_LIMIT = 256
"""Records held in memory after failed writes before new requests are refused."""

_RETRY_ROOM = 0.1
_MIN_SEGMENT = 8 * SLOT

_pack = HEADER.pack
_pwrite = os.pwrite


class Spool:
    """Append-only records in preallocated segments under ``directory``, which is created.

    ``enter``, ``append``, ``leave``, ``read``, ``retry`` and ``release`` belong to one thread (the event
    loop's); a thread of the spool's own prepares segments and flushes. Raises StoreUnavailable when another
    process owns the directory, ConfigError when the settings leave no room for two segments, OSError when the
    directory cannot be made. A full disk does not stop it: ``enter`` refuses until there is room.

    Counters: ``write_errors`` failed appends, ``sync_errors`` failed flushes, ``overrun`` segments used again
    before a soft holder had read them.
    """

    def __init__(
        self, directory: Path, settings: SpoolSettings, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._segment_bytes = settings.segment_bytes
        self._max_bytes = settings.max_bytes
        if self._segment_bytes < _MIN_SEGMENT:
            raise ConfigError([f"spool.segment_bytes must be at least {_MIN_SEGMENT}"])
        if self._max_bytes < 2 * self._segment_bytes:
            raise ConfigError(["spool.max_bytes must be at least twice spool.segment_bytes"])
        self.directory = directory
        self._clock = clock
        self._fsync = settings.fsync
        self._slots = self._segment_bytes // SLOT
        self.write_errors = self.sync_errors = self.overrun = 0

        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._lock_fd = _own(directory)
        self.id = _identity(directory)

        # Admission: ``_sure`` records fit into spare segments, whatever happens to the one being written.
        self._held = 0
        self._sure = 0
        self._kept: deque[bytes] = deque()
        self._kept_why = self._no_room = self._sync_why = ""
        self._no_room_at = -1e9
        self._retries = 0

        # Segments: closed ones (number: bytes) await the reader, freed ones reuse; spares are ready to write.
        self._recent: deque[tuple[int, int, bytes, object]] = deque()
        self._remembers = False
        self._forgotten = BEGINNING
        self._changing = threading.Lock()
        self._making = threading.Lock()
        self._closed: dict[int, int] = {}
        self._freed: list[int] = []
        self._spares: deque[tuple[int, int]] = deque()
        self._retired: list[int] = []
        self._clean: set[int] = set()
        self._names_changed = False
        self._number = self._offset = self._size = 0
        self._synced = BEGINNING
        self._fd = -1
        self.quarantine = Quarantine(directory)
        self._reader = Reader(directory, self._closed, lambda: self.end, self.quarantine)
        self._holders: dict[str, tuple[int, bool]] = {}
        self._patience = min(4, self._max_bytes // self._segment_bytes // 4)
        self._stopping = False
        self._nudge = threading.Event()
        self._recover()
        self._tender = threading.Thread(target=self._tend, name="tollway-spool", daemon=True)
        self._tender.start()

    # -- the hot path

    @staticmethod
    def fits(payload: bytes) -> bool:
        return 0 < len(payload) <= RECORD_LIMIT

    def enter(self) -> None:
        """Reserve room for one record. Raises StoreUnavailable, saying what to do, when there may be none."""
        held = self._held + 1
        if held > self._sure:
            self._admit(held)
        self._held = held

    def leave(self) -> None:
        """Give the reservation back, whether or not a record was appended."""
        self._held -= 1

    def append(self, payload: bytes, meaning: object = None) -> None:
        """Write one record, between ``enter`` and ``leave``. Raises ValueError unless ``fits(payload)``.

        ``meaning`` is what whoever reads the record would make of it again; ``take`` gives it back. A failing disk
        does not raise: the record is kept in memory and written by ``retry``.
        """
        length = len(payload)
        if not 0 < length <= RECORD_LIMIT:
            raise ValueError(f"a record takes 1 to {RECORD_LIMIT} bytes, not {length}")
        offset = self._offset
        end = offset + 8 + length
        if end > self._size:
            self._append_to_next(payload, meaning)
            return
        try:
            written = _pwrite(self._fd, _pack(length, crc32(payload)) + payload, offset)
        except OSError as error:
            self._keep(payload, error)
            return
        if written != 8 + length:
            self._keep(payload, OSError(errno.EIO, f"only {written} of {8 + length} bytes were written"))
            return
        self._offset = end
        if self._remembers:
            recent = self._recent
            recent.append((self._number, offset, payload, meaning))
            if len(recent) > RECENT_LIMIT:
                number, offset, payload, _ = recent.popleft()
                self._forgotten = Position(number, offset + 8 + len(payload))

    def _append_to_next(self, payload: bytes, meaning: object) -> None:
        if self._rotate():
            self.append(payload, meaning)
        else:
            # Unreachable for an admitted record: its room was in a spare segment.
            self._keep(payload, OSError(errno.ENOSPC, self._no_room))

    def _keep(self, payload: bytes, error: OSError) -> None:
        # The offset stays, so the next write covers whatever part of this one reached the file.
        self.write_errors += 1
        self._kept_why = error.strerror or str(error)
        if not self._kept and not self._retries:
            _log.error("an event could not be written to %s and waits in memory: %s", self.directory, error)
        self._kept.append(payload)
        with self._changing:
            self._recount()

    # -- admission

    def _recount(self) -> None:
        self._sure = len(self._spares) * self._slots - len(self._kept)
        if len(self._kept) >= KEPT_LIMIT:
            self._sure = -1

    def _admit(self, held: int) -> None:
        if len(self._kept) >= KEPT_LIMIT:
            raise StoreUnavailable(
                f"The event spool in {self.directory} cannot be written ({self._kept_why}), so the request "
                "was not sent to a provider. Check the disk."
            )
        while held > self._sure + (self._size - self._offset) // SLOT:
            now = self._clock()
            # A disk that was full a moment ago is not asked again for every request.
            known = self._no_room if now - self._no_room_at < _RETRY_ROOM else ""
            if known or not self._add_spare():
                why = known or self._no_room or f"There was no room for the event spool in {self.directory}."
                raise StoreUnavailable(f"{why} The request was not sent to a provider.")
        self._nudge.set()

    def _add_spare(self) -> bool:
        """Prepare one more segment, a freed or a new one; False, with the reason kept, if neither can be."""
        before = len(self._spares)
        with self._making:
            # The other thread may just have made one. To refuse meanwhile, for the room it took, would be wrong.
            return len(self._spares) > before or self._make_spare()

    def _make_spare(self) -> bool:
        fresh = self.directory / "new-segment.tmp"
        with self._changing:
            reused = self._freed.pop() if self._freed else None
            total = self._total()
        try:
            if reused is not None:
                os.rename(segment_path(self.directory, reused), fresh)
                descriptor = reopen_blank(fresh, 0 if reused in self._clean else self._segment_bytes)
            elif total + self._segment_bytes <= self._max_bytes:
                descriptor = preallocate(fresh, self._segment_bytes)
            else:
                self._refuse(
                    f"The event spool in {self.directory} is at its bound "
                    f"(spool.max_bytes, {self._max_bytes} bytes) because the database takes no events. "
                    "Bring the database back or raise the bound."
                )
                return False
        except OSError as error:
            fresh.unlink(missing_ok=True)
            self._refuse(
                f"There is no room for the event spool in {self.directory} ({error.strerror}). "
                "Free disk space there or move the data directory."
            )
            return False
        with self._changing:
            # Numbered only now, so that spares stand in rising order.
            number = (self._spares[-1][0] if self._spares else self._number) + 1
            os.rename(fresh, segment_path(self.directory, number))
            self._spares.append((number, descriptor))
            self._recount()
        self._names_changed = True
        self._no_room = ""
        return True

    def _refuse(self, why: str) -> None:
        if not self._no_room:
            _log.error(why)
        self._no_room = why
        self._no_room_at = self._clock()

    def _total(self) -> int:
        whole = len(self._spares) + len(self._freed)
        return sum(self._closed.values()) + whole * self._segment_bytes + self._size

    def _rotate(self) -> bool:
        if not self._spares and not self._add_spare():
            return False
        with self._changing:
            number, descriptor = self._spares.popleft()
            if self._fd >= 0:
                self._closed[self._number] = self._size
                self._retired.append(self._fd)
            self._number, self._fd = number, descriptor
            self._offset, self._size = 0, self._segment_bytes
            self._recount()
        self._nudge.set()
        return True

    # -- reading

    @property
    def end(self) -> Position:
        """Where the next record goes. Equal to a reader's position when it has read everything."""
        return Position(self._number, self._offset)

    def backlog(self, position: Position) -> int:
        """Bytes between ``position`` and the end, unused room at the end of segments included."""
        if position.segment == self._number:
            return self._offset - position.offset
        waiting = sum(size for number, size in self._closed.items() if number >= position.segment)
        return waiting + self._offset - (position.offset if position.segment in self._closed else 0)

    def read(
        self, position: Position, max_bytes: int = 256 * 1024, max_records: int = 256
    ) -> tuple[list[bytes], Position]:
        """Intact records from ``position`` on, in order, and the position after them.

        No records mean that everything was read. Damage is skipped, counted and kept in
        ``quarantine.ndjson``. Raises OSError when a segment cannot be read at all.
        """
        return self._reader.read(position, max_bytes, max_records)

    def remember(self) -> None:
        """Keep what is appended from now on for ``take``, up to ``RECENT_LIMIT`` records."""
        self._remembers = True
        self._forgotten = self.end

    def take(
        self, position: Position, max_records: int
    ) -> tuple[list[tuple[bytes, object]], Position] | None:
        """Records from ``position`` on with their meanings, and the position after them, where all of them are still
        in memory; None where they have to be ``read``. Each is given out once, so there is one reader that takes."""
        if position < self._forgotten:
            return None
        recent = self._recent
        taken: list[tuple[bytes, object]] = []
        end = position
        while recent and len(taken) < max_records:
            number, offset, payload, meaning = recent.popleft()
            if (number, offset) >= position:
                taken.append((payload, meaning))
                end = Position(number, offset + 8 + len(payload))
        self._forgotten = end
        return taken, end

    @property
    def damaged(self) -> int:
        """Stretches of unreadable bytes that were skipped while reading."""
        return self._reader.damaged

    @property
    def torn(self) -> int:
        """Segments whose last record a crash cut off."""
        return self._reader.torn

    def release(self, position: Position, holder: str = "ledger", *, soft: bool = False) -> None:
        """``holder`` has every record before ``position``: segments that all holders are past may be used
        again.

        A ``soft`` holder is waited for over a few segments only; what it then misses is counted in
        ``overrun``. A holder counts from its first call on, so it calls once with ``BEGINNING`` when it is
        made.
        """
        self._holders[holder] = (position.segment, soft)
        everyone = min(segment for segment, _ in self._holders.values())
        firm = min((segment for segment, soft in self._holders.values() if not soft), default=everyone)
        done = [number for number in self._closed if number < everyone]
        waiting = sorted(number for number in self._closed if everyone <= number < firm)
        overrun = waiting[: max(0, len(waiting) - self._patience)]
        self.overrun += len(overrun)
        done += overrun
        if not done:
            return
        self._reader.close()
        with self._changing:
            for number in done:
                size = self._closed.pop(number)
                if size == self._segment_bytes:
                    self._freed.append(number)
                else:
                    segment_path(self.directory, number).unlink(missing_ok=True)
        self._no_room_at = -1e9
        self._nudge.set()

    # -- recovery and background work

    @property
    def degraded(self) -> str | None:
        """What is wrong, for readiness; None when nothing is."""
        if self._kept:
            return f"{len(self._kept)} events wait in memory: the spool cannot be written ({self._kept_why})"
        return self._no_room or self._sync_why or None

    def retry(self) -> None:
        """Write what earlier failed to be written. Called every so often by the ledger's loop."""
        kept = self._kept
        if not kept:
            self._retries = 0
            return
        self._retries += 1
        # A bad block never heals: after a few tries go on in another segment, if what was admitted fits.
        if self._retries > 3 and self._sure - self._slots >= self._held and self._rotate():
            self._retries = 0
        for _ in range(len(kept)):
            failures = self.write_errors
            self.append(kept.popleft())
            if self.write_errors != failures:
                kept.rotate(1)
                break
        with self._changing:
            self._recount()
        if not kept:
            _log.info("the events kept in memory are written to %s", self.directory)

    def _recover(self) -> None:
        """Take over what an earlier process left. Writing always begins in a new segment: after a power cut
        the old one may hold less than the database has taken, and a position must never be used twice."""
        for leftover in self.directory.glob("new-*.tmp"):
            leftover.unlink()
        for number in segment_numbers(self.directory):
            path = segment_path(self.directory, number)
            size = path.stat().st_size
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            try:
                if size == self._segment_bytes and is_blank(descriptor, 0, size):
                    self._freed.append(number)
                    self._clean.add(number)
                else:
                    self._closed[number] = size
            finally:
                os.close(descriptor)
            self._number = number
        self._rotate()
        self._add_spare()
        _sync_directory(self.directory)

    def _tend(self) -> None:
        """The spool's own thread: keeps spares ready, frees what is surplus, flushes."""
        every = 5.0 if self._fsync is None else max(0.01, self._fsync)
        due = time.monotonic() + every
        while not self._stopping:
            self._nudge.wait(max(0.0, due - time.monotonic()))
            self._nudge.clear()
            self._prepare()
            if time.monotonic() >= due or self._retired:
                self._flush()
                due = time.monotonic() + every

    def _prepare(self) -> None:
        wanted = 1 + 2 * max(0, self._held + len(self._kept)) // self._slots
        while len(self._spares) < wanted and not self._stopping:
            if not self._add_spare():
                break
        else:
            self._no_room = ""
        if self._names_changed and self._fsync is not None:
            self._names_changed = False
            _sync_directory(self.directory)
        with self._changing:
            # A backlog that was worked off leaves many; one is kept for a disk that fills up meanwhile.
            surplus = self._freed[1:]
            del self._freed[1:]
        for number in surplus:
            segment_path(self.directory, number).unlink(missing_ok=True)

    def _flush(self) -> None:
        with self._changing:
            retired, self._retired = self._retired, []
            current, place = self._fd, Position(self._number, self._offset)
        why = ""
        for descriptor in [*retired, current]:
            try:
                if self._fsync is not None and (descriptor != current or place != self._synced):
                    os.fdatasync(descriptor)
            except OSError as error:
                self.sync_errors += 1
                why = f"flushing the spool to the disk fails ({error.strerror})"
        if why and not self._sync_why:
            _log.error("%s: %s", self.directory, why)
        self._sync_why = why
        if not why:
            self._synced = place
        for descriptor in retired:
            os.close(descriptor)

    def close(self) -> None:
        """Flush, stop the thread, give up the directory. Records stay for the next process."""
        self.retry()
        if self._kept:
            _log.critical(
                "%d events could not be written to %s and are lost", len(self._kept), self.directory
            )
        self._stopping = True
        self._nudge.set()
        self._tender.join()
        self._flush()
        self._reader.close()
        for _, descriptor in self._spares:
            os.close(descriptor)
        if self._fd >= 0:
            os.close(self._fd)
        self._fd = -1
        os.close(self._lock_fd)


def _own(directory: Path) -> int:
    descriptor = os.open(directory / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        owner = os.pread(descriptor, 32, 0).decode(errors="replace").strip() or "unknown"
        os.close(descriptor)
        raise StoreUnavailable(
            f"The event spool in {directory} belongs to the running process {owner}. "
            "Stop it, or give this one a data directory of its own."
        ) from error
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
    return descriptor


def _identity(directory: Path) -> str:
    """The spool's name in the database, made once. Two directories never share their positions."""
    path = directory / "id"
    if path.exists() and (known := path.read_text().strip()):
        return known
    made = secrets.token_hex(8)
    temporary = directory / "new-id.tmp"
    temporary.write_text(made)
    with temporary.open("rb") as file:
        os.fsync(file.fileno())
    temporary.replace(path)
    return made


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
