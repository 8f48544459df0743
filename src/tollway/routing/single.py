"""``single``: the one target, and no other."""

from __future__ import annotations

from collections.abc import Callable, Sequence


def order(weights: Sequence[int], random: Callable[[], float]) -> list[int]:
    return [0]
