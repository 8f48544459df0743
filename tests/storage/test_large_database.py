"""No page of events reads everything, whatever is asked for; reports and pages of a large database are quick."""

from __future__ import annotations

import importlib.util
import itertools
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from sqlalchemy import Connection, event

from tollway.model.event import UsageFilter
from tollway.storage.columns import is_postgresql
from tollway.storage.engine import Database
from tollway.storage.repositories import finding, rollups
from tollway.storage.repositories.events import Events
from tollway.storage.repositories.ledger import Ledger
from tollway.storage.repositories.moments import EVER, NEVER, Span
from tollway.storage.segments import BEGINNING, Position

SCRIPT = Path(__file__).parents[2] / "scripts" / "fill_database.py"
_spec = importlib.util.spec_from_file_location("fill_database", SCRIPT)
assert _spec is not None
assert _spec.loader is not None
fill_database = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(fill_database)

EVENTS = 4000
WALKED = (UsageFilter(), UsageFilter(outcome="ok"))
"""What nearly every event matches: the newest are read along the index of times, as many as the page takes."""


@pytest.fixture
async def filled(database: Database) -> Database:
    entries = list(fill_database.history(EVENTS))
    for number, at in enumerate(range(0, EVENTS, 2000)):
        before = Position(1, number) if number else BEGINNING
        await Ledger(database).append(entries[at : at + 2000], "s", before, Position(1, number + 1))
    await fill_database.settle(database)
    return database


def plans(connection: Connection, filter: UsageFilter) -> list[str]:
    """How the engine would run each statement over the events that a page takes."""
    asked: list[tuple[str, object]] = []

    def remember(_c, _cursor, statement: str, parameters: object, _context, _many: bool) -> None:
        if "FROM events" in statement:
            asked.append((statement, parameters))

    span = Span(filter.since or EVER, filter.until or NEVER)
    event.listen(connection, "before_cursor_execute", remember)
    try:
        finding.find(connection, filter, span, 101, None)
    finally:
        event.remove(connection, "before_cursor_execute", remember)
    if is_postgresql(connection):
        return [
            " ".join(connection.exec_driver_sql(f"EXPLAIN ANALYZE {statement}", parameters).scalars())
            for statement, parameters in asked
        ]
    return [
        " ".join(row[3] for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters))
        for statement, parameters in asked
    ]


async def test_no_page_reads_everything(filled: Database) -> None:
    for filter in (*fill_database.FILTERS, *WALKED):
        told = await filled.read(lambda connection, filter=filter: plans(connection, filter))
        if "Limit" in " ".join(told):  # PostgreSQL
            assert sum(map(_read, told)) < EVENTS / 2, (filter, told)
            continue
        for plan in told:
            assert "TEMP B-TREE" not in plan or filter.request_id
            if filter in WALKED:
                assert "SCAN events USING INDEX events_time" in plan
            else:
                assert "SEARCH events USING INDEX" in plan, (filter, plan)
                assert "SCAN events" not in plan, (filter, plan)


def _read(plan: str) -> int:
    """How many rows of events were looked at."""
    kept = re.findall(r"Scan[^(]* on events_\S+ .*?actual time=\S+ rows=(\d+)", plan)
    return sum(map(int, kept)) + sum(map(int, re.findall(r"Rows Removed by Filter: (\d+)", plan)))


async def test_pages_hold_what_matches(filled: Database) -> None:
    events = Events(filled)
    for filter in fill_database.FILTERS:
        expected = await events.count(filter)
        seen, cursor = 0, None
        while True:
            page = await events.page(filter, 1000, cursor)
            seen += len(page.events)
            cursor = page.next_cursor
            if cursor is None:
                break
        assert seen == expected, filter


async def test_the_history_is_as_large_as_asked_and_adds_up(filled: Database) -> None:
    assert await Events(filled).count() == EVENTS
    assert await rollups.verify(filled) == []
    times = [entry.columns[1] for entry in itertools.islice(fill_database.history(100), 100)]
    assert times == sorted(times)


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["sqlite", "postgres"])
def test_two_hundred_thousand_events(tmp_path: Path, request: pytest.FixtureRequest, engine: str) -> None:
    url = f"sqlite:///{tmp_path}/large.db"
    if engine == "postgres":
        url = request.getfixturevalue("postgres_empty")
    done = subprocess.run(
        [sys.executable, SCRIPT, url, "--events", "200000", "--slowest", "5", "--verify"],
        capture_output=True,
        text=True,
        env=os.environ,
        timeout=900,
    )
    assert done.returncode == 0, done.stderr
    assert "| report 30 days by team |" in done.stdout
