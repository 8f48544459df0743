"""How a span is cut for a report: into the buckets of a calendar, and each bucket into what whole UTC days, whole UTC
hours and single events say. No query is here."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import UTC, date, datetime, timedelta, tzinfo
from typing import Literal, NamedTuple
from zoneinfo import ZoneInfo

from tollway.errors import BadRequest
from tollway.storage.repositories.moments import Span, midnight, next_day, written

Unit = Literal["hour", "day", "week", "month"]
UNITS: tuple[Unit, ...] = ("hour", "day", "week", "month")

MOST = 5000
"""Buckets a report may have where each is looked up on its own."""

_DAY = len("2026-01-01")
_HOUR = len("2026-01-01T00")


class Kept(NamedTuple):
    """What is still there: events and hourly roll-ups since these UTC days; empty: all of them."""

    events_since: str
    hours_since: str

    @property
    def whole_days_until(self) -> str:
        """The day before which only daily roll-ups are left."""
        return min(self.events_since, self.hours_since)


class Part(NamedTuple):
    """From ``first`` (inclusive) to ``last`` (exclusive): days, hours or times, as their column writes them."""

    label: str
    first: str
    last: str


class Parts:
    """The pieces of a span, each to be read where it is cheapest."""

    __slots__ = ("days", "hours", "times")

    def __init__(self) -> None:
        self.days: list[Part] = []
        self.hours: list[Part] = []
        self.times: list[Part] = []

    def add(self, label: str, span: Span, kept: Kept) -> None:
        """Cut one bucket. It lies wholly before ``kept.whole_days_until``, as whole days, or wholly after."""
        start, end = span
        first = start[:_DAY] if start == midnight(start[:_DAY]) else next_day(start[:_DAY])
        last = end[:_DAY]
        if first > last:
            self._add_within_day(label, start, end, kept)
            return
        if start < midnight(first):
            self._add_within_day(label, start, midnight(first), kept)
        if first < last:
            self.days.append(Part(label, first, last))
        if midnight(last) < end:
            self._add_within_day(label, midnight(last), end, kept)

    def add_hours(self, label: str, span: Span, kept: Kept) -> None:
        """The same without daily roll-ups, for who wants to know the hour."""
        since = max(span.start, midnight(kept.hours_since)) if kept.hours_since else span.start
        if span.start < since:
            self.times.append(Part(label, span.start, min(since, span.end)))
        cut = midnight(kept.events_since) if kept.events_since else since
        if since < cut < span.end:
            self._add_hours(label, since, cut, kept)
            since = cut
        if since < span.end:
            self._add_hours(label, since, span.end, kept)

    def _add_within_day(self, label: str, start: str, end: str, kept: Kept) -> None:
        if start[:_DAY] < kept.hours_since:
            self.times.append(Part(label, start, end))
        else:
            self._add_hours(label, start, end, kept)

    def _add_hours(self, label: str, start: str, end: str, kept: Kept) -> None:
        first, last = _next_hour(start), end[:_HOUR]
        if start[:_DAY] < kept.events_since:
            # Minutes are forgotten there: an hour belongs to the bucket in which it begins.
            last = _next_hour(end)
            if first < last:
                self.hours.append(Part(label, first, last))
            return
        if first > last:
            self.times.append(Part(label, start, end))
            return
        if start < _full(first):
            self.times.append(Part(label, start, _full(first)))
        if first < last:
            self.hours.append(Part(label, first, last))
        if _full(last) < end:
            self.times.append(Part(label, _full(last), end))


def divide(span: Span, unit: Unit | None, where: ZoneInfo, kept: Kept) -> Parts:
    """Cut a span. Where only whole UTC days are left, those it touches are taken whole, and are days of every zone.

    Labels are empty where the column's own value is the label: UTC days, and hours of zones whose hours are UTC's.
    Raises BadRequest for more than ``MOST`` buckets.
    """
    parts = Parts()
    until = midnight(kept.whole_days_until) if kept.whole_days_until else ""
    if span.start < span.end and span.start < until:
        first, last = span.start[:_DAY], min(_day_after(span.end), kept.whole_days_until)
        if unit in ("week", "month"):
            days = Span(midnight(first), midnight(last))
            parts.days += [Part(label, a[:_DAY], b[:_DAY]) for label, (a, b) in calendar(days, unit, UTC)]
        elif first < last:
            parts.days.append(Part("", first, last))
        span = Span(until, span.end)
    if span.start >= span.end:
        return parts
    if span.start[:_DAY] < kept.events_since:
        span = Span(_full(span.start[:_HOUR]), span.end)
    if unit is None or (unit == "day" and is_utc(where)):
        parts.add("", span, kept)
    elif unit == "hour" and in_whole_hours(span, where):
        parts.add_hours("", span, kept)
    else:
        for label, bucket in calendar(span, unit, where):
            parts.add(label, bucket, kept)
    return parts


def calendar(span: Span, unit: Unit, where: tzinfo) -> Iterator[tuple[str, Span]]:
    """Each hour, day, week (from Monday) or month of a time zone that a span touches, with the part of the span that
    lies in it. Days have 23 to 25 hours where clocks change."""
    start = span.start
    count = 0
    while start < span.end:
        count += 1
        if count > MOST:
            raise BadRequest(
                f"That is more than {MOST} times {unit}: give since and until, or a longer unit.",
                param="group_by",
            )
        local = datetime.fromisoformat(start).astimezone(where)
        following = written(_following(local, unit))
        end = min(following, span.end)
        yield label_of(local, unit), Span(start, end)
        start = end


def label_of(local: datetime, unit: Unit) -> str:
    """``2026-11-22T10:00+01:00``, ``2026-11-22``, the Monday of a week, ``2026-11``."""
    if unit == "hour":
        return local.replace(minute=0).isoformat(timespec="minutes").replace("+00:00", "Z")
    if unit == "day":
        return local.date().isoformat()
    if unit == "week":
        return (local.date() - timedelta(days=local.weekday())).isoformat()
    return f"{local.year:04d}-{local.month:02d}"


def _following(local: datetime, unit: Unit) -> datetime:
    """The beginning of the next one."""
    if unit == "hour":
        # Through UTC: where clocks go back an hour comes twice.
        moment = local.astimezone(UTC) + timedelta(hours=1)
        there = moment.astimezone(local.tzinfo)
        return moment - timedelta(minutes=there.minute, seconds=there.second, microseconds=there.microsecond)
    day = local.date()
    if unit == "day":
        day += timedelta(days=1)
    elif unit == "week":
        day += timedelta(days=7 - day.weekday())
    else:
        day = (day.replace(day=1) + timedelta(days=32)).replace(day=1)
    return datetime(day.year, day.month, day.day, tzinfo=local.tzinfo)


def is_utc(where: ZoneInfo) -> bool:
    return where.key in ("UTC", "Etc/UTC", "Etc/UCT", "UCT", "Zulu", "Etc/Zulu")


def in_whole_hours(span: Span, where: ZoneInfo) -> bool:
    """Whether a zone's hours begin when UTC's do, on every day of the span."""
    if is_utc(where):
        return True
    day, last = date.fromisoformat(span.start[:_DAY]), date.fromisoformat(span.end[:_DAY])
    if (last - day).days > MOST:
        return False
    offsets = (
        datetime(at.year, at.month, at.day, 12, tzinfo=UTC).astimezone(where).utcoffset()
        for at in _days(day, last)
    )
    return not any(offset and offset % timedelta(hours=1) for offset in offsets)


def _days(first: date, last: date) -> Iterable[date]:
    return (first + timedelta(days=n) for n in range((last - first).days + 1))


def _full(hour: str) -> str:
    return f"{hour}:00:00.000Z"


def _next_hour(time: str) -> str:
    """The first whole hour at or after a time."""
    hour = time[:_HOUR]
    if time == _full(hour):
        return hour
    return written(datetime.fromisoformat(_full(hour)) + timedelta(hours=1))[:_HOUR]


def _day_after(end: str) -> str:
    """The first day that begins at or after a time."""
    day = end[:_DAY]
    return day if end == midnight(day) else next_day(day)
