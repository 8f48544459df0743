"""The contract of log sinks: take a batch of usage events, each the JSON of one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol


class LogSink(Protocol):
    async def write(self, batch: Sequence[bytes]) -> None:
        """Take the batch whole. Raises OSError when it could not; the batch is then offered again."""

    async def close(self) -> None: ...


def lines(batch: Sequence[bytes]) -> bytes:
    """A batch as NDJSON. A provider's verbatim usage may hold line breaks; in JSON they stand between
    tokens only, where a blank does as well."""
    text = b"\n".join(record.replace(b"\n", b" ").replace(b"\r", b" ") for record in batch)
    return text + b"\n" if text else b""
