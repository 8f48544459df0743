from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import msgspec
import pytest
from sqlalchemy import text

from tollway.errors import BadRequest
from tollway.model.event import UsageEvent, UsageFilter
from tollway.model.usage import Usage
from tollway.storage.engine import Database
from tollway.storage.repositories import rollups
from tollway.storage.repositories.events import Events

START = datetime(2026, 10, 24, 20, 30, tzinfo=UTC)
"""The night before clocks go back in Berlin; New York follows a week later."""


def at(hours: float) -> str:
    return (START + timedelta(hours=hours)).isoformat(timespec="milliseconds").replace("+00:00", "Z")


@pytest.fixture
def history(make_event) -> list[UsageEvent]:
    """Nine days, an event every 1.7 hours, of three keys; some failed, some have no team or no price."""
    return [
        make_event(
            n,
            time=at(n * 1.7),
            key=f"key {n % 3}",
            key_id=f"key_{n % 3}",
            team=("red", None)[n % 2],
            model=("fast", "smart")[n % 5 == 0],
            outcome="error" if n % 7 == 0 else "ok",
            priced=n % 11 != 0,
            cost_nano_usd=n * n,
            usage=Usage(input=n, output=2 * n, searches=n % 2),
        )
        for n in range(127)
    ]


def ids(found: list[bytes]) -> list[str]:
    return [msgspec.json.decode(event)["id"] for event in found]


async def pages(repository: Events, filter: UsageFilter, limit: int) -> list[str]:
    seen, cursor = [], None
    while True:
        page = await repository.page(filter, limit, cursor)
        assert len(page.events) <= limit
        seen += ids(page.events)
        if page.next_cursor is None:
            return seen
        assert len(page.events) == limit
        cursor = page.next_cursor


async def test_pages_newest_first(database: Database, store, history) -> None:
    await store(*history)
    newest_first = [event.id for event in reversed(history)]
    for limit in (1, 10, 127, 1000):
        assert await pages(Events(database), UsageFilter(), limit) == newest_first


async def test_an_event_comes_back_verbatim(database: Database, store, make_event) -> None:
    await store(make_event(1))
    page = await Events(database).page(UsageFilter())
    assert page.events == [msgspec.json.encode(make_event(1))]
    assert b'"raw_usage":{"prompt_tokens":42,\n"completion_tokens":31}' in page.events[0]


async def test_events_of_the_same_moment_are_all_shown(database: Database, store, make_event) -> None:
    await store(*(make_event(n) for n in range(25)))
    assert await pages(Events(database), UsageFilter(), 4) == [
        f"ue_req_{n:06d}_1" for n in reversed(range(25))
    ]


@pytest.mark.parametrize(
    ("filter", "matches"),
    [
        (UsageFilter(key="key 1"), lambda e: e.key == "key 1"),
        (UsageFilter(key="key_1"), lambda e: e.key_id == "key_1"),
        (UsageFilter(team="red"), lambda e: e.team == "red"),
        (UsageFilter(model="smart"), lambda e: e.model == "smart"),
        (UsageFilter(request_id="req_000033"), lambda e: e.request_id == "req_000033"),
        (UsageFilter(since=at(17)), lambda e: e.time >= at(17)),
        (UsageFilter(until=at(17)), lambda e: e.time < at(17)),
        (UsageFilter(since="2026-10-26", until="2026-10-27"), lambda e: e.time.startswith("2026-10-26")),
        (
            UsageFilter(since="2026-10-26T01:00:00+02:00", until="2026-10-26T05:00:00 02:00"),
            lambda e: "2026-10-25T23:00:00.000Z" <= e.time < "2026-10-26T03:00:00.000Z",
        ),
        (
            UsageFilter(key="key 2", team="red", model="fast"),
            lambda e: (e.key, e.team, e.model) == ("key 2", "red", "fast"),
        ),
        (UsageFilter(key="nobody"), lambda e: False),
    ],
)
async def test_filters(database: Database, store, history, filter: UsageFilter, matches) -> None:
    await store(*history)
    expected = [event.id for event in reversed(history) if matches(event)]
    repository = Events(database)
    assert await pages(repository, filter, 7) == expected
    assert await repository.count(filter) == len(expected)


async def test_a_renamed_key_is_found_by_each_name(database: Database, store, make_event) -> None:
    await store(
        make_event(1, key="old", key_id="key_1"),
        make_event(2, key="new", key_id="key_1"),
        make_event(3, key="old", key_id="key_2"),
        make_event(4, key="old", key_id=None),
        make_event(5, key="key_1", key_id="key_5"),
    )
    repository = Events(database)
    ids = {n: f"ue_req_{n:06d}_1" for n in range(6)}
    assert await pages(repository, UsageFilter(key="old"), 2) == [ids[4], ids[3], ids[1]]
    assert await pages(repository, UsageFilter(key="new"), 2) == ["ue_req_000002_1"]
    assert await pages(repository, UsageFilter(key="key_1"), 2) == [ids[5], ids[2], ids[1]]


@pytest.mark.parametrize("cursor", ["nonsense", "!!", "WzFd", "bnVsbA"])
async def test_a_foreign_cursor_is_refused(database: Database, cursor: str) -> None:
    with pytest.raises(BadRequest, match="cursor"):
        await Events(database).page(UsageFilter(), 10, cursor)


@pytest.mark.parametrize(
    "since", ["yesterday", "2026-13-01", "9999-12-31T23:00", "0001-01-01T00:00:00+10:00"]
)
async def test_times_that_are_none_are_refused(database: Database, since: str) -> None:
    with pytest.raises(BadRequest, match="since"):
        await Events(database).page(UsageFilter(since=since))


@pytest.mark.parametrize("column", ["key_id", "team", "model", None])
async def test_filters_walk_an_index(database: Database, column: str | None) -> None:
    where = f"{column} = 'x' AND" if column else ""
    query = f"SELECT event FROM events WHERE {where} time < 'y' ORDER BY time DESC, seq DESC LIMIT 9"
    plan = await database.read(
        lambda connection: connection.execute(text(f"EXPLAIN QUERY PLAN {query}")).fetchall()
    )
    told = " ".join(row.detail for row in plan)
    assert "USING INDEX events_" in told
    assert "TEMP B-TREE" not in told


def counted(
    history: list[UsageEvent], group_by: list[str], since: str, until: str, tz: str
) -> dict[tuple, tuple]:
    """What a report must say, by going through the events."""
    sums: dict[tuple, list[int]] = {}
    for event in history:
        if not since <= event.time < until:
            continue
        local = datetime.fromisoformat(event.time).astimezone(ZoneInfo(tz)).date().isoformat()
        name = tuple(local if part == "day" else getattr(event, part) for part in group_by)
        told = (
            1,
            event.outcome == "error",
            event.usage.input,
            event.usage.searches,
            event.cost_nano_usd,
            not event.priced,
        )
        sums[name] = [a + b for a, b in zip(sums.get(name, [0] * 6), told, strict=True)]
    return {name: tuple(measures) for name, measures in sums.items()}


def shown(row: dict) -> tuple:
    return tuple(
        row[name]
        for name in ("requests", "errors", "input", "searches", "cost_nano_usd", "unpriced_requests")
    )


EVER = ("0", "9")
DAYS = ("2026-10-26T00:00:00.000Z", "2026-10-29T00:00:00.000Z")
RAGGED = ("2026-10-25T13:37:00.000Z", "2026-10-30T03:15:00.000Z")
ONE_DAY = ("2026-10-27T05:00:00.000Z", "2026-10-27T19:00:00.000Z")
TWO_DAYS = ("2026-10-27T05:00:00.000Z", "2026-10-28T00:00:00.000Z")
NOTHING = ("2026-10-27T05:00:00.000Z", "2026-10-27T05:00:00.000Z")
BACKWARDS = ("2026-10-28T05:00:00.000Z", "2026-10-27T05:00:00.000Z")


@pytest.mark.parametrize("tz", ["UTC", "Europe/Berlin", "America/New_York", "Pacific/Kiritimati"])
@pytest.mark.parametrize("group_by", [[], ["key"], ["day"], ["team", "model"], ["model", "day", "key_id"]])
async def test_reports_say_what_the_events_say(
    history: list[UsageEvent], filled: Events, group_by: list[str], tz: str
) -> None:
    for span in (EVER, DAYS, RAGGED, ONE_DAY, TWO_DAYS, NOTHING, BACKWARDS):
        since, until = (None, None) if span == EVER else span
        rows, total = await filled.usage(group_by, since, until, tz)
        expected = counted(history, group_by, *span, tz)
        assert {tuple(row[name] for name in group_by): shown(row) for row in rows} == expected, span
        assert shown(total) == tuple(sum(told[n] for told in expected.values()) for n in range(6)), span
        for row in rows:
            assert list(row) == [*group_by, *total]


@pytest.fixture(scope="module")
def module_directory(tmp_path_factory: pytest.TempPathFactory):
    return tmp_path_factory.mktemp("history")


@pytest.fixture
async def filled(module_directory, history):
    """The history in a database that is filled once for all."""
    from tollway.storage.repositories.ledger import Ledger, read_entry
    from tollway.storage.segments import BEGINNING, Position

    opened = Database.open("sqlite:///history.db", module_directory)
    if await opened.migrate():
        batch = [read_entry(msgspec.json.encode(event)) for event in history]
        await Ledger(opened).append(batch, "s", BEGINNING, Position(1, 1))
    yield Events(opened)
    await opened.close()


async def test_rows_come_by_day_then_dearest_first(filled: Events) -> None:
    rows, _ = await filled.usage(["key", "day"])
    order = [(row["day"], -row["cost_nano_usd"]) for row in rows]
    assert order == sorted(order)
    rows, _ = await filled.usage(["key"])
    assert [row["cost_nano_usd"] for row in rows] == sorted(
        (row["cost_nano_usd"] for row in rows), reverse=True
    )


async def test_bounds_without_an_offset_are_local(filled: Events, history) -> None:
    _, total = await filled.usage([], "2026-10-26", "2026-10-28", "Europe/Berlin")
    expected = counted(history, [], "2026-10-25T23:00:00.000Z", "2026-10-27T23:00:00.000Z", "UTC")
    assert shown(total) == expected[()]


@pytest.mark.parametrize("arguments", [(["colour"],), (["key"], None, None, "Mars/Base"), (["key"], "soon")])
async def test_reports_that_cannot_be_made_are_refused(filled: Events, arguments) -> None:
    with pytest.raises(BadRequest) as caught:
        await filled.usage(*arguments)
    assert caught.value.param in ("group_by", "tz", "since")


@pytest.mark.parametrize("since", [None, at(0), at(50), "2026-10-27", "2027-01-01", at(400 / 3)])
async def test_spent(filled: Events, history, since: str | None) -> None:
    from_then = since if since is None or "T" in since else f"{since}T00:00:00.000Z"
    expected = sum(
        event.cost_nano_usd
        for event in history
        if event.key_id == "key_1" and (from_then is None or event.time >= from_then)
    )
    assert await filled.spent("key_1", since) == expected
    assert await filled.spent("nobody", since) == 0


async def test_purged_events_are_remembered_by_the_rollups(database: Database, store, history) -> None:
    await store(*history)
    repository = Events(database)
    before = await repository.usage(["day", "key"])
    old = sum(event.time < "2026-10-27" for event in history)
    assert await repository.purge("2026-10-27", 10) == 10
    assert await repository.purge("2026-10-27", 1000) == old - 10
    assert await repository.purge("2026-10-26", 1000) == 0
    assert await repository.count() == len(history) - old
    assert await repository.usage(["day", "key"]) == before
    assert await repository.spent("key_1") == sum(e.cost_nano_usd for e in history if e.key_id == "key_1")
    assert await rollups.verify(database) == []
    await rollups.rebuild(database)
    assert await repository.usage(["day", "key"]) == before
    # In another time zone the purged days are UTC's, and nothing is missing from the total.
    rows, total = await repository.usage(["day"], tz="Asia/Tokyo")
    assert total == before[1]
    assert {row["day"] for row in rows} >= {"2026-10-24", "2026-10-25", "2026-10-26"}
    # A bound within a purged day takes in the whole day.
    _, part = await repository.usage([], "2026-10-26T12:00:00Z", "2026-10-27")
    assert part["requests"] == sum(event.time.startswith("2026-10-26") for event in history)
