from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tollway.shared.periods import DAY, period


def at(text: str) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()


@pytest.mark.parametrize(
    ("per", "now", "start", "end"),
    [
        ("day", "2026-11-22T13:14:15", "2026-11-22", "2026-11-23"),
        ("day", "2026-11-22T00:00:00", "2026-11-22", "2026-11-23"),
        ("day", "2026-11-22T23:59:59.999", "2026-11-22", "2026-11-23"),
        ("week", "2026-11-22T13:14:15", "2026-11-16", "2026-11-23"),
        ("week", "2026-11-23T00:00:00", "2026-11-23", "2026-11-30"),
        ("week", "2027-01-01T12:00:00", "2026-12-28", "2027-01-04"),
        ("month", "2026-11-30T23:59:59", "2026-11-01", "2026-12-01"),
        ("month", "2026-12-31T12:00:00", "2026-12-01", "2027-01-01"),
        ("month", "2028-02-29T12:00:00", "2028-02-01", "2028-03-01"),
        ("month", "2026-01-31T12:00:00", "2026-01-01", "2026-02-01"),
    ],
)
def test_calendar(per: str, now: str, start: str, end: str) -> None:
    assert period(per, at(now)) == (at(start), at(end))


def test_total_never_ends() -> None:
    assert period("total", at("2026-11-22")) == (0.0, None)


@pytest.mark.parametrize(
    ("per", "anchor", "now", "start", "end"),
    [
        ("30d", "2026-11-05T18:30:00", "2026-11-22", "2026-11-05", "2026-12-05"),
        ("30d", "2026-11-05T18:30:00", "2026-12-05T00:00:00", "2026-12-05", "2027-01-04"),
        ("30d", "2026-11-05T18:30:00", "2026-12-04T23:59:59", "2026-11-05", "2026-12-05"),
        ("7d", "2026-11-25", "2026-11-22", "2026-11-18", "2026-11-25"),
        ("1d", "2026-11-05T18:30:00", "2026-11-22T09:00:00", "2026-11-22", "2026-11-23"),
    ],
)
def test_days_from_an_anchor(per: str, anchor: str, now: str, start: str, end: str) -> None:
    assert period(per, at(now), at(anchor)) == (at(start), at(end))


@pytest.mark.parametrize("per", ["", "d", "0d", "-1d", "3661d", "1.5d", "hour", "Day", "30 d", "٣d"])
def test_names_that_are_no_period(per: str) -> None:
    with pytest.raises(ValueError, match="is not a period"):
        period(per, 0.0)


@given(
    per=st.sampled_from(["day", "week", "month", "1d", "7d", "30d", "365d"]),
    now=st.floats(0, 4e9),
    anchor=st.floats(0, 4e9),
)
def test_periods_cover_time_without_gap_or_overlap(per: str, now: float, anchor: float) -> None:
    start, end = period(per, now, anchor)
    assert end is not None
    assert start <= now < end
    assert period(per, start, anchor) == (start, end)
    assert period(per, end, anchor)[0] == end
    assert start % DAY == 0
