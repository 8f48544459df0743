"""Unit vectors that depend on a text alone and lie close where texts share words."""

from __future__ import annotations

import re
from math import sqrt
from zlib import crc32

_WORD = re.compile(r"\w+")


def vector(text: str, dimensions: int) -> list[float]:
    """A sum over words, each of which lights a few dimensions, scaled to length one."""
    values = [0.0] * dimensions
    for word in _WORD.findall(text.lower()) or [text]:
        for salt in range(4):
            mark = crc32(f"{salt}{word}".encode())
            values[mark % dimensions] += 1.0 if mark & 0x80000000 else -1.0
    length = sqrt(sum(value * value for value in values))
    if length == 0.0:
        values[0] = length = 1.0
    return [value / length for value in values]


def closeness(query: str, text: str) -> float:
    """How near two texts are, from 0 to 1, rounded to six digits."""
    pairs = zip(vector(query, 256), vector(text, 256), strict=True)
    return round(min(1.0, max(0.0, sum(one * other for one, other in pairs))), 6)
