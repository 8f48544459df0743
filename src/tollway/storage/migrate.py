"""``python -m tollway.storage.migrate``: bring a database to this version's schema with Alembic, in a process of its
own. The server says where by an environment variable; ``tollway migrate`` is the same by hand."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TextIO

from alembic import command
from alembic.config import Config
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from tollway.storage.migrations import HEAD, URL_VARIABLE


def configured(url: str, output: TextIO | None = None) -> Config:
    """Alembic's configuration for one database; there is no ini file."""
    config = Config(output_buffer=output)
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations").replace("%", "%%"))
    config.set_main_option("sqlalchemy.url", url.replace("%", "%%"))
    return config


def plan(url: str, found: str | None, output: TextIO) -> None:
    """Print the SQL that would bring a database from the version ``found`` to this one's. Connects to nothing."""
    command.upgrade(configured(url, output), f"{found or 'base'}:{HEAD}", sql=True)


def main(arguments: list[str]) -> int:
    """``arguments``: the version to stop at, if it is not the newest."""
    url = os.environ.get(URL_VARIABLE)
    if not url:
        print(f"{URL_VARIABLE} is not set; `tollway migrate` is for people", file=sys.stderr)
        return 2
    try:
        command.upgrade(configured(url), arguments[0] if arguments else "head")
    except (SQLAlchemyError, OSError) as error:
        cause = error.orig if isinstance(error, DBAPIError) and error.orig is not None else error
        print(str(cause).partition("\n")[0] or type(cause).__name__, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
