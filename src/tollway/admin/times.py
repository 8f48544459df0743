"""Moments as people write them (``2026-11-22``, ``7d``) and as the API prints them (ISO 8601 in UTC)."""

from __future__ import annotations

import re
from datetime import UTC, datetime

from tollway.errors import BadRequest

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}
_SPAN = re.compile(r"([0-9]{1,9})([smhdw])", re.ASCII)
_LATEST = 253402300799.0
"""The last second of the year 9999: no calendar goes further."""


def iso(seconds: float) -> str:
    """Unix seconds as ``2026-11-22T10:00:00.123Z``."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def iso_or_none(seconds: float | None) -> str | None:
    return None if seconds is None else iso(seconds)


def is_span(text: str) -> bool:
    return _SPAN.fullmatch(text.strip()) is not None


def ago(text: str, now: float, *, param: str) -> float:
    """``7d`` (that long before ``now``) or an ISO 8601 date or time. Unix seconds. Raises BadRequest."""
    return _moment(text, now, -1, param)


def ahead(text: str, now: float, *, param: str) -> float:
    """``30d`` (that long after ``now``) or an ISO 8601 date or time. Unix seconds. Raises BadRequest."""
    return _moment(text, now, 1, param)


def _moment(text: str, now: float, direction: int, param: str) -> float:
    written = text.strip()
    span = _SPAN.fullmatch(written)
    if span is not None:
        moment = now + direction * int(span[1]) * _UNITS[span[2]]
    else:
        try:
            parsed = datetime.fromisoformat(written)
        except ValueError:
            raise BadRequest(
                f"{param} is neither a time such as 2026-11-22T10:00:00Z nor a span such as 7d, 12h or 30m",
                param=param,
            ) from None
        moment = (parsed if parsed.tzinfo is not None else parsed.replace(tzinfo=UTC)).timestamp()
    if not 0 <= moment <= _LATEST:
        raise BadRequest(f"{param} lies outside the years 1970 to 9999", param=param)
    return moment
