"""``tollway migrate``: the database's tables, brought to this version's or shown as the SQL that would do it."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from tollway.cli.loading import config_option, load
from tollway.errors import ConfigError

if TYPE_CHECKING:
    from tollway.storage.engine import Database


@click.command(epilog="Examples: tollway migrate --plan > plan.sql · tollway migrate --config tollway.yaml")
@click.option("--plan", is_flag=True, help="Print the SQL that would run, and change nothing.")
@config_option
def migrate(plan: bool, config: str | None) -> None:
    """Bring the database to this version's tables.

    A server does this by itself when it starts; here it can be looked at first, or done by a user with more rights.
    The version before goes on working on the new tables, so servers may be replaced one by one.
    """
    from tollway.storage.engine import Database

    settings = load(config)
    if settings.database is None:
        raise ConfigError(["database is none: there are no tables"])
    database = Database.open(settings.database, Path(settings.data_dir))
    asyncio.run(_plan(database) if plan else _migrate(database))


async def _migrate(database: Database) -> None:
    try:
        changed = await database.migrate()
    finally:
        await database.close()
    click.echo(f"{database.name} {'was brought to' if changed else 'has'} this version's tables.")


async def _plan(database: Database) -> None:
    from tollway.storage.migrate import plan
    from tollway.storage.migrations import HEAD, version

    try:
        found = None if database.missing() else await database.read(version)
    finally:
        await database.close()
    if found is not None and found >= HEAD:
        click.echo(
            f"-- {database.name} is at version {found}; this program's is {HEAD}: nothing would be done."
        )
        return
    click.echo(f"-- {database.name} from version {found or 'none'} to {HEAD}")
    plan(database.url, found, sys.stdout)
