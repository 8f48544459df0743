"""A usage event as the ledger stores it: the columns it is searched and summed by, and what it adds to the roll-ups.

No database is known here: the hallway makes an entry from the values it has at hand, the ledger's reader from a
spooled record, and both come out the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b

import msgspec
from msgspec.structs import astuple

from tollway.model.usage import Usage

DIMENSIONS = (
    "key_id",
    "key",
    "organization",
    "team",
    "project",
    "user",
    "customer",
    "tags",
    "endpoint",
    "model",
    "provider",
    "upstream_model",
)
"""What spend is split by, besides time. ``None`` is kept as the empty string in the roll-ups. All tags of an event are
one value, ``canonical`` text, so that an event with two tags is one row and counts once."""

UNITS = (
    "input",
    "cache_read",
    "cache_write_5m",
    "cache_write_1h",
    "output",
    "reasoning",
    "audio_input",
    "audio_output",
    "images",
    "video_seconds",
    "characters",
    "seconds",
    "pages",
    "searches",
    "service_calls",
)
"""The classes of ``Usage`` in its order. Its ``requests`` is ``service_calls`` here: ``requests`` counts
events."""

PLAIN_UNITS = ("input", "cache_read", "output")
"""The classes nearly every event has. Events keep the others, where there are any, as one JSON object: a row with a
column for each would cost twice as much to store."""

MEASURES = ("requests", "errors", "corrections", *UNITS, "cost_nano_usd", "unpriced_requests")
"""``requests`` counts events, that is attempts; corrections are counted apart, and what they add is in the sums."""

COLUMNS = (
    "id", "time", *DIMENSIONS, "outcome", "priced", "cost_nano_usd", *PLAIN_UNITS, "other_units", "event",
)  # fmt: skip

Of = tuple[str | None, ...]
"""An event's ``DIMENSIONS``, in their order."""

Flat = tuple[str | int | bytes | None, ...]

_SANE = 1 << 53
"""One event beyond it is a mistake, and sums of such would leave the database's 64 bits."""

DAY = len("2026-01-01")
HOUR = len("2026-01-01T00")
"""How much of an event's time names its UTC day and hour."""

_OTHERS = tuple((at, name) for at, name in enumerate(UNITS) if name not in PLAIN_UNITS)
_WIDTH = len(MEASURES)
_INPUT = 3
_CACHE_READ = 4
_OUTPUT = 7
_COST = _WIDTH - 2
_UNPRICED = _WIDTH - 1


class Entry:
    """An event ready to be stored: its ``columns``, and the roll-ups it adds to, by ``hour`` and ``of``. ``others`` are
    all its units where it has any beyond the plain ones."""

    __slots__ = ("columns", "cost", "hour", "of", "others", "outcome", "priced", "usage")

    def __init__(
        self,
        id: str,
        time: str,
        of: Of,
        outcome: str,
        priced: bool,
        cost: int,
        usage: Usage,
        record: bytes,
    ) -> None:
        """Raises ValueError where a number is beyond counting."""
        plain = usage.input + usage.cache_read + usage.output
        units = astuple(usage)
        total = sum(units)
        if not -_SANE < cost < _SANE or not -_SANE < total < _SANE:
            raise ValueError("a number is too large")
        self.hour = time[:HOUR]
        self.of = of
        self.outcome = outcome
        self.priced = priced
        self.cost = cost
        self.usage = usage
        self.others: tuple[int, ...] | None = None
        told: str | None = None
        if total != plain:
            self.others = units
            told = msgspec.json.encode({name: units[at] for at, name in _OTHERS if units[at]}).decode()
        self.columns: Flat = (
            id, time, *of, outcome, 1 if priced else 0, cost,
            usage.input, usage.cache_read, usage.output, told, record,
        )  # fmt: skip


def canonical(tags: Sequence[str]) -> str | None:
    """The tags of an event as one text: a JSON array, sorted, each once; None without any."""
    return msgspec.json.encode(sorted(set(tags))).decode() if tags else None


def digest(of: Sequence[str]) -> bytes:
    """What stands for the dimensions in the roll-ups' primary key, which could not hold names of any length."""
    return blake2b(msgspec.msgpack.encode(of), digest_size=16).digest()


def totals(entries: Sequence[Entry]) -> tuple[list[Flat], list[Flat]]:
    """Entries summed into rows of the daily and of the hourly roll-ups: the time, the digest, the dimensions, then the
    measures. In the order of the primary key, so that two writers do not wait for each other crosswise."""
    hours: dict[tuple[str, Of], list[int]] = {}
    for entry in entries:
        name = (entry.hour, entry.of)
        sums = hours.get(name)
        if sums is None:
            sums = hours[name] = [0] * _WIDTH
        outcome = entry.outcome
        if outcome == "correction":
            sums[2] += 1
        else:
            sums[0] += 1
            if outcome == "error":
                sums[1] += 1
        others = entry.others
        if others is None:
            usage = entry.usage
            sums[_INPUT] += usage.input
            sums[_CACHE_READ] += usage.cache_read
            sums[_OUTPUT] += usage.output
        else:
            for at, units in enumerate(others):
                sums[_INPUT + at] += units
        sums[_COST] += entry.cost
        if not entry.priced:
            sums[_UNPRICED] += 1
    days: dict[tuple[str, Of], list[int]] = {}
    for (hour, of), sums in hours.items():
        name = (hour[:DAY], of)
        known = days.get(name)
        days[name] = sums if known is None else [a + b for a, b in zip(known, sums, strict=True)]
    return _rows(days), _rows(hours)


def _rows(groups: dict[tuple[str, Of], list[int]]) -> list[Flat]:
    rows: list[tuple[str, bytes, list[str], list[int]]] = []
    for (time, of), sums in groups.items():
        names = [part or "" for part in of]
        rows.append((time, digest(names), names, sums))
    rows.sort()
    return [(time, known, *names, *sums) for time, known, names, sums in rows]
