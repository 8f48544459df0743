from __future__ import annotations

from sqlalchemy import text

from tollway.storage.engine import Database
from tollway.storage.repositories import rollups
from tollway.storage.repositories.events import Events


async def test_verify_names_what_is_wrong_and_rebuild_mends_it(database: Database, store, make_event) -> None:
    await store(*(make_event(n, time=f"2026-11-{10 + n % 5}T23:59:59.999Z", team=None) for n in range(50)))
    assert await rollups.verify(database) == []
    right = await Events(database).usage(["day", "key"])

    def spoil(connection) -> None:
        connection.execute(
            text("UPDATE rollups SET cost_nano_usd = cost_nano_usd + 1 WHERE day = '2026-11-12'")
        )
        connection.execute(text("DELETE FROM rollups WHERE day = '2026-11-13'"))
        connection.execute(text("UPDATE rollups SET day = '2026-11-01' WHERE day = '2026-11-14'"))

    await database.write(spoil)
    found = await rollups.verify(database)
    assert {difference.day for difference in found} == {
        "2026-11-01",
        "2026-11-12",
        "2026-11-13",
        "2026-11-14",
    }
    (cost,) = (difference for difference in found if difference.day == "2026-11-12")
    assert (cost.measure, cost.rolled_up, cost.counted) == ("cost_nano_usd", 1001, 1000)
    assert cost.of["key"] == "ci"
    assert cost.of["team"] == ""
    assert await rollups.rebuild(database) == 6
    assert await rollups.verify(database) == []
    assert await Events(database).usage(["day", "key"]) == right
