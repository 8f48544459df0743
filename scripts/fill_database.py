"""Fill an empty database with a month of made-up events, through the ledger's own door, and measure reports and pages.

    python scripts/fill_database.py sqlite:////tmp/large.db --events 1000000
    python scripts/fill_database.py postgresql://postgres@127.0.0.1/large --events 10000000 --slowest 1

Prints a Markdown table; exits 1 where something took longer than ``--slowest`` seconds, or where roll-ups and events
disagree. Nothing real is in these events; do not point it at a database that has any.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import random
import statistics
import sys
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

import msgspec
from sqlalchemy import Connection, text

from tollway.errors import StoreUnavailable
from tollway.model.event import UsageEvent, UsageFilter
from tollway.model.usage import Usage
from tollway.storage.columns import is_postgresql
from tollway.storage.engine import Database
from tollway.storage.entries import Entry
from tollway.storage.repositories import rollups
from tollway.storage.repositories.events import Events
from tollway.storage.repositories.ledger import Ledger, read_entry
from tollway.storage.segments import BEGINNING, Position

DAYS = 30
END = datetime(2026, 11, 22, 17, 30, tzinfo=UTC)
ORGANIZATIONS, TEAMS, PROJECTS, USERS, KEYS = 5, 60, 200, 1000, 2000
MODELS = tuple(f"model-{n:02d}" for n in range(20))
TAGS = ((), (), ("prod",), ("dev",), ("prod", "web"), ("prod", "batch"), ("dev", "web"))
RARE = 20_000
"""One event of so many has a provider, a tag and an end user that hardly any other has."""

BATCH = 8192
_encode = msgspec.json.Encoder().encode
_RAW = msgspec.Raw(
    b'{"prompt_tokens":1200,"completion_tokens":150,"total_tokens":1350,"prompt_tokens_details":{"cached_tokens":0}}'
)


class Owner(NamedTuple):
    """Everything a key decides about its events."""

    key: str
    name: str
    organization: str
    team: str
    project: str | None
    user: str | None
    customers: tuple[str | None, ...]
    tags: tuple[str, ...]
    models: tuple[str, ...]


def owners(dice: random.Random) -> list[Owner]:
    made = []
    for n in range(KEYS):
        team = dice.randrange(TEAMS)
        many = n % 20 == 0
        made.append(
            Owner(
                key=f"key_{n:05d}",
                name=f"key {n}",
                organization=f"org-{team % ORGANIZATIONS}",
                team=f"team-{team}",
                project=f"project-{dice.randrange(PROJECTS)}" if n % 3 else None,
                user=f"user-{dice.randrange(USERS)}" if n % 4 else None,
                customers=tuple(f"customer-{n}-{m}" for m in range(20)) if many else (None,),
                tags=dice.choice(TAGS),
                models=tuple(dice.sample(MODELS, 3)),
            )
        )
    return made


def history(count: int) -> Iterator[Entry]:
    """``count`` events in order of time, a few keys with most of them, as it is in life."""
    dice = random.Random(7)
    everybody = owners(dice)
    weights = list(itertools.accumulate(1 / (rank + 3) for rank in range(KEYS)))
    began = END - timedelta(days=DAYS)
    step = timedelta(days=DAYS) / count
    chosen: list[Owner] = []
    for n in range(count):
        if not chosen:
            chosen = dice.choices(everybody, cum_weights=weights, k=BATCH)
        owner = chosen.pop()
        model = owner.models[n % 3]
        rare = n % RARE == RARE // 2
        failed = n % 53 == 0
        event = UsageEvent(
            id=f"ue_req{n:012x}_1",
            request_id=f"req{n:012x}",
            time=(began + step * n).replace(tzinfo=None).isoformat(timespec="milliseconds") + "Z",
            key=owner.name,
            key_id=owner.key,
            organization=owner.organization,
            team=owner.team,
            project=owner.project,
            user=owner.user,
            customer="customer-rare" if rare else owner.customers[n % len(owner.customers)],
            tags=("rare", *owner.tags) if rare else owner.tags,
            endpoint=("chat.completions", "responses", "messages", "embeddings")[int(model[-2:]) % 4],
            model=model,
            provider="rare" if rare else ("openai", "anthropic", "azure")[int(model[-2:]) % 3],
            upstream_model=f"{model}-2026-01-01",
            deployment=f"any/{model}",
            status=500 if failed else 200,
            outcome="error" if failed else "ok",
            usage=Usage(input=1200 + n % 700, output=150 + n % 90, cache_read=n % 3 * 100),
            cost_nano_usd=0 if failed else 450_000 + n % 1000,
            price_version="book.1",
            latency_ms=800,
            raw_usage=_RAW,
        )
        yield read_entry(_encode(event))


async def fill(database: Database, count: int) -> None:
    ledger = Ledger(database)
    began = time.monotonic()
    place = BEGINNING
    stored = 0
    entries = history(count)
    while batch := list(itertools.islice(entries, BATCH)):
        after = Position(1, place.offset + len(batch) if place != BEGINNING else len(batch))
        await ledger.append(batch, "fill", place, after)
        place = after
        stored += len(batch)
        seconds = time.monotonic() - began
        print(f"\r{stored:,} of {count:,} events, {stored / seconds:,.0f}/s ", end="", file=sys.stderr)
    print(file=sys.stderr)


async def settle(database: Database) -> None:
    """What a server does by itself in time: statistics of the tables."""

    def work(connection: Connection) -> None:
        if is_postgresql(connection):
            for table in ("events", "rollups", "rollups_hourly"):
                connection.execute(text(f"ANALYZE {table}"))

    await database.write(work, deadline=600.0)


Question = tuple[str, Callable[[], Awaitable[object]]]

FILTERS = (
    UsageFilter(),
    UsageFilter(organization="org-1"),
    UsageFilter(team="team-7"),
    UsageFilter(project="project-9"),
    UsageFilter(user="user-33"),
    UsageFilter(customer="customer-20-3"),
    UsageFilter(customer="customer-rare"),
    UsageFilter(key="key 40"),
    UsageFilter(key="key 1999"),
    UsageFilter(tag="prod"),
    UsageFilter(tag="rare"),
    UsageFilter(tag="none"),
    UsageFilter(model="model-03"),
    UsageFilter(upstream_model="model-03-2026-01-01"),
    UsageFilter(provider="azure"),
    UsageFilter(provider="rare"),
    UsageFilter(provider="none"),
    UsageFilter(endpoint="messages"),
    UsageFilter(outcome="error"),
    UsageFilter(outcome="error", team="team-7"),
    UsageFilter(outcome="correction"),
    UsageFilter(team="team-7", model="model-03"),
    UsageFilter(organization="org-1", team="team-7"),
    UsageFilter(user="user-33", provider="openai", tag="prod"),
    UsageFilter(request_id="req000000000001"),
    UsageFilter(since="2026-11-01T00:00:00.000Z", until="2026-11-02T00:00:00.000Z"),
)


def questions(events: Events) -> Iterator[Question]:
    since = (END - timedelta(days=DAYS)).isoformat()

    def report(*group_by: str, tz: str = "UTC", begin: str = since, **more: object) -> Question:
        told = " ".join(f"{name} {value}" for name, value in more.items())
        name = f"report {DAYS if begin == since else 2} days by {', '.join(group_by) or 'nothing'}"
        name += (f" in {tz}" if tz != "UTC" else "") + (f", {told}" if told else "")
        return name, lambda: events.usage(group_by, begin, None, tz, **more)  # type: ignore[arg-type]

    lately = (END - timedelta(days=2)).isoformat()
    yield report()
    yield report("team")
    yield report("model", "day")
    yield report("team", "day")
    yield report("key", limit=50)
    yield report("customer", limit=50)
    yield report("tag")
    yield report("provider", "week")
    yield report("organization", "month")
    yield report("team", "day", tz="Europe/Berlin")
    yield report("model", "day", tz="Asia/Kolkata")
    yield report("hour", begin=lately)
    yield report("team", filters={"tag": ["prod"], "organization": ["org-1"]})
    for filter in FILTERS:
        yield f"page {_told(filter)}", lambda filter=filter: events.page(filter, 100)
    for filter in (
        UsageFilter(),
        UsageFilter(team="team-7"),
        UsageFilter(provider="azure"),
        UsageFilter(tag="prod"),
    ):
        yield f"page {_told(filter)}, 5,000 events deep", _deep(events, filter)
    region = [{"organization": ("org-1",)}, {"team": ("team-7", "team-8")}, {"user": ("user-33",)}]
    yield (
        "page of who sees an organization and two teams",
        lambda: events.page(UsageFilter(), 100, None, region),
    )
    yield "page of who sees their own", lambda: events.page(UsageFilter(), 100, None, region[2:])


def _deep(events: Events, filter: UsageFilter) -> Callable[[], Awaitable[object]]:
    cursors: list[str | None] = []

    async def ask() -> object:
        if not cursors:
            cursor = None
            for _ in range(5):
                cursor = (await events.page(filter, 1000, cursor)).next_cursor
            cursors.append(cursor)
            return None
        return await events.page(filter, 100, cursors[0])

    return ask


def _told(filter: UsageFilter) -> str:
    given = [
        f"{name} {value}" for name in filter.__struct_fields__ if (value := getattr(filter, name)) is not None
    ]
    return ", ".join(given) or "of all"


async def measure(database: Database, times: int) -> list[tuple[str, float, float]]:
    """What was asked, the first answer's seconds and the median of the following ones."""
    found = []
    for name, ask in questions(Events(database)):
        took: list[float] = []
        for _ in range(times + 1):
            began = time.perf_counter()
            try:
                await ask()
            except StoreUnavailable as error:
                print(f"{name}: {error.message}", file=sys.stderr)
                took.append(float("inf"))
                break
            took.append(time.perf_counter() - began)
        found.append((name, took[0], statistics.median(took[1:] or took)))
    return found


async def run(url: str, count: int, slowest: float, times: int, check: bool) -> bool:
    database = Database.open(url, Path("."))
    try:
        await database.migrate()
        if await Events(database).days() == []:
            began = time.monotonic()
            await fill(database, count)
            await settle(database)
            print(f"{count:,} events stored in {time.monotonic() - began:.0f} s\n")
        found = await measure(database, times)
        print("| what | first, s | then, s |\n|---|--:|--:|")
        for name, first, then in found:
            print(f"| {name} | {first:.3f} | {then:.3f} |")
        late = [name for name, first, then in found if max(first, then) > slowest and "deep" not in name]
        late += [name for name, _, then in found if then > slowest and "deep" in name]
        for name in late:
            print(f"too slow: {name}", file=sys.stderr)
        wrong = await rollups.verify(database) if check else []
        if wrong:
            print(f"roll-ups and events disagree: {wrong[0]}", file=sys.stderr)
        return not late and not wrong
    finally:
        await database.close()


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("url")
    parser.add_argument("--events", type=int, default=1_000_000)
    parser.add_argument("--slowest", type=float, default=1.0)
    parser.add_argument("--times", type=int, default=3)
    parser.add_argument("--verify", action="store_true")
    given = parser.parse_args(arguments)
    return 0 if asyncio.run(run(given.url, given.events, given.slowest, given.times, given.verify)) else 1


if __name__ == "__main__":
    sys.exit(main())
