"""How much of a provider's own rate limits is left at one deployment, as its answers say (``x-ratelimit-*`` of OpenAI
and those like it, ``anthropic-ratelimit-*`` of Anthropic) or its refusals. Read only when somebody asks.

What to do about it is not decided here.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from email.utils import parsedate_to_datetime

from msgspec import Struct

from tollway.providers.retry_after import duration, number

LONGEST = 3600.0
"""Seconds a deployment is passed over at most on the word of one answer."""


class Left(Struct, frozen=True, kw_only=True):
    """What is left of one limit; ``unit`` as the provider calls it (``requests``, ``tokens``, ``input-tokens``).
    ``resets_in`` is in seconds from when it was asked."""

    unit: str
    limit: int | None
    remaining: int
    resets_in: float | None


class Headroom:
    """Follows one deployment. ``heard`` costs next to nothing: it keeps the newest answer's headers as they are."""

    __slots__ = ("_headers", "_heard_at", "_until")

    def __init__(self) -> None:
        self._headers: Mapping[bytes, bytes] | None = None
        self._heard_at = 0.0
        self._until = 0.0

    def heard(self, headers: Mapping[bytes, bytes], now: float) -> None:
        """``now`` on any clock that only goes forward, the same for every call."""
        self._headers = headers
        self._heard_at = now

    def refused(self, seconds: float, now: float) -> bool:
        """A refusal said to come back after so long. Whether that is news: a second later than known so far."""
        until = now + min(seconds, LONGEST)
        news = until > max(self._until, now) + 1.0
        self._until = max(self._until, until)
        return news

    def exhausted(self, now: float) -> float:
        """Seconds until the provider takes requests here again; 0 when, as far as is known, it does."""
        wait = self._until - now
        if self._headers is not None:
            for left in self.left(now):
                if left.remaining <= 0 and left.resets_in is not None and left.resets_in > wait:
                    wait = min(left.resets_in, LONGEST)
        return max(wait, 0.0)

    def left(self, now: float) -> tuple[Left, ...]:
        """Every limit the newest answer told of whose period has not ended since."""
        headers = self._headers
        if headers is None:
            return ()
        since = now - self._heard_at
        found = []
        for name, value in headers.items():
            unit = _unit(name)
            remaining = number(value)
            if unit is None or remaining is None:
                continue
            prefix, suffix = (
                (b"x-ratelimit-", True) if name.startswith(b"x-") else (b"anthropic-ratelimit-", False)
            )
            word = unit.encode()
            reset = headers.get(prefix + (b"reset-" + word if suffix else word + b"-reset"), b"")
            limit = number(headers.get(prefix + (b"limit-" + word if suffix else word + b"-limit"), b""))
            resets_in = _seconds(reset, headers)
            if resets_in is not None:
                resets_in -= since
                if resets_in <= 0:
                    continue
            found.append(
                Left(
                    unit=unit,
                    limit=None if limit is None else int(limit),
                    remaining=int(remaining),
                    resets_in=resets_in,
                )
            )
        return tuple(found)


def _unit(name: bytes) -> str | None:
    if name.startswith(b"x-ratelimit-remaining-"):
        return name[22:].decode("latin-1")
    if name.startswith(b"anthropic-ratelimit-") and name.endswith(b"-remaining"):
        return name[20:-10].decode("latin-1")
    return None


def _seconds(reset: bytes, headers: Mapping[bytes, bytes]) -> float | None:
    """``6m0s``, ``1.5``, or a time of day by the clock of the answer's own ``date``."""
    text = reset.decode("latin-1").strip()
    if not text:
        return None
    plain = number(reset)
    if plain is not None:
        return plain if plain < 1e8 else None
    seconds = duration(text)
    if seconds is not None:
        return seconds
    try:
        at = datetime.fromisoformat(text)
        sent = parsedate_to_datetime(headers.get(b"date", b"").decode("latin-1"))
    except (ValueError, OverflowError):
        return None
    if at.tzinfo is None or sent.tzinfo is None:
        return None
    return max((at - sent).total_seconds(), 0.0)
