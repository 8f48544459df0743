from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import msgspec
import pytest
from sqlalchemy import Connection, text

from tollway.errors import BadRequest
from tollway.model.event import UsageEvent, UsageFilter
from tollway.model.usage import Usage
from tollway.storage.columns import is_postgresql
from tollway.storage.engine import Database
from tollway.storage.repositories import rollups
from tollway.storage.repositories.buckets import label_of
from tollway.storage.repositories.events import Events
from tollway.storage.repositories.reports import TIMES

START = datetime(2026, 10, 24, 20, 30, tzinfo=UTC)
"""The night before clocks go back in Berlin; New York follows a week later."""


TAGS = ((), ("prod",), ("prod", "web"), ("Prod", 'a"prod'), ("web", 'x,"prod'))


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
            organization=("acme", "corp", None)[n % 3],
            team=("red", None)[n % 2],
            project=(None, "site")[n % 4 == 0],
            user=f"u{n % 5}",
            customer=(None, 'a "quoted" one')[n % 6 == 0],
            tags=TAGS[n % 5],
            provider=("openai", "azure")[n % 8 == 0],
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
        (UsageFilter(organization="acme"), lambda e: e.organization == "acme"),
        (UsageFilter(team="red"), lambda e: e.team == "red"),
        (UsageFilter(project="site"), lambda e: e.project == "site"),
        (UsageFilter(user="u3"), lambda e: e.user == "u3"),
        (UsageFilter(customer='a "quoted" one'), lambda e: e.customer is not None),
        (UsageFilter(tag="prod"), lambda e: "prod" in e.tags),
        (UsageFilter(tag="web", team="red"), lambda e: "web" in e.tags and e.team == "red"),
        (UsageFilter(tag="eb"), lambda e: False),
        (UsageFilter(provider="azure"), lambda e: e.provider == "azure"),
        (
            UsageFilter(provider="azure", since=at(50), until=at(90)),
            lambda e: e.provider == "azure" and at(50) <= e.time < at(90),
        ),
        (UsageFilter(endpoint="chat.completions", key="key 1"), lambda e: e.key == "key 1"),
        (UsageFilter(upstream_model="gpt-5-mini"), lambda e: True),
        (UsageFilter(upstream_model="none"), lambda e: False),
        (UsageFilter(outcome="error"), lambda e: e.outcome == "error"),
        (UsageFilter(outcome="ok"), lambda e: e.outcome == "ok"),
        (
            UsageFilter(outcome="error", provider="azure"),
            lambda e: e.outcome == "error" and e.provider == "azure",
        ),
        (
            UsageFilter(outcome="error", organization="acme"),
            lambda e: e.outcome == "error" and e.organization == "acme",
        ),
        (UsageFilter(outcome="blocked", team="red"), lambda e: False),
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
async def test_filters_walk_an_index(database: Database, store, make_event, column: str | None) -> None:
    await store(make_event(1))
    where = f"{column} = 'x' AND" if column else ""
    query = f"SELECT event FROM events WHERE {where} time < 'y' ORDER BY time DESC, seq DESC LIMIT 9"

    def explain(connection: Connection) -> str:
        if is_postgresql(connection):
            # So few rows would rather be read from end to end.
            connection.execute(text("SET LOCAL enable_seqscan = off"))
            return " ".join(connection.execute(text(f"EXPLAIN {query}")).scalars())
        return " ".join(row.detail for row in connection.execute(text(f"EXPLAIN QUERY PLAN {query}")))

    told = await database.read(explain)
    assert "Seq Scan" not in told
    assert "TEMP B-TREE" not in told
    assert re.search(r"USING INDEX events_|(Index|Bitmap Index) Scan", told)


def counted(
    history: list[UsageEvent], group_by: list[str], since: str, until: str, tz: str
) -> dict[tuple, tuple]:
    """What a report must say, by going through the events."""
    sums: dict[tuple, list[int]] = {}
    for event in history:
        if not since <= event.time < until:
            continue
        local = datetime.fromisoformat(event.time).astimezone(ZoneInfo(tz))
        name = tuple(label_of(local, part) if part in TIMES else getattr(event, part) for part in group_by)
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


@pytest.mark.parametrize(
    "tz", ["UTC", "Europe/Berlin", "America/New_York", "Pacific/Kiritimati", "Asia/Kolkata"]
)
@pytest.mark.parametrize(
    "group_by",
    [
        [], ["key"], ["day"], ["hour"], ["week", "user"], ["month"], ["team", "model"], ["model", "day", "key_id"],
        ["organization", "project"], ["provider", "customer", "hour"],
    ],
)  # fmt: skip
async def test_reports_say_what_the_events_say(
    history: list[UsageEvent], filled: Events, group_by: list[str], tz: str
) -> None:
    for span in (EVER, DAYS, RAGGED, ONE_DAY, TWO_DAYS, NOTHING, BACKWARDS):
        since, until = (None, None) if span == EVER else span
        report = await filled.usage(group_by, since, until, tz)
        rows, total = report.rows, report.total
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
    rows = (await filled.usage(["key", "day"])).rows
    order = [(row["day"], -row["cost_nano_usd"]) for row in rows]
    assert order == sorted(order)
    rows = (await filled.usage(["key"])).rows
    assert [row["cost_nano_usd"] for row in rows] == sorted(
        (row["cost_nano_usd"] for row in rows), reverse=True
    )


async def test_bounds_without_an_offset_are_local(filled: Events, history) -> None:
    total = (await filled.usage([], "2026-10-26", "2026-10-28", "Europe/Berlin")).total
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


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)  # PostgreSQL drops whole months
async def test_purged_events_are_remembered_by_the_rollups(database: Database, store, history) -> None:
    await store(*history)
    repository = Events(database)
    before = await repository.usage(["day", "key"])
    tokyo = await repository.usage(["day"], tz="Asia/Tokyo")
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
    # The hours are still known, and with them the days of other time zones.
    report = await repository.usage(["day"], tz="Asia/Tokyo")
    assert report == tokyo
    while await repository.purge_hours("2026-10-27"):
        pass
    assert await repository.usage(["day", "key"]) == before
    assert await rollups.verify(database) == []
    await rollups.rebuild(database)
    # Now the purged days are UTC's in every time zone, and nothing is missing from the total.
    report = await repository.usage(["day"], tz="Asia/Tokyo")
    assert report.total == before.total
    assert {row["day"] for row in report.rows} >= {"2026-10-24", "2026-10-25", "2026-10-26"}
    # A bound within a purged day takes in the whole day.
    part = (await repository.usage([], "2026-10-26T12:00:00Z", "2026-10-27")).total
    assert part["requests"] == sum(event.time.startswith("2026-10-26") for event in history)


@pytest.mark.parametrize("tz", ["UTC", "Europe/Berlin"])
async def test_a_request_with_two_tags_is_in_two_rows_and_once_in_the_total(
    filled: Events, history: list[UsageEvent], tz: str
) -> None:
    report = await filled.usage(["tag"], RAGGED[0], RAGGED[1], tz)
    inside = [event for event in history if RAGGED[0] <= event.time < RAGGED[1]]
    expected = {
        tag: sum(event.cost_nano_usd for event in inside if (tag in event.tags if tag else not event.tags))
        for tag in (None, "prod", "web", "Prod", 'a"prod', 'x,"prod')
    }
    assert {row["tag"]: row["cost_nano_usd"] for row in report.rows} == expected
    assert report.total["cost_nano_usd"] == sum(event.cost_nano_usd for event in inside)
    assert report.total["requests"] == len(inside)
    assert sum(row["requests"] for row in report.rows) > len(inside)


@pytest.mark.parametrize(
    ("filters", "matches"),
    [
        ({"team": ["red"], "model": ["fast"]}, lambda e: e.team == "red" and e.model == "fast"),
        ({"key": ["key 1", "key_2"]}, lambda e: e.key in ("key 1", "key 2")),
        ({"tag": ["web"]}, lambda e: "web" in e.tags),
        ({"tag": ["prod", "Prod"]}, lambda e: {"prod", "Prod"} & set(e.tags)),
        (
            {"user": ["u1", "u2"], "provider": ["azure"]},
            lambda e: e.user in ("u1", "u2") and e.provider == "azure",
        ),
        ({"organization": ["nobody"]}, lambda e: False),
        ({"organization": []}, lambda e: True),
    ],
)
async def test_reports_of_what_is_asked_for(filled: Events, history, filters, matches) -> None:
    wanted = [event for event in history if matches(event)]
    for group_by, tz in ((["model"], "UTC"), (["hour"], "UTC"), (["day", "user"], "Asia/Kolkata")):
        for span in (EVER, RAGGED):
            since, until = (None, None) if span == EVER else span
            report = await filled.usage(group_by, since, until, tz, filters=filters)
            expected = counted(wanted, group_by, *span, tz)
            assert {tuple(row[name] for name in group_by): shown(row) for row in report.rows} == expected


async def test_tags_asked_for_are_the_rows(filled: Events, history) -> None:
    report = await filled.usage(["tag"], filters={"tag": ["web"]})
    assert [row["tag"] for row in report.rows] == ["web"]
    assert report.total["requests"] == report.rows[0]["requests"] == sum("web" in e.tags for e in history)


async def test_the_first_rows_of_many(filled: Events, history) -> None:
    everything = await filled.usage(["user"])
    assert everything.groups == 5
    part = await filled.usage(["user"], limit=2)
    assert part.rows == everything.rows[:2]
    assert (part.total, part.groups) == (everything.total, 5)
    by_name = await filled.usage(["user"], order="name")
    assert [row["user"] for row in by_name.rows] == ["u0", "u1", "u2", "u3", "u4"]
    for order in ("requests", "output", "tokens"):
        rows = (await filled.usage(["user"], order=order)).rows
        sizes = [row["input"] + row["output"] if order == "tokens" else row[order] for row in rows]
        assert sizes == sorted(sizes, reverse=True)


async def test_one_time_at_once(filled: Events) -> None:
    with pytest.raises(BadRequest, match="one of hour, day, week, month"):
        await filled.usage(["day", "month"])
    with pytest.raises(BadRequest, match="order"):
        await filled.usage(["day"], order="colour")


async def test_an_event_by_its_id(filled: Events, history) -> None:
    assert await filled.find(history[5].id) == msgspec.json.encode(history[5])
    assert await filled.find("ue_nobody_1") is None


async def test_corrections_are_in_the_sums_and_are_no_requests(database: Database, store, make_event) -> None:
    await store(
        make_event(1, cost_nano_usd=500, usage=Usage(input=100, output=50)),
        make_event(2, id="ue_req_000001_c1", outcome="correction", cost_nano_usd=-200,
                   usage=Usage(input=-40, pages=-1)),
    )  # fmt: skip
    total = (await Events(database).usage([])).total
    assert (total["requests"], total["corrections"], total["cost_nano_usd"]) == (1, 1, 300)
    assert (total["input"], total["output"], total["pages"]) == (60, 50, -1)
    assert await rollups.verify(database) == []
    page = await Events(database).page(UsageFilter(outcome="correction", team="core"))
    assert ids(page.events) == ["ue_req_000001_c1"]
