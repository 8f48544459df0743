"""Spend and consumption from the ledger, summed up by key, model, day and so on. Not single events."""

from __future__ import annotations

import csv
import io
from typing import Annotated

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from tollway.admin.action import action
from tollway.admin.context import Context
from tollway.admin.events import Since, Until, caught_up, ledger_of, moment
from tollway.model.money import Money


class Sums(Struct, frozen=True, kw_only=True):
    """What was consumed: ``requests`` counts attempts, ``errors`` those that failed.

    ``unpriced_requests`` have no known price: their cost is missing from ``cost_nano_usd``.
    """

    requests: int = 0
    errors: int = 0
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
    """The sums of one group. Of the dimensions only those asked for are there; null where events had none."""

    day: str | UnsetType = UNSET
    key: str | UnsetType | None = UNSET
    key_id: str | UnsetType | None = UNSET
    team: str | UnsetType | None = UNSET
    user: str | UnsetType | None = UNSET
    customer: str | UnsetType | None = UNSET
    endpoint: str | UnsetType | None = UNSET
    model: str | UnsetType | None = UNSET
    provider: str | UnsetType | None = UNSET
    upstream_model: str | UnsetType | None = UNSET


DIMENSIONS = UsageRow.__struct_fields__[len(Sums.__struct_fields__) :]


class UsageReport(Struct, frozen=True, kw_only=True):
    """One row for each group, and the sum of them all."""

    data: tuple[UsageRow, ...]
    total: Sums


class UsageQuery(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``group_by`` lists dimensions; none gives one row. Days and times without an offset are of ``tz``."""

    group_by: Annotated[tuple[str, ...], Meta(description=f"Any of {', '.join(DIMENSIONS)}.")] = ()
    since: Since | None = None
    until: Until | None = None
    tz: Annotated[str, Meta(description="Such as `Europe/Berlin`.")] = "UTC"


def as_csv(report: UsageReport) -> str:
    """A report with a heading line and one line a group, without the total. Spreadsheets read it as it is."""
    text = io.StringIO()
    given = [name for name in DIMENSIONS if report.data and getattr(report.data[0], name) is not UNSET]
    names = [*given, *Sums.__struct_fields__]
    writer = csv.writer(text)
    writer.writerow(names)
    for row in report.data:
        writer.writerow([_cell(getattr(row, name)) for name in names])
    return text.getvalue()


@action(permission="usage.read", audit=False, route=("GET", "/usage"), csv=as_csv)
async def report(context: Context, query: UsageQuery) -> UsageReport:
    """Sum up what was consumed and spent.

    `group_by=key,model,day` makes one row for each combination. Every request answered before is included.
    """
    ledger = ledger_of(context)
    now = context.clock()
    since, until = moment(query.since, now), moment(query.until, now)
    await caught_up(context)
    report = await ledger.usage(query.group_by, since, until, query.tz)
    return UsageReport(
        data=msgspec.convert(report.rows, tuple[UsageRow, ...]), total=msgspec.convert(report.total, Sums)
    )


def _cell(value: str | int | None) -> str | int | None:
    """A name that begins like a formula is quoted, so that no spreadsheet runs what a client wrote."""
    if isinstance(value, str) and value.startswith(("=", "+", "-", "@", "\t", "\r")):
        return "'" + value
    return value
