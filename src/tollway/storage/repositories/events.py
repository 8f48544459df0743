"""Reading the ledger: pages of events, newest first, and how many there are. Each filter has an index."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from typing import NamedTuple
from zoneinfo import ZoneInfo

import msgspec
from sqlalchemy import ColumnElement, Connection, and_, delete, func, or_, select, update

from tollway.errors import BadRequest
from tollway.model.event import UsageFilter
from tollway.storage.engine import Database
from tollway.storage.repositories import moments, reports
from tollway.storage.repositories.reports import Row, purged_before
from tollway.storage.tables import events, ledger_state, rollups

MAX_PAGE = 1000
_UTC = ZoneInfo("UTC")


class Page(NamedTuple):
    """Events as their JSON was spooled, newest first, and what ``page`` takes for the next ones (None: no
    more)."""

    events: list[bytes]
    next_cursor: str | None


class _Place(NamedTuple):
    time: str
    seq: int


class Events:
    """Every method raises StoreUnavailable when the database is away and BadRequest for a filter that is
    none."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def page(self, filter: UsageFilter, limit: int = 100, cursor: str | None = None) -> Page:
        """At most ``limit`` (1 to ``MAX_PAGE``) events. ``filter.key`` is a key's name or id."""
        limit = max(1, min(limit, MAX_PAGE))
        after = _read_cursor(cursor) if cursor else None
        conditions = _conditions(filter)

        def look(connection: Connection) -> Page:
            found: list[tuple[str, int, bytes]] = []
            for one in _by_key(connection, filter.key):
                query = select(events.c.time, events.c.seq, events.c.event).where(*conditions, *one)
                if after is not None:
                    older = or_(events.c.time < after.time, events.c.seq < after.seq)
                    query = query.where(events.c.time <= after.time, older)
                query = query.order_by(events.c.time.desc(), events.c.seq.desc()).limit(limit + 1)
                found.extend((row.time, row.seq, row.event) for row in connection.execute(query))
            found.sort(key=lambda row: row[:2], reverse=True)
            more = len(found) > limit
            shown = found[:limit]
            return Page(
                [event for _, _, event in shown],
                _write_cursor(_Place(*shown[-1][:2])) if more else None,
            )

        return await self._database.read(look)

    async def count(self, filter: UsageFilter | None = None) -> int:
        filter = filter or UsageFilter()
        conditions = _conditions(filter)

        def look(connection: Connection) -> int:
            return sum(
                connection.execute(
                    select(func.count()).select_from(events).where(*conditions, *one)
                ).scalar_one()
                for one in _by_key(connection, filter.key)
            )

        return await self._database.read(look, deadline=30.0)

    async def usage(
        self,
        group_by: Sequence[str],
        since: str | None = None,
        until: str | None = None,
        tz: str = "UTC",
    ) -> tuple[list[Row], Row]:
        """Spend by any of ``reports.GROUPS``, and the total, which the rows add up to. ``requests`` counts
        events, that is attempts. ``since`` is inclusive, ``until`` exclusive; without an offset they are
        times in ``tz``, whose calendar days ``day`` means. Where events were purged, days are UTC days and
        always whole."""
        unknown = [name for name in group_by if name not in reports.GROUPS]
        if unknown:
            raise BadRequest(
                f"group_by cannot be {unknown[0]!r}. It takes {', '.join(reports.GROUPS)}.", param="group_by"
            )
        where = moments.zone(tz)
        span = moments.Span(
            moments.moment(since, "since", where) if since else moments.EVER,
            moments.moment(until, "until", where) if until else moments.NEVER,
        )
        groups = tuple(dict.fromkeys(group_by))
        return await self._database.read(
            lambda connection: reports.usage(connection, groups, span, where), deadline=30.0
        )

    async def spent(self, key_id: str, since: str | None = None) -> int:
        """Nano-dollars a key's events cost since then (ISO 8601; None: ever): whole days from the
        roll-ups."""
        start = moments.moment(since, "since", _UTC) if since else moments.EVER
        span = moments.Span(start, moments.NEVER)
        return await self._database.read(lambda connection: reports.spent(connection, key_id, span))

    async def purge(self, before_day: str, most: int) -> int:
        """Delete up to ``most`` of the oldest events of the UTC days before ``before_day``; returns how
        many. The roll-ups of those days stay, and are final."""
        oldest = (
            select(events.c.seq)
            .where(events.c.time < moments.midnight(before_day))
            .order_by(events.c.time)
            .limit(most)
        )

        def work(connection: Connection) -> int:
            marked = purged_before(connection)
            if marked < before_day:
                values = {"name": reports.PURGED_BEFORE, "value": before_day}
                if marked:
                    changed = update(ledger_state).where(ledger_state.c.name == reports.PURGED_BEFORE)
                    connection.execute(changed.values(value=before_day))
                else:
                    connection.execute(ledger_state.insert().values(**values))
            return connection.execute(delete(events).where(events.c.seq.in_(oldest))).rowcount

        return await self._database.write(work)


def _conditions(filter: UsageFilter) -> list[ColumnElement[bool]]:
    conditions = []
    if filter.team is not None:
        conditions.append(events.c.team == filter.team)
    if filter.model is not None:
        conditions.append(events.c.model == filter.model)
    if filter.request_id is not None:
        # "`" follows "_": the ids ``ue_{request_id}_…`` and no others.
        conditions.append(events.c.id > f"ue_{filter.request_id}_")
        conditions.append(events.c.id < f"ue_{filter.request_id}`")
    if filter.since is not None:
        conditions.append(events.c.time >= moments.moment(filter.since, "since", _UTC))
    if filter.until is not None:
        conditions.append(events.c.time < moments.moment(filter.until, "until", _UTC))
    return conditions


def _by_key(connection: Connection, key: str | None) -> list[list[ColumnElement[bool]]]:
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


def _write_cursor(place: _Place) -> str:
    return base64.urlsafe_b64encode(msgspec.json.encode(place)).decode().rstrip("=")


def _read_cursor(cursor: str) -> _Place:
    try:
        padded = cursor + "=" * (-len(cursor) % 4)
        return msgspec.json.decode(base64.b64decode(padded, altchars=b"-_", validate=True), type=_Place)
    except (binascii.Error, ValueError, msgspec.MsgspecError) as error:
        raise BadRequest("cursor is not one this server gave out.", param="cursor") from error
