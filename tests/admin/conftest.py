"""A control plane without its doors: a migrated SQLite file, real counters, a configuration in use."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Iterable
from pathlib import Path

import pytest

from tollway.admin.context import COMMAND_LINE, Context
from tollway.config.settings import ProviderSettings, RedisSettings, Settings
from tollway.model.deployment import Deployment, Route
from tollway.model.key import RateLimit, VirtualKey
from tollway.model.price import Price, Rates
from tollway.model.secret import Secret
from tollway.shared.claims import claims_of
from tollway.shared.memory import MemoryCounters
from tollway.storage.engine import Database
from tollway.storage.repositories.adjustments import Adjustments
from tollway.storage.repositories.admin_tokens import AdminTokens
from tollway.storage.repositories.events import Events
from tollway.storage.repositories.keys import Keys
from tollway.storage.repositories.tenants import Tenants

ADMIN_KEY = "tw-admin-0123456789abcdef"

FILE_KEY = VirtualKey(
    id="key_ffffffffffffffffffff", name="from-file", hash="f" * 64, hint="…file", models=("fast",),
    limits=RateLimit(rpm=60), owner="file",
)  # fmt: skip

PRICED = Deployment(
    id="openai/gpt-5-mini", provider="openai", upstream_model="gpt-5-mini",
    price=Price(rates=Rates(input=250_000_000, output=2_000_000_000), source="book", version="1"),
)  # fmt: skip
UNPRICED = Deployment(id="local/llama", provider="local", upstream_model="llama", weight=2)

SETTINGS = Settings(
    admin_key=Secret(ADMIN_KEY),
    source="tollway.yaml",
    database="sqlite:///tollway.db",
    redis=RedisSettings(url=Secret("redis://user:hunter2@cache:6379/0")),
    keys=(FILE_KEY,),
    providers=(
        ProviderSettings(name="openai", type="openai", api_key=Secret("sk-provider-secret")),
        ProviderSettings(
            name="local",
            type="openai-compatible",
            base_url="http://me:hunter2@127.0.0.1:8000/v1?token=hunter2",
            headers={"x-team-token": Secret("header-secret")},
        ),
    ),
    discovered=("openai",),
)


class InUse:
    """The configuration in use, made anew from the file's keys and the database's at every change."""

    def __init__(self, keys: Iterable[VirtualKey], generation: int) -> None:
        self._keys = tuple(keys)
        self.generation = generation

    def keys(self) -> Iterable[VirtualKey]:
        return self._keys

    def routes(self) -> Iterable[Route]:
        yield Route(name="smart", strategy="fallback", targets=(PRICED, UNPRICED))
        yield Route(name="fast", targets=(PRICED,))


class World:
    """``context`` acts as the command line does. ``now`` is the clock, ``waiting`` what a reload leaves for later."""

    def __init__(self, directory: Path) -> None:
        self.now = time.time()
        self.database = Database.open("sqlite:///tollway.db", directory)
        self.keys = Keys(self.database)
        self.events = Events(self.database)
        self.counters = MemoryCounters(lambda: self.now)
        self.snapshot = InUse((FILE_KEY,), 1)
        self.settings = SETTINGS
        self.waiting: list[str] = []
        self.degraded: dict[str, str] = {}
        self.flushes = 0
        self.context = Context(
            keys=self.keys,
            events=self.events,
            tenants=Tenants(self.database),
            adjustments=Adjustments(self.database),
            tokens=AdminTokens(self.database),
            snapshot=lambda: self.snapshot,
            counters=self.counters,
            claims=claims_of,
            changed=self.changed,
            reload=self.reload,
            settings=lambda: self.settings,
            flush=self.flush,
            status=lambda: self.degraded,
            clock=lambda: self.now,
            actor=COMMAND_LINE,
        )

    async def changed(self) -> None:
        self.snapshot = InUse((FILE_KEY, *await self.keys.all()), self.snapshot.generation + 1)

    async def reload(self) -> list[str]:
        await self.changed()
        return self.waiting

    async def flush(self) -> None:
        self.flushes += 1

    def served(self, id: str) -> VirtualKey:
        """The key as requests meet it."""
        return next(key for key in self.snapshot.keys() if key.id == id)  # noqa: SIM118


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    made = World(tmp_path)
    await made.database.migrate()
    yield made
    await made.database.close()
