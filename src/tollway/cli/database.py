"""Lets commands use the admin actions on the database itself, beside a server that may be running.

Only the ledger is known here: what a running server holds for requests under way is not, and counts as
nothing.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path

from tollway.admin.context import COMMAND_LINE, Context
from tollway.config.settings import Settings
from tollway.errors import ConfigError
from tollway.jobs.read_spent import recorded
from tollway.model.deployment import Route
from tollway.model.key import VirtualKey
from tollway.shared.claims import Ceiling, ceilings_of_key
from tollway.shared.interface import Amounts, Claim, Hold, Standing
from tollway.shared.memory import MemoryCounters
from tollway.storage.engine import Database
from tollway.storage.repositories.adjustments import Adjustments
from tollway.storage.repositories.admin_tokens import AdminTokens
from tollway.storage.repositories.events import Events
from tollway.storage.repositories.keys import Keys
from tollway.storage.repositories.tenants import Tenants


@asynccontextmanager
async def admin_context(settings: Settings, *, create: bool) -> AsyncIterator[Context]:
    """A context on behalf of the command line. ``create``: make or upgrade the database first.

    Raises ConfigError for a stateless configuration, StoreUnavailable when the database is away.
    """
    async with opened(settings, create=create) as database:
        yield _context(settings, database)


@asynccontextmanager
async def opened(settings: Settings, *, create: bool = False) -> AsyncIterator[Database]:
    """The database itself; see ``admin_context``."""
    if settings.database is None:
        place = settings.source or "TOLLWAY_DATABASE_URL"
        raise ConfigError(
            [
                f"{place}: database is none, so keys live in the configuration file (under keys:) and "
                "nothing is recorded; give a database such as sqlite:///tollway.db to use this command"
            ]
        )
    database = Database.open(settings.database, Path(settings.data_dir), replica=settings.database_replica)
    try:
        if create:
            await database.migrate()
        else:
            await database.ready()
        yield database
    finally:
        await database.close()


def _context(settings: Settings, database: Database) -> Context:
    events = Events(database)
    counters = LedgerCounters(events, Adjustments(database))

    async def nothing() -> None:
        """Every write raises the generation in the database, which a running server looks at each second."""

    async def no_reload() -> list[str]:
        return []

    return Context(
        keys=Keys(database),
        events=events,
        tenants=Tenants(database),
        adjustments=counters.adjustments,
        tokens=AdminTokens(database),
        watched=counters.watched,
        snapshot=lambda: FileView(settings),
        counters=counters,
        claims=counters.claims_of,
        changed=nothing,
        reload=no_reload,
        settings=lambda: settings,
        flush=nothing,
        status=dict,
        actor=COMMAND_LINE,
    )


class FileView:
    """The configuration file's keys; routes are the server's to build."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    @property
    def generation(self) -> int:
        return 0

    def keys(self) -> Iterable[VirtualKey]:
        return self._settings.keys

    def routes(self) -> Iterable[Route]:
        return ()


class LedgerCounters:
    """Counters of a process that serves nothing: a budget has spent what the ledger says.

    They have an engine and are none: a compiled class cannot be inherited from.
    """

    def __init__(self, events: Events, adjustments: Adjustments) -> None:
        self.adjustments = adjustments
        self._engine = MemoryCounters(time.time)
        self._events = events
        self._ceilings: dict[str, Ceiling] = {}

    def claims_of(self, key: VirtualKey) -> tuple[Claim, ...]:
        return self.watched(ceilings_of_key(key))

    def watched(self, ceilings: tuple[Ceiling, ...]) -> tuple[Claim, ...]:
        self._ceilings.update((ceiling.claim.counter, ceiling) for ceiling in ceilings)
        return tuple(ceiling.claim for ceiling in ceilings)

    async def standing(self, claims: tuple[Claim, ...]) -> list[Standing]:
        wanted = [
            self._ceilings[each.counter] for each in claims if each.per and each.counter in self._ceilings
        ]
        found = await recorded(wanted, time.time(), self._events, self.adjustments) if wanted else {}
        for ceiling in wanted:
            self.seed(ceiling.claim, found.get(ceiling.claim.counter, 0))
        return await self._engine.standing(claims)

    def reserve_now(self, claims: tuple[Claim, ...], amounts: Amounts) -> Hold | None:
        return self._engine.reserve_now(claims, amounts)

    async def reserve(self, claims: tuple[Claim, ...], amounts: Amounts) -> Hold:
        return await self._engine.reserve(claims, amounts)

    def seed(self, claim: Claim, spent: int) -> None:
        self._engine.seed(claim, spent)

    def held(self) -> int:
        return self._engine.held()
