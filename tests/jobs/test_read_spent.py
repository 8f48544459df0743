"""What a counter begins with is the same number wherever the events are: in the ledger, in the spool, or on their
way."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from datetime import UTC, datetime

import msgspec
import pytest

from tollway.errors import StoreUnavailable
from tollway.jobs.read_spent import Counted, counted
from tollway.jobs.write_ledger import LedgerWriter
from tollway.model.key import Budget, RateLimit, VirtualKey
from tollway.model.tenant import Directory, Membership, Tenant
from tollway.model.terms import Terms
from tollway.model.usage import Usage
from tollway.shared.claims import Ceiling, every_ceiling
from tollway.storage.engine import Database
from tollway.storage.repositories.adjustments import Adjustment, Adjustments
from tollway.storage.repositories.events import Events
from tollway.storage.spool import Spool

NOW = datetime(2026, 11, 12, 10, 0, 30, tzinfo=UTC).timestamp()
"""The events of the ``event`` fixture are of the 10th to the 12th at ten o'clock."""

BUDGETS = (Budget(limit=1, per="total"), Budget(limit=1, per="day"), Budget(limit=1, per="week"))


def key(id: str, **terms: object) -> VirtualKey:
    return VirtualKey(id=id, name=id, hash="0" * 64, hint="", **{"budgets": BUDGETS, **terms})


KEYS = (key("key_1"), key("key_2"), key("key_9"))
CEILINGS = list(every_ceiling(KEYS, Directory()))


def expected(count: int) -> dict[str, int]:
    """What the ``event`` fixture's first ``count`` events come to. The 9th was a Monday."""

    def cost(number: int, *days: int) -> int:
        mine = (n for n in range(count) if n % 4 == number and n % 3 in days)
        return sum(100 + n for n in mine)

    told = {}
    for number in (1, 2):
        told[f"key:key_{number}:usd:total"] = cost(number, 0, 1, 2)
        told[f"key:key_{number}:usd:week"] = cost(number, 0, 1, 2)
        told[f"key:key_{number}:usd:day"] = cost(number, 2)
    return {**told, **{f"key:key_9:usd:{per}": 0 for per in ("total", "week", "day")}}


@pytest.mark.parametrize("stored", [0, 300, 700])
async def test_ledger_and_spool_together(
    spool: Spool, database: Database, event: Callable[..., bytes], put: Callable[..., None], stored: int
) -> None:
    ledger = LedgerWriter(spool, database)
    put(*(event(number) for number in range(stored)))
    assert await ledger.drain(10)
    put(*(event(number) for number in range(stored, 700)), b"not an event")
    found = await counted(CEILINGS, NOW, ledger, spool, Events(database))
    assert found == Counted(expected(700), {})


async def test_exact_while_events_arrive_and_are_carried(
    spool: Spool, database: Database, event: Callable[..., bytes], put: Callable[..., None]
) -> None:
    ledger = LedgerWriter(spool, database)
    following = asyncio.create_task(ledger.run())
    written = 0

    async def write() -> None:
        nonlocal written
        while True:
            put(event(written))
            written += 1
            if written % 5 == 0:
                await asyncio.sleep(0.001)

    writing = asyncio.create_task(write())
    try:
        for _ in range(20):
            found = await counted(CEILINGS, NOW, ledger, spool, Events(database))
            assert found.spent == expected(written)
            await asyncio.sleep(0.01)
        assert ledger.written > 0
    finally:
        writing.cancel()
        following.cancel()
        await asyncio.gather(writing, following, return_exceptions=True)


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
async def test_a_database_that_is_away_is_named(
    spool: Spool, database: Database, event: Callable[..., bytes], put: Callable[..., None]
) -> None:
    ledger = LedgerWriter(spool, database)
    put(event(1))
    database.path.rename(database.path.with_suffix(".away"))
    with pytest.raises(StoreUnavailable, match="not available"):
        await counted(CEILINGS, NOW, ledger, spool, Events(database))
    database.path.with_suffix(".away").rename(database.path)
    found = await counted(CEILINGS, NOW, ledger, spool, Events(database))
    assert found.spent["key:key_1:usd:total"] == 101


TERMS = Terms(budgets=(Budget(limit=1), Budget(limit=1, unit="tokens"), Budget(limit=1, unit="requests")))
SOME_MODELS = Terms(budgets=(Budget(limit=1, models=("fast", "gpt-*")),))
DIRECTORY = Directory(
    tenants=(
        Tenant(level="organization", id="acme", name="Acme", terms=TERMS),
        Tenant(level="team", id="search", name="Search", terms=TERMS, organization="acme"),
        Tenant(level="project", id="site", name="Site", terms=TERMS),
        Tenant(level="user", id="ada", name="Ada", terms=SOME_MODELS),
        Tenant(level="customer", id="c1", name="C1", terms=TERMS),
        Tenant(level="tag", id='we"b', name='we"b', terms=TERMS),
    ),
    memberships=(
        Membership(level="team", tenant="search", user="ada", terms=TERMS),
        Membership(level="organization", tenant="acme", user="ada", terms=TERMS),
    ),
)


def history(event: Callable[..., bytes]) -> list[tuple[dict[str, object], bytes]]:
    """A hundred and twenty events of the last day, one every twelve minutes, of every kind."""
    made = []
    for n in range(120):
        changes = {
            "time": _iso(NOW - 1 - (119 - n) * 720),
            "organization": ("acme", None)[n % 3 == 0],
            "team": ("search", "other")[n % 4 == 0],
            "project": (None, "site")[n % 5 == 0],
            "user": ("ada", "bob")[n % 2],
            "customer": ("c1", None)[n % 7 == 0],
            "tags": (('we"b', "prod"), (), ("prod",))[n % 3],
            "model": ("fast", "gpt-5", "other")[n % 3],
            "usage": Usage(input=n, output=1, cache_read=2, cache_write_1h=n % 2, audio_output=3),
            "outcome": ("ok", "correction")[n % 10 == 9],
            "key_id": "key_1",
        }
        made.append((changes, event(n, **changes)))
    return made


@pytest.mark.parametrize("stored", [0, 60, 120])
async def test_every_level_and_unit(
    spool: Spool, database: Database, event: Callable[..., bytes], put: Callable[..., None], stored: int
) -> None:
    ledger = LedgerWriter(spool, database)
    events = history(event)
    put(*(record for _, record in events[:stored]))
    assert await ledger.drain(10)
    put(*(record for _, record in events[stored:]))
    ceilings = list(every_ceiling((), DIRECTORY))
    found = await counted(ceilings, NOW, ledger, spool, Events(database))
    assert len(found.spent) == len(ceilings) == 22

    def of(**wanted: str) -> dict[str, int]:
        mine = [
            (n, changes)
            for n, (changes, _) in enumerate(events)
            if all(
                value in changes["tags"] if name == "tag" else changes[name] == value
                for name, value in wanted.items()
            )
        ]
        return {
            "usd": sum(100 + n for n, _ in mine),
            "tokens": sum(changes["usage"].tokens() for _, changes in mine),
            "requests": sum(changes["outcome"] != "correction" for _, changes in mine),
        }

    for subject, wanted in (
        ("organization:acme", of(organization="acme")),
        ("team:search", of(team="search")),
        ("project:site", of(project="site")),
        ("customer:c1", of(customer="c1")),
        ('tag:we"b', of(tag='we"b')),
        ("member:team/search/ada", of(team="search", user="ada")),
        ("member:organization/acme/ada", of(organization="acme", user="ada")),
    ):
        for unit, amount in wanted.items():
            assert found.spent[f"{subject}:{unit}:total"] == amount > 0, (subject, unit)
    some = of(user="ada", model="fast")["usd"] + of(user="ada", model="gpt-5")["usd"]
    assert found.spent["user:ada:usd:total@fast,gpt-*"] == some


@pytest.mark.parametrize("stored", [0, 60, 120])
async def test_windows_hold_what_was_admitted(
    spool: Spool, database: Database, event: Callable[..., bytes], put: Callable[..., None], stored: int
) -> None:
    ledger = LedgerWriter(spool, database)
    events = history(event)
    put(*(record for _, record in events[:stored]))
    assert await ledger.drain(10)
    put(*(record for _, record in events[stored:]))
    limits = RateLimit(rps=9, rpm=9, rph=9, rpd=9, tpm=9, tpd=9, parallel=9)
    terms = Terms(
        limits=limits,
        more_limits=(
            RateLimit(tpd=9, count="input", cached=False),
            RateLimit(tpd=9, count="output", models=("other",)),
        ),
    )
    team = Tenant(level="team", id="search", name="Search", terms=terms)
    ceilings = list(every_ceiling((), Directory(tenants=(team,))))
    found = (await counted(ceilings, NOW, ledger, spool, Events(database))).windows

    def within(seconds: float, *models: str) -> list[dict[str, object]]:
        return [
            changes
            for changes, _ in events
            if changes["team"] == "search"
            and changes["time"] >= _iso(NOW - seconds)
            and (not models or changes["model"] in models)
        ]

    def total(name: str) -> int:
        return sum(amount for _, amount in found[f"team:search:{name}"])

    def requests(seconds: float) -> int:
        return sum(changes["outcome"] != "correction" for changes in within(seconds))

    assert "team:search:rps" not in found
    assert "team:search:parallel" not in found
    assert total("rpm") == requests(60)
    assert total("rph") == requests(3600)
    assert total("tpm") == sum(changes["usage"].tokens() for changes in within(60))
    # A day begins with the whole hour that its first moment is in, where that is known from roll-ups.
    assert requests(86400) <= total("rpd") <= requests(86400 + 3600)
    tokens = [changes["usage"].prompt_tokens() - changes["usage"].cache_read for changes in within(86400)]
    assert sum(tokens) <= total("tpd.input.uncached") <= sum(tokens) + 5
    assert total("tpd.output@other") == 4 * len(within(86400, "other"))
    for name, parts in found.items():
        for at, amount in parts:
            assert amount > 0
            assert NOW - 86400 <= at <= NOW + 3600, name


@pytest.mark.parametrize("stored", [0, 1])
async def test_what_this_process_counted_itself_is_left_out_of_windows(
    spool: Spool, database: Database, event: Callable[..., bytes], put: Callable[..., None], stored: int
) -> None:
    ledger = LedgerWriter(spool, database)
    put(*(event(1, id=f"ue_{n}", time=_iso(NOW - n * 20)) for n in range(3)))
    if stored:
        assert await ledger.drain(10)
    ceilings = every_ceiling([key("key_1", limits=RateLimit(rpm=9, rpd=9))], Directory())
    found = await counted(ceilings, NOW, ledger, spool, Events(database), began=NOW - 20)
    assert [amount for _, amount in found.windows["key:key_1:rpm"]] == [1]
    assert sum(amount for _, amount in found.windows["key:key_1:rpd"]) == 1
    assert found.spent["key:key_1:usd:total"] == 3 * 101


async def test_zones_and_fiscal_periods(
    spool: Spool, database: Database, event: Callable[..., bytes], put: Callable[..., None]
) -> None:
    ledger = LedgerWriter(spool, database)
    times = ("2026-11-11T18:29:59.999Z", "2026-11-11T18:30:00.000Z", "2026-11-09T23:59:59.999Z")
    put(*(event(1, id=f"ue_{n}", time=time, cost_nano_usd=10**n) for n, time in enumerate(times)))
    budgets = (
        Budget(limit=1, per="day", zone="Asia/Kolkata"),
        Budget(limit=1, per="month", first_day=10),
        Budget(limit=1, per="year", first_month=11),
    )
    for _ in range(2):
        found = (
            await counted(
                every_ceiling([key("key_1", budgets=budgets)], Directory()),
                NOW, ledger, spool, Events(database),
            )
        ).spent  # fmt: skip
        assert found == {
            "key:key_1:usd:day~Asia/Kolkata": 10,
            "key:key_1:usd:month~1-10": 11,
            "key:key_1:usd:year~11-1": 111,
        }
        assert await ledger.drain(10)


async def test_entries_that_correct_a_counter(
    spool: Spool, database: Database, event: Callable[..., bytes], put: Callable[..., None]
) -> None:
    ledger = LedgerWriter(spool, database)
    put(event(1))
    corrections = Adjustments(database)
    entries = (("2026-11-12T09:00:00.000Z", -1), ("2026-11-01T00:00:00.000Z", -50))
    for n, (when, amount) in enumerate(entries):
        for per in ("total", "week"):
            entry = Adjustment(
                id=f"{n}{per}",
                time=when,
                counter=f"key:key_1:usd:{per}",
                amount=amount,
                reason="",
                actor="admin",
            )
            await corrections.add((entry,))
    found = await counted(CEILINGS, NOW, ledger, spool, Events(database), corrections)
    assert found.spent["key:key_1:usd:total"] == 101 - 51
    assert found.spent["key:key_1:usd:week"] == 101 - 1
    assert found.spent["key:key_1:usd:day"] == 0


async def test_ten_thousand_keys_at_once(
    spool: Spool, database: Database, event: Callable[..., bytes], put: Callable[..., None]
) -> None:
    """Each with three budgets and a limit, and a row of roll-ups."""
    ledger = LedgerWriter(spool, database)
    put(*(event(n, key_id=f"key_{n}", time="2026-11-12T10:00:00.000Z") for n in range(10_000)))
    assert await ledger.drain(60)
    keys = [key(f"key_{n}", limits=RateLimit(rpm=10)) for n in range(10_000)]
    ceilings: list[Ceiling] = list(every_ceiling(keys, Directory()))
    began = time.process_time()
    found = await counted(ceilings, NOW, ledger, spool, Events(database))
    assert found.spent["key:key_9999:usd:day"] == 10_099
    assert sum(found.spent.values()) == 3 * sum(100 + n for n in range(10_000))
    assert len([parts for parts in found.windows.values() if parts]) == 10_000
    assert time.process_time() - began < 5


def _iso(seconds: float) -> str:
    told = datetime.fromtimestamp(seconds, UTC).replace(tzinfo=None)
    return told.isoformat(timespec="milliseconds") + "Z"


def test_events_of_the_fixture_are_read_as_they_are_written(event: Callable[..., bytes]) -> None:
    assert msgspec.json.decode(event(0))["time"] == "2026-11-10T10:00:00.000Z"
