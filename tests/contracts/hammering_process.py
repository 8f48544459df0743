"""One process of the hammering tests: many clients reserve and settle on shared counters and write down what happened.

Its log is its spool: a line is on its way to the disk before anybody can kill it. Times are by the host's monotonic
clock. ``g id asked granted held``: admitted. ``e id ended used at``: settled, at what time of the counters' clock.
``r asked refused needed limit``: refused. ``x asked left held``: left before it was told. ``a time``: what a dead
predecessor left is counted.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import sys
import time
from pathlib import Path
from typing import Any

from tollway.errors import BudgetExceeded, RateLimitExceeded
from tollway.shared.interface import Amounts, Claim, Hold, Settlement
from tollway.shared.redis_counters import RedisCounters
from tollway.shared.redis_link import RedisLink


class Process:
    def __init__(self, plan: dict[str, Any]) -> None:
        self.plan = plan
        self.claims = tuple(Claim(**fields) for fields in plan["claims"])
        self.random = random.Random(plan["seed"])
        self.log = Path(plan["log"])
        self.file = os.open(self.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        self.written = self.log.stat().st_size
        self.serial = 0
        self.stopped = False

    def write(self, *words: object) -> None:
        line = (" ".join(map(str, words)) + "\n").encode()
        self.written += os.write(self.file, line)

    def clock(self) -> float:
        return time.time() + float(self.plan["offset"])

    async def main(self) -> None:
        link = RedisLink(self.plan["url"], prefix=self.plan["prefix"], connect=10, deadline=10)
        counters = RedisCounters(
            link,
            clock=self.clock,
            spool=self.plan["spool"],
            position=lambda: (0, self.written),
            beat=self.plan["beat"],
            grace=self.plan["grace"],
            follow=False,
        )
        if self.plan["successor"]:
            await self.recover(counters)
        await counters.start()
        await asyncio.gather(self.mind_stop(), *(self.client(counters) for _ in range(self.plan["clients"])))
        await counters.close()
        await link.close()

    async def recover(self, counters: RedisCounters) -> None:
        known = await counters.recover(self.plan["spool"])
        text = self.log.read_bytes()
        settled = [
            Settlement(claims=self.claims, nano_usd=int(words[3]), tokens=int(words[3]), at=float(words[4]))
            for line in text[known[1] if known else 0 :].decode().splitlines()
            if (words := line.split())[0] == "e"
        ]
        assert await counters.apply(self.plan["spool"], known, (0, len(text)), settled)
        assert not await counters.apply(self.plan["spool"], known or (9, 9), (0, len(text)), settled) or (
            known == (0, len(text))
        )
        self.write("a", time.monotonic())

    async def mind_stop(self) -> None:
        stop, latest = Path(self.plan["stop"]), time.monotonic() + 120
        while not stop.exists() and time.monotonic() < latest:
            await asyncio.sleep(0.05)
        self.stopped = True

    async def client(self, counters: RedisCounters) -> None:
        pick = self.random
        while not self.stopped:
            worst = pick.randint(*self.plan["hold"])
            amounts = Amounts(tokens=worst, input_tokens=worst, nano_usd=worst, worst_nano_usd=worst)
            asked = time.monotonic()
            try:
                if pick.random() < 0.1:
                    hold = await self.impatient(counters, amounts)
                    if hold is None:
                        self.write("x", asked, time.monotonic(), worst)
                        continue
                else:
                    hold = counters.reserve_now(self.claims, amounts)
                    if hold is None:
                        hold = await counters.reserve(self.claims, amounts)
            except (BudgetExceeded, RateLimitExceeded) as refused:
                self.write("r", asked, time.monotonic(), worst, refused.details["limit"])
                await asyncio.sleep(pick.uniform(0.005, 0.04))
                continue
            self.serial += 1
            name = f"{os.getpid()}.{self.serial}"
            self.write("g", name, asked, time.monotonic(), worst)
            await asyncio.sleep(pick.uniform(0, self.plan["work"]))
            used = 0 if pick.random() < 0.2 else pick.randint(0, worst)
            hold.settle(nano_usd=used, tokens=used, input_tokens=used)
            self.write("e", name, time.monotonic(), used, self.clock())

    async def impatient(self, counters: RedisCounters, amounts: Amounts) -> Hold | None:
        """Leaves at any moment, also in the middle of being admitted."""
        task = asyncio.create_task(counters.reserve(self.claims, amounts))
        done, _ = await asyncio.wait([task], timeout=self.random.uniform(0, 0.004))
        if not done:
            task.cancel()
        try:
            return await task
        except asyncio.CancelledError:
            return None


if __name__ == "__main__":
    asyncio.run(Process(json.loads(sys.argv[1])).main())
