from __future__ import annotations

from datetime import datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tollway.errors import BadRequest
from tollway.storage.repositories.buckets import Kept, Unit, calendar, divide, label_of
from tollway.storage.repositories.moments import Span, zone

DAYS = ["2026-03-28", "2026-03-29", "2026-03-30", "2026-03-31", "2026-04-01"]
RESTS = ("00:00.000", "30:00.000", "59:59.999")
MOMENTS = [f"{day}T{hour:02d}:{rest}Z" for day in DAYS for hour in range(24) for rest in RESTS]
ZONES = ["Europe/Berlin", "America/New_York", "Asia/Kathmandu", "Asia/Kolkata", "UTC"]
units = st.sampled_from([None, "hour", "day", "week", "month"])
since = st.sampled_from(["", *DAYS])


@given(st.sampled_from(MOMENTS), st.sampled_from(MOMENTS), units, st.sampled_from(ZONES))
def test_every_moment_is_in_one_part_with_its_label(
    start: str, end: str, unit: Unit | None, where: str
) -> None:
    parts = divide(Span(start, end), unit, zone(where), Kept("", ""))
    for time in MOMENTS:
        labels = _labels(parts, time)
        assert len(labels) == (start <= time < end), (time, labels)
        for label in labels:
            local = datetime.fromisoformat(time).astimezone(zone(where))
            assert label in ("", unit and label_of(local, unit))


@given(st.sampled_from(MOMENTS), st.sampled_from(MOMENTS), units, st.sampled_from(ZONES), since, since)
def test_nothing_counts_twice_where_events_and_hours_are_gone(
    start: str, end: str, unit: Unit | None, where: str, events: str, hours: str
) -> None:
    kept = Kept(events, hours)
    parts = divide(Span(start, end), unit, zone(where), kept)
    for time in MOMENTS:
        count = len(_labels(parts, time))
        if start <= time < end:
            assert count == 1, time
        elif time[:10] >= events:
            assert count == 0, time  # nothing there is taken as a whole that could be cut
        else:
            assert count <= 1, time
    for part in parts.hours:
        assert part.first[:10] >= hours
    for part in parts.times:
        assert part.first >= part.last or part.first[:10] >= events


def _labels(parts: object, time: str) -> list[str]:
    found = []
    for ranges, at in ((parts.days, time[:10]), (parts.hours, time[:13]), (parts.times, time)):
        found += [part.label for part in ranges if part.first <= at < part.last]
    return found


@given(
    st.sampled_from(MOMENTS),
    st.sampled_from(MOMENTS),
    st.sampled_from(["hour", "day", "week", "month"]),
    st.sampled_from(ZONES),
)
def test_a_calendar_makes_up_the_span(start: str, end: str, unit: Unit, where: str) -> None:
    parts = list(calendar(Span(start, end), unit, zone(where)))
    if start >= end:
        assert parts == []
        return
    assert (parts[0][1].start, parts[-1][1].end) == (start, end)
    for (_, one), (_, following) in pairwise(parts):
        assert one.end == following.start
    labels = [label for label, _ in parts]
    assert len(set(labels)) == len(labels)


def test_days_where_clocks_change() -> None:
    span = Span("2026-03-28T00:00:00.000Z", "2026-03-31T00:00:00.000Z")
    parts = dict(calendar(span, "day", zone("Europe/Berlin")))
    assert parts["2026-03-29"] == Span("2026-03-28T23:00:00.000Z", "2026-03-29T22:00:00.000Z")
    span = Span("2026-10-24T22:00:00.000Z", "2026-10-25T23:00:00.000Z")
    hours = [label for label, _ in calendar(span, "hour", zone("Europe/Berlin"))]
    assert len(hours) == 25
    assert "2026-10-25T02:00+02:00" in hours
    assert "2026-10-25T02:00+01:00" in hours


def test_weeks_begin_on_monday_and_months_on_the_first() -> None:
    span = Span("2026-11-29T00:00:00.000Z", "2026-12-02T00:00:00.000Z")
    assert [label for label, _ in calendar(span, "week", zone("UTC"))] == ["2026-11-23", "2026-11-30"]
    assert [label for label, _ in calendar(span, "month", zone("UTC"))] == ["2026-11", "2026-12"]


def test_months_are_read_from_whole_days() -> None:
    """In Berlin too: only the hours at either end are read as hours, and no event at all."""
    span = Span("2026-01-31T23:00:00.000Z", "2026-03-31T22:00:00.000Z")
    parts = divide(span, "month", zone("Europe/Berlin"), Kept("", ""))
    assert [part.label for part in parts.days] == ["2026-02", "2026-03"]
    assert parts.times == []
    assert sum(_hours(part.first, part.last) for part in parts.hours) < 48


def _hours(first: str, last: str) -> int:
    return int(
        (datetime.fromisoformat(last + ":00") - datetime.fromisoformat(first + ":00")) / timedelta(hours=1)
    )


def test_too_many_buckets_are_refused() -> None:
    span = Span("2020-01-01T00:00:00.000Z", "2026-01-01T00:00:00.000Z")
    with pytest.raises(BadRequest, match="more than 5000"):
        divide(span, "hour", zone("Asia/Kolkata"), Kept("", ""))
