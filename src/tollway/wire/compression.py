"""Undoing content-encodings, incrementally and with a bound on what one answer may inflate to."""

from __future__ import annotations

import zlib
from collections.abc import Callable

MAX_RATIO = 250
FREE_BYTES = 8 * 1024 * 1024
"""An answer may inflate to FREE_BYTES whatever its ratio; past that its ratio is bounded (a bomb has 1,000 or more)."""


class DecompressionError(ValueError):
    """The bytes are not what content-encoding says, or they inflate beyond the bound."""


class Decompressor:
    """Feeds one answer's encoded bytes through a library decoder. ``feed`` and ``finish`` raise DecompressionError."""

    __slots__ = ("_decode", "_end", "_inflated", "_taken")

    def __init__(self, decode: Callable[[bytes], bytes], end: Callable[[], bytes]) -> None:
        self._decode = decode
        self._end = end
        self._taken = 0
        self._inflated = 0

    def feed(self, data: bytes) -> bytes:
        parts = []
        view = memoryview(data)
        for start in range(0, len(data), 4096):  # small bites: a bomb is noticed before it has inflated far
            bite = bytes(view[start : start + 4096])
            try:
                part = self._decode(bite)
            except Exception as error:
                raise DecompressionError("the body is not what its content-encoding says") from error
            self._taken += len(bite)
            self._inflated += len(part)
            if self._inflated > FREE_BYTES and self._inflated > self._taken * MAX_RATIO:
                raise DecompressionError("the body inflates beyond the bound")
            parts.append(part)
        return b"".join(parts)

    def finish(self) -> bytes:
        try:
            return self._end()
        except Exception as error:
            raise DecompressionError("the encoded body ends too early") from error


def decompressor(encoding: bytes) -> Decompressor | None:
    """A decoder for a content-encoding value (``gzip``, ``deflate``, ``br``, ``zstd``); None for identity.

    Raises DecompressionError for an encoding we do not know, stacked encodings included.
    """
    name = encoding.strip().lower()
    if name in (b"", b"identity"):
        return None
    if name in (b"gzip", b"x-gzip"):
        inflate = zlib.decompressobj(wbits=zlib.MAX_WBITS | 16)
        return Decompressor(inflate.decompress, inflate.flush)
    if name == b"deflate":
        inflate = zlib.decompressobj(wbits=zlib.MAX_WBITS)
        return Decompressor(inflate.decompress, inflate.flush)
    if name == b"br":
        import brotli

        brotli_decoder = brotli.Decompressor()
        return Decompressor(brotli_decoder.process, lambda: b"")
    if name == b"zstd":
        import zstandard

        zstd_decoder = zstandard.ZstdDecompressor(max_window_size=8 * 1024 * 1024).decompressobj()
        return Decompressor(zstd_decoder.decompress, lambda: b"")
    raise DecompressionError(f"unknown content-encoding {name[:40]!r}")
