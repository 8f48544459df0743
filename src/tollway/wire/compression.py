"""Undoing content-encodings, incrementally and with a bound on what one answer may inflate to."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator
from typing import Protocol

MAX_RATIO = 250
FREE_BYTES = 8 * 1024 * 1024
"""An answer may inflate to FREE_BYTES whatever its ratio; past that its ratio is bounded (a bomb has 1,000 or more)."""

BITE = 256
"""Bytes decoded between two looks at the bound. Zstandard makes 128 KiB of 4 bytes, so a bite 8 MiB at most."""

BROTLI_STEP = 1024 * 1024
"""Brotli makes gigabytes of a bite, so its output is taken in steps."""


class DecompressionError(ValueError):
    """The bytes are not what content-encoding says, they end too early, or they inflate beyond the bound."""


class _Decoder(Protocol):
    def decode(self, data: bytes) -> Iterator[bytes]:
        """What ``data`` inflates to, in parts small enough to look at the bound between them."""

    def whole(self) -> bool:
        """Whether the encoded body has come to its end."""


class Decompressor:
    """Feeds one answer's encoded bytes through a library decoder. ``feed`` and ``finish`` raise DecompressionError."""

    __slots__ = ("_decoder", "_inflated", "_taken")

    def __init__(self, decoder: _Decoder) -> None:
        self._decoder = decoder
        self._taken = 0
        self._inflated = 0

    def feed(self, data: bytes) -> bytes:
        parts = []
        for start in range(0, len(data), BITE):
            bite = data[start : start + BITE]
            self._taken += len(bite)
            try:
                for part in self._decoder.decode(bite):
                    self._inflated += len(part)
                    if self._inflated > FREE_BYTES and self._inflated > self._taken * MAX_RATIO:
                        raise DecompressionError("the body inflates beyond the bound")
                    parts.append(part)
            except DecompressionError:
                raise
            except (
                Exception
            ) as error:  # each library has an error of its own, and brotli's is a bare Exception
                raise DecompressionError("the body is not what its content-encoding says") from error
        return b"".join(parts)

    def finish(self) -> None:
        """Say that the body has ended. An empty one is whole: it holds nothing that could be missing."""
        if self._taken and not self._decoder.whole():
            raise DecompressionError("the encoded body ends too early")


class _Stream(Protocol):
    """What zlib's and zstandard's decompression objects share: each decodes one gzip member or one zstd frame."""

    @property
    def eof(self) -> bool: ...

    @property
    def unused_data(self) -> bytes: ...

    def decompress(self, data: bytes, /) -> bytes: ...


class _Members:
    """Members or frames that follow one another make one body (RFC 1952 section 2.2, RFC 8878 section 3)."""

    def __init__(self, begin: Callable[[], _Stream]) -> None:
        self._begin = begin
        self._stream = begin()

    def decode(self, data: bytes) -> Iterator[bytes]:
        while data:
            if self._stream.eof:
                self._stream = self._begin()
            yield self._stream.decompress(data)
            data = self._stream.unused_data if self._stream.eof else b""

    def whole(self) -> bool:
        return self._stream.eof


class _Deflate:
    """``deflate`` means the zlib format (RFC 9110 section 8.4.1.2); some servers send the bare stream inside it."""

    def __init__(self) -> None:
        self._first = b""
        self._members: _Members | None = None

    def decode(self, data: bytes) -> Iterator[bytes]:
        if self._members is None:
            data = self._first = self._first + data
            if len(data) < 2:
                return
            wrapped = data[0] & 15 == 8 and int.from_bytes(data[:2], "big") % 31 == 0
            bits = zlib.MAX_WBITS if wrapped else -zlib.MAX_WBITS
            self._members = _Members(lambda: zlib.decompressobj(wbits=bits))
        yield from self._members.decode(data)

    def whole(self) -> bool:
        return self._members is not None and self._members.whole()


class _Brotli:
    def __init__(self) -> None:
        import brotli

        self._stream = brotli.Decompressor()

    def decode(self, data: bytes) -> Iterator[bytes]:
        part = self._stream.process(data, output_buffer_limit=BROTLI_STEP)
        yield part
        # It may have taken all input and still hold output: only a step that was not filled is the last.
        while len(part) >= BROTLI_STEP or not self._stream.can_accept_more_data():
            part = self._stream.process(b"", output_buffer_limit=BROTLI_STEP)
            yield part

    def whole(self) -> bool:
        return bool(self._stream.is_finished())


def _zstd() -> _Decoder:
    import zstandard

    library = zstandard.ZstdDecompressor(max_window_size=8 * 1024 * 1024)
    return _Members(library.decompressobj)


def _gzip() -> _Decoder:
    return _Members(lambda: zlib.decompressobj(wbits=zlib.MAX_WBITS | 16))


_DECODERS: dict[bytes, Callable[[], _Decoder]] = {
    b"gzip": _gzip,
    b"x-gzip": _gzip,
    b"deflate": _Deflate,
    b"br": _Brotli,
    b"zstd": _zstd,
}


def decompressor(encoding: bytes) -> Decompressor | None:
    """A decoder for a content-encoding value (``gzip``, ``deflate``, ``br``, ``zstd``); None for identity.

    Raises DecompressionError for an encoding we do not know, stacked encodings included.
    """
    name = encoding.strip().lower()
    if name in (b"", b"identity"):
        return None
    decoder = _DECODERS.get(name)
    if decoder is None:
        raise DecompressionError(f"unknown content-encoding {name[:40]!r}")
    return Decompressor(decoder())
