from __future__ import annotations

from datetime import UTC, datetime

import pytest

from tollway.config.settings import LogSettings
from tollway.jobs.lead import LeaseLost
from tollway.jobs.purge import STEP, Purge
from tollway.jobs.write_ledger import LedgerWriter
from tollway.model.stored_response import StoredResponse
from tollway.storage.engine import Database
from tollway.storage.repositories import rollups
from tollway.storage.repositories.bodies import Bodies, Body
from tollway.storage.repositories.events import Events
from tollway.storage.repositories.responses import Responses
from tollway.storage.spool import Spool

NOW = datetime(2026, 11, 13, 12, tzinfo=UTC).timestamp()


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
async def test_what_is_due_goes_and_the_sums_stay(spool: Spool, database: Database, put, event) -> None:
    put(*(event(n) for n in range(3 * STEP)))
    assert await LedgerWriter(spool, database).drain(5)
    bodies, events = Bodies(database), Events(database)
    await bodies.add([Body(event_id=f"ue_{n}", request=b"x", expires_at=NOW + n - 70) for n in range(100)])
    before = await events.usage(["key", "day"])

    for_ever = Purge(bodies, events, LogSettings(), lambda: NOW)
    assert await for_ever.once() == (71, 0)
    assert await for_ever.once() == (0, 0)
    assert await events.count() == 3 * STEP

    # The cut falls on noon of the 12th: the whole days before the 12th go.
    short = Purge(bodies, events, LogSettings(events_retention=1.0 * 86400), lambda: NOW)
    assert await short.once() == (0, 2 * STEP)
    assert await events.count() == STEP
    assert await events.usage(["key", "day"]) == before
    assert await rollups.verify(database) == []


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
async def test_who_lost_the_lease_deletes_nothing_more(spool: Spool, database: Database, put, event) -> None:
    put(*(event(n) for n in range(5)))
    assert await LedgerWriter(spool, database).drain(5)
    bodies = Bodies(database)
    await bodies.add([Body(event_id=f"ue_{n}", request=b"x", expires_at=NOW - 1) for n in range(2 * STEP)])
    steps = 0

    def sure() -> None:
        nonlocal steps
        steps += 1
        if steps > 1:
            raise LeaseLost("purge")

    purge = Purge(bodies, Events(database), LogSettings(events_retention=1.0), lambda: NOW)
    with pytest.raises(LeaseLost):
        await purge.once(sure)
    assert await Events(database).count() == 5
    assert await purge.once() == (STEP, 5), "another one does the rest"


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
async def test_hours_go_and_days_stay(spool: Spool, database: Database, put, event) -> None:
    put(*(event(n) for n in range(90)))
    assert await LedgerWriter(spool, database).drain(5)
    events = Events(database)
    before = await events.usage(["key", "day"])
    hours = await events.usage(["hour"])
    assert {row["hour"][:10] for row in hours.rows} == {"2026-11-10", "2026-11-11", "2026-11-12"}
    settings = LogSettings(hours_retention=86400.0, events_retention=86400.0)
    await Purge(Bodies(database), events, settings, lambda: NOW).once()
    assert await events.usage(["key", "day"]) == before
    later = await events.usage(["hour"])
    assert later.total == hours.total
    # Of the days that were purged only the day is known.
    assert [row["hour"] for row in later.rows] == [
        "2026-11-10T00:00Z",
        "2026-11-11T00:00Z",
        "2026-11-12T10:00Z",
    ]
    assert await rollups.verify(database) == []
    await Purge(Bodies(database), events, settings, lambda: NOW).once()


async def test_responses_go_when_they_are_due(database: Database) -> None:
    responses = Responses(database)
    await responses.put([StoredResponse(id=f"r{n}", owner="k", expires=NOW + n - 5) for n in range(10)])
    await Purge(Bodies(database), Events(database), LogSettings(), lambda: NOW, responses).once()
    assert await responses.find("r5") is None
    assert await responses.find("r6") is not None
