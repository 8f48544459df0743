"""What budgets have spent and windows have admitted, from the ledger and the spool together, so that counters begin
where they stand even while the ledger lags behind. Reads only; what is held by running requests is not known here.

All counters of one kind are read at once. Requests are counted by attempts, which are what the ledger knows: a request
that was tried twice counts twice in what a request budget begins with.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Iterable
from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime
from typing import Protocol

import msgspec
from msgspec import Struct

from tollway.errors import StoreUnavailable
from tollway.model.usage import NOTHING, Usage
from tollway.shared.claims import Ceiling
from tollway.shared.interface import Claim
from tollway.shared.periods import period
from tollway.storage.repositories.events import Events
from tollway.storage.repositories.spending import MINUTE, SECOND, Names, Spent
from tollway.storage.segments import Position
from tollway.storage.spool import Spool

_MINUTE, _HOUR, _DAY = 60, 3600, 86400


class Counted(Struct, frozen=True):
    """By counters' names: what budgets have ``spent`` in their current period, in their own unit, and what windows
    admitted, as (Unix seconds, amount). Where only the hour or the minute is known, its end stands for it: a window
    may be a little fuller than it was, never emptier."""

    spent: dict[str, int]
    windows: dict[str, list[tuple[float, int]]]


class Resting(Protocol):
    """Whoever carries the spool's events into the ledger."""

    def at_rest(self) -> AbstractAsyncContextManager[Position]: ...


class Adjusting(Protocol):
    """Entries that correct counters (``storage/repositories/adjustments.py``)."""

    async def sums(self, since: dict[str, str | None]) -> dict[str, int]: ...


class _Spooled(Struct):
    time: str
    model: str
    cost_nano_usd: int = 0
    outcome: str = "ok"
    usage: Usage = NOTHING
    key_id: str | None = None
    organization: str | None = None
    team: str | None = None
    project: str | None = None
    user: str | None = None
    customer: str | None = None
    tags: tuple[str, ...] = ()


_decode = msgspec.json.Decoder(_Spooled).decode


async def counted(
    ceilings: Iterable[Ceiling],
    now: float,
    ledger: Resting,
    spool: Spool,
    events: Events,
    adjustments: Adjusting | None = None,
    *,
    began: float | None = None,
) -> Counted:
    """For every budget and window among ``ceilings``; parallel slots are none. ``now`` is Unix seconds. What was
    recorded since ``began`` is left out of windows: who began then has counted it in them already. Raises
    StoreUnavailable.

    Exact at the moment it returns: between the last look into the spool and the caller's next step nothing else
    runs. An attempt that failed at a cost within a request that is still running is in it already.
    """
    until = _iso(now if began is None else min(began, now))
    groups = _groups(ceilings, now)
    async with ledger.at_rest() as position:
        for group in groups:
            await group.read(events, now, until)
        forgiven: dict[str, int] = {}
        if adjustments is not None:
            since = {each.name: each.since or None for group in groups for each in group.budgets()}
            forgiven = await adjustments.sums(since) if since else {}
        while True:
            try:
                records, position = spool.read(position)
            except OSError as error:
                raise StoreUnavailable(
                    f"The event spool {spool.directory} cannot be read: {error}."
                ) from error
            if not records:
                return _result(groups, forgiven)
            for record in records:
                try:
                    event = _decode(record)
                except msgspec.MsgspecError:
                    continue  # no event: the ledger puts it aside
                for group in groups:
                    group.add_spooled(event, until)
            # A long backlog is read beside the requests; only the last piece must be read in one step.
            await asyncio.sleep(0)


async def recorded(
    ceilings: Iterable[Ceiling], now: float, events: Events, adjustments: Adjusting
) -> dict[str, int]:
    """What the budgets among ``ceilings`` have spent by the ledger alone, for who has no spool: a command beside a
    server. Raises StoreUnavailable."""
    groups = _groups((each for each in ceilings if each.claim.per), now)
    for group in groups:
        await group.read(events, now, _iso(now))
    since = {each.name: each.since or None for group in groups for each in group.budgets()}
    return _result(groups, await adjustments.sums(since) if since else {}).spent


class _Counter:
    """One ceiling and what was found for it."""

    __slots__ = ("_amount", "_patterns", "_since_second", "name", "parts", "seconds", "since", "spent")

    def __init__(self, ceiling: Ceiling, now: float) -> None:
        claim = ceiling.claim
        self.name = claim.counter
        self.seconds = claim.seconds
        if claim.seconds:
            begun = now - claim.seconds
        else:
            begun, _ = period(claim.per, now, claim.anchor, claim.zone, claim.first_day, claim.first_month)
        self.since = _iso(begun) if begun else ""
        self._patterns = [_pattern(name) for name in ceiling.models]
        self._amount = _amount_of(claim)
        self.spent = 0
        self.parts: list[tuple[float, int]] = []

    def wants(self, model: str) -> bool:
        return not self._patterns or any(pattern.fullmatch(model) for pattern in self._patterns)

    def add(self, found: Spent) -> None:
        amount = self._amount(found)
        if not amount:
            return
        if self.seconds:
            self.parts.append((_end(found.at), amount))
        else:
            self.spent += amount


class _Group:
    """The counters of one kind: their events are told apart by the same dimensions, perhaps by the model too."""

    def __init__(self, names: Names, by_model: bool) -> None:
        self._names = names
        self._by_model = by_model
        self._of: dict[tuple[str, ...], list[_Counter]] = {}
        self._all: list[_Counter] = []

    def take(self, of: tuple[str, ...], counter: _Counter) -> None:
        self._of.setdefault(of, []).append(counter)
        self._all.append(counter)

    def budgets(self) -> list[_Counter]:
        return [each for each in self._all if not each.seconds]

    def counters(self) -> list[_Counter]:
        return self._all

    async def read(self, events: Events, now: float, until: str) -> None:
        names = (*self._names, "model") if self._by_model else self._names
        for since in sorted({each.since for each in self.budgets()}):
            self._add(await events.spent_since(names, since), 0, since)
        lengths = {each.seconds for each in self._all}
        for seconds in sorted(lengths - {0}):
            if seconds <= _MINUTE:
                found = await events.lately(names, _iso(now - seconds), until, SECOND)
            elif seconds <= _HOUR:
                found = await events.lately(names, _iso(now - seconds), until, MINUTE)
            else:
                found = await events.lately_by_hour(names, _iso(now - seconds), until)
            self._add(found, seconds)

    def _add(self, found: list[Spent], seconds: int, since: str = "") -> None:
        """To the windows of that length, or to the budgets that began then."""
        of, by_model = self._of, self._by_model
        for each in found:
            name = each.of[:-1] if by_model else each.of
            for counter in of.get(name, ()):
                if counter.seconds != seconds or (not seconds and counter.since != since):
                    continue
                if not by_model or counter.wants(each.of[-1]):
                    counter.add(each)

    def add_spooled(self, event: _Spooled, until: str) -> None:
        for of in self._values(event):
            for counter in self._of.get(of, ()):
                if counter.seconds and event.time >= until:
                    continue
                if event.time >= counter.since and counter.wants(event.model):
                    counter.add(_spent(of, event))

    def _values(self, event: _Spooled) -> Iterable[tuple[str, ...]]:
        if self._names == ("tags",):
            return [(tag,) for tag in set(event.tags)]
        return [tuple(getattr(event, name) or "" for name in self._names)]


def _groups(ceilings: Iterable[Ceiling], now: float) -> list[_Group]:
    found: dict[tuple[Names, bool], _Group] = {}
    seen: set[str] = set()
    for ceiling in ceilings:
        claim = ceiling.claim
        if claim.unit == "parallel" or claim.counter in seen or not ceiling.of:
            continue
        if claim.seconds == 1:
            continue  # nothing that was admitted before a start is in such a window any more
        seen.add(claim.counter)
        names = tuple(name for name, _ in ceiling.of)
        by_model = bool(ceiling.models)
        group = found.get((names, by_model))
        if group is None:
            group = found[names, by_model] = _Group(names, by_model)
        group.take(tuple(value for _, value in ceiling.of), _Counter(ceiling, now))
    return list(found.values())


def _result(groups: list[_Group], forgiven: dict[str, int]) -> Counted:
    spent: dict[str, int] = {}
    windows: dict[str, list[tuple[float, int]]] = {}
    for group in groups:
        for counter in group.counters():
            if counter.seconds:
                windows[counter.name] = counter.parts
            else:
                spent[counter.name] = counter.spent + forgiven.get(counter.name, 0)
    return Counted(spent, windows)


def _amount_of(claim: Claim) -> Callable[[Spent], int]:
    if claim.unit == "nano_usd":
        return lambda found: found.cost
    if claim.unit == "requests":
        return lambda found: found.requests
    read, written = claim.count != "output", claim.count != "input"
    cached = claim.cached

    def tokens(found: Spent) -> int:
        return (found.read - (0 if cached else found.cached)) * read + found.written * written

    return tokens


def _spent(of: tuple[str, ...], event: _Spooled) -> Spent:
    usage = event.usage
    read = usage.prompt_tokens()
    requests = 0 if event.outcome == "correction" else 1
    written = usage.output + usage.audio_output
    return Spent(of, event.time[:-1], requests, read, usage.cache_read, written, event.cost_nano_usd)


def _pattern(name: str) -> re.Pattern[str]:
    return re.compile(".*".join(re.escape(part) for part in name.split("*")), re.DOTALL)


def _iso(seconds: float) -> str:
    told = datetime.fromtimestamp(seconds, UTC).replace(tzinfo=None)
    return told.isoformat(timespec="milliseconds") + "Z"


_WIDTHS = {13: ":00:00", 16: ":00"}
_LENGTHS = {13: _HOUR, 16: _MINUTE, 19: 1}


def _end(at: str) -> float:
    """The end, in Unix seconds, of the hour, minute or second that a piece of a time names; a whole time itself."""
    begun = datetime.fromisoformat(at + _WIDTHS.get(len(at), "") + "+00:00").timestamp()
    return begun + _LENGTHS.get(len(at), 0)
