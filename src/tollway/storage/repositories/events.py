"""Reading the ledger: pages of events, newest first, and how many there are. Each filter has an index."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable, Sequence
from typing import NamedTuple
from zoneinfo import ZoneInfo

import msgspec
from sqlalchemy import Connection, delete, func, select

from tollway.errors import BadRequest
from tollway.model.event import UsageFilter
from tollway.storage import partitions
from tollway.storage.columns import insert, is_postgresql
from tollway.storage.engine import Database
from tollway.storage.entries import HOUR, MEASURES
from tollway.storage.repositories import finding, moments, reports, spending
from tollway.storage.repositories.finding import Place
from tollway.storage.repositories.generation import bump
from tollway.storage.repositories.ledger import add, read_entry
from tollway.storage.repositories.moments import Span
from tollway.storage.repositories.reports import Filters, Region, Report, Row
from tollway.storage.repositories.spending import Names, Spent
from tollway.storage.tables import events, ledger_state, rollups, rollups_hourly

MAX_PAGE = 1000
_UTC = ZoneInfo("UTC")


class Page(NamedTuple):
    """Events as their JSON was spooled, newest first, and what ``page`` takes for the next ones (None: no
    more)."""

    events: list[bytes]
    next_cursor: str | None


class Events:
    """Every method raises StoreUnavailable when the database is away and BadRequest for a filter that is
    none."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def page(
        self,
        filter: UsageFilter,
        limit: int = 100,
        cursor: str | None = None,
        region: Region = None,
    ) -> Page:
        """At most ``limit`` (1 to ``MAX_PAGE``) events that lie in ``region``."""
        limit = max(1, min(limit, MAX_PAGE))
        after = _read_cursor(cursor) if cursor else None
        span = _span(filter.since, filter.until, _UTC)

        def look(connection: Connection) -> Page:
            found = finding.find(connection, filter, span, limit + 1, after, region)
            found.sort(key=lambda row: row[:2], reverse=True)
            more = len(found) > limit
            shown = found[:limit]
            return Page(
                [event for _, _, event in shown],
                _write_cursor(Place(*shown[-1][:2])) if more else None,
            )

        return await self._database.read(look)

    async def count(self, filter: UsageFilter | None = None) -> int:
        filter = filter or UsageFilter()
        span = _span(filter.since, filter.until, _UTC)
        conditions = [
            *finding.conditions_of(filter),
            events.c.time >= span.start,
            events.c.time < span.end,
        ]

        def look(connection: Connection) -> int:
            return sum(
                connection.execute(
                    select(func.count()).select_from(events).where(*conditions, *one)
                ).scalar_one()
                for one in finding.by_key(connection, filter.key)
            )

        return await self._database.read(look, deadline=30.0)

    async def find(self, id: str) -> bytes | None:
        """The event of this id."""
        query = select(events.c.event).where(events.c.id == id)
        return await self._database.read(lambda connection: connection.execute(query).scalar())

    async def add(self, record: bytes, beside: str) -> bool:
        """Store one event, as JSON, that no spool brings, and survives a power cut; False when its id is there already.
        ``beside`` is the id of the event that it corrects."""
        entry = read_entry(record)

        def work(connection: Connection) -> bool:
            if not add(connection, entry, beside):
                return False
            bump(connection)
            return True

        return await self._database.write(work, durable=True)

    async def usage(
        self,
        group_by: Sequence[str],
        since: str | None = None,
        until: str | None = None,
        tz: str = "UTC",
        *,
        filters: Filters | None = None,
        region: Region = None,
        order: str = "cost_nano_usd",
        limit: int | None = None,
    ) -> Report:
        """Spend by any of ``reports.GROUPS``, and the total, which the rows add up to but for a ``limit`` and for
        tags, several of which one event may have. ``since`` is inclusive, ``until`` exclusive; without an offset they
        are times in ``tz``, whose calendar ``day`` and the like mean. Where events and hourly roll-ups were purged,
        days are UTC days and always whole."""
        filters = filters or {}
        _known(group_by, reports.GROUPS, "group_by")
        _known(filters, reports.FILTERS, "filters")
        _known([order], ("name", "tokens", *MEASURES), "order")
        if sum(name in reports.TIMES for name in group_by) > 1:
            raise BadRequest(f"group_by takes one of {', '.join(reports.TIMES)}.", param="group_by")
        where = moments.zone(tz)
        span = _span(since, until, where)
        groups = tuple(dict.fromkeys(group_by))
        return await self._database.read(
            lambda connection: reports.usage(
                connection, groups, span, where, filters, region, order=order, limit=limit
            ),
            deadline=30.0,
            stale=True,
        )

    async def days(self, since: str | None = None, until: str | None = None) -> list[str]:
        """The UTC days with roll-ups that a span touches."""
        span = _span(since, until, _UTC)
        return await self._database.read(lambda connection: reports.days(connection, span), stale=True)

    async def charges(self, day: str, filters: Filters, region: Region = None) -> list[Row]:
        """What one UTC day's roll-ups say, row by row: every dimension (``tags`` a JSON array or empty), every
        measure."""
        _known(filters, reports.FILTERS, "filters")
        return await self._database.read(
            lambda connection: reports.charges(connection, day, filters, region), deadline=30.0, stale=True
        )

    async def spent(self, key_id: str, since: str | None = None) -> int:
        """Nano-dollars a key's events cost since then (ISO 8601; None: ever): whole days from the
        roll-ups."""
        span = _span(since, None, _UTC)
        report = await self._database.read(
            lambda connection: reports.usage(connection, (), span, _UTC, {"key_id": (key_id,)})
        )
        return int(report.total["cost_nano_usd"] or 0)

    async def spent_since(self, names: Names, since: str) -> list[Spent]:
        """Everybody's sums from a time on as the ledger writes it (empty: ever), by some dimensions."""
        return await self._database.read(
            lambda connection: list(spending.spent_since(connection, names, since or moments.EVER)),
            deadline=60.0,
        )

    async def lately(self, names: Names, since: str, until: str, detail: int) -> list[Spent]:
        """Everybody's newest events, summed where their times agree in the first ``detail`` characters."""
        return await self._database.read(
            lambda connection: list(spending.lately(connection, names, Span(since, until), detail)),
            deadline=60.0,
        )

    async def lately_by_hour(self, names: Names, since: str, until: str) -> list[Spent]:
        """Everybody's sums by hour, and by minute for the hour of ``until``; the hour of ``since`` is whole."""
        first, last = since[:HOUR], until[:HOUR]

        def look(connection: Connection) -> list[Spent]:
            found = list(spending.by_hour(connection, names, first, last))
            found += spending.lately(connection, names, Span(f"{last}:00:00.000Z", until), spending.MINUTE)
            return found

        return await self._database.read(look, deadline=60.0)

    async def purge(self, before_day: str, most: int) -> int:
        """Delete up to ``most`` of the oldest events of the UTC days before ``before_day``; returns how
        many. The roll-ups of those days stay, and are final.

        On PostgreSQL whole months are dropped, and the days before ``before_day`` in its own month stay."""
        oldest = (
            select(events.c.seq)
            .where(events.c.time < moments.midnight(before_day))
            .order_by(events.c.time)
            .limit(most)
        )

        def work(connection: Connection) -> int:
            if is_postgresql(connection):
                return _drop_months(connection, before_day)
            _mark(connection, reports.PURGED_BEFORE, before_day)
            return connection.execute(delete(events).where(events.c.seq.in_(oldest))).rowcount

        return await self._database.write(work)

    async def purge_hours(self, before_day: str) -> int:
        """Delete the oldest hour's roll-ups of the UTC days before ``before_day``; returns how many rows. Reports of
        those days know whole UTC days, and single events where those are kept."""
        hourly = rollups_hourly.c.hour
        oldest = select(func.min(hourly)).where(hourly < before_day).scalar_subquery()

        def work(connection: Connection) -> int:
            _mark(connection, reports.HOURS_BEFORE, before_day)
            return connection.execute(delete(rollups_hourly).where(hourly == oldest)).rowcount

        return await self._database.write(work)


def _drop_months(connection: Connection, before_day: str) -> int:
    month = partitions.month_of(before_day)
    dropped = partitions.drop_before(connection, month)
    _mark(connection, reports.PURGED_BEFORE, f"{month}-01")
    counts = func.sum(rollups.c.requests + rollups.c.corrections)
    gone = func.substr(rollups.c.day, 1, len(month)).in_(dropped)
    return int(connection.execute(select(counts).where(gone)).scalar() or 0)


def _mark(connection: Connection, name: str, day: str) -> None:
    """Remember what was deleted; a mark never goes back."""
    first = insert(connection, ledger_state).values(name=name, value=day)
    greater = first.excluded.value > ledger_state.c.value
    connection.execute(
        first.on_conflict_do_update(index_elements=["name"], set_={"value": day}, where=greater)
    )


def _span(since: str | None, until: str | None, where: ZoneInfo) -> Span:
    return Span(
        moments.moment(since, "since", where) if since else moments.EVER,
        moments.moment(until, "until", where) if until else moments.NEVER,
    )


def _known(names: Iterable[str], known: Sequence[str], param: str) -> None:
    for name in names:
        if name not in known:
            raise BadRequest(f"{param} cannot be {name!r}. It takes {', '.join(known)}.", param=param)


def _write_cursor(place: Place) -> str:
    return base64.urlsafe_b64encode(msgspec.json.encode(place)).decode().rstrip("=")


def _read_cursor(cursor: str) -> Place:
    try:
        padded = cursor + "=" * (-len(cursor) % 4)
        return msgspec.json.decode(base64.b64decode(padded, altchars=b"-_", validate=True), type=Place)
    except (binascii.Error, ValueError, msgspec.MsgspecError) as error:
        raise BadRequest("cursor is not one this server gave out.", param="cursor") from error
