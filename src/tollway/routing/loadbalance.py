"""``loadbalance``: a target drawn by weight; when it fails, the next is drawn from those left. Weight 0 is a spare."""

from __future__ import annotations

from collections.abc import Callable, Sequence


def order(weights: Sequence[int], random: Callable[[], float]) -> list[int]:
    left = list(range(len(weights)))
    drawn = []
    while left:
        total = sum(weights[i] for i in left)
        chosen = left[0]
        if total > 0:
            point = random() * total
            for i in left:
                point -= weights[i]
                if point < 0:
                    chosen = i
                    break
        left.remove(chosen)
        drawn.append(chosen)
    return drawn
