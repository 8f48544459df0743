"""What the database said last, kept in the data directory, so that a process that starts while the database is away
serves the keys that were known, within what their budgets had left. No secret is here: of keys there are only hashes.

Two files, replaced whole: the keys and tenants after each change, what budgets have spent every few seconds.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import TypeVar

import msgspec
from msgspec import Struct

from tollway.jobs.read_spent import counted
from tollway.model.key import VirtualKey
from tollway.model.tenant import Directory
from tollway.shared.claims import Ceiling
from tollway.shared.interface import Claim, Standing
from tollway.shared.periods import period
from tollway.storage.repositories.events import Events
from tollway.storage.repositories.spending import Names, Spent
from tollway.storage.segments import Position
from tollway.storage.spool import Spool

_log = logging.getLogger(__name__)

EVERY = 5.0
"""Seconds between two looks at what was spent. What was carried into the database and left the spool since the last
look is what a start without the database may miss."""

_SLICE = 128
"""Counters read before other tasks of the loop get their turn."""

Kind = TypeVar("Kind")
Standings = Callable[[tuple[Claim, ...]], Awaitable[list[Standing]]]


class Known(Struct, frozen=True, kw_only=True):
    """All keys (revoked ones too) and tenants of the database."""

    keys: tuple[VirtualKey, ...]
    directory: Directory


class SpentSoFar(Struct, frozen=True, kw_only=True):
    """By counters' names the beginning of their period (Unix seconds) and what they had spent in it when the
    ``spool`` of that id ended at ``segment`` and ``offset``."""

    spool: str
    segment: int
    offset: int
    budgets: dict[str, tuple[float, int]]


class Remember:
    """``folder`` is the data directory's, ``spool`` this process's."""

    def __init__(self, folder: Path, spool: Spool, worker: int = 0) -> None:
        self._known = folder / "known.msgpack"
        self._spent = folder / (f"spent-{worker}.msgpack" if worker else "spent.msgpack")
        self._spool = spool
        self._last: Position | None = None

    def known(self) -> Known | None:
        """None where nothing was kept, or by a version that kept something else."""
        return _read(self._known, Known)

    async def keep(self, keys: Iterable[VirtualKey], directory: Directory) -> None:
        known = Known(keys=tuple(keys), directory=directory)
        await asyncio.to_thread(_write, self._known, known)

    async def spent(self, ceilings: Iterable[Ceiling], now: float) -> dict[str, int]:
        """What budgets have spent, by counters' names: as it was kept, and what the spool holds since then."""
        kept = _read(self._spent, SpentSoFar)
        if kept is not None and kept.spool != self._spool.id:
            kept = None
        every = list(ceilings)
        rest = _Rest(Position(kept.segment, kept.offset) if kept is not None else Position(0, 0))
        # Nothing is asked of the database: the spool alone says what came later.
        found = (await counted(every, now, rest, self._spool, _NothingStored())).spent
        if kept is not None:
            beginnings = _Beginnings(now)
            for claim in _budgets(every):
                begun, amount = kept.budgets.get(claim.counter, (-1.0, 0))
                if begun == beginnings.of(claim):
                    found[claim.counter] = found.get(claim.counter, 0) + amount
        return found

    async def run(
        self,
        ceilings: Callable[[], Iterable[Ceiling]],
        version: Callable[[], int],
        standing: Standings,
        clock: Callable[[], float],
    ) -> None:
        """Keep what is spent, until cancelled. ``ceilings`` are others only when ``version`` is, ``clock`` gives Unix
        seconds."""
        claims: list[Claim] = []
        known = -1
        while True:
            await asyncio.sleep(EVERY)
            if self._last == self._spool.end:
                continue  # nobody spent anything
            if known != version() or not claims:
                known = version()
                # Of ten thousand keys that takes a while.
                claims = await asyncio.to_thread(_budgets, ceilings())
            await self._keep_spent(claims, standing, clock())

    async def keep_spent(self, ceilings: Iterable[Ceiling], standing: Standings, now: float) -> None:
        if self._last != self._spool.end:
            await self._keep_spent(_budgets(ceilings), standing, now)

    async def _keep_spent(self, claims: list[Claim], standing: Standings, now: float) -> None:
        if not claims:
            return
        # The place in the spool comes first: what is spent while counters are being read may be counted twice by a
        # start without the database, and is never forgotten.
        end = self._spool.end
        budgets: dict[str, tuple[float, int]] = {}
        beginnings = _Beginnings(now)
        for at in range(0, len(claims), _SLICE):
            if at:
                await asyncio.sleep(0)
            found = await standing(tuple(claims[at : at + _SLICE]))
            budgets.update((each.claim.counter, (beginnings.of(each.claim), each.spent)) for each in found)
        self._last = end
        kept = SpentSoFar(spool=self._spool.id, segment=end.segment, offset=end.offset, budgets=budgets)
        await asyncio.to_thread(_write, self._spent, kept)


class _Rest:
    """Stands for a ledger that carried everything up to a position."""

    def __init__(self, position: Position) -> None:
        self._position = position

    @asynccontextmanager
    async def at_rest(self) -> AsyncIterator[Position]:
        yield self._position


class _NothingStored(Events):
    """A ledger that nobody can ask."""

    def __init__(self) -> None:
        """There is no database."""

    async def spent_since(self, names: Names, since: str) -> list[Spent]:
        return []

    async def lately(self, names: Names, since: str, until: str, detail: int) -> list[Spent]:
        return []

    async def lately_by_hour(self, names: Names, since: str, until: str) -> list[Spent]:
        return []


def _budgets(ceilings: Iterable[Ceiling]) -> list[Claim]:
    claims = {each.claim.counter: each.claim for each in ceilings}
    return [claim for claim in claims.values() if claim.per and not claim.seconds]


class _Beginnings:
    """When claims' current periods began, in Unix seconds; most of them share a few."""

    def __init__(self, now: float) -> None:
        self._now = now
        self._known: dict[tuple[str, float, str, int, int], float] = {}

    def of(self, claim: Claim) -> float:
        name = (claim.per, claim.anchor, claim.zone, claim.first_day, claim.first_month)
        begun = self._known.get(name)
        if begun is None:
            begun, _ = period(claim.per, self._now, *name[1:])
            self._known[name] = begun
        return begun


def _read(path: Path, kind: type[Kind]) -> Kind | None:
    try:
        return msgspec.msgpack.decode(path.read_bytes(), type=kind)
    except FileNotFoundError:
        return None
    except (OSError, msgspec.MsgspecError) as error:
        _log.warning("%s is of no use: %s", path, error)
        return None


def _write(path: Path, value: Struct) -> None:
    """Whole or not at all. A disk that does not take it is no reason to stop: the file only helps at a start."""
    written = path.with_name(f"{path.name}.{os.getpid()}")
    try:
        descriptor = os.open(written, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(msgspec.msgpack.encode(value))
            file.flush()
            os.fsync(file.fileno())
        os.replace(written, path)
    except OSError as error:
        _log.warning("%s could not be written: %s", path, error)
        with suppress(OSError):
            written.unlink()
