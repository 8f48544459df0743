"""Laws of budgets, slots and windows under real concurrency: several processes, two hundred clients, requests that are
abandoned at any moment, processes that are killed. What must hold is worked out afterwards from what each wrote down.
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
import time
from bisect import bisect_left, bisect_right
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

import msgspec
import pytest

from redis_server import RedisServer
from running import until
from tollway.shared.interface import Claim
from tollway.shared.periods import period

PROGRAM = Path(__file__).parent / "hammering_process.py"
CLIENTS = 200
BEAT, GRACE = 3.0, 3.0

SLOW = [pytest.param(n, seed, marks=pytest.mark.slow) for seed in range(4, 24) for n in (1, 2, 8)]


@dataclass
class Log:
    """``admitted``: name → (asked, granted, held); ``ended``: name → (ended, used, by the counters' clock); ``left``:
    (asked, left, held) of those who did not wait for the answer."""

    admitted: dict[str, tuple[float, float, int]] = field(default_factory=dict)
    ended: dict[str, tuple[float, int, float]] = field(default_factory=dict)
    refused: list[tuple[float, float, int, str]] = field(default_factory=list)
    left: list[tuple[float, float, int]] = field(default_factory=list)
    recovered: list[float] = field(default_factory=list)

    def read(self, files: Iterable[Path]) -> None:
        for file in files:
            for line in file.read_text().splitlines():
                match line.split():
                    case ["g", name, asked, granted, held]:
                        self.admitted[name] = (float(asked), float(granted), int(held))
                    case ["e", name, ended, used, at]:
                        self.ended[name] = (float(ended), int(used), float(at))
                    case ["r", asked, refused, needed, limit]:
                        self.refused.append((float(asked), float(refused), int(needed), limit))
                    case ["x", asked, left, held]:
                        self.left.append((float(asked), float(left), int(held)))
                    case ["a", at]:
                        self.recovered.append(float(at))


@dataclass
class Run:
    log: Log
    killed: list[float]
    offset: float
    url: str
    prefix: str


async def hammer(
    redis: RedisServer, folder: Path, claims: tuple[Claim, ...], *, processes: int, seed: int, seconds: float,
    kills: int, offset: float = 0.0, hold: tuple[int, int] = (100, 1000), work: float = 0.03,
) -> Run:  # fmt: skip
    prefix = uuid4().hex
    stop = folder / "stop"
    (folder / "logs").mkdir()
    chance = random.Random(seed)
    base: dict[str, Any] = {
        "url": redis.url, "prefix": prefix, "claims": [msgspec.to_builtins(claim) for claim in claims],
        "clients": CLIENTS // processes, "stop": str(stop), "beat": BEAT, "grace": GRACE, "offset": offset,
        "hold": hold, "work": work, "successor": False,
    }  # fmt: skip

    async def start(number: int, **more: Any) -> asyncio.subprocess.Process:
        plan = {
            **base, "spool": f"w{number}", "log": str(logs[number]), "seed": chance.random(), **more,
        }  # fmt: skip
        return await asyncio.create_subprocess_exec(
            sys.executable, str(PROGRAM), json.dumps(plan), stderr=asyncio.subprocess.PIPE
        )

    logs = [folder / "logs" / f"w{number}" for number in range(processes)]
    running = [await start(number) for number in range(processes)]
    killed: list[float] = []
    try:
        for _ in range(kills):
            await until(lambda: all(log.exists() and log.stat().st_size > 4000 for log in logs), 60)
            await asyncio.sleep(chance.uniform(0.1, 0.6))
            number = chance.randrange(processes)
            running[number].kill()
            killed.append(time.monotonic())
            await running[number].wait()
            running[number] = await start(number, successor=True)
        await until(lambda: all(log.exists() and log.stat().st_size > 4000 for log in logs), 60)
        await asyncio.sleep(seconds)
        stop.touch()
        for process in running:
            _, complaints = await asyncio.wait_for(process.communicate(), 90)
            assert process.returncode == 0, complaints.decode()
    finally:
        for process in running:
            if process.returncode is None:
                process.kill()
                await process.wait()
    log = Log()
    log.read(sorted((folder / "logs").iterdir()))
    return Run(log, killed, offset, redis.url, prefix)


def moments(log: Log, *, count: bool, resets: float | None, gone: float) -> tuple[list[float], list[int]]:
    """How much was taken (spent and held) after each moment. A hold begins when it was asked for, to be on the safe
    side; one whose process was killed lasts until ``gone``. ``resets`` is when what is spent begins at zero again."""
    changes: list[tuple[float, int]] = []
    spent_before = 0
    for name, (asked, _, held) in log.admitted.items():
        amount = 1 if count else held
        ended, used, _ = log.ended.get(name, (gone, 0, 0.0))
        changes.append((asked, amount))
        changes.append((ended, -amount if count else used - amount))
        if resets is not None and ended < resets and not count:
            spent_before += used
    for asked, left, held in log.left:  # it may have been admitted for a moment
        changes += [(asked, 1 if count else held), (left, -1 if count else -held)]
    if resets is not None:
        changes.append((resets, -spent_before))
    changes.sort()
    times, taken = [], []
    total = 0
    for at, change in changes:
        total += change
        times.append(at)
        taken.append(total)
    return times, taken


def wrongly_refused(
    run: Run, times: list[float], taken: list[int], limit: int, label: str, *, count: bool
) -> list[str]:
    """Refusals during all of which there was room. Not judged: while a killed process's leases were nobody's, and just
    before, when it had been given something and did not live to write it down."""
    wrong = []
    for asked, refused, needed, which in run.log.refused:
        if which != label:
            continue
        if any(
            kill - 0.3 <= refused and asked <= back + 0.5
            for kill, back in zip(run.killed, run.log.recovered, strict=True)
        ):
            continue
        first, last = bisect_left(times, asked) - 1, bisect_right(times, refused)
        most = max(taken[max(first, 0) : last], default=0)
        if limit - most >= (1 if count else needed):
            wrong.append(f"{label}: {limit - most} was free for {needed} during {refused - asked:.4f} s")
    return wrong


def budget(limit: int, per: str, label: str) -> Claim:
    return Claim(
        counter=f"team:t:usd:{per}", unit="nano_usd", limit=limit, label=label, subject="team t", per=per,
        strict=True,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("processes", "seed"), [*((n, seed) for seed in (1, 2, 3) for n in (1, 2, 8)), *SLOW]
)
async def test_budgets_and_slots_hold(redis: RedisServer, tmp_path: Path, processes: int, seed: int) -> None:
    slots = Claim(counter="team:t:parallel", unit="parallel", limit=120, label="slots", subject="team t")
    total, day = budget(1_500_000, "total", "total"), budget(700_000, "day", "day")
    # By the counters' clock, midnight comes in the middle.
    now = time.time()
    midnight = period("day", now)[1]
    assert midnight is not None
    offset = midnight - now - (1.5 if processes < 8 else 3.5)
    run = await hammer(
        redis,
        tmp_path,
        (slots, total, day),
        processes=processes,
        seed=seed,
        seconds=0.6,
        kills=1,
        offset=offset,
    )
    log = run.log
    assert len(log.ended) > 100
    assert len(run.killed) == len(log.recovered) == 1
    # Strict: nothing was overshot, in no period.
    assert sum(used for _, used, _ in log.ended.values()) <= total.limit
    for begun, over in ((0.0, midnight), (midnight, midnight + 86400)):
        assert sum(used for _, used, at in log.ended.values() if begun <= at < over - 0.001) <= day.limit
    gone = log.recovered[0]
    resets = midnight - offset - time.time() + time.monotonic()
    wrong: list[str] = []
    for claim, count, reset in ((slots, True, None), (total, False, None), (day, False, resets)):
        times, taken = moments(log, count=count, resets=reset, gone=gone)
        wrong += wrongly_refused(run, times, taken, claim.limit, claim.label, count=count)
    assert not wrong, wrong[:10]
    await nothing_is_left(run, (slots, total), sum(used for _, used, _ in log.ended.values()))


async def nothing_is_left(run: Run, claims: tuple[Claim, ...], spent: int) -> None:
    from tollway.shared.redis_counters import RedisCounters
    from tollway.shared.redis_link import RedisLink

    link = RedisLink(run.url, prefix=run.prefix, connect=10, deadline=10)
    counters = RedisCounters(
        link, clock=lambda: time.time() + run.offset, beat=BEAT, grace=GRACE, follow=False
    )
    await counters.start()
    rows = await counters.standing(claims)
    assert rows[-1].spent == spent, "what is counted is not what was settled"

    async def free() -> bool:
        return all(row.held == 0 for row in await counters.standing(claims))

    await until(free, 60)
    await counters.close()
    await link.close()


@pytest.mark.parametrize(("processes", "seed"), [(1, 1), (2, 2), (8, 3), *SLOW])
async def test_windows_hold(redis: RedisServer, tmp_path: Path, processes: int, seed: int) -> None:
    seconds = 2
    requests = Claim(
        counter="team:t:requests",
        unit="requests",
        limit=400,
        label="requests",
        subject="team t",
        seconds=seconds,
    )
    tokens = Claim(
        counter="team:t:tokens",
        unit="tokens",
        limit=150_000,
        label="tokens",
        subject="team t",
        seconds=seconds,
    )
    run = await hammer(
        redis, tmp_path, (requests, tokens), processes=processes, seed=seed, seconds=1.5, kills=processes > 1
    )
    admitted = sorted(run.log.admitted.items(), key=lambda item: item[1][0])
    assert len(admitted) > 100
    assert run.log.refused
    # Surely within one window: asked after it began and admitted before it ended.
    for claim in (requests, tokens):
        for at, (_, (begun, _, _)) in enumerate(admitted):
            inside = 0
            for name, (asked, granted, held) in admitted[at:]:
                if asked >= begun + seconds:
                    break
                if granted < begun + seconds:
                    used = run.log.ended.get(name, (0.0, held, 0.0))[1]
                    inside += 1 if claim.unit == "requests" else used
            assert inside <= claim.limit
