from __future__ import annotations

import gzip
import tracemalloc
import zlib
from collections.abc import Callable
from itertools import pairwise

import brotli
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from tollway.wire.compression import FREE_BYTES, DecompressionError, decompressor

TEXT = b'{"choices":[{"message":{"content":"a word, another word and a third"}}]}' * 40


def bare_deflate(data: bytes) -> bytes:
    library = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return library.compress(data) + library.flush()


ENCODERS: dict[str, tuple[bytes, Callable[[bytes], bytes]]] = {
    "gzip": (b"gzip", gzip.compress),
    "x-gzip": (b" X-GZip ", gzip.compress),
    "deflate": (b"deflate", zlib.compress),
    "bare deflate": (b"deflate", bare_deflate),
    "br": (b"br", brotli.compress),
    "zstd": (b"zstd", zstandard.ZstdCompressor().compress),
}
every_encoder = pytest.mark.parametrize("name", ENCODERS)


@every_encoder
def test_whole(name: str) -> None:
    value, encode = ENCODERS[name]
    decoder = decompressor(value)
    assert decoder is not None
    assert decoder.feed(encode(TEXT)) == TEXT
    decoder.finish()


@every_encoder
@given(data=st.binary(max_size=2000), cuts=st.lists(st.integers(0, 2100), max_size=8))
@settings(max_examples=25, deadline=None)
def test_any_bytes_in_any_pieces(name: str, data: bytes, cuts: list[int]) -> None:
    value, encode = ENCODERS[name]
    encoded = encode(data)
    decoder = decompressor(value)
    assert decoder is not None
    edges = [0, *sorted(min(cut, len(encoded)) for cut in cuts), len(encoded)]
    pieces = [encoded[a:b] for a, b in pairwise(edges)]
    assert b"".join(decoder.feed(piece) for piece in pieces) == data
    decoder.finish()


@every_encoder
def test_byte_by_byte(name: str) -> None:
    value, encode = ENCODERS[name]
    decoder = decompressor(value)
    assert decoder is not None
    assert b"".join(decoder.feed(bytes([byte])) for byte in encode(TEXT)) == TEXT
    decoder.finish()


@every_encoder
def test_cut_short_at_every_byte(name: str) -> None:
    value, encode = ENCODERS[name]
    encoded = encode(b"short, but not empty")
    for end in range(1, len(encoded)):
        decoder = decompressor(value)
        assert decoder is not None
        decoder.feed(encoded[:end])
        with pytest.raises(DecompressionError, match="too early"):
            decoder.finish()


@every_encoder
def test_an_empty_body_is_whole(name: str) -> None:
    decoder = decompressor(ENCODERS[name][0])
    assert decoder is not None
    decoder.finish()


@every_encoder
def test_something_else(name: str) -> None:
    decoder = decompressor(ENCODERS[name][0])
    assert decoder is not None
    with pytest.raises(DecompressionError, match="not what its content-encoding says"):
        decoder.feed(b"\xff<html>not encoded at all, for a good while</html>" * 4)


@pytest.mark.parametrize("name", ["gzip", "zstd"])
def test_members_that_follow_one_another(name: str) -> None:
    value, encode = ENCODERS[name]
    encoded = encode(b"one ") + encode(b"two ") + encode(b"three")
    for size in (1, 7, len(encoded)):
        decoder = decompressor(value)
        assert decoder is not None
        pieces = [encoded[i : i + size] for i in range(0, len(encoded), size)]
        assert b"".join(decoder.feed(piece) for piece in pieces) == b"one two three"
        decoder.finish()


def repeated_zeros(name: str) -> bytes:
    """Half a gigabyte of zeros, encoded without ever holding them."""
    mebibyte = bytes(1 << 20)
    if name == "br":
        library = brotli.Compressor(quality=5)
        return b"".join(library.process(mebibyte) for _ in range(512)) + library.finish()
    if name == "zstd":
        frames = zstandard.ZstdCompressor(level=1).compressobj()
    else:
        frames = zlib.compressobj(6, wbits=zlib.MAX_WBITS | (16 if name == "gzip" else 0))
    return b"".join(frames.compress(mebibyte) for _ in range(512)) + frames.flush()


@pytest.mark.parametrize("name", ["gzip", "deflate", "br", "zstd"])
def test_a_bomb_is_stopped_before_it_takes_memory(name: str) -> None:
    bomb = repeated_zeros(name)
    decoder = decompressor(ENCODERS[name][0])
    assert decoder is not None
    tracemalloc.start()
    try:
        with pytest.raises(DecompressionError, match="beyond the bound"):
            decoder.feed(bomb)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 5 * FREE_BYTES


@pytest.mark.parametrize("name", ["gzip", "deflate", "br", "zstd"])
def test_a_small_body_may_inflate_at_any_ratio(name: str) -> None:
    value, encode = ENCODERS[name]
    zeros = bytes(FREE_BYTES // 2)
    decoder = decompressor(value)
    assert decoder is not None
    assert decoder.feed(encode(zeros)) == zeros
    decoder.finish()


@pytest.mark.parametrize("value", [b"", b"identity", b" Identity "])
def test_no_encoding(value: bytes) -> None:
    assert decompressor(value) is None


@pytest.mark.parametrize("value", [b"compress", b"gzip, br", b"aes128gcm", b"\xff"])
def test_encodings_we_do_not_know(value: bytes) -> None:
    with pytest.raises(DecompressionError, match="unknown content-encoding"):
        decompressor(value)
