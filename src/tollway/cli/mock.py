"""``tollway mock``: the provider simulator in the foreground, with every knob as an option."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from typing import TypeVar

import click
from rich.console import Console
from rich.table import Table

from tollway.simulator.answer import Dialect
from tollway.simulator.dialects import DIALECTS
from tollway.simulator.knobs import GRAMMAR, NEUTRAL, UnknownKnob, duration, set_knobs
from tollway.simulator.running import run
from tollway.simulator.server import AWS_KEYS, Simulator

BILL_ENTRIES = 200_000

F = TypeVar("F", bound=Callable[..., object])


def _knob_options(command: F) -> F:
    """One option a knob; a bare option is the bare knob."""
    for name, grammar in reversed(list(GRAMMAR.items())):
        option = "--" + name.replace("_", "-")
        if grammar.bare is None:
            command = click.option(option, name, metavar="VALUE", help=grammar.help)(command)
        else:
            command = click.option(
                option,
                name,
                metavar=f"[{grammar.bare}]",
                is_flag=False,
                flag_value=grammar.bare,
                help=grammar.help,
            )(command)
    return command


def _seconds(context: click.Context, parameter: click.Parameter, value: str | None) -> float | None:
    """A duration whose bare numbers are seconds."""
    if value is None:
        return None
    try:
        return float(value) if value.replace(".", "", 1).isdigit() else duration(value)
    except ValueError as error:
        raise click.BadParameter(f"expected {error}") from error


def _key_pair(context: click.Context, parameter: click.Parameter, value: str | None) -> tuple[str, str]:
    if value is None:
        return AWS_KEYS
    key, colon, secret = value.partition(":")
    if not key or not colon or not secret:
        raise click.BadParameter("expected ID:SECRET")
    return key, secret


@click.command(
    "mock",
    epilog="Example: tollway mock --port 9100 --latency 20ms..80ms --errors 1% --status 429 --retry-after 2",
)
@click.option("--host", default="127.0.0.1", show_default=True)
@click.option(
    "--port", default=9100, show_default=True, type=click.IntRange(0, 65535), help="0 takes a free one."
)
@click.option("--require-key", metavar="KEY", help="Refuse every other key with 401.")
@click.option(
    "--aws-keys",
    metavar="ID:SECRET",
    callback=_key_pair,
    help="The pair that signs requests to Bedrock's paths; by default the one of AWS's documentation.",
)
@click.option(
    "--bill",
    type=click.Choice(["full", "totals"]),
    default="full",
    show_default=True,
    help=f"Keep the last {BILL_ENTRIES:,} lines of the bill, or totals alone.",
)
@click.option(
    "--record", default=64, show_default=True, type=click.IntRange(0), help="Requests kept for /requests."
)
@click.option("--seed", default=0, show_default=True, help="Of drawn delays.")
@click.option("--stop-after", metavar="DURATION", callback=_seconds, help="Stop by itself: 30s, 2m.")
@click.option("--json", "as_json", is_flag=True, help="Print one machine-readable line.")
@_knob_options
def mock(
    host: str,
    port: int,
    require_key: str | None,
    aws_keys: tuple[str, str],
    bill: str,
    record: int,
    seed: int,
    stop_after: float | None,
    as_json: bool,
    **knobs: str | None,
) -> None:
    """Play model providers: their APIs with made-up answers, paced streams, faults and an exact bill.

    Every knob below is a default; a model's suffix (gpt-4o-mini+status=429+retry_after=2) or an x-mock-*
    header sets it for one request. Bare durations are milliseconds. Stops on Ctrl-C or SIGTERM.
    """
    given = {name: value for name, value in knobs.items() if value is not None}
    try:
        defaults = set_knobs(NEUTRAL, list(given.items()))
    except UnknownKnob as error:
        raise click.UsageError(str(error)) from error
    console = Console()

    def ready(simulator: Simulator) -> None:
        if as_json:
            line = {
                "url": simulator.url,
                "host": simulator.host,
                "port": simulator.port,
                "pid": os.getpid(),
            }
            click.echo(json.dumps(line))
        else:
            _welcome(console, simulator, given, require_key)

    try:
        simulator = run(
            defaults,
            host=host,
            port=port,
            require_key=require_key,
            bill_entries=0 if bill == "totals" else BILL_ENTRIES,
            record=record,
            seed=seed,
            aws_keys=aws_keys,
            stop_after=stop_after,
            ready=ready,
        )
    except OSError as error:
        raise click.ClickException(f"cannot listen on {host}:{port}: {error.strerror or error}") from error
    if not as_json:
        console.print(f"Stopped after {simulator.requests:,} requests.")


def _paths(dialect: Dialect) -> str:
    """Whole paths one a line; of families of them only where they begin."""
    lines = [f"POST {path.decode()}" for path in dialect.endpoints]
    families = dict.fromkeys(
        "/".join(route.pattern.split("/")[:3]).partition("{")[0] for route in dialect.routes
    )
    return "\n".join([*lines, ", ".join(f"{family.rstrip('/')}/…" for family in families)]).strip()


def _welcome(console: Console, simulator: Simulator, given: dict[str, str], require_key: str | None) -> None:
    table = Table(title="Provider simulator", title_justify="left", show_header=False)
    table.add_row("base URL", simulator.url)
    for dialect in DIALECTS:
        table.add_row(f"{dialect.name} dialect", f"{simulator.origin}{dialect.base}\n{_paths(dialect)}")
        others = " only" if simulator.behaviour.defaults.known_only else " and any other"
        table.add_row("models", ", ".join(dialect.models) + others)
    table.add_row("own pages", "/bill  /stats  /requests  /defaults  /health")
    table.add_row("knobs", ", ".join(f"{name}={value}" for name, value in given.items()) or "none set")
    console.print(table)
    key = require_key or "any-key"
    # Not through the table: a line that is to be pasted must not be folded.
    click.echo(
        f"\ncurl {simulator.url}/chat/completions -H 'authorization: Bearer {key}' "
        "-H 'content-type: application/json' \\\n  "
        """-d '{"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "Hello"}]}'\n"""
    )
