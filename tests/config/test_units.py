from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tollway.config import units
from tollway.model.key import Budget


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("5s", 5),
        ("200ms", 0.2),
        ("2m", 120),
        ("1h30m", 5400),
        ("30d", 2592000),
        ("1w", 604800),
        ("7", 7),
        ("0.5", 0.5),
    ],
)
def test_durations(text: str, seconds: float) -> None:
    assert units.duration(text) == seconds


@pytest.mark.parametrize(
    "text", ["", "5", "-1s", "s", "5 s", "5 sec", "1e3", "nan", "inf", "9999999w", "5s,"]
)
def test_durations_refused(text: str) -> None:
    if text == "5":
        assert units.duration(text) == 5
        return
    with pytest.raises(ValueError):
        units.duration(text)


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("65536", 65536),
        ("64KiB", 65536),
        ("64 KiB", 65536),
        ("10MB", 10_000_000),
        ("1.5GiB", 1610612736),
        ("2k", 2048),
    ],
)
def test_sizes(text: str, size: int) -> None:
    assert units.size(text) == size


@pytest.mark.parametrize("text", ["", "-1", "1XB", "MiB", "1e3", "1 2"])
def test_sizes_refused(text: str) -> None:
    with pytest.raises(ValueError):
        units.size(text)


@given(st.decimals(min_value=0, max_value=10**9, places=9))
def test_dollars_are_exact(amount: Decimal) -> None:
    assert units.dollars(format(amount, "f")) == int(amount * 10**9)


@pytest.mark.parametrize("text", ["", "-1", "0.0000000001", "nan", "inf", "ten", "1" * 41, "1,5"])
def test_dollars_refused(text: str) -> None:
    with pytest.raises(ValueError):
        units.dollars(text)


@pytest.mark.parametrize(
    ("text", "budget"),
    [
        ("10usd/month", Budget(limit=10 * 10**9, per="month")),
        ("2.50/30d", Budget(limit=2_500_000_000, per="30d")),
        ("100 usd", Budget(limit=100 * 10**9, per="total")),
        ("1$ / day", Budget(limit=10**9, per="day")),
    ],
)
def test_budgets(text: str, budget: Budget) -> None:
    assert units.budget(text) == budget


@pytest.mark.parametrize(
    "text",
    ["", "usd/month", "10eur/month", "10usd/decade", "1.5tokens", "0requests", "-1usd", "1.2.3", "10usd/0d"],
)
def test_budgets_refused(text: str) -> None:
    with pytest.raises(ValueError):
        units.budget(text)
