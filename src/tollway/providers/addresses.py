"""Names to addresses, cached for a short while: one look-up at a time for each name, both IP families."""

from __future__ import annotations

import asyncio
import socket
from collections import OrderedDict

TTL = 30.0
SIZE = 1024


class Addresses:
    """A DNS cache. ``lookup`` interleaves IPv6 and IPv4 (RFC 8305 section 4); OSError when a name is unknown."""

    def __init__(self) -> None:
        self._known: OrderedDict[tuple[str, int], tuple[float, list[str]]] = OrderedDict()
        self._asking: dict[tuple[str, int], asyncio.Task[list[str]]] = {}

    async def lookup(self, host: str, port: int) -> list[str]:
        key = (host, port)
        loop = asyncio.get_running_loop()
        known = self._known.get(key)
        if known is not None and known[0] > loop.time():
            return known[1]
        task = self._asking.get(key)
        if task is None:
            task = loop.create_task(self._ask(key))
            task.add_done_callback(_seen)
            self._asking[key] = task
        return await asyncio.shield(task)  # one caller leaving must not fail the others

    async def _ask(self, key: tuple[str, int]) -> list[str]:
        loop = asyncio.get_running_loop()
        try:
            found = await loop.getaddrinfo(*key, type=socket.SOCK_STREAM)
        finally:
            self._asking.pop(key, None)
        six = [str(info[4][0]) for info in found if info[0] == socket.AF_INET6]
        four = [str(info[4][0]) for info in found if info[0] == socket.AF_INET]
        addresses = [a for pair in zip(six, four, strict=False) for a in pair]
        shorter = min(len(six), len(four))
        addresses += six[shorter:] + four[shorter:]
        addresses = list(dict.fromkeys(addresses))
        if not addresses:
            raise OSError(f"no address for {key[0]}")
        self._known[key] = (loop.time() + TTL, addresses)
        self._known.move_to_end(key)
        if len(self._known) > SIZE:
            self._known.popitem(last=False)
        return addresses

    def forget(self, host: str, port: int) -> None:
        """Drop an entry none of whose addresses answered."""
        self._known.pop((host, port), None)


def _seen(task: asyncio.Task[list[str]]) -> None:
    """A look-up that failed after all who asked had left is nobody's error."""
    if not task.cancelled():
        task.exception()
