"""How long a provider says to wait, from whichever of its ways to say it.

Whether to wait at all is not decided here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC
from email.utils import parsedate_to_datetime


def retry_after(
    status: int, headers: Mapping[bytes, bytes], fields: Mapping[str, object], now: float
) -> float | None:
    """Seconds to wait as the provider says, the most exact source first; None where it does not say."""
    milliseconds = number(headers.get(b"retry-after-ms", b""))
    if milliseconds is not None:
        return milliseconds / 1000
    plain = headers.get(b"retry-after", b"").strip()
    if plain:
        seconds = number(plain)
        if seconds is None:
            seconds = duration(plain.decode("latin-1"))
        if seconds is None:
            seconds = _until_date(plain.decode("latin-1"), now)
        if seconds is not None:
            return seconds
    delay = fields.get("retryDelay")
    if isinstance(delay, str) and (seconds := duration(delay)) is not None:
        return seconds
    return _reset(headers, now) if status in (429, 503) else None


def _reset(headers: Mapping[bytes, bytes], now: float) -> float | None:
    """``x-ratelimit-reset*``: the latest of the exhausted limits; where none says it is, the soonest of
    all."""
    exhausted: list[float] = []
    known: list[float] = []
    for name, value in headers.items():
        if not name.startswith(b"x-ratelimit-reset"):
            continue
        text = value.decode("latin-1").strip()
        seconds = number(value)
        if seconds is None:
            seconds = duration(text)
        elif seconds > 1e11:  # Unix time in milliseconds
            seconds = max(0.0, seconds / 1000 - now)
        elif seconds > 1e8:  # Unix time in seconds
            seconds = max(0.0, seconds - now)
        if seconds is None:
            continue
        known.append(seconds)
        if headers.get(name.replace(b"-reset", b"-remaining", 1), b"").strip() == b"0":
            exhausted.append(seconds)
    if exhausted:
        return max(exhausted)
    return min(known) if known else None


_DURATION = re.compile(
    r"(?:(\d{1,9})d)?(?:(\d{1,9})h)?(?:(\d{1,9})m(?!s))?"
    r"(?:(\d{1,9}(?:\.\d{1,9})?)s)?(?:(\d{1,9}(?:\.\d{1,9})?)ms)?"
)


def duration(text: str) -> float | None:
    """``6m0s``, ``1h2m``, ``20ms``, ``1.5s`` in seconds."""
    found = _DURATION.fullmatch(text.strip())
    if found is None or not text.strip():
        return None
    days, hours, minutes, seconds, milliseconds = (float(group or 0) for group in found.groups())
    return days * 86400 + hours * 3600 + minutes * 60 + seconds + milliseconds / 1000


def number(text: bytes) -> float | None:
    """A number of up to 15 digits; None for anything else."""
    if not re.fullmatch(rb"\s*\d{1,15}(?:\.\d{1,9})?\s*", text):
        return None
    return float(text)


def _until_date(text: str, now: float) -> float | None:
    try:
        moment = parsedate_to_datetime(text)
    except (ValueError, OverflowError):
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return max(0.0, moment.timestamp() - now)
