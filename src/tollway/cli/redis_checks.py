"""What ``doctor`` asks of Redis: whether it answers soon enough, is new enough, keeps what it is given and runs
scripts. Changes nothing."""

from __future__ import annotations

import statistics
import time
from typing import TYPE_CHECKING

from tollway.cli.checks import Finding
from tollway.config.settings import RedisSettings, Settings

if TYPE_CHECKING:
    from redis import Redis

OLDEST = (6, 2)
SLOW = 0.005
"""Seconds of a round trip that make leases too slow to be had beside a request."""


def redis(settings: Settings) -> list[Finding]:
    """Nothing where none is configured."""
    if settings.redis is None:
        return []
    try:
        import redis as driver
    except ImportError:
        return [_failed("the driver is not installed", "pip install 'tollway[redis]'")]
    place = settings.redis.url.reveal().partition("://")[2].rpartition("@")[2]
    client = driver.Redis.from_url(
        settings.redis.url.reveal(),
        socket_connect_timeout=max(settings.redis.connect_timeout, 2.0),
        socket_timeout=max(settings.redis.timeout, 2.0),
    )
    try:
        return [_answers(client, place, settings.redis), *_fits(client, settings.redis)]
    except (driver.RedisError, OSError) as error:
        reason = str(error).replace(settings.redis.url.reveal(), place)
        return [
            _failed(f"{place}: {reason}", "check the address, the user and the password, and the network")
        ]
    finally:
        client.close()


def _answers(client: Redis, place: str, settings: RedisSettings) -> Finding:
    took = []
    for _ in range(11):
        begun = time.perf_counter()
        client.ping()
        took.append(time.perf_counter() - begun)
    usual = statistics.median(took[1:])
    found = f"{place} answers in {usual * 1000:.1f} ms"
    if usual > settings.timeout:
        return _failed(found, f"it may take redis.timeout, {settings.timeout * 1000:.0f} ms: move it closer")
    if usual > SLOW:
        return Finding(check="redis", state="warn", found=found, advice="put it beside the gateway")
    return Finding(check="redis", state="ok", found=found)


def _fits(client: Redis, settings: RedisSettings) -> list[Finding]:
    told: dict[str, object] = client.info()
    problems: list[Finding] = []
    version = str(told.get("valkey_version") or told.get("redis_version") or "0")
    numbers = tuple(int(part) for part in version.split(".")[:2] if part.isdigit())
    if numbers < OLDEST:
        problems.append(_failed(f"version {version}", "6.2 or newer is needed (any Valkey is)"))
    policy = str(told.get("maxmemory_policy", "noeviction"))
    if policy != "noeviction":
        advice = "set maxmemory-policy noeviction: counters that are thrown away begin anew"
        problems.append(_failed(f"maxmemory-policy is {policy}", advice))
    if str(told.get("redis_mode", "standalone")) == "cluster" and not settings.cluster:
        problems.append(_failed("this is a cluster", "set redis: {url: …, cluster: true}"))
    if str(told.get("role", "master")) != "master":
        problems.append(_failed("this is a replica", "give the address of the primary"))
    if client.eval("return 1", 0) != 1:
        problems.append(_failed("scripts are not run", "allow this user EVAL and EVALSHA"))
    return problems


def _failed(found: str, advice: str) -> Finding:
    return Finding(check="redis", state="fail", found=found, advice=advice)
