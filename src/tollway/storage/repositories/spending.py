"""What counters need to know of the ledger: sums by whoever has a budget or a limit, for all of them at once and not
one by one. Works on a connection; ``Events`` is the door."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple
from zoneinfo import ZoneInfo

import msgspec
from sqlalchemy import ColumnElement, Connection, Table, case, func, or_, select

from tollway.storage.columns import member
from tollway.storage.repositories import buckets
from tollway.storage.repositories.buckets import Part
from tollway.storage.repositories.moments import NEVER, Span
from tollway.storage.repositories.reports import kept
from tollway.storage.tables import events, rollups, rollups_hourly

_UTC = ZoneInfo("UTC")
_READ = ("input", "cache_read", "cache_write_5m", "cache_write_1h", "audio_input")
_WRITTEN = ("output", "audio_output")

Names = tuple[str, ...]
"""Dimensions, as roll-ups and events call them. ``tags`` is there for each single tag."""

MINUTE = len("2026-01-01T00:00")
SECOND = len("2026-01-01T00:00:00")


class Spent(NamedTuple):
    """A sum over the events ``of`` these values: attempts, tokens read (of them from a cache) and written, cost. ``at``
    is the part of their time that was asked for, or empty."""

    of: tuple[str, ...]
    at: str
    requests: int
    read: int
    cached: int
    written: int
    cost: int


def spent_since(connection: Connection, names: Names, since: str) -> Iterator[Spent]:
    """By ``names``, from a time on as the ledger writes it; the same values may come more than once."""
    parts = buckets.divide(Span(since, NEVER), None, _UTC, kept(connection))
    yield from _sums(connection, rollups, names, parts.days)
    yield from _sums(connection, rollups_hourly, names, parts.hours)
    yield from _sums(connection, events, names, parts.times)


def lately(connection: Connection, names: Names, span: Span, detail: int) -> Iterator[Spent]:
    """The same from the events of a span themselves, with their times cut to ``detail`` characters."""
    yield from _sums(connection, events, names, [Part("", *span)], func.substr(events.c.time, 1, detail))


def by_hour(connection: Connection, names: Names, first: str, last: str) -> Iterator[Spent]:
    """The same from the roll-ups of the UTC hours ``first`` to ``last`` (exclusive)."""
    yield from _sums(connection, rollups_hourly, names, [Part("", first, last)], rollups_hourly.c.hour)


def _sums(
    connection: Connection,
    table: Table,
    names: Names,
    parts: Sequence[Part],
    at: ColumnElement[str] | None = None,
) -> Iterator[Spent]:
    if not parts:
        return
    time = table.c.day if table is rollups else table.c.hour if table is rollups_hourly else table.c.time
    columns = [table.c[name] for name in names]
    grouped = columns if at is None else [*columns, at]
    # Those who have none of it are nobody's: not every request has a team.
    given = [column.is_not(None) if table is events else column != "" for column in columns]
    query = (
        select(*grouped, *_measures(table))
        .where(or_(*((time >= part.first) & (time < part.last) for part in parts)), *given)
        .group_by(*grouped)
    )
    width = len(names)
    tags = names.index("tags") if "tags" in names else None
    for row in connection.execute(query):
        requests, read, cached, written, cost = (int(value or 0) for value in row[-5:])
        of = tuple(map(str, row[:width]))
        when = "" if at is None else str(row[width])
        if tags is None:
            yield Spent(of, when, requests, read, cached, written, cost)
            continue
        for tag in msgspec.json.decode(of[tags], type=list[str]):
            single = (*of[:tags], tag, *of[tags + 1 :])
            yield Spent(single, when, requests, read, cached, written, cost)


def _measures(table: Table) -> list[ColumnElement[int]]:
    if table is not events:
        read: ColumnElement[int] = table.c.input
        for name in _READ[1:]:
            read = read + table.c[name]
        written = table.c.output + table.c.audio_output
        return [
            func.sum(each)
            for each in (table.c.requests, read, table.c.cache_read, written, table.c.cost_nano_usd)
        ]
    more = events.c.other_units
    return [
        func.sum(case((events.c.outcome == "correction", 0), else_=1)),
        func.sum(events.c.input + events.c.cache_read) + _others(more, _READ[2:]),
        func.sum(events.c.cache_read),
        func.sum(events.c.output) + _others(more, _WRITTEN[1:]),
        func.sum(events.c.cost_nano_usd),
    ]


def _others(text: ColumnElement[str], names: Sequence[str]) -> ColumnElement[int]:
    total: ColumnElement[int] = func.coalesce(func.sum(member(text, names[0])), 0)
    for name in names[1:]:
        total = total + func.coalesce(func.sum(member(text, name)), 0)
    return total
