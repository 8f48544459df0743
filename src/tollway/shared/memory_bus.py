"""Notices and locks of one process: the same contracts as between many, without a server."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

Subscriber = tuple[Callable[[bytes], None], Callable[[], None] | None]


class MemoryPubSub:
    """See ``shared.interface.PubSub``. Nothing is ever missed here after listening began."""

    def __init__(self) -> None:
        self._subscribers: dict[str, list[Subscriber]] = {}
        self._listening = False

    async def start(self) -> None:
        if self._listening:
            return
        self._listening = True
        for subscribers in self._subscribers.values():
            for _, missed in subscribers:
                _tell(missed)

    async def close(self) -> None:
        self._listening = False

    async def publish(self, channel: str, payload: bytes) -> bool:
        if self._listening:
            loop = asyncio.get_running_loop()
            for callback, _ in tuple(self._subscribers.get(channel, ())):
                loop.call_soon(callback, payload)
        return self._listening

    def subscribe(
        self, channel: str, callback: Callable[[bytes], None], missed: Callable[[], None] | None = None
    ) -> Callable[[], None]:
        subscriber = (callback, missed)
        self._subscribers.setdefault(channel, []).append(subscriber)
        if self._listening:
            _tell(missed)

        def end() -> None:
            subscribers = self._subscribers.get(channel, [])
            if subscriber in subscribers:
                subscribers.remove(subscriber)

        return end


def _tell(missed: Callable[[], None] | None) -> None:
    if missed is not None:
        asyncio.get_running_loop().call_soon(missed)


class MemoryLease:
    """See ``shared.interface.Lease``."""

    def __init__(self, lock: MemoryLock, name: str, fence: int, seconds: float, until: float) -> None:
        self.name = name
        self.fence = fence
        self._lock = lock
        self._seconds = seconds
        self.until = until

    def held(self) -> bool:
        return self._lock.holder(self.name) is self and self._lock.clock() < self.until

    async def renew(self) -> bool:
        if not self.held():
            return False
        self.until = self._lock.clock() + self._seconds
        return True

    async def release(self) -> None:
        self._lock.let_go(self)


class MemoryLock:
    """See ``shared.interface.Lock``. ``clock`` gives monotonic seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.clock = clock
        self._holders: dict[str, MemoryLease] = {}
        self._fence = 0

    async def acquire(self, name: str, seconds: float) -> MemoryLease | None:
        holder = self._holders.get(name)
        if holder is not None and holder.held():
            return None
        self._fence += 1
        lease = MemoryLease(self, name, self._fence, seconds, self.clock() + seconds)
        self._holders[name] = lease
        return lease

    def holder(self, name: str) -> MemoryLease | None:
        return self._holders.get(name)

    def let_go(self, lease: MemoryLease) -> None:
        if self._holders.get(lease.name) is lease:
            del self._holders[lease.name]
