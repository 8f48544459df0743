"""What the processes of one gateway have in common, in Redis where one is configured; else this process serves alone
and has it in memory."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING

import msgspec
from msgspec import Struct

from tollway.config.settings import RedisSettings
from tollway.pipeline.background_responses import name_of
from tollway.pipeline.client_secrets import Vault
from tollway.shared.interface import Claim, Crossing, Lock, PubSub
from tollway.shared.memory_bus import MemoryLock, MemoryPubSub
from tollway.storage.spool import Spool

if TYPE_CHECKING:  # the driver of Redis is an extra
    from tollway.shared.redis_counters import RedisCounters
    from tollway.shared.redis_link import RedisLink

CHANNEL = "changes"


class Notice(Struct, frozen=True, omit_defaults=True):
    """``what``: ``rows`` (keys or tenants in the database changed), ``file`` (read the configuration again),
    ``full`` (a deployment takes no requests for a while: ``id`` is the seconds and its id),
    ``object`` or ``response`` (the one with this ``id`` changed), ``cancel`` (whoever works at this response stops).
    ``by`` is the process that says it."""

    what: str
    by: str
    id: str = ""


class Elsewhere:
    """What the store of responses asks of the other processes."""

    def __init__(self, sharing: Sharing) -> None:
        self.works = sharing.works
        self.tell = sharing.tell_soon


class Sharing:
    """``lock`` and ``bus`` of this process. ``process`` names it among all."""

    def __init__(self, settings: RedisSettings | None) -> None:
        self.process = secrets.token_hex(8)
        self.many = settings is not None
        self._settings = settings
        self.bus: PubSub
        self.lock: Lock
        self._link: RedisLink | None = None
        self.vault: Vault | None = None
        self._counters: RedisCounters | None = None
        self._telling: set[asyncio.Task[None]] = set()
        if settings is None:
            self.bus, self.lock = MemoryPubSub(), MemoryLock()
            return
        from tollway.shared.redis_bus import RedisLock, RedisPubSub
        from tollway.shared.redis_link import RedisLink
        from tollway.shared.redis_vault import RedisVault

        self._link = RedisLink(
            settings.url.reveal(),
            prefix=settings.prefix,
            cluster=settings.cluster,
            connect=settings.connect_timeout,
            deadline=settings.timeout,
        )
        self.bus, self.lock = RedisPubSub(self._link), RedisLock(self._link)
        self.vault = RedisVault(self._link)

    def counters(
        self,
        seed: Callable[[Sequence[Claim]], Awaitable[Sequence[int]]],
        spool: Spool,
        crossed: Callable[[Crossing], None],
    ) -> RedisCounters:
        """Those of all processes, where Redis is configured. ``spool`` says what of it was reported."""
        from tollway.shared.redis_counters import RedisCounters

        assert self._settings is not None
        assert self._link is not None
        self._counters = RedisCounters(
            self._link,
            seed=seed,
            spool=spool.id,
            position=lambda: (spool.end.segment, spool.end.offset),
            crossed=crossed,
            beat=self._settings.heartbeat,
        )
        return self._counters

    async def start(self, heard: Callable[[Notice], None], missed: Callable[[], None]) -> None:
        """``heard`` gets what other processes say, ``missed`` is called when something may have been said unheard."""

        def hear(payload: bytes) -> None:
            try:
                notice = msgspec.json.decode(payload, type=Notice)
            except msgspec.MsgspecError:
                return  # of another version; what it is about is looked up every so often anyway
            if notice.by != self.process:
                heard(notice)

        self.bus.subscribe(CHANNEL, hear, missed)
        await self.bus.start()

    async def tell(self, what: str, id: str = "") -> None:
        """To the other processes; lost while Redis is away, and then they find out by looking."""
        if self.many:
            await self.bus.publish(CHANNEL, msgspec.json.encode(Notice(what, self.process, id)))

    async def works(self, id: str) -> bool:
        """Whether a process works at this response, or that cannot be told while Redis is away."""
        lease = await self.lock.acquire(name_of(id), 1.0)
        if lease is not None:
            await lease.release()
        return lease is None

    def tell_soon(self, what: str, id: str = "") -> None:
        """The same as ``tell``, for those who cannot wait."""
        if self.many:
            task = asyncio.get_running_loop().create_task(self.tell(what, id))
            self._telling.add(task)
            task.add_done_callback(self._telling.discard)

    async def close(self) -> None:
        await self.bus.close()
        if self._link is not None:
            await self._link.close()

    @property
    def degraded(self) -> str | None:
        away = self._link is not None and self._link.away
        if not away and (self._counters is None or not self._counters.away):
            return None
        return "Redis does not answer. What this process holds of budgets and limits is spent first."
