"""Small values that every process may ask for until they end, in Redis or Valkey."""

from __future__ import annotations

from tollway.shared.redis_link import RedisAway, RedisLink


class RedisVault:
    """What is kept is the caller's to seal."""

    def __init__(self, link: RedisLink) -> None:
        self._link = link

    async def put(self, name: str, value: bytes, seconds: float) -> bool:
        """False: Redis is away."""
        try:
            milliseconds = max(int(seconds * 1000), 1)
            await self._link.command("SET", self._link.key(f"vault:{name}"), value, "PX", milliseconds)
        except RedisAway:
            return False
        return True

    async def get(self, name: str) -> bytes | None:
        """None also when Redis is away."""
        try:
            found = await self._link.command("GET", self._link.key(f"vault:{name}"))
        except RedisAway:
            return None
        return found if isinstance(found, bytes) else None
