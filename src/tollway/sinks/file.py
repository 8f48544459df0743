"""Usage events in a file, one JSON object a line. The file may be rotated by others at any time; rotating and
compressing is not done here."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from pathlib import Path

from tollway.sinks.interface import lines


class FileSink:
    """Appends to ``path``, which is created, and opened again once it was moved or removed."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor = -1

    async def write(self, batch: Sequence[bytes]) -> None:
        await asyncio.to_thread(self._write, lines(batch))

    def _write(self, data: bytes) -> None:
        self._reopen_if_moved()
        start = os.fstat(self._descriptor).st_size
        view = memoryview(data)
        try:
            while view:
                view = view[os.write(self._descriptor, view) :]
        except OSError:
            # A disk that filled up half-way: the batch comes again, so half a line must not stay.
            os.ftruncate(self._descriptor, start)
            raise

    def _reopen_if_moved(self) -> None:
        if self._descriptor >= 0:
            ours = os.fstat(self._descriptor)
            try:
                there = os.stat(self._path)
            except FileNotFoundError:
                there = None
            if there is not None and (there.st_dev, there.st_ino) == (ours.st_dev, ours.st_ino):
                return
            os.close(self._descriptor)
            self._descriptor = -1
        self._path.parent.mkdir(parents=True, exist_ok=True)
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
        self._descriptor = os.open(self._path, flags, 0o600)

    async def close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
