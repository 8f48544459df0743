from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tollway.shared.periods import DAY, period, place


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


@pytest.mark.parametrize(
    ("per", "zone", "first_day", "first_month", "now", "start", "end"),
    [
        # Clocks go forward in Berlin on 2026-03-29 and back on 2026-10-25.
        ("day", "Europe/Berlin", 1, 1, "2026-03-29T12:00", "2026-03-28T23:00", "2026-03-29T22:00"),
        ("day", "Europe/Berlin", 1, 1, "2026-10-25T12:00", "2026-10-24T22:00", "2026-10-25T23:00"),
        ("day", "Europe/Berlin", 1, 1, "2026-11-22T23:30", "2026-11-22T23:00", "2026-11-23T23:00"),
        ("week", "Asia/Tokyo", 1, 1, "2026-11-22T15:00", "2026-11-22T15:00", "2026-11-29T15:00"),
        ("month", "America/New_York", 1, 1, "2026-11-01T03:59", "2026-10-01T04:00", "2026-11-01T04:00"),
        ("month", "America/New_York", 1, 1, "2026-11-01T04:00", "2026-11-01T04:00", "2026-12-01T05:00"),
        ("month", "UTC", 15, 1, "2026-11-14T23:59", "2026-10-15T00:00", "2026-11-15T00:00"),
        ("month", "UTC", 31, 1, "2026-02-28T00:00", "2026-02-28T00:00", "2026-03-31T00:00"),
        ("month", "UTC", 31, 1, "2026-03-01T00:00", "2026-02-28T00:00", "2026-03-31T00:00"),
        ("quarter", "UTC", 1, 1, "2026-11-22T00:00", "2026-10-01T00:00", "2027-01-01T00:00"),
        ("quarter", "UTC", 1, 2, "2026-01-22T00:00", "2025-11-01T00:00", "2026-02-01T00:00"),
        ("year", "UTC", 1, 1, "2026-11-22T00:00", "2026-01-01T00:00", "2027-01-01T00:00"),
        ("year", "UTC", 6, 4, "2026-04-05T23:00", "2025-04-06T00:00", "2026-04-06T00:00"),
        ("year", "UTC", 6, 4, "2026-04-06T00:00", "2026-04-06T00:00", "2027-04-06T00:00"),
        # Midnight did not exist in Beirut on 2021-03-28, a day of 23 hours.
        ("day", "Asia/Beirut", 1, 1, "2021-03-28T12:00", "2021-03-27T22:00", "2021-03-28T21:00"),
        # Samoa had no 30 December 2011.
        ("day", "Pacific/Apia", 1, 1, "2011-12-30T09:00", "2011-12-29T10:00", "2011-12-30T10:00"),
        ("day", "Pacific/Apia", 1, 1, "2011-12-30T10:00", "2011-12-30T10:00", "2011-12-31T10:00"),
    ],
)
def test_zones_and_fiscal_starts(
    per: str, zone: str, first_day: int, first_month: int, now: str, start: str, end: str
) -> None:
    assert period(per, at(now), 0.0, zone, first_day, first_month) == (at(start), at(end))


def test_days_from_an_anchor_follow_the_zone() -> None:
    begun, end = period("2d", at("2026-10-25T12:00"), at("2026-10-24T23:30"), "Europe/Berlin")
    assert (begun, end) == (at("2026-10-24T22:00"), at("2026-10-26T23:00"))


@pytest.mark.parametrize("zone", ["", "Berlin", "Mars/Olympus", "../etc/passwd", "/etc/localtime"])
def test_zones_that_do_not_exist(zone: str) -> None:
    with pytest.raises(ValueError, match="is not a time zone"):
        place(zone)
    with pytest.raises(ValueError, match="is not a time zone"):
        period("day", 0.0, zone=zone)


@given(
    per=st.sampled_from(["day", "week", "month", "quarter", "year", "1d", "7d", "30d"]),
    zone=st.sampled_from(
        ["Europe/Berlin", "America/New_York", "Asia/Kolkata", "Pacific/Apia", "America/Havana", "Asia/Beirut"]
    ),
    now=st.floats(0, 4e9),
    anchor=st.floats(0, 4e9),
    first_day=st.integers(1, 31),
    first_month=st.integers(1, 12),
)
def test_periods_cover_time_in_every_zone(
    per: str, zone: str, now: float, anchor: float, first_day: int, first_month: int
) -> None:
    start, end = period(per, now, anchor, zone, first_day, first_month)
    assert end is not None
    assert start <= now < end
    assert period(per, start, anchor, zone, first_day, first_month) == (start, end)
    assert period(per, end, anchor, zone, first_day, first_month)[0] == end
