"""The smallest true pictures and sounds: one white point, and silence."""

from __future__ import annotations

import struct
import zlib
from base64 import b64encode
from functools import lru_cache


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def point() -> bytes:
    """A PNG of one white pixel."""
    header = struct.pack(">IIBBBBB", 1, 1, 8, 2, 0, 0, 0)
    pixel = zlib.compress(b"\0\xff\xff\xff")
    return b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", header) + _chunk(b"IDAT", pixel) + _chunk(b"IEND", b"")


PNG_BYTES = point()
PNG = b64encode(PNG_BYTES).decode()

RATE = 24_000


def wave(samples: int) -> bytes:
    """A WAV of silence: one channel, 16 bits, 24 kHz."""
    data = b"\0\0" * samples
    form = struct.pack("<HHIIHH", 1, 1, RATE, RATE * 2, 2, 16)
    inner = b"WAVEfmt " + struct.pack("<I", len(form)) + form + b"data" + struct.pack("<I", len(data)) + data
    return b"RIFF" + struct.pack("<I", len(inner)) + inner


@lru_cache(maxsize=16)
def silence(samples: int) -> str:
    """Base64 of so many samples of silence, 16 bits each."""
    return b64encode(b"\0\0" * samples).decode()
