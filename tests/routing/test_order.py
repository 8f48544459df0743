from __future__ import annotations

from collections import Counter
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tollway.routing import STRATEGIES


@given(
    weights=st.lists(st.integers(0, 1000), min_size=1, max_size=8),
    seed=st.integers(0, 10**6),
    strategy=st.sampled_from(["fallback", "loadbalance"]),
)
def test_every_target_is_tried_once(weights: list[int], seed: int, strategy: str) -> None:
    order = STRATEGIES[strategy](weights, Random(seed).random)
    assert sorted(order) == list(range(len(weights)))


def test_fallback_keeps_the_order_of_the_list() -> None:
    assert STRATEGIES["fallback"]([1, 900, 5], Random(1).random) == [0, 1, 2]


def test_single_has_one_target() -> None:
    assert STRATEGIES["single"]([3, 4], Random(1).random) == [0]


def test_loadbalance_draws_first_by_weight() -> None:
    weights = [1, 2, 3, 4]
    source = Random(20)
    drawn = Counter(STRATEGIES["loadbalance"](weights, source.random)[0] for _ in range(20_000))
    for target, weight in enumerate(weights):
        assert drawn[target] == pytest.approx(2_000 * weight, rel=0.06)


def test_loadbalance_draws_the_next_by_the_weights_that_are_left() -> None:
    source = Random(21)
    orders = [STRATEGIES["loadbalance"]([6, 3, 1], source.random) for _ in range(20_000)]
    after_the_first = Counter(order[1] for order in orders if order[0] == 0)
    seen = sum(after_the_first.values())
    assert after_the_first[1] / seen == pytest.approx(0.75, abs=0.015)
    assert after_the_first[2] / seen == pytest.approx(0.25, abs=0.015)


@given(seed=st.integers(0, 10**6), weights=st.lists(st.integers(0, 5), min_size=1, max_size=6))
def test_a_spare_comes_after_everyone_with_a_weight(seed: int, weights: list[int]) -> None:
    order = STRATEGIES["loadbalance"](weights, Random(seed).random)
    spares = [weights[target] == 0 for target in order]
    assert spares == sorted(spares)


def test_the_ends_of_the_source() -> None:
    assert STRATEGIES["loadbalance"]([1, 1, 1], lambda: 0.0) == [0, 1, 2]
    assert STRATEGIES["loadbalance"]([1, 1, 1], lambda: 1.0 - 2**-53)[0] == 2
    assert STRATEGIES["loadbalance"]([0, 0], lambda: 0.5) == [0, 1]
