"""In which order a route's targets are tried: one file a strategy, all the same shape, listed here."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tollway.routing.fallback import order as fallback
from tollway.routing.loadbalance import order as loadbalance
from tollway.routing.single import order as single

Order = Callable[[Sequence[int], Callable[[], float]], list[int]]
"""Weights of the targets in, and a source of randomness in [0, 1); positions in the order to try them out."""

STRATEGIES: dict[str, Order] = {"single": single, "fallback": fallback, "loadbalance": loadbalance}
