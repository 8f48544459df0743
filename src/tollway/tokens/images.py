"""What an image costs in tokens: its size from the first bytes of the file, and the rules providers publish.

No image is decoded and no pixel is looked at; a size that cannot be read is None.
"""

from __future__ import annotations

import base64
import binascii
from math import ceil, floor, sqrt
from typing import TypeAlias

from msgspec import Struct

Size: TypeAlias = tuple[int, int]
"""Width and height in pixels."""

TYPICAL: Size = (1024, 1024)
"""Taken where the size is not known: images by URL or file id, formats not read here."""
_LARGEST = 16_384
_JPEG_SEGMENTS = 256
_JPEG_FRAMES = frozenset((*range(0xC0, 0xC4), *range(0xC5, 0xC8), *range(0xC9, 0xCC), *range(0xCD, 0xD0)))
_PLAIN = str.maketrans("-_", "+/")
"""The URL-safe alphabet, which some clients use, and leave the padding out."""
_JPEG_BARE = frozenset((0x01, *range(0xD0, 0xDA)))


class Tiles(Struct, frozen=True, kw_only=True, tag_field="rule", tag="tiles", forbid_unknown_fields=True):
    """``each`` token a square of ``pixels``, at the ``most`` that many, and ``base`` for the image; first scaled down
    so that no side exceeds ``long_edge`` and the shorter one not ``short_edge``. ``low`` is the whole price at detail
    ``low``, where the provider has that."""

    pixels: int
    each: int
    base: int = 0
    long_edge: int = 0
    short_edge: int = 0
    most: int = 0
    low: int | None = None


class Patches(Struct, frozen=True, kw_only=True, tag_field="rule", tag="patches", forbid_unknown_fields=True):
    """``factor`` tokens a square of ``pixels``, the image scaled down until at ``most`` that many cover it and no side
    exceeds ``long_edge``; ``row`` more tokens for each row of them, ``base`` for the image."""

    pixels: int
    factor: float = 1.0
    most: int = 0
    long_edge: int = 0
    row: int = 0
    base: int = 0


class Fixed(Struct, frozen=True, kw_only=True, tag_field="rule", tag="fixed", forbid_unknown_fields=True):
    """The same for every image."""

    tokens: int


ImageRule: TypeAlias = Tiles | Patches | Fixed


def image_tokens(rule: ImageRule, size: Size | None, detail: str | None = None) -> int:
    """Tokens of one image. ``detail`` as OpenAI names it; anything but ``low`` counts as the finest."""
    width, height = size or TYPICAL
    width, height = min(max(width, 1), _LARGEST), min(max(height, 1), _LARGEST)
    match rule:
        case Fixed():
            return rule.tokens
        case Tiles():
            if detail == "low" and rule.low is not None:
                return rule.low
            width, height = _fit(width, height, rule.long_edge, rule.short_edge)
            count = ceil(width / rule.pixels) * ceil(height / rule.pixels)
            return rule.base + rule.each * (min(count, rule.most) if rule.most else count)
        case Patches():
            width, height = _fit(width, height, rule.long_edge, 0)
            columns, rows = _grid(width, height, rule.pixels, rule.most)
            return rule.base + ceil(columns * rows * rule.factor) + rows * rule.row


def _fit(width: int, height: int, long_edge: int, short_edge: int) -> Size:
    scale = 1.0
    if long_edge:
        scale = min(scale, long_edge / max(width, height))
    if short_edge:
        scale = min(scale, short_edge / min(width, height))
    return max(floor(width * scale), 1), max(floor(height * scale), 1)


def _grid(width: int, height: int, pixels: int, most: int) -> tuple[int, int]:
    """Columns and rows, scaled as OpenAI describes it: to the budget first, then so that one side comes out even."""
    columns, rows = ceil(width / pixels), ceil(height / pixels)
    if not most or columns * rows <= most:
        return columns, rows
    scale = sqrt(pixels * pixels * most / (width * height))
    across, down = width * scale / pixels, height * scale / pixels
    if across < 1 or down < 1:
        return min(columns, most), min(rows, most)
    even = min(floor(across) / across, floor(down) / down)
    # The nudge keeps 33.0000001 columns, which are 33, from becoming 34.
    return ceil(across * even - 1e-6), ceil(down * even - 1e-6)


# ------------------------------------------------------------------ sizes


def image_size(encoded: str) -> Size | None:
    """Width and height of a PNG, JPEG, GIF or WebP given as base64 without line breaks; None for anything else.

    Decodes a few dozen bytes, wherever in the file they are, so that a photo of ten megabytes costs no more.
    """
    try:
        return _size(encoded)
    except (binascii.Error, ValueError):
        return None


def _read(encoded: str, start: int, length: int) -> bytes:
    """Bytes ``start`` to ``start + length`` of the file; fewer at its end."""
    first = start // 3
    last = -(-(start + length) // 3)
    chunk = encoded[first * 4 : last * 4].translate(_PLAIN)
    decoded = base64.b64decode(chunk + "=" * (-len(chunk) % 4))
    return decoded[start - first * 3 : start - first * 3 + length]


def _size(encoded: str) -> Size | None:
    head = _read(encoded, 0, 30)
    if head.startswith(b"\x89PNG\r\n\x1a\n") and head[12:16] == b"IHDR":
        return _known(int.from_bytes(head[16:20]), int.from_bytes(head[20:24]))
    if head.startswith((b"GIF87a", b"GIF89a")):
        return _known(int.from_bytes(head[6:8], "little"), int.from_bytes(head[8:10], "little"))
    if head.startswith(b"RIFF") and head[8:12] == b"WEBP":
        return _webp(head)
    if head.startswith(b"\xff\xd8"):
        return _jpeg(encoded)
    return None


def _webp(head: bytes) -> Size | None:
    kind, body = head[12:16], head[20:]
    if kind == b"VP8X":
        return _known(1 + int.from_bytes(body[4:7], "little"), 1 + int.from_bytes(body[7:10], "little"))
    if kind == b"VP8L" and body[:1] == b"\x2f":
        bits = int.from_bytes(body[1:5], "little")
        return _known(1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF))
    if kind == b"VP8 " and body[3:6] == b"\x9d\x01\x2a":
        width, height = int.from_bytes(body[6:8], "little"), int.from_bytes(body[8:10], "little")
        return _known(width & 0x3FFF, height & 0x3FFF)
    return None


def _jpeg(encoded: str) -> Size | None:
    """Walks from marker to marker; what lies between (a camera's thumbnail, colour profiles) is skipped unread."""
    place = 2
    for _ in range(_JPEG_SEGMENTS):
        marker = _read(encoded, place, 9)
        if len(marker) < 4 or marker[0] != 0xFF:
            return None
        if marker[1] == 0xFF:  # padding before a marker
            place += 1
        elif marker[1] in _JPEG_BARE:
            place += 2
        elif marker[1] in _JPEG_FRAMES:
            return _known(int.from_bytes(marker[7:9]), int.from_bytes(marker[5:7]))
        else:
            place += 2 + int.from_bytes(marker[2:4])
    return None


def _known(width: int, height: int) -> Size | None:
    return (width, height) if width and height else None
