"""A usage event as the ledger stores it: the columns it is searched and summed by, and what it adds to the roll-ups.

No database is known here: the hallway makes an entry from the values it has at hand, the ledger's reader from a
spooled record, and both come out the same.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
from msgspec.structs import astuple

from tollway.model.usage import Usage

DIMENSIONS = ("key_id", "key", "team", "user", "customer", "endpoint", "model", "provider", "upstream_model")
"""What spend is split by, besides the day. ``None`` is kept as the empty string in the roll-ups' primary
key."""

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

MEASURES = ("requests", "errors", *UNITS, "cost_nano_usd", "unpriced_requests")

COLUMNS = (
    "id", "time", *DIMENSIONS, "error", "priced", "cost_nano_usd", *PLAIN_UNITS, "other_units", "event",
)  # fmt: skip

Of = tuple[str | None, ...]
"""An event's ``DIMENSIONS``, in their order."""

Flat = tuple[str | int | bytes | None, ...]

_SANE = 1 << 53
"""One event beyond it is a mistake, and sums of such would leave the database's 64 bits."""

_DAY = len("2026-01-01")
_OTHERS = tuple((at, name) for at, name in enumerate(UNITS) if name not in PLAIN_UNITS)
_WIDTH = len(MEASURES)
_INPUT = 2
_CACHE_READ = 3
_OUTPUT = 6
_COST = _WIDTH - 2
_UNPRICED = _WIDTH - 1


class Entry:
    """An event ready to be stored: its ``columns``, and the roll-up it adds to, by ``day`` and ``of``. ``others`` are
    all its units where it has any beyond the plain ones."""

    __slots__ = ("columns", "cost", "day", "error", "of", "others", "priced", "usage")

    def __init__(
        self,
        id: str,
        time: str,
        of: Of,
        error: bool,
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
        self.day = time[:_DAY]
        self.of = of
        self.error = error
        self.priced = priced
        self.cost = cost
        self.usage = usage
        self.others: tuple[int, ...] | None = None
        told: str | None = None
        if total != plain:
            self.others = units
            told = msgspec.json.encode({name: units[at] for at, name in _OTHERS if units[at]}).decode()
        self.columns: Flat = (
            id, time, *of, 1 if error else 0, 1 if priced else 0, cost,
            usage.input, usage.cache_read, usage.output, told, record,
        )  # fmt: skip


def totals(entries: Sequence[Entry]) -> list[Flat]:
    """Entries summed into rows of the roll-ups: their primary key, then their measures."""
    groups: dict[tuple[str, Of], list[int]] = {}
    for entry in entries:
        name = (entry.day, entry.of)
        sums = groups.get(name)
        if sums is None:
            sums = groups[name] = [0] * _WIDTH
        sums[0] += 1
        if entry.error:
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
    return [(day, *[part or "" for part in of], *sums) for (day, of), sums in groups.items()]
