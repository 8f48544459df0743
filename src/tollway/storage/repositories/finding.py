"""Where to look for events: a filter with an index of its own is walked, any other is looked up in the roll-ups first,
which know the hours that have such events. So no page is found by reading everything."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, timedelta
from typing import NamedTuple

from sqlalchemy import ColumnElement, Connection, and_, func, or_, select

from tollway.model.event import UsageFilter
from tollway.storage.repositories.moments import EVER, NEVER, Span, midnight, next_day
from tollway.storage.repositories.reports import Filters, Region, kept, matching
from tollway.storage.tables import events, rollups, rollups_hourly

_INDEXED = ("organization", "team", "project", "user", "customer", "model", "key")
_LOOKED_UP = ("provider", "upstream_model", "endpoint", "tag")
_MEASURES = {"error": "errors", "correction": "corrections"}

_FIRST_DAYS = 2
_MOST_DAYS = 64
"""How many days of roll-ups are looked through at once: few at first, since the newest are wanted most."""

_MANY_HOURS = 48
"""How many hours of events one query goes through at most."""

_Found = tuple[str, int, bytes]


class Place(NamedTuple):
    """An event's place in the order of pages."""

    time: str
    seq: int


def find(
    connection: Connection,
    filter: UsageFilter,
    span: Span,
    limit: int,
    after: Place | None,
    region: Region = None,
) -> list[_Found]:
    """The newest events of a span that match, ``limit`` or more where there are as many, in no order."""
    filters = dimensions(filter)
    if filter.request_id is None and (region is not None or _needs_roll_ups(filter, filters)):
        return _by_hours(connection, filter, filters, span, limit, after, region)
    named = {name: values for name, values in filters.items() if name != "key"}
    conditions = [*_others(filter), *matching(events, named, region)]
    found: list[_Found] = []
    for one in by_key(connection, filter.key):
        found += _read(connection, [*conditions, *one, *_within(span)], limit, after)
    return found


def conditions_of(filter: UsageFilter) -> list[ColumnElement[bool]]:
    """All but the key and the times."""
    filters = {name: values for name, values in dimensions(filter).items() if name != "key"}
    return [*_others(filter), *matching(events, filters)]


def dimensions(filter: UsageFilter) -> dict[str, tuple[str, ...]]:
    given = {name: getattr(filter, name) for name in (*_INDEXED, *_LOOKED_UP)}
    return {name: (value,) for name, value in given.items() if value is not None}


def by_key(connection: Connection, key: str | None) -> list[list[ColumnElement[bool]]]:
    """One condition for each key id that goes by this name (or is it): several queries that walk an index
    each, where one with OR would sort."""
    if key is None:
        return [[]]
    named = select(rollups.c.key_id).where(rollups.c.key == key).distinct()
    ids = {row.key_id for row in connection.execute(named)}
    nameless = [[and_(events.c.key_id.is_(None), events.c.key == key)]] if "" in ids else []
    # An id that other events bear under another name (the key was renamed) is asked for by the name all the
    # same.
    by_name = [[and_(events.c.key_id == id, events.c.key == key)] for id in sorted(ids - {"", key})]
    return [[events.c.key_id == key], *by_name, *nameless]


def _needs_roll_ups(filter: UsageFilter, filters: Filters) -> bool:
    if not filters:
        return False
    return len(filters) > 1 or next(iter(filters)) in _LOOKED_UP or filter.outcome in _MEASURES


def _others(filter: UsageFilter) -> list[ColumnElement[bool]]:
    conditions: list[ColumnElement[bool]] = []
    if filter.outcome is not None:
        conditions.append(events.c.outcome == filter.outcome)
        if filter.outcome != "ok":
            conditions.append(events.c.outcome != "ok")  # said again, for the index of such events alone
    if filter.request_id is not None:
        # "`" follows "_": the ids ``ue_{request_id}_…`` and no others.
        conditions.append(events.c.id > f"ue_{filter.request_id}_")
        conditions.append(events.c.id < f"ue_{filter.request_id}`")
    return conditions


def _within(span: Span) -> list[ColumnElement[bool]]:
    conditions = []
    if span.start != EVER:
        conditions.append(events.c.time >= span.start)
    if span.end != NEVER:
        conditions.append(events.c.time < span.end)
    return conditions


def _read(
    connection: Connection, conditions: list[ColumnElement[bool]], limit: int, after: Place | None
) -> list[_Found]:
    query = select(events.c.time, events.c.seq, events.c.event).where(*conditions)
    if after is not None:
        older = or_(events.c.time < after.time, events.c.seq < after.seq)
        query = query.where(events.c.time <= after.time, older)
    query = query.order_by(events.c.time.desc(), events.c.seq.desc()).limit(limit)
    return [(row.time, row.seq, row.event) for row in connection.execute(query)]


def _by_hours(
    connection: Connection,
    filter: UsageFilter,
    filters: Filters,
    span: Span,
    limit: int,
    after: Place | None,
    region: Region,
) -> list[_Found]:
    if after is not None and after.time < span.end:
        span = Span(span.start, after.time + "~")
    conditions = [*_others(filter), *matching(events, filters, region)]
    found: list[_Found] = []
    for part in _likely(connection, filter, filters, span, limit, region):
        inside = [*conditions, *_within(Span(max(part.start, span.start), min(part.end, span.end)))]
        if part.key:
            inside.append(events.c.key_id == part.key)  # said by the roll-ups; it has an index
        found += _read(connection, inside, limit - len(found), after)
        if len(found) >= limit:
            break
    return found


class _Part(NamedTuple):
    """A span that has such events; all of them are of this key id, or of several where it is empty."""

    start: str
    end: str
    key: str


class _Hour(NamedTuple):
    hour: str
    events_in: int
    key: str


def _likely(
    connection: Connection,
    filter: UsageFilter,
    filters: Filters,
    span: Span,
    limit: int,
    region: Region,
) -> Iterator[_Part]:
    """Spans that have such events by the roll-ups, the newest first, hours that follow one another together."""
    measure = _MEASURES.get(filter.outcome or "", "")
    oldest, newest = connection.execute(select(func.min(rollups.c.day), func.max(rollups.c.day))).one()
    if oldest is None:
        return
    since = kept(connection)
    first = max(span.start[:10], oldest, since.events_since)
    end = min(next_day(newest), next_day(span.end[:10]) if span.end != NEVER else "9999")
    days = _FIRST_DAYS
    while first < end:
        start = max(first, (date.fromisoformat(end) - timedelta(days=days)).isoformat())
        hours: list[_Hour] = []
        for day, _, key in _counts(connection, rollups.c.day, start, end, filters, region, measure):
            if day >= since.hours_since:
                hours += _counts(
                    connection, rollups_hourly.c.hour, day, next_day(day), filters, region, measure
                )
            else:
                yield from _together(hours, limit)
                hours = []
                yield _Part(midnight(day), midnight(next_day(day)), key)
        yield from _together(hours, limit)
        end = start
        days = min(days * 2, _MOST_DAYS)


def _counts(
    connection: Connection,
    time: ColumnElement[str],
    first: str,
    last: str,
    filters: Filters,
    region: Region,
    measure: str,
) -> list[_Hour]:
    """How many there are in each hour, or day, the newest first."""
    table = rollups if time is rollups.c.day else rollups_hourly
    counted = table.c[measure] if measure else table.c.requests + table.c.corrections
    query = (
        select(time, func.sum(counted), func.min(table.c.key_id), func.max(table.c.key_id))
        .where(time >= first, time < last, counted > 0, *matching(table, filters, region))
        .group_by(time)
        .order_by(time.desc())
    )
    return [
        _Hour(at, int(count), first_key if first_key == last_key else "")
        for at, count, first_key, last_key in connection.execute(query)
    ]


def _together(hours: list[_Hour], limit: int) -> Iterator[_Part]:
    """Neighbouring hours, newest first, as one part, until it holds a page or is long."""
    first, last, key, count, length = "", "", "", 0, 0
    for hour, events_in, of_key in hours:
        following = _hour_after(hour)
        if first and following == first and of_key == key and count < limit and length < _MANY_HOURS:
            first, count, length = hour, count + events_in, length + 1
            continue
        if first:
            yield _Part(_full(first), last, key)
        first, last, key, count, length = hour, _full(following), of_key, events_in, 1
    if first:
        yield _Part(_full(first), last, key)


def _full(hour: str) -> str:
    return f"{hour}:00:00.000Z"


def _hour_after(hour: str) -> str:
    day, _, number = hour.partition("T")
    return f"{next_day(day)}T00" if number == "23" else f"{day}T{int(number) + 1:02d}"
