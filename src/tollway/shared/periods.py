"""Budget periods in a time zone: where the one that holds a moment began, and when it ends. Days are those of the
zone's calendar, so one may last 23 or 25 hours."""

from __future__ import annotations

from calendar import monthrange
from datetime import UTC, date, datetime, timedelta, tzinfo
from functools import lru_cache
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

DAY = 86400

_MONTHS = {"month": 1, "quarter": 3, "year": 12}


def period(
    per: str,
    now: float,
    anchor: float = 0.0,
    zone: str = "UTC",
    first_day: int = 1,
    first_month: int = 1,
) -> tuple[float, float | None]:
    """(start, end) in Unix seconds of the period around ``now``; end None for ``total``.

    ``day`` starts at midnight, ``week`` on Monday, ``month`` on ``first_day`` (or the month's last day, where it is
    shorter), ``quarter`` and ``year`` on that day too, counted from ``first_month``; ``Nd`` every N days counted from
    the day of ``anchor``. Raises ValueError for any other name and for a zone that does not exist.
    """
    if per == "total":
        return 0.0, None
    tz = place(zone)
    today = datetime.fromtimestamp(now, tz).date()
    if per == "day":
        first, beyond = today, today + timedelta(days=1)
    elif per == "week":
        first = today - timedelta(days=today.weekday())
        beyond = first + timedelta(days=7)
    elif per in _MONTHS:
        first, beyond = _months(today, _MONTHS[per], first_day, first_month)
    elif per.isascii() and per.endswith("d") and per[:-1].isdigit() and 0 < int(per[:-1]) <= 3660:
        length = int(per[:-1])
        since = datetime.fromtimestamp(anchor, tz).date()
        first = since + timedelta(days=(today - since).days // length * length)
        beyond = first + timedelta(days=length)
    else:
        raise ValueError(
            f"{per!r} is not a period: day, week, month, quarter, year, total, or a number of days such as 30d"
        )
    return _midnight(first, tz), _midnight(beyond, tz)


@lru_cache(maxsize=1024)
def place(zone: str) -> tzinfo:
    """The IANA time zone of that name. Raises ValueError when there is none."""
    if zone == "UTC":
        return UTC
    try:
        return ZoneInfo(zone)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise ValueError(f"{zone!r} is not a time zone: write it as Europe/Berlin or UTC") from error


def _midnight(day: date, tz: tzinfo) -> float:
    """The first moment of a day, also where clocks skip or repeat midnight."""
    return datetime(day.year, day.month, day.day, tzinfo=tz).timestamp()


def _months(today: date, length: int, first_day: int, first_month: int) -> tuple[date, date]:
    at = today.year * 12 + today.month - 1
    if today < _start(at, first_day):
        at -= 1
    at -= (at - (first_month - 1)) % length
    return _start(at, first_day), _start(at + length, first_day)


def _start(month: int, first_day: int) -> date:
    """``month`` counts from the year 0."""
    year, index = divmod(month, 12)
    return date(year, index + 1, min(first_day, monthrange(year, index + 1)[1]))
