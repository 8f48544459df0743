"""``python -m tollway.storage.migrate URL``: upgrade a database with Alembic. Run by the server in a
process of its own, and by hand when a plan is wanted first (``--sql``)."""

from __future__ import annotations

import sys
from pathlib import Path

from alembic import command
from alembic.config import Config

from tollway.storage.engine import sqlite_path

_USAGE = "usage: python -m tollway.storage.migrate [--sql] sqlite:///path/to/tollway.db"


def configured(path: Path) -> Config:
    """Alembic's configuration for one database file; there is no ini file."""
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations").replace("%", "%%"))
    config.set_main_option("sqlalchemy.url", f"sqlite:///{path}".replace("%", "%%"))
    return config


def main(arguments: list[str]) -> int:
    plan = "--sql" in arguments
    urls = [argument for argument in arguments if argument != "--sql"]
    if len(urls) != 1:
        print(_USAGE, file=sys.stderr)
        return 2
    command.upgrade(configured(sqlite_path(urls[0], Path())), "head", sql=plan)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
