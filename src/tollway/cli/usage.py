"""``tollway usage``: spend from the ledger, as a table and a small chart or as a file; whether the roll-ups say what
the events say, and making them anew."""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import click
from msgspec import UNSET

from tollway.cli.loading import config_option, json_option, load
from tollway.cli.output import clean, dollars, print_json, print_rich

if TYPE_CHECKING:
    from tollway.admin.action import File
    from tollway.admin.usage import Sums, UsageQuery, UsageReport, UsageRow
    from tollway.config.settings import Settings
    from tollway.storage.repositories.rollups import Difference

_BAR = 24
_EIGHTHS = " ▏▎▍▌▋▊▉█"
_SHOWN = 20

_SHORT = {"org": "organization"}
_BY = ("organization", "org", "team", "project", "user", "key", "customer", "tag", "model", "provider", "day", "hour",
       "week", "month")  # fmt: skip
_TIMES = ("hour", "day", "week", "month")
_FILTERS = ("organization", "team", "project", "user", "key", "customer", "tag", "model", "provider")


@click.command(
    epilog="Examples: tollway usage --by team --since 7d · tollway usage --format focus -o may.csv"
)
@click.option(
    "--by",
    type=click.Choice(_BY),
    default="key",
    show_default=True,
    help="What a line of the table stands for.",
)
@click.option("--since", default="7d", show_default=True, help="A span back from now, or a date.")
@click.option("--until", default=None, help="A span back from now, or a date; not included.")
@click.option("--tz", default="UTC", show_default=True, help="Whose days and hours: such as Europe/Berlin.")
@click.option(
    "--only", "filters", multiple=True, metavar="NAME=VALUE", help="Only what has it, such as team=search."
)
@click.option("--limit", type=click.IntRange(1, 100_000), default=None, help="At most so many lines.")
@click.option(
    "--format",
    type=click.Choice(["table", "csv", "parquet", "focus", "focus-parquet"]),
    default="table",
    show_default=True,
    help="focus: the charges by day, in the columns of FOCUS 1.2.",
)
@click.option("--output", "-o", type=click.Path(dir_okay=False, writable=True), help="Write to this file.")
@click.option(
    "--verify", is_flag=True, help="Compare the roll-ups with the events; exit 1 where they differ."
)
@click.option("--rebuild", is_flag=True, help="Make the roll-ups anew from the events.")
@config_option
@json_option
def usage(
    by: str,
    since: str,
    until: str | None,
    tz: str,
    filters: tuple[str, ...],
    limit: int | None,
    format: str,
    output: str | None,
    verify: bool,
    rebuild: bool,
    config: str | None,
    as_json: bool,
) -> None:
    """Show what was consumed and spent.

    Reads the database; what a running server answered in the last second may still be missing. --verify and --rebuild
    may run beside a server; they go day by day.
    """
    settings = load(config)
    if verify or rebuild:
        _check(settings, rebuild, as_json)
        return
    by = _SHORT.get(by, by)
    query = _query(by, since, until, tz, filters, limit)
    if format == "table":
        report = asyncio.run(_report(settings, query))
        if as_json:
            print_json(report)
            return
        rows = [(_named(row, by), row) for row in report.data]
        rows.sort(key=(lambda row: row[0]) if by in _TIMES else (lambda row: (-row[1].cost_nano_usd, row[0])))
        _print(by, since, rows, report)
        return
    if format.endswith("parquet") and output is None and sys.stdout.isatty():
        raise click.UsageError("a Parquet file is not for a terminal: give -o FILE")
    if format == "csv":
        from tollway.admin.usage import as_csv

        text = as_csv(asyncio.run(_report(settings, query)))
        if output is None:
            click.echo(text, nl=False)
        else:
            with open(output, "w", encoding="utf-8", newline="") as file:
                file.write(text)
        return
    _take(asyncio.run(_file(settings, query, format)), output)


def _query(
    by: str, since: str, until: str | None, tz: str, filters: tuple[str, ...], limit: int | None
) -> UsageQuery:
    from tollway.admin.usage import UsageQuery

    wanted: dict[str, tuple[str, ...]] = {}
    for given in filters:
        name, equals, value = given.partition("=")
        name = _SHORT.get(name, name)
        if not equals or name not in _FILTERS:
            raise click.UsageError(f"--only {given}: write one of {', '.join(_FILTERS)}, = and its value")
        wanted[name] = (*wanted.get(name, ()), value)
    return UsageQuery(group_by=(by,), since=since, until=until, tz=tz, limit=limit, **wanted)  # type: ignore[arg-type]


async def _report(settings: Settings, query: UsageQuery) -> UsageReport:
    from tollway.admin import usage as actions
    from tollway.cli.database import admin_context

    async with admin_context(settings, create=False) as context:
        return await actions.report(context, query)


async def _file(settings: Settings, query: UsageQuery, format: str) -> File:
    from tollway.admin import usage as actions
    from tollway.cli.database import admin_context

    async with admin_context(settings, create=False) as context:
        return await actions.report.file(format, context, query=query)


def _take(file: File, output: str | None) -> None:
    if output is not None:
        shutil.move(file.path, output)
        return
    try:
        with open(file.path, "rb") as source:
            shutil.copyfileobj(source, sys.stdout.buffer)
    finally:
        os.unlink(file.path)


def _check(settings: Settings, rebuild: bool, as_json: bool) -> None:
    from tollway.cli import Failed
    from tollway.cli.database import opened
    from tollway.storage.repositories import rollups

    async def run() -> tuple[int, list[Difference]]:
        async with opened(settings) as database:
            days = await rollups.rebuild(database, _progress("rebuilt")) if rebuild else 0
            return days, await rollups.verify(database, _progress("compared"))

    days, differences = asyncio.run(run())
    if as_json:
        print_json({"rebuilt_days": days, "differences": differences})
    else:
        if rebuild:
            click.echo(f"The roll-ups of {days} days were made anew.")
        for each in differences[:_SHOWN]:
            of = ", ".join(f"{name} {clean(value)}" for name, value in each.of.items() if value)
            click.echo(
                f"{each.hour or each.day} {of}: {each.measure} is {each.rolled_up:,} in the roll-ups, "
                f"{each.counted:,} in the events"
            )
    if differences:
        raise Failed(
            f"The roll-ups differ from the events in {len(differences)} places. "
            + ("Please report this." if rebuild else "tollway usage --rebuild makes them anew.")
        )
    if not as_json:
        click.echo("The roll-ups say what the events say.")


def _progress(what: str) -> Callable[[str, int, int], None]:
    def tell(day: str, done: int, days: int) -> None:
        if sys.stderr.isatty():
            click.echo(f"\r{what} {done} of {days} days, now {day} \x1b[K", nl=False, err=True)
            if done + 1 == days:
                click.echo("\r\x1b[K", nl=False, err=True)

    return tell


def _named(row: UsageRow, by: str) -> str:
    name = getattr(row, f"{by}_name", UNSET)
    return _label(name if isinstance(name, str) else getattr(row, by))


def _label(value: object) -> str:
    return "(none)" if value is None or value is UNSET or value == "" else clean(str(value))


def _print(by: str, since: str, rows: Sequence[tuple[str, Sums]], report: UsageReport) -> None:
    from rich.table import Table
    from rich.text import Text

    total = report.total
    if not rows:
        click.echo(f"Nothing was recorded since {since}.")
        return
    most = max(sums.cost_nano_usd for _, sums in rows)
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0), show_footer=True)
    table.add_column(by, footer="total", overflow="fold")
    for heading, value in _columns(total):
        table.add_column(heading, justify="right", footer=value)
    table.add_column("", no_wrap=True)
    for label, sums in rows:
        bar = Text(_bar(sums.cost_nano_usd, most), style="cyan")
        table.add_row(Text(label), *(value for _, value in _columns(sums)), bar)
    print_rich(table)
    if report.groups > len(rows):
        click.echo(f"{report.groups - len(rows):,} more lines are in the total (--limit).", err=True)
    if total.unpriced_requests:
        click.echo(
            f"Without a known price, and missing from these sums: {total.unpriced_requests:,} requests "
            "(`tollway prices refresh` says how to set one).",
            err=True,
        )


def _columns(sums: Sums) -> list[tuple[str, str]]:
    read = sums.input + sums.cache_read + sums.cache_write_5m + sums.cache_write_1h + sums.audio_input
    written = sums.output + sums.audio_output
    return [
        ("requests", f"{sums.requests:,}"),
        ("errors", f"{sums.errors:,}"),
        ("tokens in", f"{read:,}"),
        ("tokens out", f"{written:,}"),
        ("USD", dollars(sums.cost_nano_usd)),
    ]


def _bar(amount: int, most: int) -> str:
    """Blocks in proportion, to an eighth of a character; something is shown for every amount above none."""
    if most <= 0 or amount <= 0:
        return ""
    eighths = max(1, round(amount * _BAR * 8 / most))
    return "█" * (eighths // 8) + _EIGHTHS[eighths % 8].strip()
