"""Several workers behind one address, asked one by one. Asserts nothing."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any

from running import Broken, Gateway, Reply, Wire, until


def children(pid: int) -> list[int]:
    return [int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


class Workers:
    """A connection to each worker of a gateway. The kernel chooses whom a connection reaches, so as many are opened as
    it takes."""

    def __init__(self, gateway: Gateway, count: int) -> None:
        self.gateway = gateway
        self.count = count
        self.wires: dict[int, Wire] = {}
        self.pids: dict[int, int] = {}

    async def find(self, seconds: float = 30.0) -> None:
        """Until every worker has been reached and says that all serve."""
        self.close()
        await until(self._find, seconds, f"{self.count} workers")

    async def _find(self) -> bool:
        wire = Wire(self.gateway.port)
        try:
            told = (await wire.ask(path="/health/readiness", key="")).json()
        except (OSError, Broken):
            return False
        number = told["process"]["worker"]
        if number in self.wires or "workers" in told["degraded"]:
            wire.close()
        else:
            self.wires[number] = wire
            self.pids[number] = told["process"]["pid"]
        return len(self.wires) == self.count

    async def ask(
        self, body: object = None, path: str = "/v1/chat/completions", **how: Any
    ) -> dict[int, Reply]:
        """The same of each, at once."""
        replies = await asyncio.gather(*(wire.ask(body, path, **how) for wire in self.wires.values()))
        return dict(zip(self.wires, replies, strict=True))

    def kill(self, worker: int) -> None:
        os.kill(self.pids[worker], 9)

    def close(self) -> None:
        for wire in self.wires.values():
            wire.close()
        self.wires.clear()
