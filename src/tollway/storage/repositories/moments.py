"""Times as the ledger writes them, ISO 8601 in UTC with milliseconds, so that text sorts as time does. No
clock is read here."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import NamedTuple
from zoneinfo import ZoneInfo

from tollway.errors import BadRequest

EVER = "0000-01-01T00:00:00.000Z"
NEVER = "9999-12-31T00:00:00.000Z"


class Span(NamedTuple):
    """From ``start`` (inclusive) to ``end`` (exclusive), as the ledger writes times."""

    start: str
    end: str


def zone(name: str) -> ZoneInfo:
    """Raises BadRequest for a name that is no IANA time zone."""
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError) as error:
        raise BadRequest(f"{name!r} is not a time zone such as Europe/Berlin.", param="tz") from error


def moment(text: str, param: str, where: ZoneInfo) -> str:
    """A time as a person writes it (``2026-11-22``, with or without time and offset; ``where`` without an
    offset) as the ledger writes it. Raises BadRequest, naming ``param``."""
    try:
        # A plus sign that came through a query string is a blank.
        parsed = datetime.fromisoformat(text.strip().replace(" ", "T") if "T" not in text else _plus(text))
    except ValueError as error:
        raise BadRequest(
            f"{param} is neither a time such as 2026-11-22T10:00:00Z nor a span such as 7d.", param=param
        ) from error
    if parsed.tzinfo is None:
        parsed = parsed.replace(tzinfo=where)
    if not 1900 < parsed.year < 9000:
        raise BadRequest(f"{param} is out of range.", param=param)
    return written(parsed)


def _plus(text: str) -> str:
    return text.strip().replace(" ", "+")


def written(time: datetime) -> str:
    return time.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="milliseconds") + "Z"


def midnight(day: str) -> str:
    return f"{day}T00:00:00.000Z"


def next_day(day: str) -> str:
    return (date.fromisoformat(day) + timedelta(days=1)).isoformat()
