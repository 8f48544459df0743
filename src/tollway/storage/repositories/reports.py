"""Sums over the ledger: whole UTC days come from the roll-ups, the ragged ends of a span and other time
zones' days from the events. Works on a connection; ``Events`` is the door."""

from __future__ import annotations

from collections.abc import Iterable
from zoneinfo import ZoneInfo

from sqlalchemy import (
    ColumnElement,
    Connection,
    Select,
    Text,
    case,
    column,
    func,
    literal,
    select,
    values,
)

from tollway.storage.entries import DIMENSIONS, MEASURES, PLAIN_UNITS, UNITS
from tollway.storage.repositories.moments import Span, cover, local_days, midnight
from tollway.storage.tables import events, ledger_state, rollups

GROUPS = ("day", *DIMENSIONS)
PURGED_BEFORE = "purged_before"

Row = dict[str, str | int | None]
Sums = dict[tuple[str | None, ...], list[int]]


def _units(name: str) -> ColumnElement[int]:
    """The sum of one class over events. Most rows have no ``other_units``, which costs next to nothing."""
    if name in PLAIN_UNITS:
        return func.sum(events.c[name])
    return func.coalesce(func.sum(func.json_extract(events.c.other_units, f"$.{name}")), 0)


event_day = func.substr(events.c.time, 1, 10)
event_measures: list[ColumnElement[int]] = [
    func.count().label("requests"),
    func.sum(case((events.c.error, 1), else_=0)).label("errors"),
    *(_units(name).label(name) for name in UNITS),
    func.sum(events.c.cost_nano_usd).label("cost_nano_usd"),
    func.sum(case((events.c.priced, 0), else_=1)).label("unpriced_requests"),
]
"""``MEASURES``, computed from events."""

_rollup_measures = [func.sum(rollups.c[name]).label(name) for name in MEASURES]
_COST = MEASURES.index("cost_nano_usd")


def purged_before(connection: Connection) -> str:
    """The UTC day before which events were purged; the empty string when none were."""
    query = select(ledger_state.c.value).where(ledger_state.c.name == PURGED_BEFORE)
    return connection.execute(query).scalar() or ""


def usage(
    connection: Connection, groups: tuple[str, ...], span: Span, where: ZoneInfo
) -> tuple[list[Row], Row]:
    sums: Sums = {}
    purged = purged_before(connection)
    if "day" in groups and where.key not in ("UTC", "Etc/UTC"):
        if span.start < midnight(purged or "0000-01-01"):
            _from_days(connection, sums, groups, Span(span.start, min(span.end, midnight(purged))), purged)
            span = Span(max(span.start, midnight(purged)), span.end)
        _from_local_days(connection, sums, groups, span, where)
    else:
        _from_days(connection, sums, groups, span, purged)
    rows = [_row(groups, name, measures) for name, measures in _ordered(sums, groups)]
    total = [sum(measures) for measures in zip(*sums.values(), strict=True)] or [0] * len(MEASURES)
    return rows, _row((), (), total)


def spent(connection: Connection, key_id: str, span: Span) -> int:
    days = cover(span, purged_before(connection))
    query = select(func.sum(rollups.c.cost_nano_usd)).where(rollups.c.key_id == key_id)
    query = query.where(rollups.c.day >= days.first, rollups.c.day < days.last)
    total = connection.execute(query).scalar() or 0
    for end in days.ends:
        part = select(func.sum(events.c.cost_nano_usd)).where(events.c.key_id == key_id, *_within(end))
        total += connection.execute(part).scalar() or 0
    return int(total)


def _from_days(connection: Connection, sums: Sums, groups: tuple[str, ...], span: Span, purged: str) -> None:
    days = cover(span, purged)
    names = [rollups.c[name] for name in groups]
    query = select(*names, *_rollup_measures).where(rollups.c.day >= days.first, rollups.c.day < days.last)
    _add(connection, sums, groups, query.group_by(*names))
    for end in days.ends:
        dimensions = [event_day if name == "day" else events.c[name] for name in groups]
        part = select(*dimensions, *event_measures).where(*_within(end))
        _add(connection, sums, groups, part.group_by(*dimensions))


def _from_local_days(
    connection: Connection, sums: Sums, groups: tuple[str, ...], span: Span, where: ZoneInfo
) -> None:
    first, last = connection.execute(
        select(func.min(events.c.time), func.max(events.c.time)).where(*_within(span))
    ).one()
    if first is None:
        return
    # The last event lies inside the span; a character more than its time makes an end that includes it.
    days = local_days(Span(max(span.start, first), min(span.end, last + "~")), where)
    listed = values(column("day", Text), column("start", Text), column("end", Text), name="days")
    calendar = listed.data([(day, part.start, part.end) for day, part in days]).cte("days")
    dimensions = [calendar.c.day if name == "day" else events.c[name] for name in groups]
    query = (
        select(*dimensions, *event_measures)
        .select_from(calendar)
        .join(events, (events.c.time >= calendar.c.start) & (events.c.time < calendar.c.end))
    )
    _add(connection, sums, groups, query.group_by(*dimensions))


def _within(span: Span) -> Iterable[ColumnElement[bool]]:
    return events.c.time >= literal(span.start), events.c.time < literal(span.end)


def _add(
    connection: Connection, sums: Sums, groups: tuple[str, ...], query: Select[*tuple[str | int | None, ...]]
) -> None:
    width = len(groups)
    for row in connection.execute(query):
        # Without groups there is always one row, of nulls when nothing matched.
        measures = [int(value or 0) for value in row[width:]]
        if not measures[0]:
            continue
        name = tuple(None if part is None or part == "" else str(part) for part in row[:width])
        known = sums.get(name)
        sums[name] = measures if known is None else [a + b for a, b in zip(known, measures, strict=True)]


def _ordered(sums: Sums, groups: tuple[str, ...]) -> list[tuple[tuple[str | None, ...], list[int]]]:
    """By day, then the dearest first."""
    day = groups.index("day") if "day" in groups else None

    def rank(item: tuple[tuple[str | None, ...], list[int]]) -> tuple[str, int, tuple[str, ...]]:
        name, measures = item
        return (name[day] or "") if day is not None else "", -measures[_COST], tuple(n or "" for n in name)

    return sorted(sums.items(), key=rank)


def _row(groups: tuple[str, ...], name: tuple[str | None, ...], measures: list[int]) -> Row:
    return {**dict(zip(groups, name, strict=True)), **dict(zip(MEASURES, measures, strict=True))}
