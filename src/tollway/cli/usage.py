"""``tollway usage``: spend from the ledger, as a table and a small chart."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click
from msgspec import UNSET

from tollway.cli.loading import config_option, json_option, load
from tollway.cli.output import clean, dollars, print_json, print_rich

if TYPE_CHECKING:
    from tollway.admin.usage import Sums, UsageReport

_BAR = 24
_EIGHTHS = " ▏▎▍▌▋▊▉█"


@click.command(epilog="Examples: tollway usage --by team --since 7d · tollway usage --by day --json")
@click.option(
    "--by",
    type=click.Choice(["team", "key", "model", "day", "provider"]),
    default="key",
    show_default=True,
    help="What a line of the table stands for.",
)
@click.option("--since", default="7d", show_default=True, help="A span back from now, or a date.")
@config_option
@json_option
def usage(by: str, since: str, config: str | None, as_json: bool) -> None:
    """Show what was consumed and spent. Days are UTC.

    Reads the database; what a running server answered in the last second may still be missing.
    """
    settings = load(config)

    async def run() -> UsageReport:
        from tollway.admin import usage as actions
        from tollway.cli.database import admin_context

        async with admin_context(settings, create=False) as context:
            return await actions.report(context, actions.UsageQuery(group_by=(by,), since=since))

    report = asyncio.run(run())
    if as_json:
        print_json(report)
        return
    rows = [(_label(getattr(row, by)), row) for row in report.data]
    rows.sort(key=(lambda row: row[0]) if by == "day" else (lambda row: (-row[1].cost_nano_usd, row[0])))
    _print(by, since, rows, report.total)


def _label(value: object) -> str:
    return "(none)" if value is None or value is UNSET or value == "" else clean(str(value))


def _print(by: str, since: str, rows: Sequence[tuple[str, Sums]], total: Sums) -> None:
    from rich.table import Table
    from rich.text import Text

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
