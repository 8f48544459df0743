"""The roof: reads the settings, builds what the rooms need and wires them. Only it knows everybody."""

from __future__ import annotations

import asyncio
import logging
import os
import random
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from tollway.administrator import prepare, read_digest, read_id, unwritable
from tollway.config.load import load_settings
from tollway.config.settings import Settings, SinkSettings
from tollway.demo import Demo
from tollway.errors import ConfigError, StoreUnavailable
from tollway.http.asgi import App, Gateway, Receive, Scope, Send
from tollway.http.doorway import RequestIds
from tollway.http.lines import serve_line
from tollway.jobs.lead import Lead
from tollway.jobs.write_sinks import SinkWriter
from tollway.model.artifact import Artifact
from tollway.model.key import Principal, VirtualKey
from tollway.model.tenant import Directory, joined
from tollway.orphans import Orphans
from tollway.pipeline.authenticate import authenticate
from tollway.pipeline.client import ModelRequest
from tollway.pipeline.habits import Habits
from tollway.pipeline.holdings import Holdings
from tollway.pipeline.list_objects import freshen
from tollway.pipeline.ownership import Remembered, Sealed
from tollway.pipeline.record import Journal, Timestamps
from tollway.pipeline.reserve import told
from tollway.pipeline.services import Contents, Services
from tollway.pipeline.snapshot import Snapshot
from tollway.pricing.book import PriceBook
from tollway.providers.catalog import Catalog
from tollway.providers.environment import completed
from tollway.providers.provider import Provider
from tollway.providers.upstream import Upstream
from tollway.shared.claims import Ceiling, claims_of, every_ceiling
from tollway.shared.interface import Claim, Crossing
from tollway.shared.memory import MemoryCounters
from tollway.shared.periods import period
from tollway.sharing import Elsewhere, Notice, Sharing
from tollway.sinks import open_sinks
from tollway.storage.segments import Position
from tollway.storage.spool import Spool
from tollway.worker import Place

if TYPE_CHECKING:  # SQLAlchemy is imported only where there is a database
    from tollway.jobs.make_partitions import MakePartitions
    from tollway.jobs.mind_objects import MindObjects
    from tollway.jobs.remember import Remember
    from tollway.jobs.run_batches import RunBatches
    from tollway.jobs.write_ledger import LedgerWriter
    from tollway.neighbours import Neighbours
    from tollway.pipeline.background_responses import Background
    from tollway.pipeline.stored_responses import StoredResponses
    from tollway.shared.redis_counters import RedisCounters
    from tollway.storage.engine import Database
    from tollway.storage.repositories.adjustments import Adjustments
    from tollway.storage.repositories.admin_tokens import AdminTokens
    from tollway.storage.repositories.events import Events
    from tollway.storage.repositories.keys import Keys
    from tollway.storage.repositories.tenants import Tenants
    from tollway.tokens.counter import Counter

log = logging.getLogger("tollway")
alerts = logging.getLogger("tollway.alerts")

PATIENCE = 2.0
"""Seconds a start waits for Redis."""

POLL = 0.5
"""How often the database is asked whether keys changed, seconds: a change by the CLI is served within this."""

DRAIN = 10.0


def read_settings(path: str | None, overrides: Mapping[str, object], catalog: Catalog) -> Settings:
    """The settings of this process. Raises ConfigError."""

    def discover(environ: Mapping[str, str]) -> list[tuple[str, str]]:
        return [(entry.name, variable) for entry, variable in catalog.discover(environ)]

    settings = load_settings(path, os.environ, catalog.names(), discover, overrides)
    providers = tuple(completed(catalog[each.type], each, os.environ) for each in settings.providers)
    return msgspec.structs.replace(settings, providers=providers)


def iso(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def crossed(crossing: Crossing) -> None:
    """A budget reached a threshold: said once for each threshold and period."""
    alerts.warning("%s", told(crossing))


class Process:
    """One gateway process: everything that lives as long as it does. ``open`` builds it, ``close`` ends it."""

    def __init__(
        self,
        settings: Settings,
        catalog: Catalog,
        reread: Callable[[], Settings],
        place: Place | None = None,
    ) -> None:
        """``place``: among several workers; None serves alone."""
        self.settings = settings
        self.place = place
        self.sharing = Sharing(settings.redis)
        self._nudge = asyncio.Event()
        self._admitted = False
        self._neighbours: Neighbours
        self.catalog = catalog
        self.prices = PriceBook.load()
        self.generation = 0
        self._began = time.time()
        self.started = int(self._began)
        self.new_admin_key: str | None = None
        self.demo: Demo | None = None
        self.counters: MemoryCounters | RedisCounters = MemoryCounters(time.time, crossed)
        self._shared: RedisCounters | None = None
        self._habits = Habits()
        self.contents: Contents | None = None
        self.database: Database | None = None
        self.keys: Keys | None = None
        self.events: Events | None = None
        self.tenants: Tenants | None = None
        self.adjustments: Adjustments | None = None
        self.tokens: AdminTokens | None = None
        self.responses: StoredResponses | None = None
        self.background: Background | None = None
        self._tokens: Counter | None = None
        self._line_ids = RequestIds()
        self.ledger: SinkWriter | LedgerWriter  # the latter reads the spool for the database
        self._batches: RunBatches
        self._objects: MindObjects
        self._kept: Remembered
        self._partitions: MakePartitions
        self._remember: Remember
        self._reread = reread
        self._tasks: set[asyncio.Task[None]] = set()
        self._stored: list[VirtualKey] = []
        self._directory = Directory()
        self._customers: list[str] = []
        self._met_customers = False
        self._stored_generation = -1
        self._keys_read = settings.database is None
        self._seeded: set[str] = set()
        self._unseeded = False
        self._looked = asyncio.Event()
        self._trouble: dict[str, str] = {}
        self._changing = asyncio.Lock()
        self._admin_digest: bytes | None = None

    async def open(self) -> None:
        settings = self.settings
        data_dir = Path(settings.data_dir)
        if self.place is None:
            self.new_admin_key = prepare(settings)
        self._admin_digest = read_digest(settings)
        self._data_id = read_id(settings)
        try:
            self.spool = Spool(self._spool_directory(data_dir), settings.spool)
        except OSError as error:
            raise unwritable(data_dir, error) from error
        if self.sharing.many:
            self.counters = self._shared = self.sharing.counters(self._spent_by_all, self.spool, crossed)
        for line in self.catalog.incomplete(os.environ) if settings.source is None else ():
            log.warning("%s", line)
        if not settings.providers:
            self.demo = await Demo.start()
            self.settings = settings = self.demo.offered(settings, self.prices)
        self.providers = self._providers(settings)
        self.upstream = Upstream(os.environ)
        for provider in self.providers.values():
            self.upstream.limit(provider.origin, provider.settings.max_connections)
        await self._open_storage(settings, data_dir)
        journal = Journal(
            self.spool,
            Timestamps(lambda second: datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%dT%H:%M:%S")),
            clock=time.monotonic,
            wall_clock=time.time,
            ledger=self.database is not None,
        )
        self.services = Services(
            snapshot=self._snapshot(),
            counters=self.counters,
            upstream=self.upstream,
            journal=journal,
            contents=self.contents,
            clock=time.monotonic,
            wall_clock=time.time,
            jitter=random.random,
            tokens=self._counter,
            responses=self.responses,
            background=self.background,
            full=lambda id, seconds: self.sharing.tell_soon("full", f"{seconds:.1f} {id}"),
            holdings=self._holdings(settings, data_dir),
        )
        self.services.client_secrets.vault = self.sharing.vault
        if self.database is None:
            self._run(self.ledger.run())
        else:
            self._kept.tickets.vault = self.sharing.vault
        self._run(self._prune())
        await self.sharing.start(self._heard, self._missed)
        await self._join(data_dir)

    def _holdings(self, settings: Settings, data_dir: Path) -> Holdings:
        """Who made what: by rows where there is a database, else by the ids themselves, signed with the admin key."""
        folder = data_dir / "uploads"
        (folder / "files").mkdir(parents=True, exist_ok=True)
        if self.database is None:
            admin = settings.admin_key
            secret = self._admin_digest or sha256((admin.reveal() if admin else "").encode()).digest()
            return Holdings(Sealed(secret), folder, None)
        from tollway.jobs.mind_objects import MindObjects
        from tollway.jobs.run_batches import RunBatches, Served, has_files
        from tollway.storage.repositories.objects import Objects

        rows = Objects(self.database)
        kept = self._kept = Remembered(rows, lambda id: self.sharing.tell_soon("object", id))

        async def unsettled() -> list[Artifact]:
            batches = await rows.unsettled("batch", local=True)
            # Another machine's files are not here; without others, one whose files are gone has failed.
            return (
                [one for one in batches if has_files(one, folder / "files")] if self.sharing.many else batches
            )

        async def line(owner: str, url: str, body: bytes) -> Served:
            return await serve_line(self.services, self._line_ids, owner, url, body)

        self._batches = RunBatches(kept, unsettled, folder / "files", line, time.time)
        holdings = Holdings(kept, folder, self._batches)
        self._objects = MindObjects(kept, rows, lambda one: freshen(one, self.services, holdings), time.time)
        return holdings

    async def _join(self, data_dir: Path) -> None:
        """Count with the others. What a predecessor had not reported is counted first; without Redis that waits, and
        until then each limit's policy for such times decides."""
        if self._shared is not None:
            counters, end = self._shared, self.spool.end

            async def join() -> None:
                while True:
                    try:
                        await self._settle(self.spool, end)
                        break
                    except StoreUnavailable:
                        await asyncio.sleep(0.5)
                await counters.start()

            joining = asyncio.get_running_loop().create_task(join())
            self._tasks.add(joining)
            joining.add_done_callback(self._tasks.discard)
            await asyncio.wait((joining,), timeout=PATIENCE)
        workers = 1 if self.place is None else self.place.board.workers
        self._run(Orphans(data_dir / "spool", workers, self.settings.spool, self._settle, self._carry).run())

    async def _settle(self, spool: Spool, end: Position | None = None) -> None:
        """Have counted what the process that owned this spool had settled and not reported. Raises StoreUnavailable."""
        if self._shared is None:
            return  # counters in memory are seeded from the ledger and the spool
        from tollway.jobs.read_settlements import settlements

        end = end or spool.end
        after = await self._shared.recover(spool.id)
        while after is None or Position(*after) <= end:
            missing = () if after is None else settlements(spool, Position(*after), end, self._ceilings())
            if await self._shared.apply(spool.id, after, (end.segment, end.offset), missing):
                return
            # The dead process's last words arrived meanwhile, or somebody else was quicker.
            log.info("what was left in %s was counted further meanwhile", spool.directory)
            await asyncio.sleep(0.05)
            after = await self._shared.recover(spool.id)

    async def _carry(self, spool: Spool, seconds: float) -> bool:
        """Everything in a spool to where events go."""
        sinks = self.settings.sinks
        done = True
        if self.database is not None:
            from tollway.jobs.write_ledger import LedgerWriter

            done = await LedgerWriter(spool, self.database).drain(seconds)
        elif not sinks:
            sinks = (SinkSettings(type="stdout"),)
        if sinks:
            outlets = open_sinks(sinks, Path(self.settings.data_dir))
            done = await SinkWriter(spool, outlets, holds=True).drain(seconds) and done
        if self._shared is None:
            # Budgets were seeded from the ledger before these events were in it.
            self._seeded -= {ceiling.claim.counter for ceiling in self._ceilings() if ceiling.claim.per}
            self._unseeded = True
        return done

    async def _spent_by_all(self, claims: Sequence[Claim]) -> list[int]:
        """What the ledger says of budgets that Redis does not know. Raises StoreUnavailable."""
        if self.events is None:
            return [0] * len(claims)
        from tollway.jobs.read_spent import counted

        wanted = {claim.counter for claim in claims}
        ceilings = [ceiling for ceiling in self._ceilings() if ceiling.claim.counter in wanted]
        found = await counted(ceilings, time.time(), self.ledger, self.spool, self.events, self.adjustments)
        return [found.spent.get(claim.counter, 0) for claim in claims]

    def _counter(self) -> Counter:
        """The token counter: made, and its library imported, with the first count."""
        if self._tokens is None:
            from tollway.tokens.counter import Counter

            self._tokens = Counter()
        return self._tokens

    async def _open_storage(self, settings: Settings, data_dir: Path) -> None:
        if settings.database is None:
            self.ledger = SinkWriter(
                self.spool, open_sinks(settings.sinks or (SinkSettings(type="stdout"),), data_dir), holds=True
            )
            return
        from tollway.jobs.keep_contents import KeepContents
        from tollway.jobs.make_partitions import MakePartitions
        from tollway.jobs.purge import Purge
        from tollway.jobs.remember import Remember
        from tollway.jobs.write_ledger import LedgerWriter
        from tollway.neighbours import Neighbours
        from tollway.storage.engine import Database
        from tollway.storage.repositories.adjustments import Adjustments
        from tollway.storage.repositories.admin_tokens import AdminTokens
        from tollway.storage.repositories.bodies import Bodies
        from tollway.storage.repositories.events import Events
        from tollway.storage.repositories.generation import Generation
        from tollway.storage.repositories.keys import Keys
        from tollway.storage.repositories.processes import Processes
        from tollway.storage.repositories.responses import Responses
        from tollway.storage.repositories.tenants import Tenants

        self.database = Database.open(settings.database, data_dir, replica=settings.database_replica)
        self.keys = Keys(self.database)
        self.events = Events(self.database)
        self.tenants = Tenants(self.database)
        self.adjustments = Adjustments(self.database)
        self.tokens = AdminTokens(self.database)
        self._generation = Generation(self.database)
        self._neighbours = Neighbours(
            Processes(self.database), self.sharing.process, self._data_id, settings.redis
        )
        self.ledger = LedgerWriter(self.spool, self.database)
        self._remember = Remember(data_dir, self.spool, self.place.worker if self.place is not None else 0)
        if settings.sinks:
            self._run(SinkWriter(self.spool, open_sinks(settings.sinks, data_dir), holds=False).run())
        if settings.logs.bodies != "off":
            keeper = KeepContents(Bodies(self.database), settings.logs, time.time)
            self.contents = keeper
            self._run(keeper.run())
        shelf = Responses(self.database)
        if settings.logs.responses == "keep":
            from tollway.pipeline.background_responses import Background
            from tollway.pipeline.stored_responses import StoredResponses

            many = self.sharing.many
            others = Elsewhere(self.sharing) if many else None
            self.responses = StoredResponses(shelf, settings.logs.responses_retention, time.time, others)
            self.background = Background(self.responses, self.sharing.lock if many else None)
            self._run(self.background.run())
        if not self.database.missing():
            try:
                await self.database.migrate()
                await self._neighbours.admit()
                self._admitted = True
                await self._read_keys()
            except StoreUnavailable as error:
                self._degrade("database", str(error))
                await self._recall()
        else:
            self._keys_read = True  # a new database knows no keys: serve at once, make the tables meanwhile
            self._trouble["database"] = f"The tables of the new database {self.database.name} are being made."
        self._partitions = MakePartitions(self.database, time.time)
        self._purge = Purge(Bodies(self.database), self.events, settings.logs, time.time, shelf)
        self._run(self._follow())

    def _providers(self, settings: Settings) -> dict[str, Provider]:
        problems: list[str] = []
        providers = {}
        for each in settings.providers:
            try:
                providers[each.name] = Provider(self.catalog[each.type], each)
            except ConfigError as error:
                problems += error.problems
        if problems:
            raise ConfigError(problems)
        return providers

    def _snapshot(self) -> Snapshot:
        self.generation += 1
        snapshot = Snapshot(
            settings=self.settings,
            keys=[*self.settings.keys, *self._stored],
            providers=self.providers,
            prices=self.prices,
            directory=joined(self.settings.directory, self._directory),
            habits=self._habits,
            generation=self.generation,
            started=self.started,
            complete=self._keys_read,
        )
        if self._admin_digest is not None:
            snapshot.admit_admin(self._admin_digest)
        return snapshot

    def _spool_directory(self, data_dir: Path) -> Path:
        """Every worker has its own; a lone process has the first one's, and takes over what that left."""
        number = self.place.worker if self.place is not None else 0
        return data_dir / "spool" / str(number) if number else data_dir / "spool"

    # What changes while the process runs.

    async def _read_keys(self) -> None:
        """Keys from the database, budgets seeded from the ledger before anybody can spend from them."""
        if self.keys is None or self.events is None or self.tenants is None:
            return
        generation = await self._generation.current()
        stored = await self.keys.all()
        self._directory = await self.tenants.directory()
        directory = joined(self.settings.directory, self._directory)
        await self._meet_customers(directory)
        await self._seed([*self.settings.keys, *stored], directory)
        if generation != self._stored_generation:
            await self._remember.keep(stored, self._directory)
        self._stored = stored
        self._stored_generation = generation
        self._keys_read = True

    async def _recall(self) -> None:
        """Serve what the database said last, from where budgets stood then, until it answers. A key that is not there
        may be new, so nobody is told that it is invalid."""
        known = self._remember.known()
        if known is not None:
            self._stored, self._directory = list(known.keys), known.directory
        if self.settings.redis is not None:
            return
        spent = await self._remember.spent(self._ceilings(), time.time())
        for ceiling in self._ceilings():
            if ceiling.claim.counter in spent:
                self.counters.seed(ceiling.claim, spent[ceiling.claim.counter])

    def _ceilings(self) -> Iterable[Ceiling]:
        directory = joined(self.settings.directory, self._directory)
        return every_ceiling([*self.settings.keys, *self._stored], directory, self._customers)

    def _counted(self) -> Iterable[Ceiling]:
        """Nothing while counters are not what the ledger says."""
        return () if self._unseeded or not self._keys_read else self._ceilings()

    async def _meet_customers(self, directory: Directory) -> None:
        """Once: the end users whose budgets began before this process. Raises StoreUnavailable."""
        budgets = [
            budget
            for tenant in directory.tenants
            if (tenant.level, tenant.id) == ("customer", "default")
            for budget in tenant.terms.budgets
        ]
        if self._met_customers or not budgets or self.database is None:
            return
        from tollway.storage.repositories.customers import seen

        now = time.time()
        begun = min(
            now - int(each.per[:-1]) * 86400  # whenever it was counted from, it is not longer ago
            if each.per.endswith("d")
            else period(each.per, now, 0.0, each.zone, each.first_day, each.first_month)[0]
            for each in budgets
        )
        self._customers = await seen(self.database, iso(begun)[:10] if begun else "")
        self._met_customers = True

    async def _seed(self, keys: list[VirtualKey], directory: Directory) -> None:
        """Set what budgets not counted from the ledger yet have spent, and what windows admitted before this process
        began. Raises StoreUnavailable."""
        if self.events is None:
            return
        from tollway.jobs.read_spent import counted

        ceilings = [
            ceiling
            for ceiling in every_ceiling(keys, directory, self._customers)
            if ceiling.claim.counter not in self._seeded
            or (ceiling.claim.per and not self.counters.known(ceiling.claim))
        ]
        self._unseeded = bool(ceilings)
        if not ceilings:
            return
        found = await counted(
            ceilings,
            time.time(),
            self.ledger,
            self.spool,
            self.events,
            self.adjustments,
            began=self._began,
        )
        for ceiling in ceilings:
            claim = ceiling.claim
            self._seeded.add(claim.counter)
            if claim.counter in found.spent:
                self.counters.seed(claim, found.spent[claim.counter])
            elif found.windows.get(claim.counter):
                self.counters.seed_window(claim, found.windows[claim.counter])
        self._unseeded = False

    async def refresh(self) -> None:
        """Serve what the database says now."""
        async with self._changing:
            await self._read_keys()
            self.services.snapshot = self._snapshot()

    async def reload(self) -> list[str]:
        """Read the configuration again and swap it in. Raises ConfigError, and then the old one stays.

        Returns what a running process cannot change and so waits for a restart.
        """
        async with self._changing:
            settings = self._reread()
            if self.demo is not None and not settings.providers:
                settings = self.demo.offered(settings, self.prices)
            providers = self._providers(settings)
            fixed = ("server", "database", "database_replica", "redis", "data_dir", "spool", "logs", "sinks")
            waiting = [
                f"{name} takes effect at the next start"
                for name in fixed
                if getattr(settings, name) != getattr(self.settings, name)
            ]
            for provider in providers.values():
                self.upstream.limit(provider.origin, provider.settings.max_connections)
            with suppress(StoreUnavailable):
                await self._seed([*settings.keys], joined(settings.directory, self._directory))
            previous = (self.settings, self.providers)
            self.settings, self.providers = settings, providers
            try:
                self.services.snapshot = self._snapshot()
            except BaseException:
                self.settings, self.providers = previous
                raise
            log.info("configuration reloaded from %s", settings.source or "the environment")
            return waiting

    async def flush(self) -> None:
        """Bring the database up to date with every event appended so far."""
        await self.ledger.drain(DRAIN)

    def status(self) -> dict[str, str]:
        """Degraded parts with the reason; empty when all is well."""
        parts = dict(self._trouble)
        if self.spool.degraded:
            parts["spool"] = self.spool.degraded
        if self.ledger.degraded:
            parts["ledger"] = self.ledger.degraded
        if self.sharing.degraded:
            parts["redis"] = self.sharing.degraded
        if self.place is not None and (serving := self.place.board.serving()) < self.place.board.workers:
            parts["workers"] = f"{serving} of {self.place.board.workers} workers serve."
        return parts

    def _degrade(self, part: str, reason: str) -> None:
        if self._trouble.get(part) != reason:
            log.warning("%s is degraded: %s", part, reason)
        self._trouble[part] = reason

    async def _follow(self) -> None:
        """Notice within POLL seconds when keys changed in the database; make its tables when it is new."""
        assert self.database is not None
        migrated = self._stored_generation >= 0
        writing = False
        while True:
            try:
                if not migrated:
                    await self.database.migrate()
                    migrated = True
                    await self.refresh()
                elif self._unseeded or await self._generation.current() != self._stored_generation:
                    await self.refresh()
                self._trouble.pop("database", None)
                if not self._admitted:
                    await self._neighbours.admit()
                    self._admitted = True
                if not writing:
                    writing = True
                    self._run(self._neighbours.run())
                    self._run(self.ledger.run())
                    self._run(self._partitions.run())
                    if self.settings.redis is None:  # which remembers by itself
                        counted, version = self._counted, lambda: self.generation
                        self._run(self._remember.run(counted, version, self.counters.standing, time.time))
                    self._lead("purge", self._purge.run)
                    if self.responses is not None:
                        self._run(self.responses.run())
                    # Files of batches are on this machine, so each machine runs its own.
                    self._lead(f"batches:{self._data_id}", lambda _: self._batches.run())
                    self._run(self._objects.run())
                    self._lead("objects", self._objects.lead)
            except StoreUnavailable as error:
                self._degrade("database", str(error))
            except ConfigError as error:
                # The database was away when this process started, which now cannot be undone.
                self._degrade("database", error.problems[0])
            self._looked.set()
            with suppress(TimeoutError):
                async with asyncio.timeout(POLL):
                    await self._nudge.wait()
            self._nudge.clear()

    def _heard(self, notice: Notice) -> None:
        """Another process changed something, or learned it."""
        if notice.what == "full":
            seconds, _, deployment = notice.id.partition(" ")
            with suppress(ValueError):
                self._habits.headroom(deployment).refused(float(seconds), time.monotonic())
            return
        if notice.what == "rows":
            self._nudge.set()
        elif notice.what == "file":
            self._run(self._reload_too())
        elif notice.what == "object" and self.database is not None:
            self._kept.stale(notice.id)
        elif notice.what == "response" and self.responses is not None:
            self.responses.stale(notice.id)
        elif notice.what == "cancel" and self.background is not None:
            running = self.background.get(notice.id)
            if running is not None:
                self._run(self.background.cancel(running))

    def _missed(self) -> None:
        """Another process may have changed anything."""
        self._nudge.set()
        if self.database is not None:
            self._kept.stale()

    async def _reload_too(self) -> None:
        try:
            for line in await self.reload():
                log.warning("%s", line)
        except ConfigError as error:
            log.error(
                "the new configuration is refused and the old one stays:\n%s", "\n".join(error.problems)
            )

    async def _changed(self) -> None:
        """This process changed rows: serve them, and let the others know."""
        await self.refresh()
        await self.sharing.tell("rows")

    async def _reload_everywhere(self) -> list[str]:
        """Raises ConfigError, and then nobody reloads."""
        waiting = await self.reload()
        if self.place is not None:
            self.place.tell("reloaded")
        await self.sharing.tell("file")
        return waiting

    def _lead(self, name: str, work: Callable[[Callable[[], None]], Awaitable[None]]) -> None:
        """One process of all does this."""
        self._run(Lead(self.sharing.lock, name, work).run())

    async def _prune(self) -> None:
        while True:
            await asyncio.sleep(60)
            keys = list(self.services.snapshot.keys())
            directory = joined(self.settings.directory, self._directory)
            live = {ceiling.claim.counter for ceiling in every_ceiling(keys, directory)}
            self.counters.prune(live)

    def _run(self, work: Awaitable[None]) -> None:
        async def guarded() -> None:
            try:
                await work
            except asyncio.CancelledError:
                raise
            except Exception:
                log.exception("a background task failed")
                raise

        task = asyncio.get_running_loop().create_task(guarded())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        if self.background is not None:
            await self.background.close()
        tasks = tuple(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self.responses is not None:
            await self.responses.flush()
        if self._shared is not None:
            await self._shared.close()
        await self.sharing.close()
        await self.upstream.close()
        if self._tokens is not None:
            await asyncio.to_thread(self._tokens.close)
        with suppress(StoreUnavailable):
            await self.ledger.drain(DRAIN)
        if self.database is not None:
            if self._admitted:
                await self._neighbours.leave()
            if self.settings.redis is None:
                await self._remember.keep_spent(self._counted(), self.counters.standing, time.time())
            await self.database.close()
        self.spool.close()
        if self.demo is not None:
            await self.demo.stop()

    # The doors.

    def gateway(self, ids: RequestIds) -> Gateway:
        return Gateway(
            self.services,
            self.settings.server,
            ids,
            api=lambda: self._api(ids),
            status=self.status,
            process=self.about,
        )

    def about(self) -> dict[str, int]:
        """Which process this is, for whoever asks many."""
        worker, workers = (0, 1) if self.place is None else (self.place.worker, self.place.board.workers)
        return {"pid": os.getpid(), "worker": worker, "workers": workers, "generation": self.generation}

    def _api(self, ids: RequestIds) -> App:
        from tollway.admin.context import Context
        from tollway.http.api import create_api

        context = Context(
            keys=self.keys,
            events=self.events,
            tenants=self.tenants,
            adjustments=self.adjustments,
            tokens=self.tokens,
            reset=self._shared.reset if self._shared is not None else None,
            snapshot=lambda: self.services.snapshot,
            counters=self.counters,
            claims=claims_of,
            changed=self._changed,
            reload=self._reload_everywhere,
            settings=lambda: self.settings,
            flush=self.flush,
            status=self.status,
            clock=time.time,
        )

        def authorize(headers: list[tuple[bytes, bytes]]) -> Principal:
            request = ModelRequest(endpoint="api", headers=dict(headers), body=b"", id="", started=0.0)
            grant = authenticate(request, self.services.snapshot, time.time())
            return grant.principal

        api = create_api(context, authorize, ids.next)

        async def once_made(scope: Scope, receive: Receive, send: Send) -> None:
            # A first key may be asked for while the tables of a new database are being made.
            if self.database is not None and not self._looked.is_set():
                await self._looked.wait()
            await api(scope, receive, send)

        return once_made
