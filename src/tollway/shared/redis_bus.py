"""Notices and locks between processes, over Redis or Valkey."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from tollway.shared.redis_link import RedisAway, RedisLink, Script

if TYPE_CHECKING:
    from redis.asyncio.client import PubSub as Subscription

log = logging.getLogger("tollway.redis")

Subscriber = tuple[Callable[[bytes], None], Callable[[], None] | None]

SILENCE = 6.0
"""Seconds without a sign of life after which a connection counts as dead: it is pinged every second."""

_ACQUIRE = Script("""
if not redis.call('SET', KEYS[1], ARGV[1], 'NX', 'PX', ARGV[2]) then return 0 end
local now = redis.call('TIME')
local fence = now[1] * 1000000 + now[2]
local before = tonumber(redis.call('GET', KEYS[2]) or '0')
if fence <= before then fence = before + 1 end
redis.call('SET', KEYS[2], string.format('%.0f', fence))
return fence
""")
"""The fence is the server's clock in microseconds, or one more than the last: it grows even when the data is lost."""

_RENEW = Script("""
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
return redis.call('PEXPIRE', KEYS[1], ARGV[2])
""")

_RELEASE = Script("""
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
return redis.call('DEL', KEYS[1])
""")


class RedisPubSub:
    """See ``shared.interface.PubSub``. The link is the caller's to close. Channels get the link's prefix, unless
    they are not ``named`` but written as they are."""

    def __init__(self, link: RedisLink, *, named: bool = True) -> None:
        self._link = link
        self._prefix = f"{link.prefix}:" if named else ""
        self._subscribers: dict[str, list[Subscriber]] = {}
        self._live: set[str] = set()
        self._subscription: Subscription | None = None
        self._task: asyncio.Task[None] | None = None
        self._joining: set[asyncio.Task[None]] = set()
        self._wake = asyncio.Event()
        self._closed = False

    async def start(self) -> None:
        if self._task is None:
            self._task = asyncio.create_task(self._listen(), name="notices")

    async def close(self) -> None:
        tasks = [*self._joining, *([self._task] if self._task is not None else [])]
        self._task = None
        self._closed = True  # a cancelled driver call may forget that it was cancelled
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def publish(self, channel: str, payload: bytes) -> bool:
        try:
            await self._link.command("PUBLISH", self._name(channel), payload)
        except RedisAway:
            return False
        return True

    def subscribe(
        self, channel: str, callback: Callable[[bytes], None], missed: Callable[[], None] | None = None
    ) -> Callable[[], None]:
        subscriber = (callback, missed)
        self._subscribers.setdefault(channel, []).append(subscriber)
        name = self._name(channel)
        if name in self._live:
            if missed is not None:
                asyncio.get_running_loop().call_soon(missed)
        elif self._subscription is not None:
            self._join(self._subscription, name)
        self._wake.set()

        def end() -> None:
            subscribers = self._subscribers.get(channel, [])
            if subscriber in subscribers:
                subscribers.remove(subscriber)

        return end

    def _name(self, channel: str) -> str:
        return self._prefix + channel

    def _join(self, subscription: Subscription, name: str) -> None:
        async def join() -> None:
            with contextlib.suppress(*_failures()):  # the listener meets the same failure and begins anew
                await subscription.subscribe(name)

        task = asyncio.create_task(join())
        self._joining.add(task)
        task.add_done_callback(self._joining.discard)

    async def _listen(self) -> None:
        failures = _failures()
        pause = 0.05
        while not self._closed:
            while not self._subscribers:
                self._wake.clear()
                await self._wake.wait()
            subscription = self._link.listener.pubsub()
            try:
                async with asyncio.timeout(5):
                    await subscription.subscribe(*(self._name(channel) for channel in self._subscribers))
                self._subscription = subscription
                pause = 0.05
                await self._hear(subscription)
            except failures as error:
                log.info("notices are not heard: %s", error or type(error).__name__)
            finally:
                self._subscription = None
                self._live.clear()
                with contextlib.suppress(*failures):
                    await subscription.aclose()  # type: ignore[no-untyped-call]
            await asyncio.sleep(pause)
            pause = min(pause * 2, 1.0)

    async def _hear(self, subscription: Subscription) -> None:
        heard = time.monotonic()
        while not self._closed:
            message = await subscription.get_message(timeout=1.0)
            if message is None:
                if time.monotonic() - heard > SILENCE:
                    raise TimeoutError("no sign of life")
                await subscription.ping()
                continue
            heard = time.monotonic()
            if message["type"] not in ("subscribe", "message"):
                continue
            name = bytes(message["channel"]).decode()
            channel = name.removeprefix(self._prefix)
            loop = asyncio.get_running_loop()
            for callback, missed in tuple(self._subscribers.get(channel, ())):
                if message["type"] == "message":
                    loop.call_soon(callback, bytes(message["data"]))
                elif missed is not None:
                    loop.call_soon(missed)
            if message["type"] == "subscribe":
                self._live.add(name)


def _failures() -> tuple[type[Exception], ...]:
    from redis.exceptions import RedisError

    return (RedisError, OSError, TimeoutError)


class RedisLease:
    """See ``shared.interface.Lease``. Its own clock starts before the store was asked, so it never outlives the
    store's."""

    def __init__(
        self, link: RedisLink, name: str, fence: int, token: str, seconds: float, until: float
    ) -> None:
        self.name = name
        self.fence = fence
        self._link = link
        self._token = token
        self._seconds = seconds
        self._until = until

    def held(self) -> bool:
        return time.monotonic() < self._until

    async def renew(self) -> bool:
        if not self.held():
            return False
        asked = time.monotonic()
        try:
            kept = await self._link.run(_RENEW, self._keys(), (self._token, _milliseconds(self._seconds)))
        except RedisAway:
            return False
        self._until = asked + self._seconds if kept else 0.0
        return bool(kept)

    async def release(self) -> None:
        self._until = 0.0
        with contextlib.suppress(RedisAway):  # it ends by itself
            await self._link.run(_RELEASE, self._keys(), (self._token,))

    def _keys(self) -> list[str]:
        return [self._link.key(f"lock:{self.name}")]


class RedisLock:
    """See ``shared.interface.Lock``. Exact while Redis keeps its data; after a loss two may hold a name until the
    first one's time is over, and the ``fence`` tells them apart."""

    def __init__(self, link: RedisLink) -> None:
        self._link = link

    async def acquire(self, name: str, seconds: float) -> RedisLease | None:
        token = secrets.token_hex(16)
        asked = time.monotonic()
        keys = [self._link.key(f"lock:{name}"), self._link.key(f"fence:{name}")]
        try:
            fence = await self._link.run(_ACQUIRE, keys, (token, _milliseconds(seconds)))
        except RedisAway:
            return None
        if not isinstance(fence, int) or not fence:
            return None
        return RedisLease(self._link, name, fence, token, seconds, asked + seconds)


def _milliseconds(seconds: float) -> int:
    return max(int(seconds * 1000), 1)
