"""Bytes nobody could make sense of, put aside where a person can look at them. Nothing is ever read back."""

from __future__ import annotations

import base64
import os
from pathlib import Path

import msgspec


class Quarantine:
    """``quarantine.ndjson`` in ``directory``: one JSON object a line, ``why`` and ``base64``.

    ``count`` is how many were put aside since the process began.
    """

    def __init__(self, directory: Path) -> None:
        self._path = directory / "quarantine.ndjson"
        self.count = 0

    def put(self, record: bytes, why: str) -> None:
        """Durable when it returns. Raises OSError."""
        line = msgspec.json.encode({"why": why, "base64": base64.b64encode(record).decode()}) + b"\n"
        descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            os.write(descriptor, line)
            os.fdatasync(descriptor)
        finally:
            os.close(descriptor)
        self.count += 1
