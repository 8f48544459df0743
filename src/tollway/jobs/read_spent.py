"""What keys have spent, from the ledger and the spool together, so that budgets begin where they stand even while
the ledger lags behind. Reads only; what is held by running requests is not known here.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
from typing import Protocol

import msgspec
from msgspec import Struct

from tollway.errors import StoreUnavailable
from tollway.model.money import Money
from tollway.storage.repositories.events import Events
from tollway.storage.segments import Position
from tollway.storage.spool import Spool


class Since(Struct, frozen=True):
    """A key's spend since a time, ISO 8601 in UTC with milliseconds; None: ever."""

    key_id: str
    time: str | None = None


class _Spend(Struct):
    time: str
    cost_nano_usd: int
    key_id: str | None = None


class Resting(Protocol):
    """Whoever carries the spool's events into the ledger."""

    def at_rest(self) -> AbstractAsyncContextManager[Position]: ...


_decode = msgspec.json.Decoder(_Spend).decode


async def spent(
    wanted: Mapping[str, Since], ledger: Resting, spool: Spool, events: Events
) -> dict[str, Money]:
    """Nano-dollars by the same names as ``wanted``. Raises StoreUnavailable.

    Exact at the moment it returns: between the last look into the spool and the caller's next step nothing else
    runs. An attempt that failed at a cost within a request that is still running is in it already.
    """
    async with ledger.at_rest() as position:
        found = {name: await events.spent(each.key_id, each.time) for name, each in wanted.items()}
        of_key: dict[str, list[str]] = {}
        for name, each in wanted.items():
            of_key.setdefault(each.key_id, []).append(name)
        while True:
            try:
                records, position = spool.read(position)
            except OSError as error:
                raise StoreUnavailable(
                    f"The event spool {spool.directory} cannot be read: {error}."
                ) from error
            if not records:
                return found
            for record in records:
                try:
                    spend = _decode(record)
                except msgspec.MsgspecError:
                    continue  # no event: the ledger puts it aside
                for name in of_key.get(spend.key_id or "", ()):
                    start = wanted[name].time
                    if start is None or spend.time >= start:
                        found[name] += spend.cost_nano_usd
            # A long backlog is read beside the requests; only the last piece must be read in one step.
            await asyncio.sleep(0)
