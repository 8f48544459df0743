"""Spend and consumption from the ledger, summed up by key, team, model, day and so on. Not single events."""

from __future__ import annotations

import csv
import io
from collections.abc import AsyncIterator
from typing import Annotated, Literal

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from tollway.admin import focus, tables
from tollway.admin.action import File, action
from tollway.admin.context import Context
from tollway.admin.events import Since, Until, caught_up, ledger_of, moment
from tollway.admin.region import region_of
from tollway.model.money import Money


class Sums(Struct, frozen=True, kw_only=True):
    """What was consumed: ``requests`` counts attempts, ``errors`` those that failed, ``corrections`` entries that put
    others right, whose amounts are in the sums.

    ``unpriced_requests`` have no known price: their cost is missing from ``cost_nano_usd``.
    """

    requests: int = 0
    errors: int = 0
    corrections: int = 0
    input: int = 0
    cache_read: int = 0
    cache_write_5m: int = 0
    cache_write_1h: int = 0
    output: int = 0
    reasoning: int = 0
    audio_input: int = 0
    audio_output: int = 0
    images: int = 0
    video_seconds: int = 0
    characters: int = 0
    seconds: int = 0
    pages: int = 0
    searches: int = 0
    service_calls: int = 0
    cost_nano_usd: Money = 0
    unpriced_requests: int = 0


class UsageRow(Sums, frozen=True, kw_only=True):
    """The sums of one group. Of the dimensions only those asked for are there; null where events had none. ``hour``,
    ``day``, ``week`` (its Monday) and ``month`` are of the time zone asked for. Beside an id stands the name that
    belongs to it now, null where nobody has that id any more."""

    hour: str | UnsetType = UNSET
    day: str | UnsetType = UNSET
    week: str | UnsetType = UNSET
    month: str | UnsetType = UNSET
    organization: str | UnsetType | None = UNSET
    organization_name: str | UnsetType | None = UNSET
    team: str | UnsetType | None = UNSET
    team_name: str | UnsetType | None = UNSET
    project: str | UnsetType | None = UNSET
    project_name: str | UnsetType | None = UNSET
    user: str | UnsetType | None = UNSET
    user_name: str | UnsetType | None = UNSET
    key: str | UnsetType | None = UNSET
    key_id: str | UnsetType | None = UNSET
    customer: str | UnsetType | None = UNSET
    tag: str | UnsetType | None = UNSET
    endpoint: str | UnsetType | None = UNSET
    model: str | UnsetType | None = UNSET
    provider: str | UnsetType | None = UNSET
    upstream_model: str | UnsetType | None = UNSET


NAMED = ("organization", "team", "project", "user")
"""Dimensions that are ids and have names."""

COLUMNS = UsageRow.__struct_fields__[len(Sums.__struct_fields__) :]
DIMENSIONS = tuple(name for name in COLUMNS if not name.endswith("_name"))


class UsageReport(Struct, frozen=True, kw_only=True):
    """One row for each group, and the sum of them all, in which a request with two tags is counted once. ``groups`` is
    how many rows there are without a limit."""

    data: tuple[UsageRow, ...]
    total: Sums
    groups: int


_Any = Annotated[tuple[str, ...], Meta(description="One of these; may be given several times.")]


class UsageQuery(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``group_by`` lists dimensions; none gives one row. Days and times without an offset are of ``tz``."""

    group_by: Annotated[
        tuple[str, ...], Meta(description=f"Any of {', '.join(DIMENSIONS)}; of the first four only one.")
    ] = ()
    since: Since | None = None
    until: Until | None = None
    tz: Annotated[str, Meta(description="Such as `Europe/Berlin`.")] = "UTC"
    organization: _Any = ()
    team: _Any = ()
    project: _Any = ()
    user: _Any = ()
    key: Annotated[tuple[str, ...], Meta(description="A name or an id; may be given several times.")] = ()
    customer: _Any = ()
    tag: _Any = ()
    endpoint: _Any = ()
    model: _Any = ()
    provider: _Any = ()
    upstream_model: _Any = ()
    order: Annotated[
        str, Meta(description="A sum, `tokens` or `name`: the greatest comes first, within each time.")
    ] = "cost_nano_usd"
    limit: Annotated[int, Meta(ge=1, le=100_000, description="At most so many rows.")] | None = None

    def filters(self) -> dict[str, tuple[str, ...]]:
        given = {name: getattr(self, name) for name in DIMENSIONS if name in self.__struct_fields__}
        return {name: values for name, values in given.items() if values}


def as_csv(report: UsageReport) -> str:
    """A report with a heading line and one line a group, without the total. Spreadsheets read it as it is."""
    text = io.StringIO()
    names = [*_given(report), *Sums.__struct_fields__]
    writer = csv.writer(text)
    writer.writerow(names)
    for row in report.data:
        writer.writerow([tables.cell(getattr(row, name)) for name in names])
    return text.getvalue()


async def as_parquet(context: Context, query: UsageQuery) -> File:
    """The report's rows, without the total."""
    report = await _report(context, query)
    columns: dict[str, tables.Kind] = dict.fromkeys(_given(report), "text")
    columns |= dict.fromkeys(Sums.__struct_fields__, "integer")

    async def batches() -> AsyncIterator[tables.Batch]:
        for at in range(0, len(report.data), _ROW_GROUP):
            rows = report.data[at : at + _ROW_GROUP]
            yield [{name: getattr(row, name) for name in columns} for row in rows]

    return await tables.write_parquet(columns, batches(), "usage.parquet")


async def as_focus(context: Context, query: UsageQuery) -> File:
    """The charges of each UTC day that the span touches, as FOCUS 1.2 lays them out, in CSV."""
    return await tables.write_csv(focus.COLUMNS, await _charges(context, query), "focus.csv")


async def as_focus_parquet(context: Context, query: UsageQuery) -> File:
    return await tables.write_parquet(focus.COLUMNS, await _charges(context, query), "focus.parquet")


_ROW_GROUP = 10_000
Format = Literal["csv", "parquet", "focus", "focus-parquet"]


@action(
    permission="usage.read",
    audit=False,
    route=("GET", "/usage"),
    csv=as_csv,
    files={"parquet": as_parquet, "focus": as_focus, "focus-parquet": as_focus_parquet},
)
async def report(context: Context, query: UsageQuery) -> UsageReport:
    """Sum up what was consumed and spent.

    `group_by=team,model,day` makes one row for each combination, a filter such as `team=search` narrows the events.
    Every request answered before is included. `format=focus` gives the charges of the span's UTC days in the columns
    of FOCUS 1.2; grouping, order and limit do not apply to it.
    """
    return await _report(context, query)


async def _report(context: Context, query: UsageQuery) -> UsageReport:
    ledger = ledger_of(context)
    region = region_of(context.sight("usage.read"))
    now = context.clock()
    since, until = moment(query.since, now), moment(query.until, now)
    await caught_up(context)
    found = await ledger.usage(
        query.group_by,
        since,
        until,
        query.tz,
        filters=query.filters(),
        region=region,
        order=query.order,
        limit=query.limit,
    )
    named = [name for name in NAMED if name in query.group_by]
    if named:
        tenants = (await context.society()).tenants
        for row in found.rows:
            for level in named:
                id = row[level]
                tenant = tenants.get((level, id)) if isinstance(id, str) else None
                row[f"{level}_name"] = tenant.name if tenant is not None else None
    return UsageReport(
        data=msgspec.convert(found.rows, tuple[UsageRow, ...]),
        total=msgspec.convert(found.total, Sums),
        groups=found.groups,
    )


async def _charges(context: Context, query: UsageQuery) -> AsyncIterator[tables.Batch]:
    ledger = ledger_of(context)
    region = region_of(context.sight("usage.read"))
    now = context.clock()
    since, until = moment(query.since, now), moment(query.until, now)
    await caught_up(context)
    days = await ledger.days(since, until)
    tenants = (await context.society()).tenants
    names = {(level, id): tenant.name for (level, id), tenant in tenants.items()}

    async def batches() -> AsyncIterator[tables.Batch]:
        # A day at a time: a year of them is more than should be held at once.
        for day in days:
            rows = await ledger.charges(day, query.filters(), region)
            for at in range(0, len(rows), _ROW_GROUP):
                yield [focus.charge(row, names) for row in rows[at : at + _ROW_GROUP]]

    return batches()


def _given(report: UsageReport) -> list[str]:
    return [name for name in COLUMNS if report.data and getattr(report.data[0], name) is not UNSET]
