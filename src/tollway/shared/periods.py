"""Budget periods in UTC: where the one that holds a moment began, and when it ends."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

DAY = 86400


def period(per: str, now: float, anchor: float = 0.0) -> tuple[float, float | None]:
    """(start, end) in Unix seconds of the period around ``now``; end None for ``total``.

    ``day`` starts at midnight, ``week`` on Monday, ``month`` on the 1st, ``Nd`` every N days counted from the day of
    ``anchor``. Raises ValueError for any other name.
    """
    if per == "total":
        return 0.0, None
    moment = datetime.fromtimestamp(now, UTC)
    midnight = moment.replace(hour=0, minute=0, second=0, microsecond=0)
    if per == "day":
        return midnight.timestamp(), (midnight + timedelta(days=1)).timestamp()
    if per == "week":
        start = midnight - timedelta(days=moment.weekday())
        return start.timestamp(), (start + timedelta(days=7)).timestamp()
    if per == "month":
        start = midnight.replace(day=1)
        return start.timestamp(), (start + timedelta(days=32)).replace(day=1).timestamp()
    if per.isascii() and per.endswith("d") and per[:-1].isdigit() and 0 < int(per[:-1]) <= 3660:
        length = int(per[:-1]) * DAY
        first = anchor // DAY * DAY
        begun = first + (now - first) // length * length
        return begun, begun + length
    raise ValueError(f"{per!r} is not a period: day, week, month, total, or a number of days such as 30d")
