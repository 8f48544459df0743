"""What was served, to the token: one line an exchange and exact totals by model. Lines are bounded, totals
are not."""

from __future__ import annotations

from collections import deque
from itertools import islice

import msgspec
from msgspec import Raw, Struct


class Line(Struct, frozen=True, gc=False):
    """One exchange. ``usage`` is the JSON that was sent, byte for byte, or None where none reached the wire.

    The counts are what was served: nothing before the first byte, the written events' tokens of a broken
    stream. ``complete`` means that every byte was written and the client was still there.
    """

    number: int
    id: str
    model: str
    endpoint: str
    status: int
    streamed: bool
    complete: bool
    events: int
    usage: bytes | None
    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int
    reasoning_tokens: int
    request_id: str | None
    units: dict[str, int] | None = None


class Total(Struct):
    """Sums over every line of one model. ``errors`` counts statuses from 400 on."""

    requests: int = 0
    complete: int = 0
    errors: int = 0
    events: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0
    reasoning_tokens: int = 0


class Entry(Struct):
    """A line as ``GET /bill`` shows it; ``number`` counts from 1 and is what ``since`` and ``next`` speak
    of.

    ``tokens`` are the same counts in classes that do not overlap, save ``reasoning``, a part of ``output``; what
    else was counted (audio, images, seconds) stands beside them.
    """

    number: int
    id: str
    model: str
    endpoint: str
    status: int
    streamed: bool
    complete: bool
    events: int
    usage: Raw | None
    prompt_tokens: int
    completion_tokens: int
    request_id: str | None
    tokens: dict[str, int]


class Page(Struct, omit_defaults=True):
    requests: int
    totals: dict[str, Total]
    entries: list[Entry] | None = None
    next: int | None = None


class Bill:
    """``keep`` lines are remembered (0: totals only); older ones leave silently, the totals never do."""

    def __init__(self, keep: int = 200_000) -> None:
        self.keep = keep
        self.requests = 0
        self._number = 0
        self.lines: deque[Line] = deque(maxlen=keep)
        self.totals: dict[str, Total] = {}

    def next_number(self) -> int:
        self._number += 1
        return self._number

    def add(self, line: Line) -> None:
        self.requests += 1
        if self.keep:
            self.lines.append(line)
        total = self.totals.get(line.model)
        if total is None:
            total = self.totals[line.model] = Total()
        total.requests += 1
        total.complete += line.complete
        total.errors += line.status >= 400
        total.events += line.events
        total.prompt_tokens += line.prompt_tokens
        total.cached_tokens += line.cached_tokens
        total.completion_tokens += line.completion_tokens
        total.reasoning_tokens += line.reasoning_tokens

    def reset(self) -> None:
        """Forget every line and every total. Numbers go on from where they were."""
        self.requests = 0
        self.lines.clear()
        self.totals.clear()

    def entries(self, since: int = 0, limit: int | None = None) -> list[Entry]:
        """Lines whose number is above ``since``, oldest first, at most ``limit``."""
        skip = 0
        if self.lines and since >= self.lines[0].number:
            skip = min(len(self.lines), since - self.lines[0].number + 1)
        stop = None if limit is None else skip + limit
        return [_entry(line) for line in islice(self.lines, skip, stop)]

    def page(self, since: int = 0, limit: int = 10_000) -> bytes:
        """``next`` is the ``since`` of the following page, absent where this was the last."""
        entries = self.entries(since, limit)
        more = bool(entries) and entries[-1].number < self.lines[-1].number
        page = Page(self.requests, self.totals, entries, entries[-1].number if more else None)
        return msgspec.json.encode(page)

    def summary(self) -> bytes:
        return msgspec.json.encode(Page(self.requests, self.totals))


def _entry(line: Line) -> Entry:
    return Entry(
        line.number,
        line.id,
        line.model,
        line.endpoint,
        line.status,
        line.streamed,
        line.complete,
        line.events,
        None if line.usage is None else Raw(line.usage),
        line.prompt_tokens,
        line.completion_tokens,
        line.request_id,
        disjoint(line),
    )


def disjoint(line: Line) -> dict[str, int]:
    """A line's counts in classes that do not overlap, ``reasoning`` excepted."""
    units = line.units or {}
    apart = sum(units.get(name, 0) for name in ("cache_write_5m", "cache_write_1h", "audio_input"))
    return {
        "input": line.prompt_tokens - line.cached_tokens - apart,
        "cache_read": line.cached_tokens,
        "cache_write_5m": 0,
        "cache_write_1h": 0,
        "output": line.completion_tokens - units.get("audio_output", 0),
        "reasoning": line.reasoning_tokens,
        **units,
    }
