"""Usage events on the standard output, one JSON object a line."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence

from tollway.sinks.interface import lines


class StdoutSink:
    """Writes to a file descriptor (1 by default) in a thread: a reader that stalls must not stop the loop."""

    def __init__(self, descriptor: int = 1) -> None:
        self._descriptor = descriptor

    async def write(self, batch: Sequence[bytes]) -> None:
        await asyncio.to_thread(self._write, lines(batch))

    def _write(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            view = view[os.write(self._descriptor, view) :]

    async def close(self) -> None:
        return None
