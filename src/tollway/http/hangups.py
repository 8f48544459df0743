"""Notices that a client has left while nothing is read from it: a transport whose reading is paused does not say so.

Asks the kernel every so often, and only while there is such a connection.
"""

from __future__ import annotations

import asyncio
import select

EVERY = 0.02
"""Seconds between two looks, so that a provider is let go of within 50 ms of the client's leaving."""

# Where the system has no POLLRDHUP (it is Linux's) it reports POLLHUP, which needs no asking.
_GONE = getattr(select, "POLLRDHUP", 0)


class Hangups:
    """Aborts a watched transport whose other end has closed. Of one loop's thread."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._poll = select.poll()
        self._watched: dict[int, asyncio.Transport] = {}
        self._timer: asyncio.TimerHandle | None = None

    def watch(self, transport: asyncio.Transport) -> None:
        descriptor = _descriptor(transport)
        if descriptor >= 0:
            self._watched[descriptor] = transport
            self._poll.register(descriptor, _GONE)
            if self._timer is None:
                self._timer = self._loop.call_later(EVERY, self._look)

    def forget(self, transport: asyncio.Transport) -> None:
        """Whether or not it is watched. Needed before its descriptor is closed."""
        if not self._watched:
            return
        for descriptor, watched in self._watched.items():
            if watched is transport:
                del self._watched[descriptor]
                self._poll.unregister(descriptor)
                return

    def _look(self) -> None:
        for descriptor, _ in self._poll.poll(0):
            self._poll.unregister(descriptor)
            self._watched.pop(descriptor).abort()
        self._timer = self._loop.call_later(EVERY, self._look) if self._watched else None


def _descriptor(transport: asyncio.Transport) -> int:
    sock = transport.get_extra_info("socket")
    return -1 if sock is None else int(sock.fileno())
