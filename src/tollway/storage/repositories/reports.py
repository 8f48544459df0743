"""Sums over the ledger, grouped by dimensions and by time: whole UTC days and hours come from the roll-ups, only the
ragged ends of a span from the events. Works on a connection; ``Events`` is the door."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from functools import cache
from zoneinfo import ZoneInfo

import msgspec
from msgspec import Struct
from sqlalchemy import (
    Column,
    ColumnElement,
    Connection,
    Select,
    Table,
    and_,
    case,
    false,
    func,
    or_,
    select,
)

from tollway.storage.columns import member
from tollway.storage.entries import DAY, DIMENSIONS, HOUR, MEASURES, PLAIN_UNITS, UNITS
from tollway.storage.repositories import buckets
from tollway.storage.repositories.buckets import Kept, Part, Unit
from tollway.storage.repositories.moments import Span, midnight, next_day
from tollway.storage.tables import events, ledger_state, rollups, rollups_hourly

TIMES = buckets.UNITS
GROUPS = (*TIMES, *("tag" if name == "tags" else name for name in DIMENSIONS))
"""What a report can be grouped by, and but for the times filtered by. ``tag``: an event with two tags is in the rows of
both, and once in the total."""

FILTERS = GROUPS[len(TIMES) :]
PURGED_BEFORE = "purged_before"
HOURS_BEFORE = "hours_before"

Row = dict[str, str | int | None]
Name = tuple[str | None, ...]
Sums = dict[Name, list[int]]
Filters = Mapping[str, Sequence[str]]
"""By dimension the values of which an event must have one; ``key`` is a name or an id."""

Region = Sequence[Filters] | None
"""What may be seen: events that one of these match; None: all."""


class Report(Struct, frozen=True, kw_only=True):
    """``groups`` is how many rows there were before a limit cut them; ``total`` is of all of them."""

    rows: list[Row]
    total: Row
    groups: int


def _units(name: str) -> ColumnElement[int]:
    """The sum of one class over events. Most rows have no ``other_units``, which costs next to nothing."""
    if name in PLAIN_UNITS:
        return func.sum(events.c[name])
    return func.coalesce(func.sum(member(events.c.other_units, name)), 0)


event_day = func.substr(events.c.time, 1, DAY)
event_hour = func.substr(events.c.time, 1, HOUR)
_CORRECTION = events.c.outcome == "correction"
event_measures: list[ColumnElement[int]] = [
    func.sum(case((_CORRECTION, 0), else_=1)).label("requests"),
    func.sum(case((events.c.outcome == "error", 1), else_=0)).label("errors"),
    func.sum(case((_CORRECTION, 1), else_=0)).label("corrections"),
    *(_units(name).label(name) for name in UNITS),
    func.sum(events.c.cost_nano_usd).label("cost_nano_usd"),
    func.sum(case((events.c.priced, 0), else_=1)).label("unpriced_requests"),
]
"""``MEASURES``, computed from events."""

_COST = MEASURES.index("cost_nano_usd")
_TOKENS = tuple(
    MEASURES.index(name)
    for name in (
        "input", "cache_read", "cache_write_5m", "cache_write_1h", "audio_input", "output", "audio_output",
    )
)  # fmt: skip


def purged_before(connection: Connection) -> str:
    """The UTC day before which events were purged; the empty string when none were."""
    return kept(connection).events_since


def kept(connection: Connection) -> Kept:
    query = select(ledger_state.c.name, ledger_state.c.value)
    found = {row.name: row.value for row in connection.execute(query)}
    return Kept(found.get(PURGED_BEFORE, ""), found.get(HOURS_BEFORE, ""))


def usage(
    connection: Connection,
    groups: tuple[str, ...],
    span: Span,
    where: ZoneInfo,
    filters: Filters | None = None,
    region: Region = None,
    *,
    order: str = "cost_nano_usd",
    limit: int | None = None,
) -> Report:
    """``groups`` are of ``GROUPS``, at most one a time. ``order`` is a measure, ``tokens`` or ``name``; rows come by
    time first, then the greatest first (names: the first)."""
    sums, total = _sums(connection, groups, span, where, filters or {}, region)
    ranked = _ordered(sums, groups, order)
    rows = [_row(groups, name, measures) for name, measures in ranked[:limit]]
    return Report(rows=rows, total=_row((), (), total), groups=len(ranked))


def _sums(
    connection: Connection,
    groups: tuple[str, ...],
    span: Span,
    where: ZoneInfo,
    filters: Filters,
    region: Region,
) -> tuple[Sums, list[int]]:
    unit = next((name for name in TIMES if name in groups), None)
    names = [("tags" if name == "tag" else name) for name in groups if name not in TIMES]
    if unit is not None:
        span = _within_data(connection, span)
    parts = buckets.divide(span, unit, where, kept(connection))
    sums: Sums = {}
    for found, ranges, label in (
        (rollups, parts.days, rollups.c.day),
        (rollups_hourly, parts.hours, _cut(rollups_hourly.c.hour, unit)),
        (events, parts.times, _cut(events.c.time, unit)),
    ):
        plain = [part for part in ranges if not part.label]
        if plain:
            query = _query(found, names, filters, region).where(_in_ranges(found, plain))
            if unit is None:
                _add(connection, sums, query, names)
            else:
                _add(connection, sums, query, names, label, _own(unit, where))
        # A query for each bucket: both engines read a range of the primary key, which a join would not make them do.
        for part in ranges:
            if part.label:
                query = _query(found, names, filters, region).where(_in_ranges(found, [part]))
                _add(connection, sums, query, names, bucket=part.label)
    total = [sum(measures) for measures in zip(*sums.values(), strict=True)] or [0] * len(MEASURES)
    arranged = _arranged(sums, groups, unit)
    if "tag" in groups:
        arranged = _exploded(arranged, groups.index("tag"), filters.get("tag", ()))
    return arranged, total


def _within_data(connection: Connection, span: Span) -> Span:
    """A span no longer than what there is, so that a calendar of it has an end."""
    first, last = connection.execute(select(func.min(rollups.c.day), func.max(rollups.c.day))).one()
    if first is None:
        return Span(span.start, span.start)
    return Span(max(span.start, midnight(first)), min(span.end, midnight(next_day(last))))


def _cut(time: Column[str], unit: Unit | None) -> ColumnElement[str]:
    return func.substr(time, 1, DAY if unit == "day" else HOUR)


def _own(unit: Unit | None, where: ZoneInfo) -> Callable[[str], str]:
    """From a UTC day or hour to its label."""
    if unit != "hour":
        return str

    @cache
    def local(hour: str) -> str:
        if len(hour) == DAY:
            hour += "T00"  # only whole days are left there: the day's first hour stands for it
        return buckets.label_of(datetime.fromisoformat(hour + ":00:00+00:00").astimezone(where), "hour")

    return local


def _time(table: Table) -> Column[str]:
    return table.c.day if table is rollups else table.c.hour if table is rollups_hourly else table.c.time


def _in_ranges(table: Table, ranges: Iterable[Part]) -> ColumnElement[bool]:
    at = _time(table)
    return or_(*(and_(at >= part.first, at < part.last) for part in ranges))


def _query(
    table: Table, names: Sequence[str], filters: Filters, region: Region
) -> Select[*tuple[str | int, ...]]:
    measures = (
        event_measures
        if table is events
        else [func.sum(table.c[name]).label(f"sum_{name}") for name in MEASURES]
    )
    columns = [table.c[name] for name in names]
    return select(*columns, *measures).where(*matching(table, filters, region)).group_by(*columns)


def matching(table: Table, filters: Filters, region: Region = None) -> list[ColumnElement[bool]]:
    """Conditions on events or on either of the roll-ups, which name their dimensions alike."""
    conditions: list[ColumnElement[bool]] = []
    if region is not None:
        conditions.append(or_(false(), *(and_(*one) for each in region if (one := matching(table, each)))))
    for name, wanted in filters.items():
        if not wanted:
            continue
        if name == "key":
            conditions.append(or_(table.c.key.in_(wanted), table.c.key_id.in_(wanted)))
        elif name == "tag":
            conditions.append(or_(*(has_tag(table.c.tags, tag) for tag in wanted)))
        else:
            conditions.append(table.c[name].in_(wanted))
    return conditions


def has_tag(tags: Column[str], tag: str) -> ColumnElement[bool]:
    """Whether the canonical text contains a tag. Within a tag's own text every quotation mark follows a backslash, so
    one after a bracket or a comma begins a tag."""
    quoted = msgspec.json.encode(tag).decode()
    # Replacing tells upper from lower case on both engines, which LIKE does not.
    return or_(
        func.replace(tags, f"[{quoted}", "") != tags,
        func.replace(tags, f",{quoted}", "") != tags,
    )


def _add(
    connection: Connection,
    sums: Sums,
    query: Select[*tuple[str | int, ...]],
    names: Sequence[str],
    label: ColumnElement[str] | None = None,
    labelled: Callable[[str], str] = str,
    bucket: str | None = None,
) -> None:
    """The time is the last part of a row's name: ``bucket``, or what ``label`` says, ``labelled``; or there is none."""
    if label is not None:
        query = query.add_columns(label.label("bucket")).group_by(label)
    width = len(names)
    for row in connection.execute(query):
        # Without groups there is always one row, of nulls when nothing matched.
        measures = [int(value or 0) for value in row[width : width + len(MEASURES)]]
        if not any(measures):
            continue
        name: Name = tuple(None if part is None or part == "" else str(part) for part in row[:width])
        if label is not None:
            name = (*name, labelled(str(row[-1])))
        elif bucket is not None:
            name = (*name, bucket)
        known = sums.get(name)
        sums[name] = measures if known is None else [a + b for a, b in zip(known, measures, strict=True)]


def _arranged(sums: Sums, groups: tuple[str, ...], unit: Unit | None) -> Sums:
    """Names in the order of ``groups``; the time was last."""
    if unit is None:
        return sums
    at = groups.index(unit)
    return {(*name[:at], name[-1], *name[at:-1]): measures for name, measures in sums.items()}


def _exploded(sums: Sums, at: int, wanted: Sequence[str]) -> Sums:
    """A row for each tag (of ``wanted``, if any are) instead of one for each combination."""
    found: Sums = {}
    for name, measures in sums.items():
        combined = name[at]
        tags: list[str | None] = [None] if combined is None else msgspec.json.decode(combined)
        for tag in tags:
            if wanted and tag not in wanted:
                continue
            single = (*name[:at], tag, *name[at + 1 :])
            known = found.get(single)
            found[single] = (
                measures if known is None else [a + b for a, b in zip(known, measures, strict=True)]
            )
    return found


def _ordered(sums: Sums, groups: tuple[str, ...], order: str) -> list[tuple[Name, list[int]]]:
    time = next((at for at, name in enumerate(groups) if name in TIMES), None)
    measure = MEASURES.index(order) if order in MEASURES else None

    def rank(item: tuple[Name, list[int]]) -> tuple[str, int, tuple[str, ...]]:
        name, measures = item
        size = 0
        if order == "tokens":
            size = sum(measures[at] for at in _TOKENS)
        elif measure is not None:
            size = measures[measure]
        return (name[time] or "") if time is not None else "", -size, tuple(n or "" for n in name)

    return sorted(sums.items(), key=rank)


def charges(connection: Connection, day: str, filters: Filters, region: Region) -> list[Row]:
    """The daily roll-ups of one UTC day as they are: all dimensions, the tags as one text."""
    names = ("day", *DIMENSIONS, *MEASURES)
    query = select(*(rollups.c[name] for name in names)).where(
        rollups.c.day == day, *matching(rollups, filters, region)
    )
    return [
        dict(zip(names, row, strict=True)) for row in connection.execute(query.order_by(rollups.c.digest))
    ]


def days(connection: Connection, span: Span) -> list[str]:
    """The UTC days of a span that have roll-ups."""
    query = select(rollups.c.day).distinct().where(rollups.c.day >= span.start[:DAY])
    last = span.end if span.end == midnight(span.end[:DAY]) else midnight(next_day(span.end[:DAY]))
    return sorted(connection.execute(query.where(rollups.c.day < last[:DAY])).scalars())


def _row(groups: tuple[str, ...], name: Name, measures: list[int]) -> Row:
    return {**dict(zip(groups, name, strict=True)), **dict(zip(MEASURES, measures, strict=True))}
