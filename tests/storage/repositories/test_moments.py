from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from tollway.storage.repositories.moments import Span, cover, local_days, midnight, next_day, zone

DAYS = ["2026-03-28", "2026-03-29", "2026-03-30", "2026-03-31", "2026-04-01"]
times = st.builds(
    lambda day, hour, rest: f"{day}T{hour:02d}:{rest}Z",
    st.sampled_from(DAYS),
    st.integers(0, 23),
    st.sampled_from(["00:00.000", "30:00.000", "59:59.999"]),
)


@given(times, times, st.sampled_from(["", *DAYS]))
def test_a_cover_holds_every_moment_once(start: str, end: str, purged: str) -> None:
    days = cover(Span(start, end), purged)
    for day in DAYS:
        for hour in range(24):
            for rest in ("00:00.000", "30:00.000", "59:59.999"):
                time = f"{day}T{hour:02d}:{rest}Z"
                times_covered = (days.first <= day < days.last) + sum(s <= time < e for s, e in days.ends)
                if start <= time < end:
                    assert times_covered == 1, time
                elif day >= purged:
                    assert times_covered == 0, time
                else:
                    assert times_covered <= 1, time


@given(times, times, st.sampled_from(["Europe/Berlin", "America/New_York", "Asia/Kathmandu", "UTC"]))
def test_local_days_make_up_the_span(start: str, end: str, where: str) -> None:
    parts = list(local_days(Span(start, end), zone(where)))
    if start >= end:
        assert parts == []
        return
    assert parts[0][1].start == start
    assert parts[-1][1].end == end
    for (day, part), (following, rest) in pairwise(parts):
        assert part.end == rest.start
        assert next_day(day) == following


def test_a_day_of_23_hours() -> None:
    parts = dict(local_days(Span(midnight("2026-03-28"), midnight("2026-03-31")), zone("Europe/Berlin")))
    assert parts["2026-03-29"] == Span("2026-03-28T23:00:00.000Z", "2026-03-29T22:00:00.000Z")
