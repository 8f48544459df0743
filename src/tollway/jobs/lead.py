"""Work that only one process may do at a time: whoever holds the lease of its name does it, the others wait their turn.

A leader that can no longer be sure of its lease is stopped before the lease ends, so that two never work at once. What
the work is, is not known here.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Awaitable, Callable

from tollway.shared.interface import Lease, Lock

log = logging.getLogger("tollway.jobs")

SECONDS = 15.0
"""How long a lease lasts, and so how long a dead leader's work rests at most before another takes it up."""


class LeaseLost(Exception):
    """Somebody else may do this work by now."""


class Lead:
    """``work`` goes on until it is cancelled; it gets ``sure``, to be called before a write: it raises LeaseLost when
    the lease is not surely held any more. ``leading`` tells whether this process does the work now."""

    def __init__(
        self,
        lock: Lock,
        name: str,
        work: Callable[[Callable[[], None]], Awaitable[None]],
        seconds: float = SECONDS,
    ) -> None:
        self.name = name
        self.leading = False
        self._lock = lock
        self._work = work
        self._seconds = seconds

    async def run(self) -> None:
        """Do the work whenever it is this process's turn, until cancelled. Raises what the work raises."""
        while True:
            lease = await self._lock.acquire(self.name, self._seconds)
            if lease is None:
                await asyncio.sleep(self._seconds / 5)
                continue
            try:
                await self._hold(lease)
            finally:
                self.leading = False
                await asyncio.shield(lease.release())

    async def _hold(self, lease: Lease) -> None:
        def sure() -> None:
            if not lease.held():
                raise LeaseLost(self.name)

        log.info("process %d does %s now (fence %d)", os.getpid(), self.name, lease.fence)
        self.leading = True
        work = asyncio.ensure_future(self._work(sure))
        surely = asyncio.get_running_loop().time() + self._seconds
        try:
            while True:
                done, _ = await asyncio.wait((work,), timeout=self._seconds / 5)
                if done:
                    break
                asked = asyncio.get_running_loop().time()
                if await lease.renew():
                    surely = asked + self._seconds
                # Not at the last moment: a write that is under way needs time to end.
                elif not lease.held() or asyncio.get_running_loop().time() > surely - self._seconds * 0.4:
                    log.warning("the lease of %s is lost; another process may do it", self.name)
                    break
        finally:
            work.cancel()
            await asyncio.gather(work, return_exceptions=True)
        if not work.cancelled() and (error := work.exception()) and not isinstance(error, LeaseLost):
            raise error
