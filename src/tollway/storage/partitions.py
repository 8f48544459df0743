"""The months of the events on PostgreSQL: one partition each, made before its events come and dropped whole. On SQLite
there are none, and nothing here is called."""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from hashlib import sha256

from sqlalchemy import Connection

_LOCK = 0x746F6C70
"""The advisory lock of who makes or drops partitions."""

_LOCK_MILLISECONDS = 3000

_MONTH = re.compile(r"\d{4}-\d\d")
_MONTH_LENGTH = len("2026-01")

MONTHS_AHEAD = 2


def month_of(time: str) -> str:
    return time[:_MONTH_LENGTH]


def coming(now: float) -> list[str]:
    """The month of a Unix time and the next ones."""
    day = datetime.fromtimestamp(now, UTC).date().replace(day=1)
    months = []
    for _ in range(MONTHS_AHEAD + 1):
        months.append(day.isoformat()[:_MONTH_LENGTH])
        day = (day + timedelta(days=31)).replace(day=1)
    return months


def make(connection: Connection, months: Iterable[str]) -> int:
    """Make what partitions are missing; returns how many. One process at a time: others wait until this transaction
    ends."""
    wanted = {partition(month): month for month in months}
    missing = wanted.keys() - set(existing(connection))
    if not missing:
        return 0
    _alone(connection)
    made = 0
    for name in sorted(missing - set(existing(connection))):
        # Every time that begins so: the tilde sorts after what follows a month. Quotes cannot end early in a
        # month, and other text is escaped.
        first = wanted[name].replace("'", "''")
        connection.exec_driver_sql(
            f"CREATE TABLE {name} PARTITION OF events FOR VALUES FROM ('{first}') TO ('{first}~')"
        )
        made += 1
    return made


def drop_before(connection: Connection, month: str) -> list[str]:
    """Drop the partitions of earlier months; returns which."""
    _alone(connection)
    dropped = []
    for name in existing(connection):
        its = name.removeprefix("events_").replace("_", "-")
        if _MONTH.fullmatch(its) and its < month:
            connection.exec_driver_sql(f"DROP TABLE {name}")
            dropped.append(its)
    return dropped


def _alone(connection: Connection) -> None:
    # A table that is read for long is left for another time: everybody else would queue up behind this.
    connection.exec_driver_sql(f"SET LOCAL lock_timeout = {_LOCK_MILLISECONDS}")
    connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_LOCK})")


def existing(connection: Connection) -> list[str]:
    query = (
        "SELECT child.relname FROM pg_inherits JOIN pg_class child ON child.oid = inhrelid "
        "WHERE inhparent = 'events'::regclass ORDER BY 1"
    )
    return list(connection.exec_driver_sql(query).scalars())


def partition(month: str) -> str:
    """The name of a month's partition; of a text that is no month, which a spool of another may hold, some name."""
    if _MONTH.fullmatch(month):
        return f"events_{month.replace('-', '_')}"
    return f"events_x{sha256(month.encode()).hexdigest()[:16]}"
