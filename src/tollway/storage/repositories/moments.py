"""Times as the ledger writes them, ISO 8601 in UTC with milliseconds, so that text sorts as time does; and
the parts of a span that whole UTC days cover. No clock is read here."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from typing import NamedTuple
from zoneinfo import ZoneInfo

from tollway.errors import BadRequest

EVER = "0000-01-01T00:00:00.000Z"
NEVER = "9999-12-31T00:00:00.000Z"
_DAY = len("2026-01-01")


class Span(NamedTuple):
    """From ``start`` (inclusive) to ``end`` (exclusive), as the ledger writes times."""

    start: str
    end: str


class Cover(NamedTuple):
    """A span cut into whole UTC days, ``first`` to ``last`` (exclusive), and the ragged ends beside them."""

    first: str
    last: str
    ends: list[Span]


def zone(name: str) -> ZoneInfo:
    """Raises BadRequest for a name that is no IANA time zone."""
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError) as error:
        raise BadRequest(f"{name!r} is not a time zone such as Europe/Berlin.", param="tz") from error


def moment(text: str, param: str, where: ZoneInfo) -> str:
    """A time as a person writes it (``2026-11-22``, with or without time and offset; ``where`` without an
    offset) as the ledger writes it. Raises BadRequest, naming ``param``."""
    try:
        # A plus sign that came through a query string is a blank.
        parsed = datetime.fromisoformat(text.strip().replace(" ", "T") if "T" not in text else _plus(text))
    except ValueError as error:
        raise BadRequest(
            f"{param} is neither a time such as 2026-11-22T10:00:00Z nor a span such as 7d.", param=param
        ) from error
    if parsed.tzinfo is None:
        parsed = parsed.replace(tzinfo=where)
    if not 1900 < parsed.year < 9000:
        raise BadRequest(f"{param} is out of range.", param=param)
    return written(parsed)


def _plus(text: str) -> str:
    return text.strip().replace(" ", "+")


def written(time: datetime) -> str:
    return time.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="milliseconds") + "Z"


def midnight(day: str) -> str:
    return f"{day}T00:00:00.000Z"


def cover(span: Span, purged_before: str = "") -> Cover:
    """Cut a span into whole days and ends. Days before ``purged_before`` have no events left: an end that
    lies in one is widened to the whole day."""
    first, last = span.start[:_DAY], span.end[:_DAY]
    ends = []
    if span.start != midnight(first) and first >= purged_before:
        following = next_day(first)
        ends.append(Span(span.start, min(midnight(following), span.end)))
        first = following
    if span.end != midnight(last):
        if last < purged_before:
            last = next_day(last)
        elif first <= last:
            ends.append(Span(midnight(last), span.end))
    return Cover(first, max(first, last), ends)


def next_day(day: str) -> str:
    return (date.fromisoformat(day) + timedelta(days=1)).isoformat()


def local_days(span: Span, where: ZoneInfo) -> Iterator[tuple[str, Span]]:
    """Each calendar day of a time zone that a span touches, with the part of the span that lies in it.
    Days have 23 to 25 hours where clocks change."""
    day = datetime.fromisoformat(span.start).astimezone(where).date()
    start = span.start
    while start < span.end:
        following = day + timedelta(days=1)
        midnight_there = datetime(following.year, following.month, following.day, tzinfo=where)
        end = min(written(midnight_there), span.end)
        if start < end:
            yield day.isoformat(), Span(start, end)
        start, day = max(start, end), following
