from __future__ import annotations

import json
import subprocess
from collections.abc import Callable

from redis_server import RedisServer
from running import free_port

Run = Callable[..., subprocess.CompletedProcess[str]]


def told(done: subprocess.CompletedProcess[str]) -> list[tuple[str, str]]:
    return [(one["state"], one["found"]) for one in json.loads(done.stdout) if one["check"] == "redis"]


def test_nothing_is_said_where_none_is_configured(tollway: Run) -> None:
    assert told(tollway("doctor", "--offline", "--json")) == []


def test_one_that_fits(tollway: Run, redis: RedisServer) -> None:
    ((state, found),) = told(tollway("doctor", "--offline", "--json", TOLLWAY_REDIS_URL=redis.url))
    assert state in ("ok", "warn")  # a busy machine answers late
    assert found.startswith(f"127.0.0.1:{redis.port}/0 answers in ")


def test_one_that_is_not_there_fails_without_its_password(tollway: Run) -> None:
    url = f"redis://me:hunter2hunter2@127.0.0.1:{free_port()}/0"
    done = tollway("doctor", "--offline", "--json", TOLLWAY_REDIS_URL=url)
    assert done.returncode == 1
    ((state, found),) = told(done)
    assert state == "fail"
    assert found.startswith("127.0.0.1:")
    assert "hunter2" not in done.stdout + done.stderr


def test_one_that_throws_counters_away_fails(tollway: Run) -> None:
    with RedisServer("--maxmemory", "50mb", "--maxmemory-policy", "allkeys-lru") as server:
        done = tollway("doctor", "--offline", "--json", TOLLWAY_REDIS_URL=server.url)
    assert done.returncode == 1
    assert ("fail", "maxmemory-policy is allkeys-lru") in told(done)


def test_a_replica_and_a_user_who_may_run_no_scripts_fail(tollway: Run, redis: RedisServer) -> None:
    with RedisServer("--replicaof", "127.0.0.1", str(redis.port)) as server:
        assert ("fail", "this is a replica") in told(
            tollway("doctor", "--offline", "--json", TOLLWAY_REDIS_URL=server.url)
        )
    with RedisServer("--rename-command", "EVAL", "") as server:
        done = tollway("doctor", "--offline", "--json", TOLLWAY_REDIS_URL=server.url)
    assert [state for state, _ in told(done)] == ["fail"]
