"""Sizes are read from real headers without decoding, and images cost what the providers document."""

from __future__ import annotations

import base64
import struct
import time
import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tollway.tokens.family import FILE, read_families
from tollway.tokens.images import Fixed, ImageRule, Patches, Tiles, image_size, image_tokens

FAMILIES = read_families(FILE.read_text(encoding="utf-8"))[0]


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def png(width: int, height: int) -> bytes:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    rows = zlib.compress((b"\0" + bytes(width)) * height)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def jpeg(width: int, height: int, *, before: bytes = b"", frame: int = 0xC0) -> bytes:
    start = struct.pack(">BHHB", 8, height, width, 3) + bytes(9)
    segment = b"\xff" + bytes([frame]) + struct.pack(">H", len(start) + 2) + start
    return b"\xff\xd8" + before + segment + b"\xff\xd9"


def segment(marker: int, length: int) -> bytes:
    return b"\xff" + bytes([marker]) + struct.pack(">H", length + 2) + b"\xff" * length


def webp(kind: bytes, body: bytes) -> bytes:
    chunk = kind + struct.pack("<I", len(body)) + body
    return b"RIFF" + struct.pack("<I", len(chunk) + 4) + b"WEBP" + chunk


SIZES = [
    (png(640, 480), (640, 480)),
    (b"GIF89a" + struct.pack("<HHBBB", 320, 200, 0, 0, 0), (320, 200)),
    (b"GIF87a" + struct.pack("<HHBBB", 1, 65535, 0, 0, 0), (1, 65535)),
    (jpeg(1920, 1080), (1920, 1080)),
    (jpeg(4032, 3024, before=segment(0xE0, 14) + segment(0xE1, 65_000) * 3, frame=0xC2), (4032, 3024)),
    (jpeg(7, 9, before=b"\xff\xff" + segment(0xC4, 30)), (7, 9)),
    (webp(b"VP8 ", b"\x30\x01\x00\x9d\x01\x2a" + struct.pack("<HH", 800 | 0x4000, 600)), (800, 600)),
    (webp(b"VP8L", b"\x2f" + struct.pack("<I", 1023 | 766 << 14)), (1024, 767)),
    (webp(b"VP8X", bytes(4) + (2999).to_bytes(3, "little") + (1999).to_bytes(3, "little")), (3000, 2000)),
]


@pytest.mark.parametrize(("data", "size"), SIZES)
def test_the_size_is_read_from_the_header(data: bytes, size: tuple[int, int]) -> None:
    assert image_size(b64(data)) == size
    assert image_size(base64.urlsafe_b64encode(data).decode().rstrip("=")) == size


@pytest.mark.parametrize(
    "text",
    ["", "!", "AAAA", "é" * 40, "\ud800" * 40, b64(b"%PDF-1.7 and so on"), b64(png(5, 5)[:18]), b64(png(0, 5)),
     b64(b"\xff\xd8" + segment(0xE1, 100)), b64(b"\xff\xd8" + b"\xff\xd0" * 5_000), b64(webp(b"VP9 ", bytes(20)))],
)  # fmt: skip
def test_what_is_no_image_has_no_size(text: str) -> None:
    assert image_size(text) is None


@settings(max_examples=200, deadline=None)
@given(
    data=st.one_of(
        st.binary(max_size=200),
        st.builds(
            lambda data, cut, tail: data[:cut] + tail,
            st.sampled_from([data for data, _ in SIZES]),
            st.integers(0, 40),
            st.binary(max_size=4),
        ),
    )
)
def test_no_bytes_break_it(data: bytes) -> None:
    size = image_size(b64(data))
    assert size is None or min(size) > 0


def test_a_photo_of_many_megabytes_costs_as_little_as_a_small_one() -> None:
    text = b64(jpeg(4000, 3000, before=segment(0xE1, 65_000)) + bytes(12_000_000))
    started = time.perf_counter()
    for _ in range(100):
        assert image_size(text) == (4000, 3000)
    assert time.perf_counter() - started < 0.1


@pytest.mark.parametrize(
    ("family", "size", "detail", "tokens"),
    [
        # OpenAI's guide works these out in words.
        ("gpt-4o", (1024, 1024), "high", 765),
        ("gpt-4o", (2048, 4096), None, 1105),
        ("gpt-4o", (4096, 8192), "low", 85),
        ("gpt-4o", (512, 512), "auto", 255),
        ("gpt-4o-mini", (1024, 1024), None, 2833 + 4 * 5667),
        ("gpt-4.1-mini", (1024, 1024), None, 1659),
        ("gpt-4.1-mini", (1800, 2400), None, 2353),
        # What callers were billed.
        ("gpt-5.2", (1920, 1080), None, 2448),
        ("gpt-5-mini", (768, 1024), None, 922),
        # Google's guide: both sides up to 384 pixels are one tile.
        ("gemini", (384, 384), None, 258),
        ("gemini", (600, 400), None, 258),
        ("gemini", (1536, 769), None, 4 * 258),
        ("gemini-3", (4032, 3024), None, 1120),
        # A grid of 28 pixels, up to the size that is scaled down.
        ("claude", (200, 200), None, 64),
        ("claude", (1000, 1000), None, 1296),
        ("claude-2026", (1920, 1080), None, 69 * 39),
        # mistral-common: a mark ends each row.
        ("pixtral", (64, 64), None, 4 * 4 + 4),
        ("mistral", (1540, 1540), None, 55 * 55 + 55),
        ("qwen", (280, 280), None, 102),
        ("grok", (4480, 448), None, 7 * 256),
    ],
)
def test_images_cost_what_is_documented_or_reported(
    family: str, size: tuple[int, int], detail: str | None, tokens: int
) -> None:
    assert image_tokens(FAMILIES[family].image, size, detail) == tokens


def test_an_unknown_size_counts_like_a_typical_one() -> None:
    rule = FAMILIES["gpt-4o"].image
    assert image_tokens(rule, None) == image_tokens(rule, (1024, 1024)) == 765


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize(
    "size", [(1, 1), (1, 100_000), (100_000, 1), (2**32 - 1, 2**32 - 1), (10_000, 37), (0, -5)]
)
def test_no_size_is_free_or_costs_a_fortune(name: str, size: tuple[int, int]) -> None:
    assert 0 < image_tokens(FAMILIES[name].image, size) <= 60_000


@settings(max_examples=300)
@given(width=st.integers(1, 20_000), height=st.integers(1, 20_000))
def test_rules_hold_their_bounds(width: int, height: int) -> None:
    for name in ("gpt-4.1-mini", "claude", "qwen-3"):
        rule = FAMILIES[name].image
        assert isinstance(rule, Patches)
        assert image_tokens(rule, (width, height)) - rule.base <= rule.most * rule.factor + 1
    flipped = Tiles(pixels=512, each=170, base=85, long_edge=2048, short_edge=768)
    rules: list[ImageRule] = [flipped, Fixed(tokens=7)]
    for rule in rules:
        assert image_tokens(rule, (width, height)) == image_tokens(rule, (height, width))
