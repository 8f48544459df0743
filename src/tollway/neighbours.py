"""Refuses a start that could not be exact: two gateways on one database hold its budgets and limits only if they share
their counters. Each process keeps a row that beats, so a dead one's is told from a living one's without comparing
clocks."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Iterable
from hashlib import sha256

from tollway.config.settings import RedisSettings
from tollway.errors import ConfigError, StoreUnavailable
from tollway.storage.repositories.processes import Neighbour, Processes

log = logging.getLogger("tollway")

BEAT = 2.0
DEAD = 3 * BEAT
"""Seconds without a beat after which a process is taken for dead: what a start waits beside the row of another."""


class Neighbours:
    """``process`` and ``place`` are the ids of this process and of its data directory. The processes of one data
    directory are told apart by their locks and need no row to know of each other."""

    def __init__(self, rows: Processes, process: str, place: str, redis: RedisSettings | None) -> None:
        self._rows = rows
        self._own = Neighbour(id=process, place=place, host=socket.gethostname(), sharing=fingerprint(redis))

    async def admit(self) -> None:
        """Raises ConfigError when another process that lives does not share with this one, StoreUnavailable."""
        strangers = self._strangers(await self._rows.all())
        if strangers:
            log.warning("another gateway is noted on this database; %g s tell whether it lives", DEAD)
            await asyncio.sleep(DEAD)
            later = {one.id: one.beats for one in self._strangers(await self._rows.all())}
            for one in strangers:
                if later.get(one.id, one.beats) != one.beats:
                    raise ConfigError([self._refusal(one)])
            await self._rows.forget([one.id for one in strangers])
        predecessors = [one.id for one in await self._rows.all() if one.place == self._own.place]
        if self._own.sharing == "" and predecessors:
            await self._rows.forget(predecessors)
        await self._rows.beat(self._own)

    async def run(self) -> None:
        """Say that this process lives, until cancelled; forget others that died."""
        last: dict[str, int] = {}
        turns = 0
        while True:
            await asyncio.sleep(BEAT)
            turns += 1
            try:
                await self._rows.beat(self._own)
                if turns % 30 == 0:
                    rows = await self._rows.all()
                    dead = [
                        one.id for one in rows if last.get(one.id) == one.beats and one.id != self._own.id
                    ]
                    if dead:
                        await self._rows.forget(dead)
                    last = {one.id: one.beats for one in rows}
            except StoreUnavailable:
                continue  # readiness says so already

    async def leave(self) -> None:
        try:
            await self._rows.forget([self._own.id])
        except StoreUnavailable as error:
            log.warning("this process stays noted on the database: %s", error.message)

    def _strangers(self, rows: Iterable[Neighbour]) -> list[Neighbour]:
        own = self._own
        return [
            one for one in rows if one.place != own.place and (one.sharing != own.sharing or not own.sharing)
        ]

    def _refusal(self, one: Neighbour) -> str:
        if not self._own.sharing and not one.sharing:
            what = "neither has redis:, so each would give out every budget and limit for itself"
        elif self._own.sharing and one.sharing:
            what = "the two have different redis: settings, so each would give out every budget for itself"
        else:
            who = "this one has" if self._own.sharing else "the other has"
            what = f"only {who} redis:, so each would give out every budget and limit for itself"
        return (
            f"Another gateway, on host {one.host}, serves from this database, and {what}. Give both the same redis:, "
            "or stop the other one."
        )


def fingerprint(redis: RedisSettings | None) -> str:
    """The same for processes that share; says nothing of the password."""
    if redis is None:
        return ""
    place = redis.url.reveal().partition("://")[2].rpartition("@")[2]
    return sha256(f"{place}\0{redis.prefix}".encode()).hexdigest()[:16]
