"""When the same target is asked again."""

from __future__ import annotations

import pytest

from tollway.errors import UpstreamError, UpstreamTimeout, UpstreamUnreachable
from tollway.model.deployment import Retry
from tollway.pipeline.retrying import covers, wait

RULE = Retry(attempts=3, on=("429", "5xx", "connect"), max_wait=10.0)


def failed(status: int, *, retryable: bool = True, after: float | None = None) -> UpstreamError:
    return UpstreamError("no", provider="p", upstream_status=status, retryable=retryable, retry_after=after)


def test_the_wait_doubles_and_is_spread_by_a_quarter() -> None:
    assert wait(failed(500), RULE, 0, lambda: 0.5) == pytest.approx(0.25)
    assert wait(failed(500), RULE, 1, lambda: 0.5) == pytest.approx(0.5)
    assert wait(failed(500), RULE, 0, lambda: 0.0) == pytest.approx(0.1875)
    assert wait(failed(500), RULE, 0, lambda: 1.0) == pytest.approx(0.3125)


def test_the_last_try_is_the_last() -> None:
    assert wait(failed(500), RULE, 2, lambda: 0.5) is None


def test_what_the_provider_asks_for_counts_unless_it_is_too_long() -> None:
    assert wait(failed(429, after=3.0), RULE, 0, lambda: 0.5) == 3.0
    assert wait(failed(429, after=-1.0), RULE, 0, lambda: 0.5) == 0.0
    assert wait(failed(429, after=11.0), RULE, 0, lambda: 0.5) is None


def test_what_is_not_worth_it_or_not_wanted() -> None:
    assert wait(failed(500, retryable=False), RULE, 0, lambda: 0.5) is None
    assert wait(failed(408), RULE, 0, lambda: 0.5) is None


def test_by_status_class_and_clock() -> None:
    assert covers(RULE, failed(503))
    assert not covers(RULE, failed(408))
    assert covers(RULE, UpstreamUnreachable("no", provider="p"))
    assert covers(RULE, UpstreamTimeout("no", provider="p", clock="connect"))
    assert not covers(RULE, UpstreamTimeout("no", provider="p", clock="idle"))
