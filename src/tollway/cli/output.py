"""How commands print: tables for people (wide and plain where nobody watches), JSON for machines, money as
dollars."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click
import msgspec

from tollway.model.money import NANO, Money
from tollway.model.price import Rates

if TYPE_CHECKING:
    from rich.table import Table

UNITS = {
    "images": "image",
    "video_seconds": "second of video",
    "characters": "character",
    "seconds": "second",
    "pages": "page",
    "searches": "search",
    "requests": "request",
}
"""Classes of usage that are not tokens, and what one of them is called."""

_WIDE = 200


def print_json(value: object) -> None:
    click.echo(msgspec.json.format(msgspec.json.encode(value), indent=2).decode())


def print_table(columns: Sequence[str], rows: Sequence[Sequence[str]], *, right: Sequence[str] = ()) -> None:
    """A table without frames. ``right`` names the columns of numbers."""
    from rich.table import Table
    from rich.text import Text

    table = Table(
        box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0), show_header=any(columns)
    )
    for column in columns:
        table.add_column(column, justify="right" if column in right else "left", overflow="fold")
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    print_rich(table)


def print_rich(table: Table) -> None:
    """To stdout, without the blanks that tables leave at the ends of lines. A terminal gets its own width, a
    pipe lines long enough not to be broken."""
    from rich.console import Console

    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else _WIDE
    console = Console(file=sys.stdout, width=width, highlight=False)
    with console.capture() as captured:
        console.print(table)
    click.echo("\n".join(line.rstrip() for line in captured.get().splitlines()))


def clean(text: str) -> str:
    """Text that came from elsewhere, without what could steer the terminal."""
    return "".join(char if char.isprintable() else "?" for char in text)


def dollars(amount: Money) -> str:
    """Nano-dollars for people: at least two decimals, at most six significant ones behind small amounts."""
    value = amount / NANO
    if amount == 0 or abs(value) >= 1:
        return f"{value:,.2f}"
    text = f"{value:.6f}" if abs(value) >= 0.0001 else f"{value:.9f}"
    return text.rstrip("0") if len(text.rstrip("0").partition(".")[2]) >= 2 else f"{value:.2f}"


def rate_of(rates: Rates, name: str) -> str:
    """A class's rate: USD per million tokens, or per single unit of what is not counted in tokens."""
    nano: int | None = getattr(rates, name)
    if nano is None:
        return ""
    if name in UNITS:
        return f"{nano / NANO / 1_000_000:.9f}".rstrip("0").rstrip(".") + f" / {UNITS[name]}"
    return f"{nano / NANO:.6f}".rstrip("0").rstrip(".") or "0"


def usd_of(rates: Rates) -> dict[str, float]:
    """Every rate there is, USD per million units."""
    found: dict[str, float] = {}
    for name in Rates.__struct_fields__:
        nano: int | None = getattr(rates, name)
        if nano is not None:
            found[name] = nano / NANO
    return found
