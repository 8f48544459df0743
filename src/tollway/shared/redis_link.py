"""The one way to Redis or Valkey: every call has a deadline, and after a failure nobody waits again for a second.

All keys carry the same hash tag, so every script finds its keys on one shard of a cluster. It knows no counters.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, cast

from tollway.errors import ConfigError, StoreUnavailable

if TYPE_CHECKING:
    from redis.asyncio import Redis

try:
    from redis.asyncio import Redis as _Redis
    from redis.asyncio.cluster import RedisCluster as _RedisCluster
    from redis.asyncio.retry import Retry
    from redis.backoff import NoBackoff
    from redis.exceptions import NoScriptError, RedisError
except ImportError:  # the extra `redis` is not installed; RedisLink says so
    _Redis = None  # type: ignore[assignment,misc]

log = logging.getLogger("tollway.redis")

Argument = str | bytes | int | float
Reply = None | int | bytes | list["Reply"]


class RedisAway(StoreUnavailable):
    """Redis did not answer in time, or answered that it cannot."""


class Script:
    """A Lua script, called by its hash. The text is sent only where the server does not know it."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.hash = hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()


class RedisLink:
    """Connections to one Redis, Valkey or cluster. ``url`` is ``redis://``, ``rediss://`` or ``unix://``.

    ``connect`` and ``deadline`` are seconds; ``pause`` is how long a failed Redis is left alone. Raises ConfigError
    when the driver is not installed, RedisAway from every call that got no answer.
    """

    def __init__(
        self,
        url: str,
        *,
        prefix: str = "tollway",
        cluster: bool = False,
        connect: float = 0.25,
        deadline: float = 0.25,
        pause: float = 1.0,
    ) -> None:
        if _Redis is None:
            raise ConfigError(["Redis needs its driver: pip install 'tollway[redis]'"])
        self.prefix = prefix
        self.deadline = deadline
        self.failures = 0
        self._connect = connect
        self.pause = pause
        self._shut_until = 0.0
        retry = Retry(NoBackoff(), 0)
        if cluster:
            self._client = cast(
                "Redis",
                _RedisCluster.from_url(
                    url,
                    socket_timeout=deadline,
                    socket_connect_timeout=connect,
                    retry=Retry(NoBackoff(), 3),
                ),
            )
            self._listener = _Redis.from_url(
                url, socket_timeout=None, socket_connect_timeout=connect, retry=retry
            )
        else:
            self._client = _Redis.from_url(
                url, socket_timeout=deadline, socket_connect_timeout=connect, retry=retry
            )
            self._listener = _Redis.from_url(
                url, socket_timeout=None, socket_connect_timeout=connect, retry=retry
            )

    @property
    def away(self) -> bool:
        """Whether the last call failed and the next one would not be tried yet."""
        return time.monotonic() < self._shut_until

    @property
    def listener(self) -> Redis:
        """A client for subscriptions: notices cross a whole cluster, so any of its servers will do."""
        return self._listener

    def key(self, name: str) -> str:
        return f"{{{self.prefix}}}:{name}"

    async def run(
        self, script: Script, keys: Sequence[str], arguments: Sequence[Argument], *, patient: bool = False
    ) -> Reply:
        """The script's reply. ``patient`` tries though Redis failed less than ``pause`` ago."""
        try:
            return await self._call("EVALSHA", script.hash, len(keys), *keys, *arguments, patient=patient)
        except NoScriptError:
            return await self._call("EVAL", script.text, len(keys), *keys, *arguments, patient=patient)

    async def command(self, *words: Argument, patient: bool = False) -> Reply:
        try:
            return await self._call(*words, patient=patient)
        except NoScriptError as error:  # only EVALSHA is answered so
            raise RedisAway(f"Redis refused {words[0]!s}: {error}") from error

    async def close(self) -> None:
        for client in (self._client, self._listener):
            try:
                await client.aclose()  # type: ignore[attr-defined,unused-ignore]
            except (RedisError, OSError):
                pass

    async def _call(self, *words: Argument, patient: bool) -> Reply:
        if not patient and time.monotonic() < self._shut_until:
            raise RedisAway("Redis did not answer a moment ago; it is tried again soon")
        try:
            async with asyncio.timeout(self._connect + self.deadline):
                reply = await self._client.execute_command(*words)  # type: ignore[no-untyped-call]
        except NoScriptError:
            raise
        except (RedisError, OSError, TimeoutError) as error:
            self.failures += 1
            if self._shut_until == 0.0:
                log.warning("Redis is away: %s", error or type(error).__name__)
            self._shut_until = time.monotonic() + self.pause
            raise RedisAway(f"Redis is away: {error or type(error).__name__}") from error
        if self._shut_until:
            log.warning("Redis is back")
            self._shut_until = 0.0
        return cast("Reply", reply)
